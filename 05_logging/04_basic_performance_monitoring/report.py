"""Ranks endpoints by the time that they took in total, from what /metrics says."""

import json
import math
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, TextIO

import httpx2
from prometheus_client.parser import text_string_to_metric_families

HISTOGRAM = "http_request_duration_seconds"
MOST = 1e15  # no real count or sum of seconds is greater, and sums of such numbers are finite


class ReportError(Exception):
    """The metrics cannot be had, or cannot be read; the message says why, in one line."""


@dataclass
class Endpoint:
    """All requests of a method and a route, whatever their status class."""

    method: str
    route: str
    requests: float = 0
    errors: float = 0
    total_seconds: float = 0
    buckets: defaultdict[float, float] = field(default_factory=lambda: defaultdict(float))  # by upper bound

    def summary(self) -> dict[str, Any]:
        """What the report says of it. A percentile is None when there is nothing to tell it from."""
        percentiles = {f"p{percent}": quantile(percent / 100, self.buckets) for percent in (50, 95, 99)}
        return {
            "method": self.method,
            "route": self.route,
            "requests": int(self.requests),
            "error_share": self.errors / self.requests,
            "total_seconds": self.total_seconds,
            **{name: None if math.isnan(value) else value for name, value in percentiles.items()},
        }


def quantile(q: float, buckets: Mapping[float, float]) -> float:
    """The q-quantile by linear interpolation inside a bucket, as PromQL's histogram_quantile has it.

    `buckets` are cumulative counts by upper bound, in seconds. NaN without a bucket to +Inf or without observations.
    In the last bucket there is nothing to interpolate to: the answer is the highest finite bound, or more.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf or not buckets[math.inf]:  # noqa: PLR2004  one, and +Inf
        return math.nan
    counts = list(accumulate((buckets[bound] for bound in bounds), max))  # a scrape may come between two of them
    wanted = q * counts[-1]
    position = bisect_left(counts, wanted, hi=len(counts) - 1)
    if position == len(counts) - 1:
        return bounds[-2]
    start, below = (bounds[position - 1], counts[position - 1]) if position else (min(0.0, bounds[0]), 0.0)
    return start + (bounds[position] - start) * (wanted - below) / (counts[position] - below)


def rank(text: str) -> list[dict[str, Any]]:
    """The endpoints in a text of metrics, the one with the most time in total first. Raises ReportError."""
    endpoints: dict[tuple[str, str], Endpoint] = {}
    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        for sample in samples:
            if sample.name.startswith(f"{HISTOGRAM}_"):
                key = sample.labels["method"], sample.labels["route"]
                _add(endpoints.setdefault(key, Endpoint(*key)), sample.name, sample.labels, float(sample.value))
    except (ValueError, KeyError, IndexError) as error:
        raise ReportError(f"this is not in the Prometheus text format: {error}") from None
    busy = [endpoint.summary() for endpoint in endpoints.values() if endpoint.requests]
    return sorted(busy, key=lambda each: (-each["total_seconds"], each["route"], each["method"]))


def _add(endpoint: Endpoint, name: str, labels: Mapping[str, str], value: float) -> None:
    if not 0 <= value <= MOST:
        raise ValueError(f"{name} is {value}")
    match name.removeprefix(f"{HISTOGRAM}_"):
        case "bucket":
            bound = float(labels["le"])
            if math.isnan(bound):
                raise ValueError(f"a bound of {name} is {labels['le']}")
            endpoint.buckets[bound] += value
        case "sum":
            endpoint.total_seconds += value
        case "count":
            endpoint.requests += value
            endpoint.errors += value if labels.get("status_class") == "5xx" else 0


def read(source: str, token: str | None, stdin: TextIO) -> str:
    """The metrics at a URL, in a file, or in standard input for `-`. Raises ReportError."""
    try:
        if source == "-":
            return stdin.read()
        if "://" not in source:
            return Path(source).read_text(encoding="utf-8")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = httpx2.get(source, headers=headers, timeout=10)  # no redirects: the token is for this server only
    except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ReportError(f"{source}: {error}") from None
    if response.status_code != httpx2.codes.OK:
        raise ReportError(f"{source} answers {response.status_code}; is METRICS_TOKEN the app's?")
    return response.text


def table(endpoints: list[dict[str, Any]]) -> str:
    """For people; times are in seconds."""
    if not endpoints:
        return "no requests yet"
    columns = "{:>9} {:>8} {:>7} {:>7} {:>7} {:>7}  {}"
    lines = [columns.format("total", "requests", "errors", "p50", "p95", "p99", "endpoint")]
    for each in endpoints:
        percentiles = ["-" if each[name] is None else f"{each[name]:.3f}" for name in ("p50", "p95", "p99")]
        name = f"{each['method']} {each['route']}".encode("unicode_escape").decode()
        total, errors = f"{each['total_seconds']:.3f}", f"{each['error_share']:.1%}"
        lines.append(columns.format(total, each["requests"], errors, *percentiles, name))
    return "\n".join(lines)


def print_report(source: str, token: str | None, *, as_json: bool) -> None:
    """Print the ranking of what `source` has. Raises ReportError."""
    endpoints = rank(read(source, token, sys.stdin))
    print(json.dumps(endpoints, indent=2) if as_json else table(endpoints))
