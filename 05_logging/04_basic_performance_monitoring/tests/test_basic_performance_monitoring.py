"""What a monitored API must do: count and time everything once, and rank its endpoints. For alerts: test_alerts.py."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from grader.launch import Process
from grader.solution import Client, Solution, wait_until

Scrape = Callable[[Client], Any]
Promtool = Callable[..., str]

# FastAPI switches this warning off, but for all threads: a test that ends meanwhile switches it on again.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.UnsupportedFieldAttributeWarning")

REQUESTS = "http_requests_total"
COUNT = "http_request_duration_seconds_count"
SUM = "http_request_duration_seconds_sum"
BUCKET = "http_request_duration_seconds_bucket"
IN_PROGRESS = "http_requests_in_progress"
BOUNDS = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, float("inf")}


def grown(scrape: Scrape, client: Client, before: Any, name: str, **labels: str) -> float:
    """By how much a metric has grown since `before`."""
    difference: float = scrape(client).total(name, **labels) - before.total(name, **labels)
    return difference


def wait_for_count(scrape: Scrape, client: Client, before: Any, expected: float, **labels: str) -> None:
    """Wait until so many more requests are counted and timed, which may be a moment after their responses."""
    wait_until(
        lambda: min(grown(scrape, client, before, name, **labels) for name in (REQUESTS, COUNT)) >= expected,
        message=f"{expected:g} more of {REQUESTS} and {COUNT} {labels}",
    )


def wait_for_nothing_in_progress(scrape: Scrape, client: Client) -> None:
    wait_until(lambda: scrape(client).total(IN_PROGRESS) == 0, message=f"{IN_PROGRESS} is 0")


# 1. The metrics.


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "request_line, series",
    [
        pytest.param("GET /products/7?colour=red", "GET /products/{product_id} 2xx", id="a product"),
        pytest.param("HEAD /products/7", "HEAD /products/{product_id} 2xx", id="a HEAD"),
        pytest.param("GET /products/999", "GET /products/{product_id} 4xx", id="a missing product"),
        pytest.param("GET /products/abc", "GET /products/{product_id} 4xx", id="an invalid id"),
        pytest.param("GET /orders", "GET /orders 2xx", id="the orders"),
        pytest.param("GET /fail", "GET /fail 5xx", id="an exception"),
        pytest.param("GET /export?rows=3", "GET /export 2xx", id="a stream"),
        pytest.param("POST /reports/2021", "POST /reports/{year} 2xx", id="a report"),
        pytest.param("GET /nothing/here", "GET unmatched 4xx", id="an unknown path"),
        pytest.param("DELETE /products/3", "DELETE /products/{product_id} 4xx", id="a method that the route lacks"),
        pytest.param("GET /reports/2021", "GET /reports/{year} 4xx", id="a GET of a report"),
        pytest.param("PROPFIND /nothing", "other unmatched 4xx", id="an unknown method"),
    ],
)
def test_a_request_is_counted_and_timed_once_by_method_route_and_status_class(
    client: Client, scrape: Scrape, request_line: str, series: str
) -> None:
    before = scrape(client)
    labels = dict(zip(("method", "route", "status_class"), series.split(), strict=True))

    client.request(*request_line.split())

    wait_for_count(scrape, client, before, 1, **labels)
    assert grown(scrape, client, before, REQUESTS) == 1
    assert grown(scrape, client, before, COUNT, **labels) == grown(scrape, client, before, COUNT) == 1
    wait_for_nothing_in_progress(scrape, client)


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "paths, route",
    [
        pytest.param([f"/products/{number}" for number in range(1, 16)], "/products/{product_id}", id="products"),
        pytest.param([f"/unknown-{number}/{number}" for number in range(15)], "unmatched", id="unknown paths"),
    ],
)
def test_fifteen_paths_are_one_series(client: Client, scrape: Scrape, paths: list[str], route: str) -> None:
    before = scrape(client)

    for path in paths:
        client.get(path)

    wait_for_count(scrape, client, before, 15, route=route)
    assert scrape(client).values_of("route") - before.values_of("route") <= {route}
    assert len(scrape(client).matching(REQUESTS, {"method": "GET", "route": route, "status_class": "2xx"})) <= 1


@pytest.mark.requirement(1)
def test_methods_that_http_does_not_define_are_one_value(client: Client, scrape: Scrape) -> None:
    before = scrape(client)

    for method in ("PROPFIND", "MKCOL", "PURGE"):
        client.request(method, "/orders")

    wait_for_count(scrape, client, before, 3, method="other")
    known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "other"}
    assert scrape(client).values_of("method") <= known
    assert scrape(client).values_of("method", IN_PROGRESS) <= known


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "name, labels",
    [
        (REQUESTS, {"method", "route", "status_class"}),
        (BUCKET, {"method", "route", "status_class", "le"}),
        (IN_PROGRESS, {"method"}),
        ("task_duration_seconds_bucket", {"task", "le"}),
        ("task_failures_total", {"task"}),
        ("database_queries_total", set()),
    ],
)
def test_each_metric_has_its_labels_and_no_others(client: Client, scrape: Scrape, name: str, labels: set[str]) -> None:
    client.post("/reports/2050")

    samples = wait_until(lambda: scrape(client).matching(name, {}), message=f"there is a {name}")
    assert [sample.labels for sample in samples if set(sample.labels) != labels] == []


@pytest.mark.requirement(1)
def test_durations_are_in_seconds_in_the_named_buckets(client: Client, scrape: Scrape) -> None:
    before = scrape(client)

    client.get("/slow?seconds=0.3")

    wait_for_count(scrape, client, before, 1, route="/slow")
    after = scrape(client)
    assert {float(sample.labels["le"]) for sample in after.matching(BUCKET, {"route": "/slow"})} == BOUNDS
    assert 0.3 <= grown(scrape, client, before, SUM, route="/slow") < 3
    assert grown(scrape, client, before, BUCKET, route="/slow", le="0.25") == 0
    assert grown(scrape, client, before, BUCKET, route="/slow", le="+Inf") == 1


@pytest.mark.requirement(1)
def test_requests_in_progress_go_up_and_back_to_zero(client: Client, scrape: Scrape) -> None:
    with ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(client.get, "/slow?seconds=1") for _ in range(3)]
        wait_until(lambda: scrape(client).total(IN_PROGRESS, method="GET") == 3, message="3 in progress")
        assert all(answer.result().status_code == 200 for answer in answers)

    wait_for_nothing_in_progress(scrape, client)


@pytest.mark.requirement(1)
def test_metrics_and_health_are_not_counted(client: Client, scrape: Scrape) -> None:
    before = scrape(client)

    for _ in range(3):
        client.get("/health")
    client.get("/products/1")

    wait_for_count(scrape, client, before, 1, route="/products/{product_id}")
    assert grown(scrape, client, before, REQUESTS) == grown(scrape, client, before, COUNT) == 1
    wait_for_nothing_in_progress(scrape, client)


@pytest.mark.requirement(1)
def test_promtool_finds_no_fault_in_the_metrics(client: Client, token: str, promtool: Promtool) -> None:
    for path in ("/products/1", "/fail", "/nothing", "/orders"):
        client.get(path)
    client.post("/reports/2021")

    text = client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).text

    assert promtool("check", "metrics", stdin=text) == ""


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "accept, media_type",
    [
        pytest.param("*/*", "text/plain; version=", id="anything"),
        pytest.param("text/plain;version=1.0.0", "text/plain; version=", id="text, version 1.0.0"),
        pytest.param("text/plain;version=abc", "text/plain; version=", id="a version that is no number"),
        pytest.param("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1", id="OM"),
        pytest.param(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1",
            id="what Prometheus sends",
        ),
    ],
)
def test_metrics_come_in_the_format_that_is_accepted_and_are_not_cached(
    client: Client, token: str, accept: str, media_type: str
) -> None:
    headers = {"Authorization": f"Bearer {token}", "Accept": accept}

    get, head = client.get("/metrics", headers=headers), client.head("/metrics", headers=headers)

    assert (get.status_code, head.status_code, head.content) == (200, 200, b"")
    assert get.headers["Content-Type"].startswith(media_type)
    assert get.text.endswith("# EOF\n") == ("openmetrics" in media_type)
    assert get.headers["Cache-Control"] == "no-store"


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param("", id="nothing"),
        pytest.param("Bearer", id="no token"),
        pytest.param("Bearer {token}x", id="the token and more"),
        pytest.param("Bearer {start}", id="the start of the token"),
        pytest.param("Bearer {swapped}", id="the token in the other case"),
        pytest.param("Basic {token}", id="another scheme"),
        pytest.param("{token}", id="no scheme"),
        pytest.param("Bearer é{token}", id="not ASCII"),
    ],
)
def test_metrics_are_refused_without_the_token(client: Client, token: str, authorization: str) -> None:
    value = authorization.format(token=token, start=token[:-1], swapped=token.swapcase())

    response = client.get("/metrics", headers=[(b"Authorization", value.encode("latin-1"))] if value else [])

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.headers["Cache-Control"] == "no-store"
    assert REQUESTS not in response.text


@pytest.mark.requirement(1)
def test_the_name_of_the_scheme_may_be_in_any_case(client: Client, token: str) -> None:
    assert client.get("/metrics", headers={"Authorization": f"bearer {token}"}).status_code == 200


@pytest.mark.requirement(1)
@pytest.mark.parametrize("unset", [None, ""])
def test_without_a_token_in_the_environment_there_is_no_metrics_page(solution: Solution, unset: str | None) -> None:
    client = solution.serve_shared(METRICS_TOKEN=unset)

    answers = [client.get("/metrics", headers={"Authorization": value}) for value in ("", "Bearer", "Bearer None")]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert [answer.headers.get("Cache-Control") for answer in answers] == ["no-store"] * 3


@pytest.mark.requirement(1)
def test_metrics_and_health_answer_while_all_threads_wait_for_queries(solution: Solution, token: str) -> None:
    client = solution.serve(isolated=True, METRICS_TOKEN=token, QUERY_SECONDS="1")
    seconds = {}

    with ExitStack() as connections:
        for _ in range(80):  # FastAPI has 40 threads
            connection = connections.enter_context(socket.create_connection(client.address))
            connection.sendall(b"GET /products/1 HTTP/1.1\r\nHost: shop\r\n\r\n")
        for path in ("/health", "/metrics"):
            started = time.monotonic()
            client.get(path, headers={"Authorization": f"Bearer {token}"})
            seconds[path] = time.monotonic() - started

    assert {path: taken for path, taken in seconds.items() if taken > 0.8} == {}


# 2. Every request and every task.


@pytest.mark.requirement(2)
def test_a_stream_is_timed_to_its_end(client: Client, scrape: Scrape) -> None:
    before = scrape(client)

    client.get("/export?rows=200")  # 0.002 s a row

    wait_for_count(scrape, client, before, 1, route="/export", status_class="2xx")
    assert grown(scrape, client, before, SUM, route="/export") >= 0.4


@pytest.mark.requirement(2)
def test_a_stream_that_fails_is_a_server_error_whatever_its_status_was(client: Client, scrape: Scrape) -> None:
    before = scrape(client)

    with pytest.raises(AssertionError, match="not HTTP"):
        client.get("/export?rows=100&fail_at=50")

    wait_for_count(scrape, client, before, 1, route="/export", status_class="5xx")
    assert grown(scrape, client, before, REQUESTS) == grown(scrape, client, before, COUNT) == 1
    wait_for_nothing_in_progress(scrape, client)


@pytest.mark.requirement(2)
def test_a_response_that_the_client_breaks_off_is_counted_as_that(client: Client, scrape: Scrape) -> None:
    before = scrape(client)

    with socket.create_connection(client.address) as connection:
        connection.sendall(b"GET /export?rows=1000 HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert connection.recv(100)
        wait_until(lambda: scrape(client).total(IN_PROGRESS, method="GET") == 1, message="the stream is in progress")

    wait_for_count(scrape, client, before, 1, route="/export", status_class="client_gone")
    assert grown(scrape, client, before, REQUESTS) == grown(scrape, client, before, COUNT) == 1
    wait_for_nothing_in_progress(scrape, client)


@pytest.mark.requirement(2)
def test_a_background_task_is_timed_and_its_time_is_not_its_requests(
    solution: Solution, scrape: Scrape, token: str
) -> None:
    client = solution.serve_shared(METRICS_TOKEN=token, QUERY_SECONDS="0.08")  # 12 queries
    before = scrape(client)

    client.post("/reports/2021")

    wait_for_count(scrape, client, before, 1, route="/reports/{year}")
    wait_for_nothing_in_progress(scrape, client)
    finished = {"name": "task_duration_seconds_count", "task": "yearly_report"}
    assert grown(scrape, client, before, **finished) == 0, "the request was in progress until its task had ended"
    wait_until(lambda: grown(scrape, client, before, **finished) == 1, message="the task is timed")
    seconds = grown(scrape, client, before, "task_duration_seconds_sum", task="yearly_report")
    assert 0.96 <= seconds < 9
    assert grown(scrape, client, before, SUM, route="/reports/{year}") < seconds
    assert grown(scrape, client, before, "task_failures_total") == 0


@pytest.mark.requirement(2)
def test_a_task_that_fails_is_a_failed_task_and_no_failed_request(client: Client, scrape: Scrape) -> None:
    before = scrape(client)

    response = client.post("/reports/2050")

    assert response.status_code == 202
    wait_until(
        lambda: grown(scrape, client, before, "task_failures_total", task="yearly_report") == 1, message="a failure"
    )
    wait_for_count(scrape, client, before, 1, route="/reports/{year}", status_class="2xx")
    assert grown(scrape, client, before, "task_duration_seconds_count", task="yearly_report") == 1
    assert grown(scrape, client, before, REQUESTS) == 1


@pytest.mark.requirement(2)
def test_a_hundred_requests_at_once_are_all_counted(client: Client, scrape: Scrape) -> None:
    before = scrape(client)

    with ThreadPoolExecutor(20) as clients:
        list(clients.map(client.get, [f"/products/{number}" for number in range(1, 101)]))

    wait_for_count(scrape, client, before, 100, route="/products/{product_id}", status_class="2xx")
    assert grown(scrape, client, before, BUCKET, route="/products/{product_id}", le="+Inf") == 100
    assert grown(scrape, client, before, "database_queries_total") == 100


@pytest.mark.requirement(2)
def test_two_workers_add_up_exactly_whichever_of_them_is_asked(workers: Any) -> None:
    series = {"route": "/products/{product_id}", "status_class": "2xx"}

    def totals() -> set[float]:
        scrapes = [workers.scrape(connection) for connection in workers.connections.values()]
        return {scrape.total(name, **series) for scrape in scrapes for name in (REQUESTS, COUNT)}

    (before,) = totals()
    for connection in workers.connections.values():
        for number in range(1, 26):
            workers.get(connection, f"/products/{number}")

    wait_until(lambda: totals() == {before + 50}, timeout=3, message="both workers count 50 more")


@pytest.mark.requirement(2)
def test_requests_in_progress_are_the_sum_of_all_workers(workers: Any) -> None:
    for connection in workers.connections.values():
        connection.request("GET", "/slow?seconds=2")
    host, port = workers.address

    def in_progress() -> list[Any]:
        with closing(HTTPConnection(host, port, timeout=10)) as another:
            found: list[Any] = workers.scrape(another).matching(IN_PROGRESS, {"method": "GET"})
        return found

    wait_until(lambda: sum(sample.value for sample in in_progress()) == 2, timeout=4, message="2 requests in progress")
    assert [sample.labels for sample in in_progress()] == [{"method": "GET"}]


@pytest.mark.requirement(2)
def test_the_counts_begin_at_zero_when_all_workers_start(workers: Any) -> None:
    for connection in workers.connections.values():
        text = workers.get(connection, "/metrics")
        assert "/left-over" not in text
        assert "LEFT-OVER" not in text
    assert (workers.folder / "notes.txt").exists(), "a file that is not a worker's was deleted"


@pytest.mark.requirement(2)
def test_the_counts_begin_at_zero_when_a_single_worker_starts(
    solution: Solution, token: str, left_overs: Callable[[Path], None], tmp_path: Path
) -> None:
    left_overs(tmp_path)

    client = solution.serve(isolated=True, METRICS_TOKEN=token, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))

    text = client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).text
    assert "/left-over" not in text
    assert "LEFT-OVER" not in text


@pytest.mark.requirement(2)
def test_three_workers_need_no_folder_to_add_up(three_workers: Any) -> None:
    connections = three_workers.connections.values()

    for connection in connections:
        three_workers.get(connection, "/products/1")

    def totals() -> list[float]:
        return [
            three_workers.scrape(connection).total(REQUESTS, route="/products/{product_id}")
            for connection in connections
        ]

    wait_until(lambda: totals() == [3, 3, 3], timeout=3, message="each worker shows 3 requests")


@pytest.mark.requirement(2)
def test_a_killed_worker_keeps_its_counts_and_its_requests_are_no_longer_in_progress(workers: Any) -> None:
    (victim, connection), (_, other) = workers.connections.items()
    for number in range(1, 11):
        workers.get(connection, f"/products/{number}")
    wait_until(lambda: workers.scrape(other).total(IN_PROGRESS) == 0, message="none in progress")
    counted = workers.scrape(other).total(COUNT, route="/products/{product_id}")
    connection.request("GET", "/slow?seconds=2")
    wait_until(lambda: workers.scrape(other).total(IN_PROGRESS, method="GET") == 1, message="one in progress")

    os.kill(victim, signal.SIGKILL)

    wait_until(lambda: workers.scrape(other).total(IN_PROGRESS) == 0, timeout=40, message="none in progress any more")
    assert victim not in workers.connect()  # another one has taken its place
    for each in workers.connections.values():
        assert workers.scrape(each).total(COUNT, route="/products/{product_id}") == counted


# 3. The report, and slow requests.


def histogram(
    route: str, buckets: dict[str, int], seconds: float, method: str = "GET", status_class: str = "2xx"
) -> str:
    """The text of an endpoint's metrics; `buckets` are cumulative counts."""
    labels = f'method="{method}",route="{route}",status_class="{status_class}"'
    lines = [f'{BUCKET}{{{labels},le="{bound}"}} {number}' for bound, number in buckets.items()]
    lines += [f"{name}{{{labels}}} {buckets['+Inf']}" for name in (COUNT, REQUESTS)]
    return "\n".join([*lines, f"{SUM}{{{labels}}} {seconds}", ""])


