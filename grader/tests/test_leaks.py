"""The scan for secrets sees one, and leaves alone what a person has called harmless."""

import json
import secrets
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("detect_secrets")
from grader.leaks import BASELINE, leaks


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "app.py").write_text("print('hello')\n")
    (tmp_path / ".gitignore").write_text(".env\n")
    scan = subprocess.run(["detect-secrets", "scan", "--no-verify"], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / BASELINE).write_bytes(scan.stdout)
    return tmp_path


def test_a_repository_without_secrets_has_no_leaks(repository: Path) -> None:
    assert leaks(repository) == []


@pytest.mark.parametrize(
    "line",
    [
        f"PASSWORD = '{secrets.token_urlsafe()}'",
        f"KEY = '{secrets.token_hex(32)}'",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
    ],
    ids=["password", "hexadecimal", "private key"],
)
def test_a_secret_is_found_before_it_is_committed(repository: Path, line: str) -> None:
    (repository / "settings.py").write_text(f"\n{line}\n")

    assert [leak.partition(": ")[0] for leak in leaks(repository)] == ["settings.py:2"]


def test_what_git_ignores_is_not_read(repository: Path) -> None:
    (repository / ".env").write_text(f"PASSWORD='{secrets.token_urlsafe()}'\n")

    assert leaks(repository) == []


@pytest.mark.parametrize(("label", "count"), [(False, 0), (True, 1), (None, 1)])
def test_what_a_person_called_harmless_is_none(repository: Path, label: bool | None, count: int) -> None:
    (repository / "settings.py").write_text(f"PASSWORD = '{secrets.token_urlsafe()}'\n")
    scan = ["detect-secrets", "scan", "--no-verify", "--all-files", "--baseline", BASELINE]
    subprocess.run(scan, cwd=repository, check=True)
    known = json.loads((repository / BASELINE).read_text())
    for entry in known["results"]["settings.py"]:
        entry["is_secret"] = label
    (repository / BASELINE).write_text(json.dumps(known))

    assert len(leaks(repository)) == count
