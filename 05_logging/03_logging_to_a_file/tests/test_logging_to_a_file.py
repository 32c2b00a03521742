"""The specification of a log in a file, requirement by requirement."""

import contextlib
import gzip
import itertools
import os
import re
import resource
import shutil
import signal
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from grader.solution import Client, Solution, wait_until

if TYPE_CHECKING:
    from conftest import LogFolder, Serve

Env = dict[str, Any]


def ask_until_logged(client: Client, folder: "LogFolder", count: int = 1) -> list[int]:
    """Ask for order 3 until the log has `count` such requests. Return the statuses."""
    answers: list[int] = []

    def ask() -> bool:
        answers.append(client.get("/orders/3").status_code)
        return len(folder.entries(path="/orders/3")) >= count

    wait_until(ask, 5, "logging does not go on")
    return answers


def new_id() -> str:
    return f"test-{uuid.uuid4().hex}"


def imported(prefix: str, count: int, start: int = 1) -> list[str]:
    return [f"order {prefix}-{number} imported" for number in range(start, count + 1)]


def listens(client: Client) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(client.address, timeout=1):
        return True
    return False


def size_of(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


# 1. One file, JSON.


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/orders/1", 200),
        ("HEAD", "/orders/1", 200),
        ("GET", "/orders/99", 404),
        ("GET", "/nowhere/%C3%A6%20b?page=1", 404),
        ("DELETE", "/orders/1", 405),
        ("GET", "/fail", 500),
    ],
)
def test_every_request_is_one_line_of_json(
    shop: Client, shop_log: "LogFolder", method: str, path: str, status: int
) -> None:
    request = new_id()

    shop.request(method, path, headers={"X-Request-ID": request})

    entry = shop_log.entry(message="request", request_id=request)
    expected = {"method": method, "path": unquote(path.partition("?")[0]), "status": status, "level": "INFO"}
    assert entry.items() >= expected.items()


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param('one\ntwo\r\n{"level": "ERROR", "message": "forged"}\n', id="line breaks"),
        pytest.param("one\u2028two\u0085three\x0b\x1c", id="unicode line breaks"),
        pytest.param('"quoted" \\n %s %d {name}', id="quotes and placeholders"),
        pytest.param("\x00\x1b[31mred", id="control characters"),
        pytest.param("Blåbærgrød 日本 🎉", id="not ASCII"),
        pytest.param("x" * 65_536, id="64 KiB"),
    ],
)
def test_a_text_of_a_client_stays_in_its_line_as_it_is(shop: Client, shop_log: "LogFolder", text: str) -> None:
    request = new_id()

    answer = shop.post("/feedback", content=text.encode(), headers={"X-Request-ID": request})

    assert answer.status_code == 204
    shop_log.entry(message="request", request_id=request)
    assert [entry["message"] for entry in shop_log.entries(request_id=request)] == [f"feedback: {text}", "request"]


@pytest.mark.requirement(1)
def test_a_text_that_is_too_large_is_refused_and_not_logged(shop: Client, shop_log: "LogFolder") -> None:
    request = new_id()

    answer = shop.post("/feedback", content="x" * 65_537, headers={"X-Request-ID": request})

    assert answer.status_code == 413
    assert shop_log.entry(request_id=request).items() >= {"message": "request", "status": 413}.items()


@pytest.mark.requirement(1)
def test_text_that_is_not_ascii_can_be_searched_for_in_the_file(shop: Client, shop_log: "LogFolder") -> None:
    word = f"smørrebrød-{new_id()}"

    shop.post("/feedback", content=word.encode())

    wait_until(lambda: word.encode() in shop_log.current.read_bytes(), 5, "the text is not in api.log as UTF-8")


@pytest.mark.requirement(1)
def test_loggers_that_libraries_made_before_are_not_silenced(shop: Client, shop_log: "LogFolder") -> None:
    request = new_id()

    shop.get("/prices", headers={"X-Request-ID": request})

    assert shop_log.entry(message="prices loaded", request_id=request)["logger"] == "tariffs"


@pytest.mark.requirement(1)
def test_an_exception_is_one_line_with_its_trace(shop: Client, shop_log: "LogFolder") -> None:
    request = new_id()

    shop.get("/fail", headers={"X-Request-ID": request})

    entry = shop_log.entry(level="ERROR", request_id=request)
    assert "Traceback" in entry["trace"]
    assert "RuntimeError: the payment was refused" in entry["trace"]