def reported(solution: Solution, text: str) -> Any:
    done = solution.run("report", "-", "--json", stdin=text)
    assert done.exit_code == 0, done.stderr
    return done.json()


def assert_is_refused(report: Process) -> None:
    """Exit code 2, a message, no traceback. It is a process, as inline a server might log a traceback meanwhile."""
    assert (report.wait(30), report.stdout) == (2, "")
    assert report.stderr.strip()
    assert "Traceback" not in report.stderr


@pytest.mark.requirement(3)
def test_the_report_ranks_endpoints_by_total_time(solution: Solution) -> None:
    text = histogram("/often", {"0.1": 1000, "+Inf": 1000}, 50) + histogram("/slow", {"0.1": 0, "+Inf": 3}, 9.5)
    text += histogram("/both", {"0.1": 60, "+Inf": 90}, 80.25) + histogram("/both", {"0.1": 1, "+Inf": 1}, 0.5, "POST")

    report = reported(solution, text)

    assert [(each["method"], each["route"]) for each in report] == [
        ("GET", "/both"),
        ("GET", "/often"),
        ("GET", "/slow"),
        ("POST", "/both"),
    ]
    assert [each["total_seconds"] for each in report] == [80.25, 50, 9.5, 0.5]
    assert [each["requests"] for each in report] == [90, 1000, 3, 1]


