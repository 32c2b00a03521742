"""The specification of scheduled jobs, requirement by requirement."""

import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from grader.launch import Process
from grader.solution import wait_until

if TYPE_CHECKING:
    from conftest import Service, Shop

Json = dict[str, Any]
SUNDAY = "2026-03-01"  # the shop opens at its midnight
JOBS = ("cleanup", "report", "sync")


def utc(time: str) -> str:
    return f"{SUNDAY}T{time}Z"


def dues(runs: list[Json]) -> list[str]:
    return [run["due"] for run in runs]


def next_runs(shop: "Shop") -> list[str]:
    statuses = shop.statuses()
    return [statuses[job]["next_run"] for job in JOBS]


def add_session(shop: "Shop", name: str, expires_at: str) -> None:
    shop.sql("INSERT INTO sessions (id, expires_at) VALUES (?, ?)", name, expires_at)


def add_order(shop: "Shop", created_at: str, cents: int) -> None:
    shop.sql("INSERT INTO orders (created_at, total) VALUES (?, ?)", created_at, cents)


def reported_days(shop: "Shop") -> list[str]:
    return [day for (day,) in shop.sql("SELECT day FROM reports ORDER BY day")]


def items(shop: "Shop") -> list[tuple[Any, ...]]:
    return shop.sql("SELECT id, name, price FROM items ORDER BY id")


def wait_for_item(shop: "Shop", number: int) -> None:
    """Wait until a synchronisation has stored the item."""
    wait_until(lambda: number in [row[0] for row in items(shop)], message=f"item {number} is not stored")


def synchronise_at(shop: "Shop", service: "Service", time_of_day: str, number: int) -> None:
    """Let the processes that run do the synchronisation of this time, which brings one more item."""
    service.add(number, number=number)
    shop.set_clock(time_of_day)
    wait_for_item(shop, number)


def start_late_worker(shop: "Shop", service: "Service", **variables: str) -> Process:
    """A worker that has begun the synchronisation of 00:15 and waits for an answer, which will name the old teapot."""
    service.add(1, "Teapot")
    service.hold()
    shop.at("00:15:00", work=False)
    worker = shop.start("worker", **variables)
    wait_until(lambda: service.asked)
    return worker


# 1. When.


@pytest.mark.requirement(1)
def test_each_job_is_due_at_its_second_and_not_before_and_times_do_not_drift(shop: "Shop") -> None:
    seen = [shop.statuses()]
    for late, early in [("00:15:07", "00:29:59"), ("00:31:40", "02:59:59"), ("05:50:00", "06:00:00")]:
        shop.at(late, work=False)
        shop.at(early, work=False)
        seen.append(shop.statuses())

    assert [seen[0][job]["schedule"] for job in JOBS] == ["0 3 * * 0", "0 6 * * *", 900]
    assert [[status[job]["next_run"] for job in JOBS] for status in seen] == [
        [utc("03:00:00"), utc("06:00:00"), utc("00:15:00")],
        [utc("03:00:00"), utc("06:00:00"), utc("00:30:00")],
        [utc("03:00:00"), utc("06:00:00"), utc("03:00:00")],
        ["2026-03-08T03:00:00Z", "2026-03-02T06:00:00Z", utc("06:15:00")],
    ]
    assert [dues(seen[-1][job]["runs"]) for job in JOBS] == [
        [utc("03:00:00")],
        [utc("06:00:00")],
        [utc(each) for each in ("00:15:00", "00:30:00", "02:45:00", "05:45:00", "06:00:00")],
    ]


