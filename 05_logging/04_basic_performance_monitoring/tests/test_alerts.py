"""Alerts, percentiles and the dashboard, as promtool and a real Prometheus see them."""

import json
import re
import shutil
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from grader.solution import Solution, wait_until

Promtool = Callable[..., str]

# FastAPI switches this warning off, but for all threads: a test that ends meanwhile switches it on again.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.UnsupportedFieldAttributeWarning")

REQUESTS = "http_requests_total"
COUNT = "http_request_duration_seconds_count"
SUM = "http_request_duration_seconds_sum"
BUCKET = "http_request_duration_seconds_bucket"
IN_PROGRESS = "http_requests_in_progress"
MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
ALERTS = ["ErrorBudgetBurnFast", "ErrorBudgetBurnSlow", "LatencyBudgetBurnFast", "LatencyBudgetBurnSlow"]

# 4. Alerts.


Phases = list[tuple[int, float]]  # minutes, and how many times too fast the budget burns then


def series(job: str, phases: Phases, budget: str) -> list[dict[str, str]]:
    """Input series for promtool, a sample a minute: 1000 requests, as many of them bad as the phase says."""
    bad = [burn * (1 if budget == "ErrorBudget" else 10) for minutes, burn in phases for _ in range(minutes)]
    good = [1000 - each for each in bad]
    failed, slow = (bad, [0.0] * len(bad)) if budget == "ErrorBudget" else ([0.0] * len(bad), bad)
    return counters(job, "2xx", [fast + late for fast, late in zip(good, slow, strict=True)], slow) + counters(
        job, "5xx", failed, [0.0] * len(bad)
    )


def counters(
    job: str, status_class: str, requests: list[float], slow: list[float], route: str = ""
) -> list[dict[str, str]]:
    """The counter and the histogram of an endpoint. Slow requests take 0.25 to 0.5 s, the others 0.1 to 0.25 s."""

    def input_series(name: str, each: list[float], extra: str = "") -> dict[str, str]:
        labels = f'job="{job}",method="GET",route="{route}",status_class="{status_class}"{extra}'
        return {
            "series": f"{name}{{{labels}}}",
            "values": " ".join(f"{value:g}" for value in accumulate(each, initial=0)),
        }

    none = [0.0] * len(requests)
    fast = [every - late for every, late in zip(requests, slow, strict=True)]
    buckets = {"0.05": none, "0.1": none, "0.25": fast, "0.5": requests, "1.0": requests, "+Inf": requests}
    found = [input_series(name, requests) for name in (REQUESTS, COUNT)]
    return found + [input_series(BUCKET, each, f',le="{bound}"') for bound, each in buckets.items()]


def check_alerts(
    solution: Solution,
    promtool: Promtool,
    folder: Path,
    cases: dict[str, tuple[list[dict[str, str]], int, set[str]]],
) -> None:
    """Let promtool play the series of each job, and hold what fires for it at a minute against what shall."""
    expected = [
        {
            "expr": f'count(ALERTS{{alertname="{alert}", job="{job}", alertstate="firing"}}) or vector(0)',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": "{}", "value": int(alert in firing)}],
        }
        for job, (_, minute, firing) in cases.items()
        for alert in ALERTS
    ]
    inputs = [each for input_series, _, _ in cases.values() for each in input_series]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": expected}
    shutil.copy(solution.path / "alerts.yml", folder)
    document = {"rule_files": ["alerts.yml"], "evaluation_interval": "5m", "tests": [test]}
    (folder / "hidden_test.yml").write_text(json.dumps(document), encoding="utf-8")
    assert promtool("test", "rules", "hidden_test.yml") == ""