@pytest.mark.requirement(3)
def test_the_error_share_is_that_of_server_errors_among_all_requests(solution: Solution) -> None:
    text = histogram("/orders", {"+Inf": 70}, 7) + histogram("/orders", {"+Inf": 20}, 2, status_class="4xx")
    text += histogram("/orders", {"+Inf": 5}, 1, status_class="5xx")
    text += histogram("/orders", {"+Inf": 5}, 1, status_class="client_gone") + histogram("/fine", {"+Inf": 3}, 1)

    orders, fine = reported(solution, text)

    assert (orders["requests"], orders["error_share"]) == (100, 0.05)
    assert (fine["requests"], fine["error_share"]) == (3, 0)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "buckets, p50, p95, p99",
    [
        pytest.param({"0.1": 100, "+Inf": 100}, 0.05, 0.095, 0.099, id="all in the first bucket"),
        pytest.param({"0.1": 0, "0.5": 100, "+Inf": 100}, 0.3, 0.48, 0.496, id="all in the second"),
        pytest.param({"0.1": 50, "0.5": 90, "1.0": 100, "+Inf": 100}, 0.1, 0.75, 0.95, id="in three"),
        pytest.param({"0.1": 60, "0.5": 60, "1.0": 100, "+Inf": 100}, 0.1 * 50 / 60, 0.9375, 0.9875, id="a gap"),
        pytest.param({"0.1": 40, "0.5": 90, "+Inf": 100}, 0.18, 0.5, 0.5, id="beyond the last bound"),
        pytest.param({"5e-05": 1, "0.1": 1, "+Inf": 1}, 0.000025, 0.0000475, 0.0000495, id="a single request"),
        pytest.param({"+Inf": 9}, None, None, None, id="no finite bucket"),
    ],
)
def test_percentiles_are_interpolated_inside_their_bucket(
    solution: Solution, buckets: dict[str, int], p50: float | None, p95: float | None, p99: float | None
) -> None:
    (endpoint,) = reported(solution, histogram("/orders", buckets, 1))

    got = {name: endpoint[name] for name in ("p50", "p95", "p99")}
    assert got == pytest.approx({"p50": p50, "p95": p95, "p99": p99})