@pytest.mark.requirement(1)
def test_an_app_that_is_made_again_logs_each_line_once(solution: Solution, env: Env, folder: "LogFolder") -> None:
    solution.serve(**env)
    client = solution.serve(**env)

    for _ in range(3):
        client.get("/prices")

    wait_until(lambda: len(folder.entries(message="request")) >= 3, 5, "the requests are not logged")
    assert len(folder.entries(message="request")) == len(folder.entries(message="prices loaded")) == 3


# 2. Rotation.


@pytest.mark.requirement(2)
def test_rotation_by_size_keeps_every_line_whole_and_in_order(
    solution: Solution, env: Env, folder: "LogFolder"
) -> None:
    prefix = "日本" * 100  # 600 bytes

    finished = solution.run("import", prefix, "200", LOG_MAX_BYTES="5000", LOG_QUEUE="5", **env)

    assert finished.exit_code == 0, finished.stderr
    assert folder.messages() == [f"import {prefix} begins", *imported(prefix, 200)]
    sizes = [len(text) for text in folder.texts()]
    assert len(sizes) >= 8
    assert all(4000 < size <= 5000 for size in sizes[:-1])
    assert sizes[-1] <= 5000
    assert folder.unfinished() == []


@pytest.mark.requirement(2)
def test_a_file_is_full_only_when_the_next_line_does_not_fit(solution: Solution, env: Env, folder: "LogFolder") -> None:
    solution.run("import", "a", "100", **env)
    limit = 10 * len(folder.lines()[-1] + b"\n")  # so that some files become just as large

    solution.run("import", "b", "300", LOG_MAX_BYTES=str(limit), **env)

    _, *texts = folder.texts()
    assert len(texts) > 20
    for text, following in itertools.pairwise(texts):
        assert len(text) <= limit < len(text) + len(following.splitlines(keepends=True)[0])


@pytest.mark.requirement(2)
def test_a_file_below_the_limit_goes_on_after_a_restart(solution: Solution, env: Env, folder: "LogFolder") -> None:
    for prefix in ("a", "b"):
        solution.run("import", prefix, "5", **env)

    assert folder.messages() == ["import a begins", *imported("a", 5), "import b begins", *imported("b", 5)]
    assert folder.rotated() == []


@pytest.mark.requirement(2)
def test_a_line_larger_than_the_limit_is_written_whole_to_a_file_of_its_own(
    serve: "Serve", folder: "LogFolder"
) -> None:
    client = serve(LOG_MAX_BYTES="1000")

    for letter in "xyz":
        client.post("/feedback", content=letter * 5000)
    client.stop()

    texts = [message for message in folder.messages() if message != "request"]
    assert texts == [f"feedback: {letter * 5000}" for letter in "xyz"]
    assert [text.count(b"\n") for text in folder.texts() if len(text) > 1000] == [1, 1, 1]


@pytest.mark.requirement(2)
@pytest.mark.parametrize("zone", ["EAST-14", "WEST12"])
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(timedelta(seconds=1), id="last second of yesterday"),
        pytest.param(timedelta(0), id="this midnight"),
        pytest.param(timedelta(days=1461), id="this day four years ago"),
    ],
)
def test_a_new_day_by_utc_begins_a_new_file(
    solution: Solution, env: Env, folder: "LogFolder", zone: str, before: timedelta
) -> None:
    wait_until(lambda: datetime.now(UTC).strftime("%H:%M") != "23:59", 70)
    last_line = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - before
    folder.leave(b'{"message": "before"}\n', last_line)

    settings = env | {"LOG_ROTATION": "time", "LOG_RETENTION_DAYS": "36500", "TZ": zone}
    solution.run("import", "a", "3", **settings)

    assert folder.messages() == ["before", "import a begins", *imported("a", 3)]
    names = [file.name for file in folder.rotated()]
    assert len(names) == int(before > timedelta(0))
    assert all(last_line.strftime("%Y-%m-%dT%H-%M-%S") in name for name in names)


@pytest.mark.requirement(2)
def test_rotation_by_size_does_not_look_at_the_day(solution: Solution, env: Env, folder: "LogFolder") -> None:
    folder.leave(b'{"message": "before"}\n', datetime.now(UTC) - timedelta(days=5))

    solution.run("import", "a", "3", LOG_ROTATION="size", **env)

    assert folder.rotated() == []
    assert folder.messages()[0] == "before"


@pytest.mark.requirement(2)
def test_rotation_by_time_bounds_the_size_as_well(solution: Solution, env: Env, folder: "LogFolder") -> None:
    solution.run("import", "a", "100", LOG_ROTATION="time", LOG_MAX_BYTES="5000", **env)

    assert folder.messages() == ["import a begins", *imported("a", 100)]
    assert max(len(text) for text in folder.texts()) <= 5000