@pytest.mark.requirement(1)
def test_without_a_clock_file_the_time_is_the_system_s_in_utc(shop: "Shop") -> None:
    del shop.environment["CLOCK_FILE"]

    now = datetime.fromisoformat(shop.run("status", TZ="America/New_York").json()["now"])

    assert abs(now - datetime.now(UTC)) < timedelta(minutes=10)


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "zone, saturday",
    [
        pytest.param("America/New_York", "2026-03-07", id="when New York's clocks go forward"),
        pytest.param("Europe/Berlin", "2026-10-24", id="when Berlin's clocks go back"),
    ],
)
def test_times_are_utc_whatever_the_time_zone_of_the_machine(new_shop: "Shop", zone: str, saturday: str) -> None:
    sunday, monday, tuesday = (str(date.fromisoformat(saturday) + timedelta(days=n)) for n in (1, 2, 3))
    variables = {"TZ": zone, "REPORT_CRON": "30 2 * * *", "CLEANUP_CRON": "30 1 * * 0", "SYNC_SECONDS": "86400"}
    new_shop.set_clock(f"{saturday}T20:00:00-05:00")  # Sunday, 01:00 in UTC
    new_shop.do("schedule", **variables)
    seen = [next_runs(new_shop)]

    for day in (sunday, monday):
        new_shop.at(f"{day}T02:30:00Z", work=False, **variables)
        seen.append(next_runs(new_shop))

    following = str(date.fromisoformat(sunday) + timedelta(weeks=1))
    assert seen == [
        [f"{sunday}T01:30:00Z", f"{sunday}T02:30:00Z", f"{monday}T00:00:00Z"],
        [f"{following}T01:30:00Z", f"{monday}T02:30:00Z", f"{monday}T00:00:00Z"],
        [f"{following}T01:30:00Z", f"{tuesday}T02:30:00Z", f"{tuesday}T00:00:00Z"],
    ]


@pytest.mark.requirement(1)
def test_scheduling_again_changes_nothing(shop: "Shop", service: "Service") -> None:
    service.add(7)
    shop.at("00:20:00")
    before = shop.statuses()

    shop.do("schedule")
    after = shop.statuses()
    shop.at("00:30:00")

    assert after == before
    assert service.asked == [0, 7]


@pytest.mark.requirement(1)
def test_scheduling_at_the_same_time_is_scheduling_once(new_shop: "Shop", service: "Service") -> None:
    processes = [new_shop.start("schedule") for _ in range(4)]
    codes = [process.wait() for process in processes]

    new_shop.at("06:00:00")

    statuses = new_shop.statuses()
    assert codes == [0, 0, 0, 0]
    assert [dues(statuses[job]["runs"]) for job in ("report", "sync")] == [[utc("06:00:00")]] * 2
    assert len(service.asked) == 1


@pytest.mark.requirement(1)
def test_a_changed_definition_replaces_the_one_before(shop: "Shop") -> None:
    shop.do("schedule", SYNC_SECONDS="7000", REPORT_CRON="30 4 * * *")
    changed = next_runs(shop)

    shop.at("00:15:00", work=False)
    shop.at("06:00:00", work=False)

    statuses = shop.statuses()
    assert changed == [utc("03:00:00"), utc("04:30:00"), utc("01:53:20")]  # the interval counts from 1970
    assert dues(statuses["report"]["runs"]) == [utc("04:30:00")]
    assert dues(statuses["sync"]["runs"]) == [utc("05:46:40")]
    assert statuses["report"]["next_run"] == "2026-03-02T04:30:00Z"


@pytest.mark.requirement(1)
def test_a_changed_definition_is_used_by_a_scheduler_that_runs(shop: "Shop") -> None:
    shop.start("scheduler", REPORT_CRON="0 6 * * *")
    shop.do("schedule", REPORT_CRON="0 5 * * *")

    shop.set_clock("05:00:00")
    shop.wait_for_run("report", "05:00:00", "queued")

    wait_until(lambda: shop.status("report")["next_run"] == "2026-03-02T05:00:00Z")


@pytest.mark.requirement(1)
def test_an_impossible_definition_is_refused_and_the_schedule_stays(shop: "Shop") -> None:
    good = {"SYNC_SECONDS": "600", "REPORT_CRON": "0 5 * * *", "CLEANUP_CRON": "0 4 * * 0"}
    impossible = [
        ("REPORT_CRON", "every morning"),
        ("REPORT_CRON", "0 6 * *"),
        ("REPORT_CRON", "R R * * *"),
        ("CLEANUP_CRON", "0 25 * * *"),
        ("CLEANUP_CRON", "0 3 31 2 *"),
        ("SYNC_SECONDS", "0"),
        ("SYNC_SECONDS", "quarter"),
    ]

    finished = {f"{name}={value}": shop.run("schedule", **good | {name: value}) for name, value in impossible}

    assert [each for each, end in finished.items() if end.exit_code == 0 or not end.stderr] == []
    assert [each for each, end in finished.items() if "Traceback" in end.stderr] == []
    assert next_runs(shop) == [utc("03:00:00"), utc("06:00:00"), utc("00:15:00")]