@pytest.mark.requirement(3)
def test_percentiles_of_an_endpoint_are_of_all_its_requests_and_no_average_of_percentiles(solution: Solution) -> None:
    text = histogram("/orders", {"0.1": 990, "1.0": 990, "+Inf": 990}, 40)
    text += histogram("/orders", {"0.1": 0, "1.0": 10, "+Inf": 10}, 8, status_class="5xx")

    (endpoint,) = reported(solution, text)

    assert endpoint["p50"] == pytest.approx(0.1 * 500 / 990)
    assert endpoint["p95"] == pytest.approx(0.1 * 950 / 990)


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(f"# TYPE {COUNT.removesuffix('_count')} histogram\n", id="a type without a series"),
        pytest.param(histogram("/orders", {"0.1": 0, "+Inf": 0}, 0), id="a series without a request"),
        pytest.param("process_open_fds 12\n# EOF\n", id="other metrics"),
    ],
)
def test_without_traffic_the_report_is_empty(solution: Solution, text: str) -> None:
    assert reported(solution, text) == []
    assert solution.run("report", "-", stdin=text).exit_code == 0


@pytest.mark.requirement(3)
def test_the_report_reads_a_url_with_the_token(solution: Solution, client: Client, token: str) -> None:
    client.get("/products/1")
    client.get("/slow?seconds=0.5")
    host, port = client.address

    report = solution.run("report", f"http://{host}:{port}/metrics", "--json", METRICS_TOKEN=token).json()

    assert {"/slow", "/products/{product_id}"} <= {each["route"] for each in report}
    assert all(0 < each["p50"] <= each["p95"] <= each["p99"] <= 5 for each in report)