@pytest.mark.requirement(2)
def test_a_process_follows_the_rotation_of_another_one(
    serve: "Serve", solution: Solution, env: Env, folder: "LogFolder"
) -> None:
    client = serve(LOG_MAX_BYTES="100000")
    client.get("/orders/1")
    folder.entry(message="request")

    solution.run("import", "a", "60", LOG_MAX_BYTES="3000", **env)
    client.get("/orders/99")

    assert folder.entry(message="request", path="/orders/99")
    assert folder.entry(message="request", path="/orders/1")
    assert b"/orders/99" in folder.current.read_bytes()


@pytest.mark.requirement(2)
def test_eight_processes_lose_and_cut_no_line_through_many_rotations(
    solution: Solution, env: Env, folder: "LogFolder"
) -> None:
    prefixes = [f"p{number}" for number in range(8)]
    limits = ["40000", *["200000"] * 7]  # so that most of them do not expect a rotation

    with folder.held():  # all wait for the lock, then begin together
        running = [
            solution.start("import", prefix, "5000", LOG_MAX_BYTES=limit, LOG_BACKUPS="10000", **env)
            for prefix, limit in zip(prefixes, limits, strict=True)
        ]
    codes = [process.wait(120) for process in running]

    assert codes == [0] * 8
    assert "".join(process.output for process in running) == ""
    expected = [message for prefix in prefixes for message in (f"import {prefix} begins", *imported(prefix, 5000))]
    assert sorted(folder.messages()) == sorted(expected)
    assert len(folder.rotated()) >= 20
    assert max(len(text) for text in folder.texts()) <= 200_000
    assert folder.unfinished() == []


@pytest.mark.requirement(2)
def test_a_process_that_is_killed_leaves_the_lines_of_all_others_whole(
    solution: Solution, env: Env, folder: "LogFolder"
) -> None:
    settings = env | {"LOG_MAX_BYTES": "20000", "LOG_BACKUPS": "100000"}
    victim = solution.start("import", "victim", "1000000", **settings)
    wait_until(lambda: len(folder.rotated()) > 3, 20, "the import does not rotate")
    other = solution.start("import", "other", "500", **settings)

    wait_until(lambda: b"other-1 " in b"".join(folder.texts()) or other.exit_code is not None, 20)
    victim.kill()
    assert other.wait(30) == 0
    solution.run("import", "after", "300", **settings)

    messages = folder.messages()
    of_victim = [message for message in messages if "victim-" in message]
    begins = [f"import {name} begins" for name in ("victim", "other", "after")]
    expected = [*begins, *imported("other", 500), *imported("after", 300)]
    assert sorted(message for message in messages if "victim-" not in message) == sorted(expected)
    assert of_victim == imported("victim", len(of_victim))
    assert folder.unfinished() == []


@pytest.mark.requirement(2)
def test_half_a_line_that_a_killed_process_left_does_not_spoil_the_next(
    solution: Solution, env: Env, folder: "LogFolder"
) -> None:
    folder.leave(b'{"message": "whole"}\n{"message": "ha', datetime.now(UTC))

    solution.run("import", "a", "2", **env)

    lines = folder.lines()
    assert lines[:2] == [b'{"message": "whole"}', b'{"message": "ha']
    assert len(lines) == 5
    assert all(line.endswith(b"}") for line in lines[2:])


@pytest.mark.requirement(2)
def test_after_half_a_line_the_file_stays_within_its_limit(solution: Solution, env: Env, folder: "LogFolder") -> None:
    solution.run("import", "a", "1", **env)
    limit = 100 + len(folder.lines()[0] + b"\n")  # room for the first line, and not for one more newline
    folder.leave(b"x" * 100, datetime.now(UTC))

    solution.run("import", "a", "1", LOG_MAX_BYTES=str(limit), **env)

    assert len(folder.lines()) == 2
    assert max(len(text) for text in folder.texts()) <= limit


@pytest.mark.requirement(2)
@pytest.mark.parametrize("command", [["cleanup"], ["import", "a", "10"]], ids=" ".join)
def test_what_a_killed_process_did_not_finish_to_compress_is_compressed(
    solution: Solution, env: Env, folder: "LogFolder", command: list[str]
) -> None:
    left = folder.add(1, b'{"message": "left behind"}\n', ending="")
    Path(f"{left}.gz.tmp").write_bytes(b"\x1f\x8b half of it" * 100)

    finished = solution.run(*command, LOG_MAX_BYTES="500", **env)

    assert finished.exit_code == 0, finished.stderr
    assert folder.messages()[0] == "left behind"
    assert folder.unfinished() == []


