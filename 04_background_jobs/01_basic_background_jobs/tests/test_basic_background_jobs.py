"""The specification of background jobs, requirement by requirement."""

import csv
import email.policy
import io
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from grader.launch import Process
from grader.solution import Client, Solution, wait_until

Json = dict[str, Any]
Submit = Callable[..., str]
StartWorker = Callable[..., Process]
WaitFor = Callable[..., Json]
Serve = Callable[..., Client]

REPORT = {"month": "2026-02"}
NOBODYS_ID = "5f0c1b52-1111-4222-8333-abcdefabcdef"
EMAIL = {"to": ["anna@example.com"], "subject": "Your order", "body": "It is on its way."}
ENDED = ("finished", "failed", "canceled")


def mail_to(*recipients: str) -> Json:
    return EMAIL | {"to": list(recipients)}


def mails(outbox: Path) -> list[EmailMessage]:
    files = sorted(outbox.rglob("*.eml"))
    return [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in files]


def recipients(outbox: Path) -> list[str]:
    return sorted(str(mail["To"]) for mail in mails(outbox))


def image(size: tuple[int, int], kind: str = "PNG", mode: str = "RGB", rotated: bool = False) -> bytes:
    content = io.BytesIO()
    exif = Image.Exif()
    if rotated:
        exif[0x0112] = 6  # Orientation: turn a quarter clockwise to show it upright
    Image.new(mode, size, "teal").save(content, kind, exif=exif)
    return content.getvalue()


def upload(content: bytes, kind: str = "image/png") -> Json:
    return {"content": content, "headers": {"Content-Type": kind}}


def data_file(environment: dict[str, str], result: Json) -> Path:
    return Path(environment["DATA_DIR"]) / str(result["file"])


def png_size(file: Path) -> tuple[int, int]:
    with Image.open(file, formats=["PNG"]) as picture:
        return picture.size


# 1. A queue, and workers of their own.