# 2. What.


@pytest.mark.requirement(2)
def test_the_clean_up_deletes_the_sessions_that_have_expired(shop: "Shop") -> None:
    add_session(shop, "long ago", "2025-12-24 18:00:00.000000")
    add_session(shop, "this second", "2026-03-01 03:00:00.000000")
    add_session(shop, "next second", "2026-03-01 03:00:01.000000")
    add_session(shop, "tomorrow", "2026-03-02 01:00:00.000000")

    shop.at("03:00:00")

    assert shop.sql("SELECT id FROM sessions ORDER BY expires_at") == [("next second",), ("tomorrow",)]
    assert shop.last_run("cleanup")["result"] == {"deleted": 2}


@pytest.mark.requirement(2)
def test_the_report_sums_the_orders_of_each_day_in_utc_when_it_has_ended(shop: "Shop") -> None:
    add_order(shop, "2026-02-28 23:59:59.999999", 100_00)
    add_order(shop, "2026-03-01 00:00:00.000000", 19_90)
    add_order(shop, "2026-03-01 12:00:00.000000", 10)
    add_order(shop, "2026-03-01 23:59:59.999999", 29)
    add_order(shop, "2026-03-03 00:00:00.000000", 500_00)

    shop.at("06:00:00")
    on_the_first_day = reported_days(shop)
    shop.at("2026-03-03T06:00:00Z")

    assert on_the_first_day == []
    rows = shop.sql("SELECT day, orders, revenue FROM reports ORDER BY day")
    assert rows == [(SUNDAY, 3, 20_29), ("2026-03-02", 0, 0)]
    assert shop.last_run("report")["result"] == {"days": [SUNDAY, "2026-03-02"]}


@pytest.mark.requirement(2)
def test_the_synchronisation_stores_what_is_new_and_what_has_changed(shop: "Shop", service: "Service") -> None:
    service.add(3, "Teapot", number=1, price="19.90")
    service.add(5, "Cup", number=2, price="4.50")
    shop.at("00:15:00")
    service.add(8, "Teapot, blue", number=1, price="0.29")

    shop.at("00:30:00")

    assert items(shop) == [(1, "Teapot, blue", 29), (2, "Cup", 450)]
    assert [run["result"] for run in shop.runs("sync")] == [{"items": 2}, {"items": 1}]
    assert service.asked == [0, 5]


CUP = {"id": 2, "name": "Cup", "price": "4.50"}


def answer(cursor: object = 9, **mistake: object) -> bytes:
    return json.dumps({"cursor": cursor, "items": [CUP, CUP | {"id": 3} | mistake]}).encode()


@pytest.mark.requirement(2)
def test_nothing_is_stored_of_an_answer_with_a_mistake(shop: "Shop", service: "Service") -> None:
    answers = {
        "an error of the service": (503, answer()),
        "another status than 200": (201, answer()),
        "a redirect": (302, answer()),
        "half an item": (200, json.dumps({"cursor": 9, "items": [CUP, {"id": 3}]}).encode()),
        "a cursor that is a string": (200, answer("7")),
        "a cursor that is a boolean": (200, answer(True)),
        "a cursor that is a float": (200, b'{"cursor": 7.0, "items": []}'),
        "an id that is a string": (200, answer(id="1")),
        "a price that is a JSON number": (200, answer(price=4.5)),
        "a price that is not a number": (200, answer(price="NaN")),
        "a price with an exponent": (200, answer(price="1e1")),
        "a price with spaces": (200, answer(price=" 5 ")),
    }
    shop.environment["RETRY_SECONDS"] = "[]"

    for number, service.answer in enumerate(answers.values(), start=1):
        shop.at(f"{number // 4:02}:{number % 4 * 15:02}:00")

    runs = dict(zip(answers, shop.runs("sync"), strict=True))
    assert [name for name, run in runs.items() if run["status"] != "failed" or run["result"] or not run["error"]] == []
    assert service.asked == [0] * len(answers)
    assert items(shop) == []


# 3. Reliable.