@pytest.mark.requirement(2)
@pytest.mark.parametrize("command", [["cleanup"], ["import", "a", "30"]], ids=" ".join)
def test_a_file_that_cannot_be_compressed_stays_and_stops_no_other(
    solution: Solution, env: Env, folder: "LogFolder", command: list[str]
) -> None:
    one, two, three = (folder.add(age, b'{"message": "old"}\n', ending="") for age in (3, 2, 1))
    for directory in (f"{one}.gz", f"{two}.gz.tmp"):
        Path(directory).mkdir()

    finished = solution.run(*command, LOG_MAX_BYTES="500", **env)

    assert one.read_bytes() == two.read_bytes() == b'{"message": "old"}\n'
    assert gzip.decompress(Path(f"{three}.gz").read_bytes()) == b'{"message": "old"}\n'
    assert finished.exit_code == int(command == ["cleanup"])
    assert sum("api.log" in line for line in finished.stderr.splitlines()) == 1


# 3. What a line says.


@pytest.mark.requirement(3)
def test_a_line_says_when_where_and_for_whom(shop: Client, shop_log: "LogFolder") -> None:
    request, before = new_id(), datetime.now(UTC) - timedelta(milliseconds=2)

    shop.get("/orders/1", headers={"X-Request-ID": request, "X-User-ID": "ada"})

    entry = shop_log.entry(message="request", request_id=request)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|\+00:00)", entry["timestamp"])
    assert before <= datetime.fromisoformat(entry["timestamp"]) <= datetime.now(UTC)
    assert shop.process
    assert (entry["user_id"], entry["process"]) == ("ada", shop.process.pid)
    assert (entry["level"], entry["logger"]) == ("INFO", "shop")


@pytest.mark.requirement(3)
@pytest.mark.parametrize("given", ["order-17", "A.b_c-9", "x" * 64])
def test_a_well_formed_request_id_is_kept_and_returned(shop: Client, shop_log: "LogFolder", given: str) -> None:
    name = new_id()

    response = shop.get(f"/reports/{name}", headers={"X-Request-ID": given})

    assert response.headers["X-Request-ID"] == given
    assert shop_log.entry(message=f"report {name} is ready")["request_id"] == given


@pytest.mark.requirement(3)
@pytest.mark.parametrize("path", ["/orders/99", "/nowhere", "/feedback", "/fail"])
def test_an_error_has_the_request_id_as_well(shop: Client, path: str) -> None:
    request = new_id()

    answer = shop.get(path, headers={"X-Request-ID": request})

    assert answer.status_code >= 400
    assert answer.headers["X-Request-ID"] == request


@pytest.mark.requirement(3)
@pytest.mark.parametrize("given", ["", "x" * 65, "two words", 'a"b', "a,b", "\u00e9", "a\tb"], ids=repr)
def test_other_ids_are_replaced_or_left_out(shop: Client, shop_log: "LogFolder", given: str) -> None:
    name = new_id()
    headers = [(header, given.encode("latin-1")) for header in (b"X-Request-ID", b"X-User-ID")]

    response = shop.get(f"/reports/{name}", headers=headers)

    made = response.headers["X-Request-ID"]
    assert made != given
    assert re.fullmatch("[A-Za-z0-9._-]{8,64}", made)
    entry = shop_log.entry(message=f"report {name} is ready")
    assert (entry["request_id"], entry["user_id"]) == (made, None)


@pytest.mark.requirement(3)
def test_ids_are_made_anew_for_each_request(shop: Client, shop_log: "LogFolder") -> None:
    shop.get("/orders/1", headers={"X-User-ID": "ada"})

    ids = [shop.get("/orders/1").headers["X-Request-ID"] for _ in range(5)]

    assert len(set(ids)) == 5
    assert [shop_log.entry(message="request", request_id=made)["user_id"] for made in ids] == [None] * 5


@pytest.mark.requirement(3)
def test_lines_from_a_thread_belong_to_its_request_also_with_many_at_once(shop: Client, shop_log: "LogFolder") -> None:
    requests = [(new_id(), f"user-{number}") for number in range(24)]

    def ask(request: tuple[str, str]) -> int:
        headers = {"X-Request-ID": request[0], "X-User-ID": request[1]}
        return shop.get(f"/reports/{request[0]}", headers=headers).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, requests)) == {200}

    for request, user in requests:
        assert shop_log.entry(message=f"report {request} is ready", request_id=request, user_id=user)
        assert shop_log.entry(message="request", request_id=request, user_id=user)


