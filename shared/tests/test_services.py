"""Embedded servers start when nobody configured one, and are gone when their owner is, whatever ended it."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from shared import services

OWNER = """
import signal, sys, time
from shared import services
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
with getattr(services, sys.argv[1])() as url:
    print(url, flush=True)
    time.sleep(60)
"""


def postgres_answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as connection:
            return bool(connection.ping())
    except redis.ConnectionError:
        return False


def s3_answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  it is http
            return bool(answer.status == 200)
    except OSError:
        return False


KINDS = [
    pytest.param("postgres", postgres_answers, id="PostgreSQL"),
    pytest.param("redis", redis_answers, id="Valkey"),
    pytest.param("s3", s3_answers, id="S3"),
]


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("kind, answers", KINDS)
def test_an_embedded_server_answers_while_it_is_used_and_is_gone_after(
    kind: str, answers: Callable[[str], bool]
) -> None:
    with getattr(services, kind)() as url:
        assert answers(url)

    assert not answers(url)


@pytest.mark.parametrize("kind, answers", KINDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_is_gone_soon_after_its_owner_was_killed(
    kind: str, answers: Callable[[str], bool], number: int
) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, kind], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert owner.stdout
    url = owner.stdout.readline().decode().strip()
    assert answers(url)

    os.kill(owner.pid, number)
    owner.wait()
    owner.stdout.close()

    deadline = time.monotonic() + 10
    while answers(url):
        assert time.monotonic() < deadline, "the server is still there"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_postgres_ends_even_when_its_guardian_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, "postgres"], stdout=subprocess.PIPE)
    assert owner.stdout
    url = owner.stdout.readline().decode().strip()
    children = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()

    for guardian in children:
        os.kill(int(guardian), signal.SIGKILL)

    deadline = time.monotonic() + 10
    while postgres_answers(url):
        assert time.monotonic() < deadline, "the server is still there"
        time.sleep(0.05)
    owner.kill()
    owner.wait()
    owner.stdout.close()


def test_a_server_leaves_no_files_behind() -> None:
    with services.postgres() as url:
        with psycopg.connect(url) as connection:
            [[data]] = connection.execute("SHOW data_directory").fetchall()
        folders = [Path(url.partition("host=")[2]), Path(data)]
        assert all(folder.exists() for folder in folders)

    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("room, where", [(0, "/dev/shm"), (2**62, "scratch")])  # noqa: S108
def test_data_lies_in_memory_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, where: str
) -> None:
    monkeypatch.setattr(services, "ROOM_IN_MEMORY", room)
    in_scratch = where == "scratch" or not Path(where).is_dir()

    with services._in_memory(tmp_path) as folder:
        assert Path(folder).is_relative_to(tmp_path if in_scratch else where)

    assert not Path(folder).exists()


def test_what_a_killed_guardian_left_in_memory_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "ROOM_IN_MEMORY", 0)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, used = (Path(f"/dev/shm/exercise-data-{pid}-x") for pid in (ended.pid, os.getpid()))  # noqa: S108
    if not left.parent.is_dir():
        pytest.skip("there is no folder in memory here")
    for folder in (left, used):
        folder.mkdir()

    with services._in_memory(tmp_path):
        assert (left.exists(), used.exists()) == (False, True)

    used.rmdir()


def test_two_users_at_once_have_servers_of_their_own() -> None:
    with services.redis() as first, services.redis() as second:
        assert first != second


@pytest.mark.parametrize(
    "kind, variable, configured, used",
    [
        ("postgres", "DATABASE_URL", "postgresql://me@db/shop", "postgresql://me@db/shop"),
        ("postgres", "DATABASE_URL", "postgres://me@db/shop", "postgresql://me@db/shop"),
        ("redis", "REDIS_URL", "redis://cache:6379/1", "redis://cache:6379/1"),
        ("s3", "S3_ENDPOINT_URL", "http://storage:9000", "http://storage:9000"),
    ],
)
def test_a_configured_server_is_used_and_none_started(
    monkeypatch: pytest.MonkeyPatch, kind: str, variable: str, configured: str, used: str
) -> None:
    monkeypatch.setenv(variable, configured)

    with getattr(services, kind)() as url:
        assert url == used


@pytest.mark.parametrize(
    "kind, variable", [("postgres", "DATABASE_URL"), ("redis", "REDIS_URL"), ("s3", "S3_ENDPOINT_URL")]
)
def test_where_a_server_cannot_be_embedded_the_message_says_what_to_set(kind: str, variable: str) -> None:
    # A guardian without site-packages stands for a platform that has no wheel.
    guardian = [sys.executable, "-I", "-S", services.__file__, kind]

    run = subprocess.run(guardian, capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert variable in run.stdout


def test_a_new_database_is_a_copy_of_its_template_and_gone_after() -> None:
    with services.postgres() as server, services.new_database(server) as template:
        with psycopg.connect(template) as connection:
            connection.execute("CREATE TABLE products AS SELECT 7 AS id")

        with services.new_database(server, template) as copy, psycopg.connect(copy) as connection:
            assert connection.execute("SELECT id FROM products").fetchone() == (7,)

        assert not postgres_answers(copy)


def test_a_kept_data_folder_has_its_rows_the_next_time(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("as root PostgreSQL runs as nobody, and keeps no folder of root's")
    with services.postgres(tmp_path) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE products AS SELECT 7 AS id")

    with services.postgres(tmp_path) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT id FROM products").fetchone() == (7,)