@pytest.mark.requirement(3)
def test_pauses_are_taken_in_turn_then_the_run_has_failed_and_the_next_is_made(
    shop: "Shop", service: "Service"
) -> None:
    service.answer = 500, b""
    service.add(4)
    shop.environment["RETRY_SECONDS"] = "[30, 200]"

    seen = []
    for time_of_day, is_time in [("00:15:10", True), ("00:15:39", False), ("00:15:40", True), ("00:19:00", True)]:
        shop.at(time_of_day, work=is_time)
        seen.append(shop.last_run("sync"))
    service.answer = None
    shop.at("00:30:00")

    failed, run = shop.runs("sync")
    assert [(run["status"], run["attempts"], run["next_attempt_at"]) for run in [*seen, failed]] == [
        ("waiting", 1, utc("00:15:40")),
        ("waiting", 1, utc("00:15:40")),
        ("waiting", 2, utc("00:19:00")),
        ("failed", 3, None),
        ("failed", 3, None),
    ]
    assert seen[0]["error"]
    assert failed["error"]
    assert (run["due"], run["status"], run["attempts"]) == (utc("00:30:00"), "succeeded", 1)
    assert items(shop) == [(1, "Teapot", 1990)]


@pytest.mark.requirement(3)
def test_a_run_that_waits_is_given_up_when_the_next_is_due(shop: "Shop", service: "Service") -> None:
    service.answer = 500, b""
    shop.at("00:15:00", RETRY_SECONDS="[1200]")
    shop.at("00:30:00")
    service.answer = None

    shop.at("00:31:00")
    shop.at("00:35:00", work=False)

    given_up, run = shop.runs("sync")
    assert (given_up["status"], given_up["attempts"], given_up["next_attempt_at"]) == ("failed", 1, None)
    assert given_up["error"]
    assert (run["due"], run["status"], run["attempts"]) == (utc("00:30:00"), "succeeded", 2)
    assert (run["error"], run["next_attempt_at"], run["finished_at"]) == (None, None, utc("00:31:00"))


@pytest.mark.requirement(3)
def test_after_days_without_a_scheduler_one_run_reports_on_every_day_once(shop: "Shop") -> None:
    shop.at("2026-03-02T06:00:00Z")

    shop.at("2026-03-06T09:00:00Z")
    shop.at("2026-03-06T09:00:01Z", work=False)

    status = shop.status("report")
    assert dues(status["runs"]) == ["2026-03-02T06:00:00Z", "2026-03-06T06:00:00Z"]
    assert [run["missed"] for run in status["runs"]] == [1, 3]
    assert status["misses"] == 4
    assert reported_days(shop) == [f"2026-03-0{day}" for day in range(1, 6)]
    assert status["last_run"]["result"] == {"days": [f"2026-03-0{day}" for day in range(2, 6)]}


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "changes", [pytest.param({}, id="unchanged"), pytest.param({"REPORT_CRON": "0 7 * * *"}, id="changed")]
)
def test_scheduling_again_keeps_a_run_that_is_overdue(shop: "Shop", changes: dict[str, str]) -> None:
    shop.set_clock("06:30:00")

    shop.do("schedule", **changes)
    shop.do("scheduler", "--once")

    status = shop.status("report")
    assert dues(status["runs"]) == [utc("06:00:00")]
    assert status["next_run"] == (utc("07:00:00") if changes else "2026-03-02T06:00:00Z")


@pytest.mark.requirement(3)
def test_after_days_without_a_worker_the_queued_run_reports_on_every_day(shop: "Shop") -> None:
    for day in (2, 3):
        shop.at(f"2026-03-0{day}T06:00:00Z", work=False)

    shop.do("worker", "--once")
    shop.at("2026-03-04T06:00:00Z")

    assert [(run["due"], run["status"], run["result"]) for run in shop.runs("report")] == [
        ("2026-03-02T06:00:00Z", "succeeded", {"days": ["2026-03-01", "2026-03-02"]}),
        ("2026-03-03T06:00:00Z", "skipped", None),
        ("2026-03-04T06:00:00Z", "succeeded", {"days": ["2026-03-03"]}),
    ]