@pytest.mark.requirement(3)
def test_lines_without_a_request_have_no_ids(solution: Solution, env: Env, folder: "LogFolder") -> None:
    process = solution.start("import", "a", "2", **env)
    process.wait()

    entries = folder.entries()
    assert len(entries) == 3
    assert {(entry["request_id"], entry["user_id"], entry["process"]) for entry in entries} == {
        (None, None, process.pid)
    }


@pytest.mark.requirement(3)
def test_times_are_utc_wherever_the_machine_is(solution: Solution, env: Env, folder: "LogFolder") -> None:
    solution.start("import", "a", "1", TZ="EAST-14", **env).wait()

    written = datetime.fromisoformat(folder.entries()[-1]["timestamp"])
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)


# 4. Storage.


@pytest.mark.requirement(4)
@pytest.mark.parametrize("zone", ["EAST-14", "WEST12"])
def test_cleanup_removes_what_is_too_old(solution: Solution, env: Env, folder: "LogFolder", zone: str) -> None:
    old = [folder.add(age) for age in (400, 8, 7.01)]
    young = [folder.add(age) for age in (6.99, 1, 0)]

    finished = solution.run("cleanup", LOG_RETENTION_DAYS="7", TZ=zone, **env)

    assert sorted(finished.json()["removed"]) == sorted(file.name for file in old)
    assert folder.rotated() == young


@pytest.mark.requirement(4)
@pytest.mark.parametrize("backups", [0, 2, 5, 6])
def test_cleanup_keeps_so_many_of_the_newest(solution: Solution, env: Env, folder: "LogFolder", backups: int) -> None:
    files = [folder.add(age) for age in (5, 4, 3, 2, 1)]

    solution.run("cleanup", LOG_BACKUPS=str(backups), **env)

    assert folder.rotated() == files[max(0, 5 - backups) :]


@pytest.mark.requirement(4)
def test_cleanup_leaves_room_for_a_full_api_log_in_the_total(solution: Solution, env: Env, folder: "LogFolder") -> None:
    files = [folder.add(age, os.urandom(1000)) for age in (5, 4, 3, 2, 1)]
    total = 10_000 + size_of(files[-3:])

    solution.run("cleanup", LOG_MAX_BYTES="10000", LOG_TOTAL_BYTES=str(total), **env)

    assert folder.rotated() == files[-3:]
    solution.run("cleanup", LOG_MAX_BYTES="10000", LOG_TOTAL_BYTES=str(total - 1), **env)
    assert folder.rotated() == files[-2:]


@pytest.mark.requirement(4)
def test_what_does_not_fit_into_the_total_goes_with_all_older_files(
    solution: Solution, env: Env, folder: "LogFolder"
) -> None:
    _, _, newest = (folder.add(age, os.urandom(size)) for age, size in ((3, 100), (2, 3000), (1, 100)))

    solution.run("cleanup", LOG_MAX_BYTES="10000", LOG_TOTAL_BYTES="11000", **env)

    assert folder.rotated() == [newest]


@pytest.mark.requirement(4)
def test_a_rotation_removes_what_is_too_old(solution: Solution, env: Env, folder: "LogFolder") -> None:
    old, young = folder.add(7.01), folder.add(6.99)

    solution.run("import", "a", "50", LOG_MAX_BYTES="5000", LOG_RETENTION_DAYS="7", **env)

    assert not old.exists()
    assert young.exists()


@pytest.mark.requirement(4)
def test_by_default_100_files_and_30_days_are_kept(solution: Solution, env: Env, folder: "LogFolder") -> None:
    old, *files = [folder.add(30.1), *(folder.add(29.9 - number / 10) for number in range(101))]

    finished = solution.run("cleanup", **env)

    assert sorted(finished.json()["removed"]) == [old.name, files[0].name]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("number", range(2))
def test_rotation_keeps_to_the_limits_by_itself(solution: Solution, env: Env, folder: "LogFolder", number: int) -> None:
    limits: Env = [{"LOG_BACKUPS": "3"}, {"LOG_TOTAL_BYTES": "7000"}][number]

    solution.run("import", "a", "500", LOG_MAX_BYTES="5000", **limits, **env)

    messages = folder.messages()
    assert messages == imported("a", 500, 501 - len(messages))
    assert 1 <= len(folder.rotated()) <= [3, 30][number]
    assert size_of(folder.rotated()) <= [15_000, 2000][number]
    assert folder.current.stat().st_size <= 5000