@pytest.mark.requirement(4)
@pytest.mark.parametrize("budget", ["ErrorBudget", "LatencyBudget"])
def test_an_alert_fires_when_both_of_its_windows_burn_and_only_then(
    solution: Solution, promtool: Promtool, tmp_path: Path, budget: str
) -> None:
    fast, slow = f"{budget}BurnFast", f"{budget}BurnSlow"
    cases: dict[str, tuple[Phases, set[str]]] = {
        "above-the-fast-threshold": ([(70, 15)], {fast, slow}),
        "below-the-fast-threshold": ([(70, 13.8)], {slow}),
        "above-the-slow-threshold": ([(70, 6.5)], {slow}),
        "below-the-slow-threshold": ([(70, 5.5)], set()),
        "nothing-wrong": ([(70, 0)], set()),
        # Which windows: each case has another answer when one of them is shorter or longer.
        "an-hour-that-ended-10-minutes-ago": ([(60, 40), (10, 0)], {slow}),
        "an-hour-that-ended-3-minutes-ago": ([(62, 50), (3, 0)], {fast, slow}),
        "began-10-minutes-ago": ([(120, 0), (10, 40)], set()),
        "most-of-it-50-minutes-ago": ([(30, 40), (20, 0), (10, 16)], {fast}),
        "hours-that-ended-40-minutes-ago": ([(180, 10), (40, 0)], set()),
        "hours-that-ended-10-minutes-ago": ([(180, 10), (10, 0)], {slow}),
        "began-40-minutes-ago": ([(200, 0), (40, 10)], set()),
        "most-of-it-5-hours-ago": ([(120, 20), (200, 0), (40, 7)], {slow}),
        "most-of-it-7-hours-ago": ([(60, 60), (360, 0), (30, 7)], set()),
    }
    played = {
        job: (series(job, phases, budget), sum(phase[0] for phase in phases), firing)
        for job, (phases, firing) in cases.items()
    }
    check_alerts(solution, promtool, tmp_path, played)


@pytest.mark.requirement(4)
def test_without_traffic_no_alert_fires(solution: Solution, promtool: Promtool, tmp_path: Path) -> None:
    nothing = [0.0] * 70
    cases: dict[str, tuple[list[dict[str, str]], int, set[str]]] = {
        "nobody-comes": (counters("nobody-comes", "2xx", nothing, nothing), 70, set()),
        "no-series": ([], 70, set()),
    }

    check_alerts(solution, promtool, tmp_path, cases)


@pytest.mark.requirement(4)
def test_the_ratios_are_of_all_requests_of_a_job(solution: Solution, promtool: Promtool, tmp_path: Path) -> None:
    minutes, errors, latency = 70, set(ALERTS[:2]), set(ALERTS[2:])
    endpoints: dict[str, tuple[dict[str, tuple[float, float]], set[str]]] = {  # requests a minute, and slow ones
        "client-errors-are-none": ({"2xx": (1000, 0), "4xx": (1000, 0), "client_gone": (1000, 0)}, set()),
        "client-errors-are-requests": ({"5xx": (5, 0), "4xx": (9970, 0), "2xx": (25, 0)}, set()),
        "slow-client-errors-are-slow": ({"4xx": (1000, 1000)}, latency),
        "errors-are-not-slow": ({"5xx": (1000, 1000)}, errors),
        "errors-do-not-hide-slow-requests": ({"5xx": (1000, 0), "2xx": (1000, 200)}, errors | latency),
        "all-routes-together": ({"2xx /": (9990, 0), "5xx /rare": (5, 0), "2xx /rare": (5, 5)}, set()),
    }
    cases = {}
    for job, (requests, firing) in endpoints.items():
        played = []
        for name, (every, slow) in requests.items():
            status_class, _, route = name.partition(" ")
            played += counters(job, status_class, [every] * minutes, [slow] * minutes, route)
        cases[job] = (played, minutes, firing)

    check_alerts(solution, promtool, tmp_path, cases)


@pytest.mark.requirement(4)
def test_no_alert_waits_longer_than_two_minutes(solution: Solution) -> None:
    rules = alerting_rules(yaml.safe_load((solution.path / "alerts.yml").read_text(encoding="utf-8")))

    waits = {rule["alert"]: milliseconds(str(rule.get("for", "0s"))) for rule in rules if rule["alert"] in ALERTS}

    assert set(waits) == set(ALERTS)
    assert {alert: wait for alert, wait in waits.items() if wait > 120_000} == {}


def milliseconds(duration: str) -> float:
    parts = re.findall(r"(\d+)(ms|[smhdwy])", duration)
    return sum(int(number) * MILLISECONDS[unit] for number, unit in parts)


@pytest.mark.requirement(4)
def test_the_rules_are_valid_and_each_alert_says_how_severe_it_is_and_what_it_is_about(
    solution: Solution, promtool: Promtool
) -> None:
    assert promtool("check", "rules", solution.path / "alerts.yml") == ""

    rules = alerting_rules(yaml.safe_load((solution.path / "alerts.yml").read_text(encoding="utf-8")))
    assert {rule["alert"] for rule in rules} >= set(ALERTS)
    assert [rule["alert"] for rule in rules if not rule.get("labels", {}).get("severity")] == []
    assert [rule["alert"] for rule in rules if not rule.get("annotations", {}).get("summary")] == []


def alerting_rules(document: Any) -> list[Any]:
    return [rule for group in document["groups"] for rule in group["rules"] if "alert" in rule]