@pytest.mark.requirement(1)
def test_a_job_waits_for_a_worker_and_then_ends_in_it(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    job = submit("/reports", REPORT)
    before = client.get(job).json()["status"]

    start_worker()

    assert before == "queued"
    assert wait_for(job, *ENDED)["status"] == "finished"


@pytest.mark.requirement(1)
def test_a_worker_takes_jobs_in_the_order_in_which_they_came(
    submit: Submit, start_worker: StartWorker, wait_for: WaitFor, outbox: Path
) -> None:
    jobs = [submit("/emails", mail_to(f"customer-{number}@example.com")) for number in range(3)]

    start_worker()
    wait_for(jobs[-1], *ENDED)

    files = sorted(outbox.rglob("*.eml"), key=lambda file: file.stat().st_mtime_ns)
    assert [f"/jobs/{file.name[:36]}" for file in files] == jobs


@pytest.mark.requirement(1)
def test_accepted_jobs_outlive_the_web_app(
    environment: dict[str, str],
    solution: Solution,
    submit: Submit,
    start_worker: StartWorker,
    wait_for: WaitFor,
) -> None:
    web = solution.serve(isolated=True, **environment)
    job = submit("/reports", REPORT, on=web)

    assert web.process
    web.process.kill()
    start_worker()

    assert wait_for(job, *ENDED)["status"] == "finished"


@pytest.mark.requirement(1)
def test_two_workers_work_at_the_same_time(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    jobs = [submit("/reports", REPORT) for _ in range(2)]

    for _ in jobs:
        start_worker(ROW_SECONDS="60")

    for job in jobs:
        wait_for(job, "started")
    assert client.get("/queue").json() == {"queued": 0, "started": 2, "scheduled": 0, "failed": 0, "workers": 2}


@pytest.mark.requirement(1)
def test_a_worker_that_is_told_to_stop_ends_its_job_first_and_takes_no_other(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    first, second = submit("/reports", REPORT), submit("/reports", REPORT)
    worker = start_worker(ROW_SECONDS="0.02")
    wait_for(first, "started")

    worker.terminate()
    exit_code = worker.wait()

    assert exit_code == 0
    assert [client.get(job).json()["status"] for job in (first, second)] == ["finished", "queued"]


# 2. Reports, images and e-mails.


@pytest.mark.requirement(2)
def test_a_report_has_a_line_for_each_day_of_the_month(
    environment: dict[str, str], submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker()
    jobs = {month: submit("/reports", {"month": month}) for month in ("2026-02", "2028-02", "2026-12")}

    results = {month: wait_for(job, *ENDED)["result"] for month, job in jobs.items()}

    assert {month: result["rows"] for month, result in results.items()} == {
        "2026-02": 28,
        "2028-02": 29,
        "2026-12": 31,
    }
    for month, result in results.items():
        lines = list(csv.DictReader(data_file(environment, result).read_text(encoding="utf-8").splitlines()))
        assert [line["day"] for line in lines] == [f"{month}-{day:02}" for day in range(1, result["rows"] + 1)]
        assert {*lines[0]} == {"day", "orders", "revenue"}


@pytest.mark.requirement(2)
def test_a_thumbnail_is_a_png_in_a_square_of_128_pixels_upright_and_undistorted(
    environment: dict[str, str], submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    uploads = {
        "a wide PNG": upload(image((640, 480))),
        "a tall JPEG": upload(image((300, 600), "JPEG"), "image/jpeg"),
        "a square WebP": upload(image((512, 512), "WEBP"), "image/webp"),
        "a rotated JPEG": upload(image((640, 480), "JPEG", rotated=True), "image/jpeg"),
        "a JPEG for print": upload(image((256, 256), "JPEG", "CMYK"), "image/jpeg"),
        "a PNG with a palette": upload(image((256, 256), "PNG", "P")),
        "a PNG that is small already": upload(image((20, 10))),
    }
    start_worker()
    jobs = {case: submit("/thumbnails", **request) for case, request in uploads.items()}

    results = {case: wait_for(job, *ENDED)["result"] for case, job in jobs.items()}

    assert None not in results.values()
    assert {case: png_size(data_file(environment, result)) for case, result in results.items()} == {
        "a wide PNG": (128, 96),
        "a tall JPEG": (64, 128),
        "a square WebP": (128, 128),
        "a rotated JPEG": (96, 128),
        "a JPEG for print": (128, 128),
        "a PNG with a palette": (128, 128),
        "a PNG that is small already": (20, 10),
    }


@pytest.mark.requirement(2)
def test_an_email_reaches_each_recipient_as_it_was_written(
    submit: Submit, start_worker: StartWorker, wait_for: WaitFor, outbox: Path
) -> None:
    start_worker()
    written = {"subject": "Größe 42 ist da", "body": "Grüße 👋\nDein Laden"}

    status = wait_for(submit("/emails", mail_to("anna@example.com", "b.ob+shop@example.com") | written), *ENDED)

    assert status["result"] == {"sent": 2}
    assert recipients(outbox) == ["anna@example.com", "b.ob+shop@example.com"]
    assert {str(mail["Subject"]) for mail in mails(outbox)} == {written["subject"]}
    assert {mail.get_content().strip() for mail in mails(outbox)} == {written["body"]}


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "path, body",
    [
        pytest.param("/reports", {}, id="a report without a month"),
        pytest.param("/reports", {"month": "2026-13"}, id="a month that is none"),
        pytest.param("/reports", {"month": "../../2026"}, id="a month that is a path"),
        pytest.param("/emails", mail_to(), id="an e-mail to nobody"),
        pytest.param("/emails", mail_to("anna"), id="an address without a server"),
        pytest.param("/emails", mail_to("anna@../example.com"), id="an address with a path"),
        pytest.param("/emails", mail_to("anna@example.com", "anna@example.com"), id="one address twice"),
        pytest.param("/emails", EMAIL | {"subject": "Hi\r\nBcc: eve@example.com"}, id="a header in the subject"),
        pytest.param("/emails", EMAIL | {"subject": "Hi\u2028there"}, id="two lines in the subject"),
    ],
)
def test_what_can_be_no_job_is_422_and_not_queued(client: Client, path: str, body: Json) -> None:
    response = client.post(path, json=body)

    assert response.status_code == 422
    assert client.get("/queue").json()["queued"] == 0


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "content, kind, expected",
    [
        pytest.param(b"", "image/png", 422, id="nothing"),
        pytest.param(b"<svg/>", "image/svg+xml", 415, id="another type"),
        pytest.param(bytes(10 * 1024 * 1024 + 1), "image/png", 413, id="more than 10 MB"),
    ],
)
def test_an_upload_that_can_be_no_image_is_refused_and_not_queued(
    client: Client, content: bytes, kind: str, expected: int
) -> None:
    response = client.post("/thumbnails", **upload(content, kind))

    assert response.status_code == expected
    assert client.get("/queue").json()["queued"] == 0


# 3. The answer comes at once.


@pytest.mark.requirement(3)
@pytest.mark.parametrize("path, body", [("/reports", REPORT), ("/emails", EMAIL)])
def test_the_answer_is_202_before_anything_is_done(serve: Serve, path: str, body: Json) -> None:
    client = serve(ROW_SECONDS="0.05")

    response = client.post(path, json=body)

    assert response.status_code == 202
    assert client.get(response.headers["Location"]).json()["status"] == "queued"
    assert response.json() == client.get(response.headers["Location"]).json()


@pytest.mark.requirement(3)
def test_requests_are_answered_while_a_job_takes_its_time(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker(ROW_SECONDS="60")
    running = submit("/reports", REPORT)
    wait_for(running, "started")

    others = [submit("/reports", REPORT) for _ in range(5)]

    assert client.get(running).json()["status"] == "started"
    assert {client.get(job).json()["status"] for job in others} == {"queued"}


@pytest.mark.requirement(3)
def test_requests_that_come_at_once_get_jobs_of_their_own(client: Client, submit: Submit) -> None:
    with ThreadPoolExecutor(10) as customers:
        jobs = list(customers.map(lambda _: submit("/emails", EMAIL), range(30)))

    assert len(set(jobs)) == 30
    assert client.get("/queue").json()["queued"] == 30


@pytest.mark.requirement(3)
def test_nothing_is_queued_before_what_the_job_needs_is_there(client: Client) -> None:
    request = "POST /thumbnails HTTP/1.1\r\nHost: shop\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n"
    with socket.create_connection(client.address) as connection:
        connection.sendall(request.encode() + bytes(1000))
        while_it_comes = [client.get("/queue").json()["queued"] for _ in range(5)]

    # The connection is closed now, with most of the upload missing.
    after = [client.get("/queue").json()["queued"] for _ in range(5)]

    assert while_it_comes + after == [0] * 10


@pytest.mark.requirement(3)
@pytest.mark.parametrize("method, path", [("POST", "/reports"), ("GET", f"/jobs/{NOBODYS_ID}"), ("GET", "/queue")])
def test_without_a_queue_the_answer_is_503_and_no_promise(serve: Serve, method: str, path: str) -> None:
    client = serve(REDIS_URL="redis://127.0.0.1:1/0")  # nobody listens on port 1

    response = client.request(method, path, json=REPORT if method == "POST" else None)

    assert response.status_code == 503
    assert "Location" not in response.headers


# 4. What became of it.


@pytest.mark.requirement(4)
def test_progress_grows_while_the_job_runs_and_ends_at_100(
    client: Client, submit: Submit, start_worker: StartWorker
) -> None:
    start_worker(ROW_SECONDS="0.02")
    job = submit("/reports", REPORT)

    seen: list[Json] = []

    def has_ended() -> bool:
        seen.append(client.get(job).json())
        return seen[-1]["status"] in ENDED

    wait_until(has_ended)

    progress = [status["progress"] for status in seen]
    assert progress == sorted(progress)
    assert len({value for value in progress if 0 < value < 100}) >= 3
    assert (seen[-1]["status"], progress[-1]) == ("finished", 100)


@pytest.mark.requirement(4)
def test_a_failed_job_says_why(submit: Submit, start_worker: StartWorker, wait_for: WaitFor) -> None:
    start_worker()

    status = wait_for(submit("/emails", mail_to("bob@example.net")), *ENDED)

    assert status["status"] == "failed"
    assert "example.net" in status["error"]
    assert "\n" not in status["error"]
    assert status["result"] is None


@pytest.mark.requirement(4)
def test_the_status_is_known_after_the_result_has_expired(
    serve: Serve, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    client = serve(RESULT_TTL="1")
    start_worker()
    job = submit("/emails", EMAIL, on=client)
    fresh = wait_for(job, *ENDED)

    answers = [client.get(job)]

    def has_expired() -> bool:
        answers.append(client.get(job))
        return bool(answers[-1].json().get("expired", True))

    wait_until(has_expired)

    late = [client.delete(job), client.post(f"/dead-letters/{job.removeprefix('/jobs/')}/requeue")]
    assert {answer.status_code for answer in answers} == {200}
    kept = {name: value for name, value in fresh.items() if name != "attempts"}
    assert answers[-1].json().items() >= (kept | {"result": None, "expired": True}).items()
    assert [answer.status_code for answer in late] == [409, 409]


@pytest.mark.requirement(4)
@pytest.mark.parametrize("job_id", [NOBODYS_ID, "1", "None", "%00", "..%2f", "x" * 500])
def test_an_id_that_was_never_given_out_is_404(client: Client, job_id: str) -> None:
    answers = [
        client.get(f"/jobs/{job_id}"),
        client.delete(f"/jobs/{job_id}"),
        client.post(f"/dead-letters/{job_id}/requeue"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 3


@pytest.mark.requirement(4)
def test_the_overview_counts_jobs_by_what_they_wait_for(
    serve: Serve, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    client = serve(RETRY_SECONDS="[60]")
    empty = client.get("/queue").json()
    broken, waiting = (
        submit("/thumbnails", on=client, **upload(b"?")),
        submit("/emails", mail_to("b@down.example"), on=client),
    )
    running, _queued = submit("/reports", REPORT, on=client), submit("/reports", REPORT, on=client)

    start_worker(ROW_SECONDS="60")
    for job, status in [(broken, "failed"), (waiting, "scheduled"), (running, "started")]:
        wait_for(job, status)

    assert empty == {"queued": 0, "started": 0, "scheduled": 0, "failed": 0, "workers": 0}
    assert client.get("/queue").json() == {
        "queued": 1,
        "started": 1,
        "scheduled": 1,
        "failed": 1,
        "workers": 1,
    }


@pytest.mark.requirement(4)
def test_a_job_that_waits_can_be_cancelled_and_is_never_done(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor, outbox: Path
) -> None:
    cancelled, other = submit("/emails", EMAIL), submit("/emails", mail_to("bob@example.com"))

    response = client.delete(cancelled)
    start_worker()
    wait_for(other, *ENDED)

    assert response.status_code == 202
    assert client.get(cancelled).json()["status"] == "canceled"
    assert recipients(outbox) == ["bob@example.com"]


@pytest.mark.requirement(4)
def test_a_job_that_runs_can_be_cancelled_and_its_worker_goes_on(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker(ROW_SECONDS="60")
    running = submit("/reports", REPORT)
    wait_for(running, "started")

    response = client.delete(running)

    assert response.status_code == 202
    assert wait_for(running, *ENDED)["status"] == "canceled"
    assert wait_for(submit("/emails", EMAIL), *ENDED)["status"] == "finished"
    assert client.get("/dead-letters").json() == []


@pytest.mark.requirement(4)
def test_a_job_that_has_ended_cannot_be_cancelled(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker()
    ended = wait_for(job := submit("/emails", EMAIL), *ENDED)

    assert client.delete(job).status_code == 409
    assert client.get(job).json() == ended


# 5. When it goes wrong.


@pytest.mark.requirement(5)
def test_the_pauses_between_attempts_grow(serve: Serve, submit: Submit, start_worker: StartWorker) -> None:
    client = serve(RETRY_SECONDS="[1, 60]")
    start_worker()
    job = submit("/emails", mail_to("bob@example.org"), on=client)

    def pause_after(attempt: int) -> float:
        def seen() -> Json | None:
            status: Json = client.get(job).json()
            return status if status["attempts"] == attempt and status["next_attempt_at"] else None

        status = wait_until(seen, message=f"attempt {attempt} is not followed by a pause")
        return (datetime.fromisoformat(status["next_attempt_at"]) - datetime.now(UTC)).total_seconds()

    assert pause_after(1) <= 1
    assert 50 < pause_after(2) <= 60


@pytest.mark.requirement(5)
def test_an_attempt_that_fails_is_followed_by_one_that_succeeds(
    serve: Serve, submit: Submit, start_worker: StartWorker, wait_for: WaitFor, outbox: Path
) -> None:
    start_worker()
    job = submit("/emails", mail_to("bob@example.org"), on=serve(RETRY_SECONDS="[1]"))
    waiting = wait_for(job, "scheduled")

    (outbox / "example.org").mkdir()
    status = wait_for(job, *ENDED)

    assert "example.org" in waiting["error"]
    assert (status["status"], status["attempts"], status["error"]) == ("finished", 2, None)
    assert recipients(outbox) == ["bob@example.org"]


@pytest.mark.requirement(5)
def test_a_job_without_attempts_left_is_a_dead_letter(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker()
    well, ill = submit("/emails", EMAIL), submit("/emails", mail_to("bob@example.org"))

    statuses = [wait_for(job, *ENDED) for job in (well, ill)]

    assert [status["status"] for status in statuses] == ["finished", "failed"]
    assert statuses[1]["attempts"] == 2
    assert client.get("/dead-letters").json() == [statuses[1]]


@pytest.mark.requirement(5)
def test_a_dead_letter_is_requeued_with_all_its_attempts_and_may_succeed(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor, outbox: Path
) -> None:
    start_worker()
    job = submit("/emails", mail_to("bob@example.org"))
    requeue = f"/dead-letters/{job.removeprefix('/jobs/')}/requeue"
    wait_for(job, "failed")

    again = client.post(requeue)
    wait_until(lambda: client.get(job).json()["attempts"] == 4 and wait_for(job, "failed"))
    (outbox / "example.org").mkdir()
    client.post(requeue)

    assert (again.status_code, again.headers["Location"]) == (202, job)
    assert wait_for(job, "finished")["attempts"] == 5
    assert client.get("/dead-letters").json() == []


@pytest.mark.requirement(5)
def test_only_a_dead_letter_can_be_requeued_and_only_once(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker(ROW_SECONDS="60")
    dead, running = submit("/thumbnails", **upload(b"no image")), submit("/reports", REPORT)
    wait_for(running, "started")
    queued = submit("/emails", EMAIL)

    requeued = [job.removeprefix("/jobs/") for job in (queued, running, dead, dead)]
    answers = [client.post(f"/dead-letters/{job_id}/requeue") for job_id in requeued]

    assert [answer.status_code for answer in answers] == [409, 409, 202, 409]
    assert client.get("/queue").json()["queued"] == 2


@pytest.mark.requirement(5)
def test_what_cannot_succeed_is_a_dead_letter_after_one_attempt(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    uploads = {
        "text": b"no image",
        "cut off": image((640, 480))[:-200],
        "50 million pixels": image((10_000, 5_000), mode="1"),
    }
    start_worker()
    jobs = {case: submit("/thumbnails", **upload(content)) for case, content in uploads.items()}

    statuses = {case: wait_for(job, *ENDED) for case, job in jobs.items()}

    seen = {case: (status["status"], status["attempts"]) for case, status in statuses.items()}
    assert seen == dict.fromkeys(uploads, ("failed", 1))
    listed = {letter["id"]: letter for letter in client.get("/dead-letters").json()}
    assert listed == {status["id"]: status for status in statuses.values()}


@pytest.mark.requirement(5)
def test_however_often_the_job_runs_each_recipient_gets_one_email(
    client: Client, submit: Submit, start_worker: StartWorker, wait_for: WaitFor, outbox: Path
) -> None:
    start_worker()
    job = submit("/emails", mail_to("anna@example.com", "bob@example.org", "carl@example.com"))
    wait_for(job, "failed")
    (outbox / "example.org").mkdir()

    client.post(f"/dead-letters/{job.removeprefix('/jobs/')}/requeue")
    status = wait_for(job, "finished")

    assert status["attempts"] == 3
    assert recipients(outbox) == ["anna@example.com", "bob@example.org", "carl@example.com"]


@pytest.mark.requirement(5)
def test_a_job_that_takes_too_long_is_stopped_and_its_worker_goes_on(
    serve: Serve, submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    start_worker(ROW_SECONDS="0.5")
    job = submit("/reports", REPORT, on=serve(JOB_TIMEOUT="1"))

    status = wait_for(job, *ENDED)

    assert (status["status"], status["attempts"]) == ("failed", 2)
    assert status["error"]
    assert wait_for(submit("/emails", EMAIL), *ENDED)["status"] == "finished"


@pytest.mark.requirement(5)
def test_the_job_of_a_worker_that_was_killed_is_taken_up_by_another(
    submit: Submit, start_worker: StartWorker, wait_for: WaitFor
) -> None:
    victim = start_worker(ROW_SECONDS="60")
    job = submit("/reports", REPORT)
    wait_for(job, "started")

    victim.signal(signal.SIGKILL)
    start_worker()

    status = wait_for(job, *ENDED, timeout=15)
    assert (status["status"], status["attempts"]) == ("finished", 2)