@pytest.mark.requirement(4)
def test_without_backups_the_file_is_still_rotated(solution: Solution, env: Env, folder: "LogFolder") -> None:
    solution.run("import", "a", "200", LOG_MAX_BYTES="5000", LOG_BACKUPS="0", **env)

    assert folder.rotated() == []
    assert 0 < folder.current.stat().st_size <= 5000
    assert folder.messages()[-1] == imported("a", 200)[-1]


@pytest.mark.requirement(4)
def test_what_is_not_a_rotated_log_is_never_touched(
    solution: Solution, env: Env, folder: "LogFolder", tmp_path: Path
) -> None:
    mine = folder.add(400)
    date = mine.name.removeprefix("api.log.").removesuffix(".gz")
    names = ["api.log", "api.log.1", "api.log.gz", "api.log.old.gz", f"my-{mine.name}", f"{mine.name}.bak"]
    names += [f"api-log.{date}.gz", f"web.log.{date}.gz", f"api.log.{date}-copy.gz"]
    for name in names:
        (folder.path / name).write_bytes(b"keep")
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep")
    link, directory = folder.add(401), folder.add(402)
    link.unlink()
    link.symlink_to(outside)
    directory.unlink()
    directory.mkdir()

    finished = solution.run("cleanup", LOG_RETENTION_DAYS="1", LOG_BACKUPS="0", **env)

    assert finished.json()["removed"] == [mine.name]
    assert [name for name in names if (folder.path / name).read_bytes() != b"keep"] == []
    assert link.is_symlink()
    assert directory.is_dir()
    assert outside.read_bytes() == b"keep"


@pytest.mark.requirement(4)
def test_cleanup_may_be_repeated_and_needs_no_folder(solution: Solution, env: Env, folder: "LogFolder") -> None:
    first = solution.run("cleanup", **env)
    folder.add(400)
    second, third = solution.run("cleanup", **env), solution.run("cleanup", **env)

    assert [finished.exit_code for finished in (first, second, third)] == [0, 0, 0]
    assert [len(finished.json()["removed"]) for finished in (first, second, third)] == [0, 1, 0]


@pytest.mark.requirement(4)
def test_cleanup_beside_a_running_import_loses_nothing(solution: Solution, env: Env, folder: "LogFolder") -> None:
    settings = env | {"LOG_MAX_BYTES": "20000"}
    running = solution.start("import", "a", "1500", **settings)

    while running.exit_code is None:
        assert solution.run("cleanup", **settings).exit_code == 0

    assert folder.messages() == ["import a begins", *imported("a", 1500)]


@pytest.mark.requirement(4)
def test_other_users_of_the_machine_cannot_open_any_of_the_files(
    solution: Solution, env: Env, folder: "LogFolder"
) -> None:
    solution.start("import", "a", "50", LOG_MAX_BYTES="3000", **env).wait()

    assert len(folder.rotated()) > 1
    assert [file.name for file in folder.path.iterdir() if file.stat().st_mode & 0o007] == []


# 5. Development and production.


@pytest.mark.requirement(5)
def test_in_development_people_read_the_console(solution: Solution) -> None:
    client = solution.serve(isolated=True, ENVIRONMENT="development")

    client.get("/orders/1", headers={"X-Request-ID": "order-of-ada"})

    wait_until(lambda: "request" in client.output, 5, "the console does not say what is logged")
    debug, request = (line for line in client.output.splitlines() if "order-of-ada" in line)
    assert all(part in debug for part in ("DEBUG", "shop", "looking for order 1"))
    assert all(part in request for part in ("INFO", "shop", "request", "GET", "/orders/1", "200"))
    assert not debug.startswith("{")


@pytest.mark.requirement(5)
def test_control_characters_do_not_reach_the_console(solution: Solution) -> None:
    client = solution.serve(isolated=True, ENVIRONMENT="development")

    client.post("/feedback", content="first\nsecond\rthird\x00\x07\x1b[2J\x7f\x9b31m fourth")

    wait_until(lambda: "fourth" in client.output, 5, "the console does not say what is logged")
    line = next(line for line in client.output.split("\n") if "fourth" in line)
    assert all(word in line for word in ("first", "second", "third"))
    assert [char for char in line if ord(char) < 32 or 127 <= ord(char) < 160] == []