@pytest.mark.requirement(4)
def test_the_rule_tests_of_the_solution_pass(solution: Solution, promtool: Promtool) -> None:
    assert promtool("test", "rules", "alerts_test.yml", folder=solution.path) == ""


@pytest.mark.requirement(4)
@pytest.mark.parametrize("alert", ALERTS)
@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("vector(1) > 2", id="never"),
        pytest.param('count by (job) ({__name__=~"http_.+"}) > 0', id="always"),
    ],
)
def test_the_rule_tests_of_the_solution_fail_when_an_alert_fires_never_or_always(
    solution: Solution, promtool: Promtool, tmp_path: Path, alert: str, expression: str
) -> None:
    rules = yaml.safe_load((solution.path / "alerts.yml").read_text(encoding="utf-8"))
    for rule in alerting_rules(rules):
        rule["expr"] = expression if rule["alert"] == alert else rule["expr"]
    (tmp_path / "alerts.yml").write_text(json.dumps(rules), encoding="utf-8")
    shutil.copy(solution.path / "alerts_test.yml", tmp_path)

    assert "FAILED" in promtool("test", "rules", "alerts_test.yml"), f"they pass when {alert} is {expression}"


@pytest.mark.requirement(4)
def test_in_a_real_prometheus_the_alerts_fire_for_the_app_that_fails_and_not_for_the_healthy_one(
    prometheus: Any,
) -> None:
    def fire() -> bool:
        for path in ("/products/1", "/fail", "/slow?seconds=0.3"):
            prometheus.failing.get(path)
            prometheus.healthy.get("/products/1")
        has_seen_both = bool(prometheus.query('sum(rate(http_requests_total{job="healthy"}[10s])) > 0'))
        return has_seen_both and prometheus.firing("failing") >= set(ALERTS)

    wait_until(fire, timeout=20, message="the four alerts fire")

    assert {name for name in prometheus.firing("healthy") if name.startswith("ErrorBudget")} == set()


@pytest.mark.requirement(3)
def test_percentiles_are_those_of_prometheus(prometheus: Any, solution: Solution, token: str) -> None:
    client = prometheus.failing
    for path in ["/products/1", "/slow?seconds=0.06", "/slow?seconds=0.01", "/slow?seconds=0", "/fail"] * 4:
        client.get(path)
    host, port = client.address

    def scraped() -> Any:
        done = solution.run("report", f"http://{host}:{port}/metrics", "--json", METRICS_TOKEN=token).json()
        (count,) = prometheus.query(f'sum({COUNT}{{job="failing"}})') or [{"value": [0, "0"]}]
        return done if float(count["value"][1]) == sum(each["requests"] for each in done) else None

    report = wait_until(scraped, timeout=20, message="Prometheus has seen all requests")
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        found = prometheus.query(f'histogram_quantile({q}, sum by (le, method, route) ({BUCKET}{{job="failing"}}))')
        theirs = {(each["metric"]["method"], each["metric"]["route"]): float(each["value"][1]) for each in found}
        assert {(each["method"], each["route"]): each[name] for each in report} == pytest.approx(theirs)


def dashboard_queries(solution: Solution) -> list[str]:
    """The PromQL of all panels, for all values of the dashboard's variables."""
    dashboard = json.loads((solution.path / "dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for variable in dashboard["templating"]["list"]:
        name = re.escape(variable["name"])
        queries = [re.sub(rf"\$(?:{name}\b|{{{name}(?::\w+)?}})", ".*", query) for query in queries]
    return [re.sub(r"\$(?:__rate_interval|__interval|{__rate_interval})", "5s", query) for query in queries]


@pytest.mark.requirement(5)
@pytest.mark.parametrize(
    "metric",
    [REQUESTS, BUCKET, SUM, IN_PROGRESS, "task_duration_seconds", "task_failures_total", "database_queries_total"],
)
def test_the_dashboard_shows_every_metric(solution: Solution, metric: str) -> None:
    assert [query for query in dashboard_queries(solution) if metric in query]


@pytest.mark.requirement(5)
def test_every_panel_of_the_dashboard_has_data(prometheus: Any, solution: Solution) -> None:
    queries = dashboard_queries(solution)

    def without_data() -> list[str]:
        for path in ("/products/1", "/orders", "/fail"):
            prometheus.failing.get(path)
        prometheus.failing.post("/reports/2021")
        return [query for query in queries if not prometheus.query(query)]

    assert [query for query in queries if "$" in query] == []
    wait_until(lambda: not without_data(), timeout=20, message="every query of the dashboard has data")
