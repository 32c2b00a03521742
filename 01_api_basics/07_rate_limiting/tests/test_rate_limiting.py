"""The specification of a rate limit, requirement by requirement."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import redis

from grader.solution import Client, SolutionCrashedError, wait_until

if TYPE_CHECKING:
    from conftest import Line

Serve = Callable[..., Client]
Headers = dict[str, str]

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"

# What RFC 9651 calls a list with one item, a string with parameters.
STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
INTEGER = r"-?[0-9]{1,15}"
VALUE = rf"(?:{STRING}|{INTEGER}(?:\.[0-9]{{1,3}})?|[A-Za-z*][!#$%&'*+.^_`|~:/\w-]*|:[A-Za-z0-9+/=]*:|\?[01])"
PARAMETER = rf"; *([a-z*][a-z0-9_.*-]*)(?:=({VALUE}))?"


def statuses(client: Client, headers: Any, times: int) -> list[int]:
    return [client.get("/resource", headers=headers).status_code for _ in range(times)]


def parse_field(text: str) -> tuple[str, dict[str, int | str]]:
    """The name and the parameters that a RateLimit or RateLimit-Policy field of one item has."""
    found = re.fullmatch(rf"({STRING})((?:{PARAMETER})*)", text, re.ASCII)
    assert found, f"not a string with parameters, as RFC 9651 writes them: {text!r}"
    pairs = re.findall(PARAMETER, found[2], re.ASCII)
    return found[1], {name: int(value) if re.fullmatch(INTEGER, value) else value for name, value in pairs}


@dataclass
class Answer:
    """What came, and when: sent not before `asked`, decided not after `answered`."""

    asked: float
    answered: float
    passed: bool
    retry_after: str


def keep_asking(client: Client, headers: Headers, seconds: float, *, until_it_passes: bool = False) -> list[Answer]:
    """Ask some thirty times a second, and note when."""
    answers: list[Answer] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (until_it_passes and answers and answers[-1].passed):
        asked = time.monotonic()
        response = client.get("/resource", headers=headers)
        passed, retry_after = response.status_code == 200, response.headers.get("Retry-After", "none")
        answers.append(Answer(asked, time.monotonic(), passed, retry_after))
        time.sleep(0.03)
    return answers


def ask_at_once(clients: list[Client], headers: Headers, times: int) -> list[int]:
    """The statuses of so many requests to each server, sent in the same moment on connections that are open."""
    connections = [http.client.HTTPConnection(*client.address, timeout=5) for client in clients for _ in range(times)]
    start = threading.Barrier(len(connections), timeout=10)
    found: list[int] = []

    def ask(connection: http.client.HTTPConnection) -> None:
        connection.connect()
        start.wait()
        connection.request("GET", "/resource", headers=headers)
        found.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=ask, args=[connection]) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


# 1. So many requests in a window.


@pytest.mark.requirement(1)
def test_a_client_passes_as_often_as_the_limit_says_and_not_once_more(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="5/60")

    answers = statuses(client, api_key, times=8)

    assert answers == [200] * 5 + [429] * 3


@pytest.mark.requirement(1)
def test_without_a_rate_limit_it_is_100_requests_an_hour(serve: Serve, api_key: Headers) -> None:
    client = serve()

    answers = statuses(client, api_key, times=101)

    assert answers == [200] * 100 + [429]
    assert 3500 < int(client.get("/resource", headers=api_key).headers["Retry-After"]) <= 3600


@pytest.mark.requirement(1)
def test_no_stretch_of_the_window_holds_more_than_the_limit(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="5/1")
    # Windows may begin with the clock's seconds or with the client's first request: at two different moments.
    wait_until(lambda: 0.35 < time.time() % 1 < 0.75)

    answers = keep_asking(client, api_key, seconds=0.01)
    time.sleep(0.7)
    answers += keep_asking(client, api_key, seconds=1.1)

    passed = [answer for answer in answers if answer.passed]
    stretches = [last.answered - first.asked for first, last in zip(passed, passed[5:], strict=False)]
    assert [seconds for seconds in stretches if seconds < 0.99] == [], "six requests passed in these seconds"


@pytest.mark.requirement(1)
def test_health_is_never_limited_and_counts_for_nobody(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="5/60")

    before = [client.get("/health", headers=api_key).status_code for _ in range(6)]
    limited = statuses(client, api_key, times=6)
    after = [client.get("/health", headers=api_key).status_code for _ in range(6)]

    assert before + after == [200] * 12
    assert limited == [200] * 5 + [429]


@pytest.mark.requirement(1)
@pytest.mark.parametrize(
    "variable, value",
    [
        pytest.param("RATE_LIMIT", "0/60", id="no requests"),
        pytest.param("RATE_LIMIT", "-5/60", id="fewer than no requests"),
        pytest.param("RATE_LIMIT", "10/0", id="no time"),
        pytest.param("RATE_LIMIT", "1.5/60", id="one and a half requests"),
        pytest.param("RATE_LIMIT", "10", id="no window"),
        pytest.param("RATE_LIMIT", "10/60/5", id="three numbers"),
        pytest.param("RATE_LIMIT", "abc", id="no numbers"),
        pytest.param("RATE_LIMIT", "100001/60", id="too many requests"),
        pytest.param("RATE_LIMIT", "10/100001", id="too long a window"),
        pytest.param("TRUSTED_PROXIES", "10.0.0.0/33", id="no such network"),
        pytest.param("TRUSTED_PROXIES", "127.0.0.1, proxy.example", id="a name among addresses"),
        pytest.param("REDIS_URL", "localhost:6379", id="no URL"),
    ],
)
def test_a_bad_configuration_is_an_error_that_names_the_variable(serve: Serve, variable: str, value: str) -> None:
    with pytest.raises(SolutionCrashedError) as caught:
        serve(**{variable: value})

    assert variable in str(caught.value)


# 2. Each client, counted in Redis.


@pytest.mark.requirement(2)
def test_each_client_has_a_quota_of_its_own(serve: Serve) -> None:
    client = serve(RATE_LIMIT="5/60")

    answers = statuses(client, {"X-API-Key": "anna"}, times=6) + statuses(client, {"X-API-Key": "bert"}, times=6)

    assert answers == ([200] * 5 + [429]) * 2


@pytest.mark.requirement(2)
def test_a_client_without_a_key_is_its_address(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="5/60")

    answers = statuses(client, {}, times=6) + statuses(client, {"X-API-Key": ""}, times=1)

    assert answers == [200] * 5 + [429] * 2
    assert statuses(client, api_key, times=1) == [200]


@pytest.mark.requirement(2)
def test_a_key_that_reads_like_an_address_is_not_that_client(serve: Serve) -> None:
    client = serve(RATE_LIMIT="5/60")

    used_up = statuses(client, {"X-API-Key": "127.0.0.1"}, times=6)

    assert used_up[-1] == 429
    assert statuses(client, {}, times=1) == [200]


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(b"k" * 8000, id="8,000 characters"),
        pytest.param(b"\xff\x80\xa0x", id="bytes that are no UTF-8"),
        pytest.param("ключ 🔑".encode(), id="text of another script"),
        pytest.param(b"* ? [a] {b} %s \\n:'\"", id="signs that mean something somewhere"),
    ],
)
def test_any_text_is_a_key(serve: Serve, key: bytes) -> None:
    client = serve(RATE_LIMIT="5/60")

    answers = statuses(client, {"X-API-Key": key}, times=6)

    assert answers == [200] * 5 + [429]
    assert statuses(client, {"X-API-Key": key[:-1]}, times=1) == [200]


@pytest.mark.requirement(2)
def test_head_counts_like_get(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="5/60")

    answers = [client.head("/resource", headers=api_key).status_code for _ in range(4)]
    answers += statuses(client, api_key, times=2)

    assert answers == [200] * 5 + [429]


@pytest.mark.requirement(2)
def test_of_50_requests_at_once_with_10_left_exactly_10_pass(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="20/60", alone=True)
    statuses(client, api_key, times=10)

    answers = ask_at_once([client], api_key, times=50)

    assert sorted(answers) == [200] * 10 + [429] * 40


@pytest.mark.requirement(2)
def test_two_servers_share_the_count(serve: Serve, api_key: Headers) -> None:
    servers = [serve(RATE_LIMIT="10/60", alone=True) for _ in range(2)]

    answers = ask_at_once(servers, api_key, times=25)

    assert sorted(answers) == [200] * 10 + [429] * 40


@pytest.mark.requirement(2)
def test_what_is_kept_ends_with_the_window_and_has_no_key_in_it(serve: Serve, redis_url: str) -> None:
    client = serve(RATE_LIMIT="5/60")

    statuses(client, {"X-API-Key": "a-secret-of-anna"}, times=7)
    statuses(client, {}, times=7)

    with redis.Redis.from_url(redis_url) as connection:
        kept = {key: connection.dump(key) for key in connection.scan_iter()}
        lifetimes = [connection.ttl(key) for key in kept]
    assert kept
    assert [seconds for seconds in lifetimes if not 0 < seconds <= 70] == []
    assert b"a-secret-of-anna" not in b"".join([key + (value or b"") for key, value in kept.items()])


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "proxies", [{}, {"TRUSTED_PROXIES": "10.0.0.0/8, ::1"}], ids=["none is trusted", "others are trusted"]
)
def test_forwarded_for_counts_for_nothing_when_it_is_not_from_a_trusted_proxy(serve: Serve, proxies: Headers) -> None:
    client = serve(RATE_LIMIT="1/60", **proxies)

    answers = [statuses(client, {"X-Forwarded-For": f"192.0.2.{number}"}, times=1) for number in range(3)]

    assert answers == [[200], [429], [429]]


TRUSTED = "127.0.0.1, 10.0.0.0/8, fd00::/8"


def forwarded(*lines: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", line) for line in lines]


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "one, other",
    [
        pytest.param(["192.0.2.1"], ["6.6.6.6, 192.0.2.1"], id="what the client put before"),
        pytest.param(["192.0.2.1"], ["192.0.2.1,10.1.2.3 , 10.9.9.9"], id="more trusted proxies"),
        pytest.param(["192.0.2.1"], ["192.0.2.1, fd00::5"], id="a trusted proxy with IPv6"),
        pytest.param(["192.0.2.1"], ["192.0.2.1, ::ffff:10.1.2.3"], id="a mapped trusted proxy"),
        pytest.param(["192.0.2.1"], ["6.6.6.6, 192.0.2.1:4711, 10.1.2.3:80"], id="ports"),
        pytest.param(["192.0.2.1"], ["6.6.6.6", "192.0.2.1"], id="two lines"),
        pytest.param(["192.0.2.1"], ["192.0.2.1", "10.1.2.3"], id="two lines, one proxy each"),
        pytest.param(["192.0.2.1"], ["192.0.2.1, , 10.1.2.3,"], id="empty entries"),
        pytest.param(["192.0.2.1"], ["garbage, , 192.0.2.1"], id="garbage that the client put before"),
        pytest.param(["192.0.2.1"], ["::ffff:192.0.2.1"], id="an IPv4-mapped address"),
        pytest.param(["2001:db8::1"], ["[2001:db8::1]:4711"], id="IPv6 with a port"),
        pytest.param(["2001:db8::1"], ["2001:DB8:0:0::1"], id="IPv6 written in another way"),
        pytest.param(["2001:db8::1"], ["2001:db8::ffff:2"], id="the same IPv6 network"),
        pytest.param(["192.0.2.1, unknown"], ["192.0.2.2, unknown"], id="an entry that is no address"),
        pytest.param(["192.0.2.1, 6.6.6.6:x"], ["192.0.2.2, 6.6.6.6:x"], id="a port that is none"),
        pytest.param(["192.0.2.1, [2001:db8::1]x"], ["192.0.2.2, [2001:db8::1]x"], id="something behind a bracket"),
        pytest.param(["192.0.2.1, 999.1.1.1, 10.1.2.3"], ["10.1.2.3"], id="no address before a trusted proxy"),
        pytest.param([], ["<script>"], id="nothing and garbage"),
    ],
)
def test_behind_trusted_proxies_both_are_one_client(serve: Serve, one: list[str], other: list[str]) -> None:
    client = serve(RATE_LIMIT="1/60", TRUSTED_PROXIES=TRUSTED)

    answers = statuses(client, forwarded(*one), times=1) + statuses(client, forwarded(*other), times=1)

    assert answers == [200, 429]


@pytest.mark.requirement(2)
@pytest.mark.parametrize(
    "one, other",
    [
        pytest.param(["192.0.2.1"], ["192.0.2.2"], id="two addresses"),
        pytest.param(["2001:db8::1"], ["2001:db8:0:1::1"], id="two IPv6 networks"),
        pytest.param(["6.6.6.6, 192.0.2.1"], ["6.6.6.6, 192.0.2.2"], id="the same claim from two addresses"),
        pytest.param(["6.6.6.6", "192.0.2.1"], ["6.6.6.6", "192.0.2.2"], id="the same claim on a line before"),
        pytest.param(["10.1.1.1, 10.9.9.9"], ["10.2.2.2, 10.9.9.9"], id="two that are trusted themselves"),
        pytest.param([], ["192.0.2.1"], id="the proxy and a client of it"),
    ],
)
def test_behind_trusted_proxies_these_are_two_clients(serve: Serve, one: list[str], other: list[str]) -> None:
    client = serve(RATE_LIMIT="1/60", TRUSTED_PROXIES=TRUSTED)

    answers = statuses(client, forwarded(*one), times=1) + statuses(client, forwarded(*other), times=1)

    assert answers == [200, 200]


@pytest.mark.requirement(2)
def test_one_trusted_address_does_not_make_its_network_trusted(serve: Serve) -> None:
    client = serve(RATE_LIMIT="1/60", TRUSTED_PROXIES="127.0.0.1, 2001:db8:9::5")

    answers = statuses(client, forwarded("192.0.2.1, 2001:db8:9::6"), times=1)
    answers += statuses(client, forwarded("192.0.2.2, 2001:db8:9::6"), times=1)

    assert answers == [200, 429]


@pytest.mark.requirement(2)
def test_when_redis_is_down_requests_pass_and_nothing_is_said_of_a_limit(
    serve: Serve, line: Line, api_key: Headers
) -> None:
    client = serve(RATE_LIMIT="1/60", REDIS_URL=line.url)

    answers = [client.get("/resource", headers=api_key) for _ in range(3)]

    assert [(answer.status_code, answer.headers.get("RateLimit")) for answer in answers] == [(200, None)] * 3
    assert client.get("/health").status_code == 200


@pytest.mark.requirement(2)
def test_a_redis_that_never_answers_does_not_keep_requests_waiting(serve: Serve, silent_redis: str) -> None:
    client = serve(RATE_LIMIT="1/60", REDIS_URL=silent_redis)
    asked = time.monotonic()

    answers = ask_at_once([client], {}, times=10)

    assert answers == [200] * 10
    assert time.monotonic() - asked < 2


@pytest.mark.requirement(2)
def test_the_log_tells_that_redis_is_down_but_not_for_every_request(serve: Serve, line: Line) -> None:
    client = serve(RATE_LIMIT="1/60", REDIS_URL=line.url, alone=True)

    statuses(client, {}, times=30)

    told = [text for text in client.output.splitlines() if "redis" in text.lower()]
    assert 0 < len(told) < 30


@pytest.mark.requirement(2)
def test_limits_hold_again_when_redis_is_back(serve: Serve, line: Line, redis_url: str, api_key: Headers) -> None:
    line.up()
    client = serve(RATE_LIMIT="1/60", REDIS_URL=line.url)
    before = statuses(client, api_key, times=2)

    line.down()
    meanwhile = statuses(client, api_key, times=2)
    with redis.Redis.from_url(redis_url) as connection:
        connection.script_flush()  # one that was started anew knows no scripts
    line.up()

    assert before + meanwhile == [200, 429, 200, 200]
    wait_until(lambda: statuses(client, api_key, times=1) == [429], message="the limit did not hold again")


# 3. What a client is told.


@pytest.mark.requirement(3)
def test_a_refusal_is_a_problem_that_names_the_policy(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="1/60")
    statuses(client, api_key, times=1)

    response = client.get("/resource", headers=api_key)

    assert response.status_code == 429
    assert response.headers["Content-Type"].partition(";")[0] == "application/problem+json"
    problem = response.json()
    assert (problem["type"], problem["status"]) == (QUOTA_EXCEEDED, 429)
    assert all(isinstance(problem[name], str) and problem[name].strip() for name in ("title", "detail"))
    policy, _ = parse_field(response.headers["RateLimit-Policy"])
    assert problem["violated-policies"] == [policy.strip('"')]


@pytest.mark.requirement(3)
def test_every_answer_tells_the_policy(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="5/60")

    answers = [client.get("/resource", headers=api_key) for _ in range(6)]

    policies = [parse_field(answer.headers["RateLimit-Policy"]) for answer in answers]
    assert [(parameters["q"], parameters["w"]) for _, parameters in policies] == [(5, 60)] * 6
    names = [parse_field(answer.headers["RateLimit"])[0] for answer in answers]
    assert {*names, *(name for name, _ in policies)} == {names[0]}


@pytest.mark.requirement(3)
def test_every_answer_tells_how_many_requests_are_left_and_for_how_long(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="5/60")

    answers = [client.get("/resource", headers=api_key) for _ in range(7)]

    left = [parse_field(answer.headers["RateLimit"])[1] for answer in answers]
    assert [parameters["r"] for parameters in left] == [4, 3, 2, 1, 0, 0, 0]
    assert [parameters["t"] for parameters in left if parameters["t"] not in range(61)] == []
    assert left[-1]["t"] == int(answers[-1].headers["Retry-After"])


@pytest.mark.requirement(3)
def test_what_is_told_of_time_is_about_the_request_that_leaves_the_window_next(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="2/3")
    first = time.monotonic()
    client.get("/resource", headers=api_key)
    time.sleep(1.2)

    second, refused = (client.get("/resource", headers=api_key) for _ in range(2))
    left = 3 - (time.monotonic() - first)

    _, fields = parse_field(second.headers["RateLimit"])
    retry_after = int(refused.headers["Retry-After"])
    assert (second.status_code, refused.status_code) == (200, 429)
    assert (fields["r"], fields["t"]) in [(0, 1), (0, 2)]
    assert left <= retry_after <= 2
    time.sleep(retry_after)
    assert statuses(client, api_key, times=1) == [200]


@pytest.mark.requirement(3)
def test_retry_after_is_true(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="2/2")
    statuses(client, api_key, times=2)

    *refused, last = keep_asking(client, api_key, seconds=5, until_it_passes=True)

    assert last.passed
    waits = {answer.retry_after for answer in refused}
    assert waits <= {"1", "2"}
    # Asked after so many seconds, and refused all the same; or passed although a second was still missing.
    for answer in refused:
        assert refused[-1].asked < answer.answered + int(answer.retry_after), (
            f"{answer}: still refused by {refused[-1]}"
        )
        assert last.answered > answer.asked + int(answer.retry_after) - 1, f"{answer}: passed already by {last}"


# 4. Time passes.


@pytest.mark.requirement(4)
def test_quota_comes_back_to_who_never_stops_asking_and_to_who_keeps_still(serve: Serve, api_key: Headers) -> None:
    client = serve(RATE_LIMIT="2/1")
    still = {"X-API-Key": f"{api_key['X-API-Key']}, keeping still"}
    before = statuses(client, still, times=3) + statuses(client, api_key, times=3)

    answers = keep_asking(client, api_key, seconds=5, until_it_passes=True)

    assert before == ([200] * 2 + [429]) * 2
    assert answers[-1].passed
    assert statuses(client, still, times=3) == [200] * 2 + [429]