@pytest.mark.requirement(5)
def test_in_development_a_file_is_written_when_asked_for(serve: "Serve", folder: "LogFolder") -> None:
    client = serve(ENVIRONMENT=None)

    client.get("/orders/1")

    assert folder.entry(message="looking for order 1")["level"] == "DEBUG"
    assert "looking for order 1" in client.output


@pytest.mark.requirement(5)
def test_in_production_the_file_has_info_and_the_console_nothing(serve: "Serve", folder: "LogFolder") -> None:
    client = serve()

    client.get("/orders/1")
    client.get("/fail")

    folder.entry(message="request", path="/fail")
    assert folder.entry(message="request", path="/orders/1")["level"] == "INFO"
    assert folder.entries(level="DEBUG") == []
    assert "orders/1" not in client.output
    assert "payment" not in client.output


@pytest.mark.requirement(5)
def test_a_request_does_not_wait_for_the_disk(serve: "Serve", folder: "LogFolder") -> None:
    client = serve()

    with ThreadPoolExecutor(4) as threads, folder.held():
        answers = [threads.submit(client.get, "/orders/1") for _ in range(20)]
        wait_until(lambda: all(answer.done() for answer in answers), 4, "the requests wait for the file")
        assert folder.entries() == []

    assert [answer.result().status_code for answer in answers] == [200] * 20
    wait_until(lambda: len(folder.entries(message="request")) == 20, 5, "the lines are not written later")


@pytest.mark.requirement(5)
def test_what_finds_the_queue_full_is_lost_and_counted(serve: "Serve", folder: "LogFolder") -> None:
    client = serve(LOG_QUEUE="5")
    answers: list[int] = []

    for _ in range(2):
        with ThreadPoolExecutor(4) as threads, folder.held():
            asked = [threads.submit(client.get, "/orders/1") for _ in range(20)]
            wait_until(lambda asked=asked: all(answer.done() for answer in asked), 4, "the requests wait for room")
        answers += [answer.result().status_code for answer in asked]
        wait_until(lambda: folder.entries(level="WARNING"), 5, "nothing tells that lines were lost")
    client.stop()

    dropped = sum(entry["dropped"] for entry in folder.entries(level="WARNING"))
    assert answers == [200] * 40
    assert 20 <= dropped <= 35  # in the second round, lines of the first one may still be in the queue
    assert len(folder.entries(message="request")) + dropped == 40


@pytest.mark.requirement(5)
@pytest.mark.parametrize("names", ["SIGTERM", "SIGINT", "SIGTERM SIGTERM", "SIGINT SIGTERM"])
def test_what_is_in_the_queue_is_written_before_the_server_ends(
    serve: "Serve", folder: "LogFolder", names: str
) -> None:
    client = serve()
    assert client.process

    with folder.held():
        for _ in range(20):
            client.get("/orders/1")
        for name in names.split():
            client.process.signal(signal.Signals[name])
            with contextlib.suppress(AssertionError):  # it has seen the signal when it accepts no more
                wait_until(lambda: not listens(client), 1)
    code = client.process.wait(10)

    assert code == 0
    assert "Traceback" not in client.output
    assert len(folder.entries(message="request")) == 20


@pytest.mark.requirement(5)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_import_that_is_stopped_writes_what_it_has_logged(
    solution: Solution, env: Env, folder: "LogFolder", number: signal.Signals
) -> None:
    running = solution.start("import", "a", "1000000", LOG_QUEUE="100", **env)
    wait_until(lambda: len(folder.lines()) > 100, 10, "the import writes nothing")

    running.signal(number)
    code = running.wait(10)

    assert code == 0
    assert "Traceback" not in running.stderr
    messages = folder.messages()
    assert messages == ["import a begins", *imported("a", len(messages) - 1)]