@pytest.mark.requirement(3)
def test_the_report_reads_a_file_and_prints_a_table(solution: Solution, tmp_path: Path) -> None:
    file = tmp_path / "metrics.txt"
    file.write_text(histogram("/few", {"0.1": 9, "+Inf": 9}, 1) + histogram("/many", {"0.1": 0, "+Inf": 3}, 9.5))

    done = solution.run("report", str(file))

    assert done.exit_code == 0
    assert 0 < done.stdout.index("/many") < done.stdout.index("/few")


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<!doctype html>\n<title>Sign in</title>\n", id="a page"),
        pytest.param(
            histogram("/", {"0.1": 1, "+Inf": 1}, 1).replace("} 1", "} many"), id="counts that are no numbers"
        ),
        pytest.param(histogram("/", {"0.1": 1, "+Inf": 1}, 1).replace('le="0.1', 'le="wide'), id="a bound like that"),
        pytest.param(
            histogram("/", {"0.1": 1, "+Inf": 1}, 1).replace('",status', ",status"), id="labels without an end"
        ),
    ],
)
def test_what_is_no_metrics_is_an_error(solution: Solution, text: str) -> None:
    assert_is_refused(solution.start("report", "-", "--json", stdin=text))


@pytest.mark.requirement(3)
@pytest.mark.parametrize("source", ["missing.txt", ".", "http://127.0.0.1:1/metrics", "ftp://127.0.0.1/x", "http://[/"])
def test_what_cannot_be_read_is_an_error(solution: Solution, source: str) -> None:
    assert_is_refused(solution.start("report", source))