@pytest.mark.requirement(3)
def test_a_job_that_cannot_store_leaves_nothing_behind_and_begins_there_again(shop: "Shop", service: "Service") -> None:
    service.add(6)
    shop.refuse("INSERT ON reports", when="NEW.day = '2026-03-03'")
    shop.refuse("INSERT ON items")
    shop.at("2026-03-05T06:00:00Z")
    failed, left = shop.last_run("report"), reported_days(shop)
    shop.refuse_nothing()

    shop.at("2026-03-05T06:01:00Z")

    assert (failed["status"], left) == ("waiting", [])
    assert failed["error"]
    assert reported_days(shop) == [f"2026-03-0{day}" for day in range(1, 5)]
    assert service.asked == [0, 0]
    assert items(shop) == [(1, "Teapot", 1990)]


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "job, table, has_effect",
    [
        ("report", "reports", "EXISTS (SELECT * FROM reports)"),
        ("sync", "items", "EXISTS (SELECT * FROM items)"),
        ("cleanup", "sessions", "NOT EXISTS (SELECT * FROM sessions)"),
    ],
)
def test_what_a_job_does_is_stored_together_with_its_success_or_not_at_all(
    shop: "Shop", service: "Service", job: str, table: str, has_effect: str
) -> None:
    service.add(1)
    add_session(shop, "old", "2025-12-24 18:00:00.000000")
    shop.at("2026-03-08T06:00:00Z", work=False)
    for (name,) in shop.sql("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        for change in ("INSERT", "UPDATE") if name != table else ():
            shop.refuse(f"{change} ON {name}", when=has_effect)

    shop.run("worker", "--once")

    is_stored = shop.sql(f"SELECT {has_effect}") == [(1,)]
    assert is_stored == (shop.last_run(job)["status"] == "succeeded")


@pytest.mark.requirement(3)
def test_two_schedulers_and_two_workers_make_one_run_of_each_due_time(shop: "Shop", service: "Service") -> None:
    processes = [shop.start(command) for command in ("scheduler", "worker") * 2]

    times = [f"01:{minute:02}:00" for minute in (0, 15, 30, 45)]
    for number, time_of_day in enumerate(times, start=1):
        synchronise_at(shop, service, time_of_day, number)
    for process in processes:
        process.terminate()
    codes = [process.wait() for process in processes]

    status = shop.status("sync")
    assert codes == [0] * 4
    assert [(run["due"], run["attempts"], run["finished_at"]) for run in status["runs"]] == [
        (utc(each), 1, utc(each)) for each in times
    ]
    assert len(service.asked) == len(times)
    assert status["skips"] == 0


@pytest.mark.requirement(3)
def test_a_scheduler_killed_at_any_moment_loses_no_run_and_makes_none_twice(
    shop: "Shop", service: "Service", killed_after: Callable[..., int]
) -> None:
    shop.set_clock("00:15:00")
    writes = killed_after(10_000, "scheduler", "--once")  # it is not killed, and all are counted
    shop.do("worker", "--once")

    all_moments = [(number - 1, True) for number in range(1, writes + 1)]  # before the write, and after it
    all_moments += [(number, False) for number in range(1, writes + 1)]
    moments = all_moments[:: writes // 4 + 1]
    times = [f"{1 + number // 4:02}:{number % 4 * 15:02}:00" for number in range(len(moments))]
    for (number, answered), time_of_day in zip(moments, times, strict=True):
        shop.set_clock(time_of_day)
        killed_after(number, "scheduler", "--once", answered=answered)
        shop.at(time_of_day)

    expected = [utc(each) for each in ("00:15:00", *times)]
    assert [(run["due"], run["status"], run["attempts"]) for run in shop.runs("sync")] == [
        (due, "succeeded", 1) for due in expected
    ]
    assert len(service.asked) == len(expected)


@pytest.mark.requirement(3)
def test_workers_killed_at_any_moment_leave_each_job_done_once(
    shop: "Shop", service: "Service", killed_after: Callable[..., int]
) -> None:
    shop.environment |= {"LOCK_SECONDS": "0.3", "RETRY_SECONDS": "[0, 0, 0, 0, 0, 0]"}
    shop.at("2026-03-02T06:00:00Z", work=False)
    writes = killed_after(10_000, "worker", "--once")
    service.add(5)
    add_session(shop, "old", "2026-03-02 18:00:00.000000")

    shop.at("2026-03-08T06:00:00Z", work=False)
    for moment in (1, 2, 3):
        killed_after(writes * moment // 6, "worker", "--once")
    shop.start("scheduler")
    shop.start("worker")

    for job in JOBS:
        shop.wait_for_run(job, "2026-03-08T03:00:00" if job == "cleanup" else "2026-03-08T06:00:00", "succeeded")
    assert reported_days(shop) == [f"2026-03-0{day}" for day in range(1, 8)]
    assert shop.sql("SELECT * FROM sessions") == []
    assert items(shop) == [(1, "Teapot", 1990)]


@pytest.mark.requirement(3)
def test_the_run_of_a_worker_that_was_killed_is_tried_again(shop: "Shop", service: "Service") -> None:
    shop.start("scheduler")
    victim = start_late_worker(shop, service, LOCK_SECONDS="0.3")

    shop.kill(victim)
    waiting = shop.wait_for_run("sync", "00:15:00", "waiting")
    service.hold().set()
    shop.at("00:16:00")

    assert (waiting["attempts"], waiting["next_attempt_at"]) == (1, utc("00:16:00"))
    assert waiting["error"]
    run = shop.last_run("sync")
    assert (run["due"], run["status"], run["attempts"]) == (utc("00:15:00"), "succeeded", 2)
    assert service.asked == [0, 0]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("is_queued", [True, False], ids=["queued", "overdue"])
def test_a_redis_that_has_lost_everything_loses_no_run(
    shop: "Shop", empty_redis: Callable[[], None], is_queued: bool
) -> None:
    shop.set_clock("2026-03-02T06:00:00Z")
    if is_queued:
        shop.do("scheduler", "--once")

    empty_redis()
    shop.do("schedule")
    shop.at("2026-03-02T06:00:01Z")

    status = shop.status("report")
    assert [(run["due"], run["status"]) for run in status["runs"]] == [("2026-03-02T06:00:00Z", "succeeded")]
    assert status["next_run"] == "2026-03-03T06:00:00Z"
    assert reported_days(shop) == [SUNDAY]


@pytest.mark.requirement(3)
def test_a_worker_that_is_asked_to_stop_ends_its_run_and_takes_no_other(shop: "Shop", service: "Service") -> None:
    door = service.hold()
    shop.at("00:15:00", work=False)
    worker = shop.start("worker")
    wait_until(lambda: service.asked)
    shop.at("06:00:00", work=False)

    worker.terminate()
    door.set()
    code = worker.wait()

    statuses = shop.statuses()
    assert code == 0
    assert statuses["sync"]["runs"][0]["status"] == "succeeded"
    assert statuses["report"]["last_run"]["status"] == "queued"


@pytest.mark.requirement(3)
def test_a_scheduler_that_is_asked_to_stop_does_and_another_goes_on(shop: "Shop") -> None:
    shop.set_clock("00:15:00")
    first = shop.start("scheduler", POLL_SECONDS="60")
    shop.wait_for_run("sync", "00:15:00", "queued")

    first.terminate()
    code = first.wait()
    shop.at("03:00:00", work=False)

    assert code == 0
    assert [(run["status"], run["missed"]) for run in shop.runs("cleanup")] == [("queued", 0)]


@pytest.mark.requirement(3)
def test_a_scheduler_that_is_asked_to_stop_in_the_middle_of_a_write_ends_well(
    shop: "Shop", stopped_at: Callable[..., int]
) -> None:
    codes = []
    for write, time_of_day in enumerate(("00:15:00", "00:30:00"), start=1):
        shop.set_clock(time_of_day)
        codes.append(stopped_at(write, "scheduler"))

    assert codes == [0, 0]


@pytest.mark.requirement(3)
def test_a_run_that_takes_too_long_is_ended_and_its_worker_goes_on(shop: "Shop", service: "Service") -> None:
    service.hold()
    shop.at("06:00:00", work=False, JOB_TIMEOUT="1")

    service.trickles = True
    shop.start("worker", JOB_TIMEOUT="1")

    assert shop.wait_for_run("sync", "06:00:00", "waiting")["error"]
    assert shop.wait_for_run("report", "06:00:00", "succeeded")["attempts"] == 1


@pytest.mark.requirement(3)
def test_commands_that_lack_something_end_with_an_error(shop: "Shop") -> None:
    lacking = [
        ("REDIS_URL", "redis://127.0.0.1:1/0", ["scheduler", "worker"]),
        ("DATABASE_URL", "sqlite:////nowhere/shop.db", ["schedule", "scheduler", "status"]),
        ("DATABASE_URL", "mysql://shop", ["schedule"]),
        ("CLOCK_FILE", "/nowhere/clock", ["schedule", "scheduler", "status"]),
    ]
    shop.set_clock("06:00:00")  # something is due

    finished = {
        (command, value): shop.run(command, *["--once"] * command.endswith("er"), **{variable: value})
        for variable, value, commands in lacking
        for command in commands
    }
    shop.set_clock("0001-01-01T00:00:00Z")
    finished["status", "the year 1"] = shop.run("status")

    assert [each for each, end in finished.items() if end.exit_code == 0 or not end.stderr] == []
    assert [each for each, end in finished.items() if "Traceback" in end.stderr] == []


# 4. One at a time.


@pytest.mark.requirement(4)
def test_a_run_that_is_due_while_the_one_before_it_runs_is_skipped(shop: "Shop", service: "Service") -> None:
    start_late_worker(shop, service)
    shop.start("worker")

    shop.at("00:30:00", work=False)
    status = shop.status("sync")
    service.open.set()
    wait_for_item(shop, 1)
    shop.start("scheduler")
    synchronise_at(shop, service, "00:45:00", 2)

    running, skipped = status["runs"]
    assert (running["status"], skipped["status"], skipped["attempts"]) == ("running", "skipped", 0)
    assert (skipped["result"], skipped["finished_at"]) == (None, None)
    assert status["last_run"] == running
    status = shop.status("sync")
    assert [run["status"] for run in status["runs"]] == ["succeeded", "skipped", "succeeded"]
    assert (status["skips"], status["misses"]) == (1, 0)
    assert service.most_at_once == 1


@pytest.mark.requirement(4)
def test_a_run_may_take_longer_than_its_lock_lasts(shop: "Shop", service: "Service") -> None:
    start_late_worker(shop, service, LOCK_SECONDS="2")
    started = time.monotonic()

    wait_until(lambda: time.monotonic() - started > 2.2)
    shop.at("00:16:30", LOCK_SECONDS="2")

    run = shop.last_run("sync")
    assert (run["status"], run["attempts"]) == ("running", 1)
    assert len(service.asked) == 1


@pytest.mark.requirement(4)
def test_two_different_jobs_run_at_the_same_time(shop: "Shop", service: "Service") -> None:
    start_late_worker(shop, service)

    shop.at("06:00:00")

    statuses = shop.statuses()
    assert statuses["report"]["last_run"]["status"] == "succeeded"
    assert statuses["sync"]["last_run"]["status"] == "running"


@pytest.mark.requirement(4)
def test_a_suspended_worker_writes_nothing_after_another_has_done_its_run(shop: "Shop", service: "Service") -> None:
    away, door = start_late_worker(shop, service, LOCK_SECONDS="0.3"), service.open
    shop.freeze(away)
    service.hold().set()
    service.add(2, "Teapot, blue")
    shop.start("scheduler")
    shop.wait_for_run("sync", "00:15:00", "waiting")
    shop.at("00:16:00")
    taken = shop.last_run("sync")

    door.set()
    shop.thaw(away)
    away.terminate()

    assert away.wait() == 0
    assert (taken["status"], taken["attempts"], taken["result"]) == ("succeeded", 2, {"items": 2})
    assert shop.last_run("sync") == taken
    assert items(shop) == [(1, "Teapot, blue", 1990)]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("failure", [None, (500, b"")], ids=["success", "failure"])
def test_a_suspended_worker_leaves_the_run_and_the_lock_of_another_alone(
    shop: "Shop", service: "Service", failure: tuple[int, bytes] | None
) -> None:
    service.answer = failure
    away, door = start_late_worker(shop, service, LOCK_SECONDS="0.3"), service.open
    shop.freeze(away)
    other_door, service.answer = service.hold(), None
    shop.start("scheduler")
    shop.wait_for_run("sync", "00:15:00", "waiting")
    shop.start("worker", LOCK_SECONDS="30")
    shop.set_clock("00:16:00")
    wait_until(lambda: len(service.asked) == 2)

    door.set()
    shop.thaw(away)
    away.terminate()
    code, stored = away.wait(), items(shop)
    shop.do("scheduler", "--once")  # without its lock the other's attempt would be ended
    other_door.set()

    run = shop.wait_for_run("sync", "00:15:00", "succeeded")
    assert (code, stored) == (0, [])
    assert run["attempts"] == 2
    assert service.asked == [0, 0]