@pytest.mark.requirement(5)
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can limit another process")
def test_a_full_disk_fails_no_request_and_is_told_once(serve: "Serve", folder: "LogFolder") -> None:
    client = serve()
    assert client.process
    client.post("/feedback", content="x" * 4000)  # standard error has the same limit, and needs less
    folder.entry(message="request")
    full = folder.current.stat().st_size + 20  # room for a part of a line
    hard = resource.prlimit(client.process.pid, resource.RLIMIT_FSIZE)[1]

    resource.prlimit(client.process.pid, resource.RLIMIT_FSIZE, (full, hard))
    answers = [client.get("/orders/2").status_code for _ in range(10)]
    wait_until(lambda: "api.log" in client.output, 5, "nothing on standard error names api.log")
    resource.prlimit(client.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    answers += ask_until_logged(client, folder)
    client.stop()

    assert set(answers) == {200}
    assert sum("api.log" in line for line in client.output.splitlines()) == 1
    dropped = sum(entry["dropped"] for entry in folder.entries(level="WARNING"))
    assert dropped + len(folder.entries(message="request", status=200)) == len(answers)


@pytest.mark.requirement(5)
def test_a_folder_that_cannot_be_written_fails_no_request_and_is_told_each_time(
    serve: "Serve", folder: "LogFolder"
) -> None:
    kept = folder.path.with_name("kept")
    kept.mkdir()
    folder.path.write_bytes(b"a file in its place")
    client = serve()
    answers: list[int] = []

    for times in (1, 2):
        answers += [client.get("/orders/1").status_code for _ in range(5)]
        wait_until(lambda times=times: client.output.count("api.log") >= times, 5, "standard error does not say it")
        folder.path.unlink()
        kept.rename(folder.path)
        answers += ask_until_logged(client, folder, times)
        if times == 1:
            folder.path.rename(kept)
            folder.path.write_bytes(b"a file in its place")
    client.stop()

    assert set(answers) == {200}
    assert sum("api.log" in line for line in client.output.splitlines()) == 2
    dropped = sum(entry["dropped"] for entry in folder.entries(level="WARNING"))
    assert dropped + len(folder.entries(message="request")) == len(answers)


@pytest.mark.requirement(5)
def test_a_folder_that_is_removed_is_made_again(serve: "Serve", folder: "LogFolder") -> None:
    client = serve()
    client.get("/orders/1")
    folder.entry(message="request")

    shutil.rmtree(folder.path)
    answer = client.get("/orders/2")

    assert answer.status_code == 200
    assert folder.entry(message="request", path="/orders/2")


@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    "name, value",
    [
        ("ENVIRONMENT", "prod"),
        ("LOG_ROTATION", "daily"),
        ("LOG_MAX_BYTES", "0"),
        ("LOG_MAX_BYTES", "10MB"),
        ("LOG_MAX_BYTES", "1_000"),
        ("LOG_MAX_BYTES", "٣"),
        ("LOG_BACKUPS", "-1"),
        ("LOG_RETENTION_DAYS", "0"),
        ("LOG_RETENTION_DAYS", "1.5"),
        ("LOG_RETENTION_DAYS", "36501"),
        ("LOG_QUEUE", "0"),
        ("LOG_TOTAL_BYTES", "ten"),
        ("LOG_TOTAL_BYTES", "9999999"),  # the default of LOG_MAX_BYTES is more
        ("LOG_MAX_BYTES", "1000000001"),  # the default of LOG_TOTAL_BYTES is less
    ],
)
def test_a_wrong_setting_ends_the_program_with_a_reason(solution: Solution, env: Env, name: str, value: str) -> None:
    finished = solution.run("cleanup", **(env | {name: value}))

    assert finished.exit_code == 2
    assert name in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.requirement(5)
@pytest.mark.parametrize("settings", [{}, {"LOG_TOTAL_BYTES": "10000000"}, {"LOG_MAX_BYTES": "1000000000"}], ids=str)
def test_an_empty_setting_is_like_a_missing_one(solution: Solution, settings: dict[str, str]) -> None:
    names = ["ENVIRONMENT", "LOG_DIR", "LOG_ROTATION", "LOG_MAX_BYTES", "LOG_BACKUPS", "LOG_RETENTION_DAYS"]
    env: Env = dict.fromkeys([*names, "LOG_TOTAL_BYTES", "LOG_QUEUE"], "")

    finished = solution.run("cleanup", **(env | settings))

    assert finished.exit_code == 0, finished.stderr
    assert finished.json() == {"removed": []}


@pytest.mark.requirement(5)
def test_in_production_the_folder_is_logs_unless_the_environment_names_one(solution: Solution) -> None:
    prefix = new_id()

    solution.run("import", prefix, "1", ENVIRONMENT="production")

    files = solution.scratch.rglob("logs/api.log")  # below the folder in which the program was started
    assert sum(imported(prefix, 1)[0].encode() in file.read_bytes() for file in files) == 1


@pytest.mark.requirement(5)
def test_a_server_does_not_start_with_a_wrong_setting(solution: Solution, env: Env) -> None:
    process = solution.start(LOG_MAX_BYTES="much", HOST="127.0.0.1", PORT="0", **env)

    assert process.wait(10) == 2
    assert "LOG_MAX_BYTES" in process.stderr