@pytest.mark.requirement(3)
def test_a_refused_token_is_an_error(solution: Solution, client: Client) -> None:
    host, port = client.address

    for source in (f"http://{host}:{port}/metrics", f"http://{host}:{port}/nothing"):
        assert_is_refused(solution.start("report", source, METRICS_TOKEN="another"))


@pytest.mark.requirement(3)
def test_slow_requests_are_logged_as_one_json_line_each(solution: Solution) -> None:
    client = solution.serve(isolated=True, SLOW_SECONDS="1.2", QUERY_SECONDS="1.3")
    client.get("/health")  # the first request of a server is slower
    quick = ["/slow?seconds=0", "/slow?seconds=0.6", "/fail"]
    answered = ["/products/7?note=line%0Abreak", "/products/999"]
    headers = {"X-Request-ID": "from-the-client"}

    with ThreadPoolExecutor(6) as clients:
        broken = clients.submit(client.get, "/export?rows=5&fail_at=1")
        responses = [*clients.map(lambda path: client.get(path, headers=headers), quick + answered)][len(quick) :]
        assert isinstance(broken.exception(), AssertionError)

    wait_until(lambda: len(slow_lines(client.process)) >= 3, message="3 slow requests are logged")
    lines = {(line["method"], line["route"], line["status_class"]): line for line in slow_lines(client.process)}
    product = ("GET", "/products/{product_id}")
    assert set(lines) == {(*product, "2xx"), (*product, "4xx"), ("GET", "/export", "5xx")}
    ids = [response.headers["X-Request-ID"] for response in responses]
    assert [lines[*product, status_class]["request_id"] for status_class in ("2xx", "4xx")] == ids
    assert len({line["request_id"] for line in lines.values()} | {"from-the-client"}) == 4
    assert all(1.3 <= line["duration_seconds"] < 9 for line in lines.values())


@pytest.mark.requirement(3)
def test_a_slow_request_of_any_worker_is_logged(workers: Any) -> None:
    ids = set()

    for connection in workers.connections.values():
        connection.request("GET", "/slow?seconds=0.3")
        with connection.getresponse() as response:
            ids.add(response.getheader("X-Request-ID"))
            response.read()

    wait_until(lambda: ids <= {line["request_id"] for line in slow_lines(workers.process)}, message=f"{ids} are logged")


def slow_lines(process: Any) -> list[Any]:
    """The lines on standard output that are JSON; each of them has to be about a slow request."""
    return [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]


# 5. Tracking, optimising, scaling.


@pytest.mark.requirement(5)
def test_the_optimised_endpoint_answers_the_same_with_one_query(solution: Solution, scrape: Scrape, token: str) -> None:
    queries, answers = [], []

    for optimised in ("0", "1"):
        client = solution.serve_shared(METRICS_TOKEN=token, OPTIMISED=optimised, QUERY_SECONDS="0")
        before = scrape(client)
        answers.append(client.get("/orders").json())
        queries.append(grown(scrape, client, before, "database_queries_total"))

    assert queries == [51, 1]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 50
