"""What an app must do with its settings: find them, judge them, keep them out of git and out of sight."""

import json
import logging
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings, get_settings

from grader.launch import clean_environment, free_address
from grader.solution import Client, Finished, Solution, SolutionCrashedError, wait_until
from grader.starter import NOT_THE_SOLUTION


def new_secret(length: int = 40) -> str:
    """A random text in which consonants and digits take turns: no part of it is found anywhere by chance."""
    return "".join(secrets.choice("23456789" if place % 2 else "BCDFGHJKLMNPQRSTVWXZ") for place in range(length))


Env = dict[str, Any]
INPUTS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("inputs.json").read_text(encoding="utf-8"))
URLS, SLIPS, WRONG, UNFIT, FIT = (INPUTS[kind] for kind in ("urls", "slips", "wrong", "unfit", "fit"))

API_KEY, PARTS, PASSWORD = new_secret(), new_secret(), new_secret(24)
SECRET_KEY = f"{PARTS[:20]}é'\"\\ {PARTS[20:]}"
# As a person would have it: with characters that URLs, repr() and JSON write in ways of their own.
ENCODED = quote(f"é/{PASSWORD[:12]}'\"@ \\{PASSWORD[12:]}%", safe="")
KEPT = (API_KEY, PARTS[:20], PARTS[20:], PASSWORD[:12], PASSWORD[12:])
REQUIRED = {
    "DATABASE_URL": f"postgresql://shop:{ENCODED}@db.internal:5432/orders",
    "API_KEY": API_KEY,
    "SECRET_KEY": SECRET_KEY,
    "PUBLIC_URL": "https://shop.example",
}
PRODUCTION: Env = {"ENVIRONMENT": "production", **REQUIRED}
DEVELOPMENT: Env = {"ENVIRONMENT": "development", **REQUIRED}
SETTINGS = {*PRODUCTION, "DEBUG", "LOG_LEVEL", "PAGE_SIZE", "HOST", "PORT"}
SHOWN = {name.lower() for name in SETTINGS - {"DATABASE_URL", "API_KEY", "SECRET_KEY"}}


def leaks(text: str) -> list[str]:
    """The parts of secrets that can be read in a text, in any case; four characters are a part."""
    parts = [secret[at : at + 4] for secret in KEPT for at in range(len(secret) - 3)]
    return [part for part in parts if part.casefold() in text.casefold()]


def refuses(finished: Finished, *names: str) -> bool:
    """Whether a check ended with 1 and a line for each of these names, and told nothing that is secret."""
    pattern = "|".join(re.escape(name) + r"(?!\.?\w)" for name in names)
    named = {found[0] for line in finished.stderr.splitlines() if (found := re.search(pattern, line))}
    told = finished.stdout + finished.stderr
    return finished.exit_code == 1 and named == set(names) and "Traceback" not in told and not leaks(told)


class Config:
    """Runs checks of a solution with files in a folder of the test's own."""

    def __init__(self, solution: Solution, folder: Path) -> None:
        self.solution, self.folder, self.secrets = solution, folder, folder / "secrets"

    def write(self, name: str, text: str | bytes) -> None:
        """Write a .env file, or a secret file when the name does not begin with a dot."""
        file = self.folder / name if name.startswith(".env") else self.secrets / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    @property
    def folders(self) -> Env:
        return {"ENV_DIR": str(self.folder)} | ({"SECRETS_DIR": str(self.secrets)} if self.secrets.exists() else {})

    def check(self, **env: str) -> Finished:
        return self.solution.run("check", **(self.folders | env))

    def settings(self, **env: str) -> dict[str, dict[str, Any]]:
        """What a check shows, by variable. Fails when it refuses."""
        finished = self.check(**env)
        assert finished.exit_code == 0, finished.stderr
        shown: dict[str, dict[str, Any]] = finished.json()
        return shown


@pytest.fixture
def config(solution: Solution, tmp_path: Path) -> Config:
    return Config(solution, tmp_path)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Take back what an app in this process does to the root logger: it is pytest's, too."""
    root = logging.getLogger()
    level, handlers = root.level, [(handler, handler.formatter) for handler in root.handlers]
    yield
    root.setLevel(level)
    root.handlers[:] = [handler for handler, _ in handlers]
    for handler, formatter in handlers:
        handler.setFormatter(formatter)


def orders(client: Client, key: str, scheme: str = "Bearer ") -> int:
    """The status of a request for the orders with this key."""
    return client.get("/orders", headers={b"Authorization": f"{scheme}{key}".strip().encode()}).status_code


# Requirement 1: from the environment.


@pytest.mark.requirement(1)
@pytest.mark.parametrize("file, form", INPUTS["places"].values(), ids=INPUTS["places"])
def test_the_api_key_arrives_as_it_was_written(config: Config, file: str, form: str) -> None:
    key = f"a${{HOME}}#b$PATH={new_secret()}=="
    if file:
        config.write(file, form.format(key))

    own: Env = {} if file else {"API_KEY": key}
    client = config.solution.serve(**config.folders, **own)

    assert orders(client, key) == 200
    assert orders(client, key[:-1]) == 401


@pytest.mark.requirement(1)
def test_only_the_api_key_opens_the_orders(solution: Solution) -> None:
    client = solution.serve_shared(**PRODUCTION)

    refused = client.get("/orders")
    answer = client.get("/orders", headers={"Authorization": f"bearer {API_KEY}"})

    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json() == {"orders": []}
    assert [orders(client, key) for key in (SECRET_KEY, API_KEY.lower(), API_KEY + "x", "é", "")] == [401] * 5
    assert [orders(client, API_KEY, scheme) for scheme in ("", "Basic ", "Token ", "Bearer")] == [401] * 4
    assert client.get("/orders", params={"key": API_KEY, "api_key": API_KEY}).status_code == 401


@pytest.mark.requirement(1)
@pytest.mark.parametrize("key", ["", "None", "null", "*" * 10, "changeme", "dev"])
def test_without_an_api_key_nobody_is_let_in(solution: Solution, key: str) -> None:
    client = solution.serve_shared()

    assert orders(client, key) == 401


@pytest.mark.requirement(1)
@pytest.mark.parametrize("environment", ["development", "testing"])
def test_what_is_not_set_has_no_value(config: Config, environment: str) -> None:
    shown = config.settings(ENVIRONMENT=environment)

    assert [shown[name] for name in REQUIRED] == [{"value": None, "from": "default"}] * len(REQUIRED)


@pytest.mark.requirement(1)
def test_a_cookie_counts_only_when_this_secret_key_signed_it(solution: Solution) -> None:
    client, other = solution.serve_shared(**PRODUCTION), solution.serve(SECRET_KEY=new_secret())

    first = client.get("/visits")
    cookie = {"Cookie": first.headers["Set-Cookie"].partition(";")[0]}
    seen = [server.get("/visits", headers=cookie).json() for server in (client, other)]

    assert first.json() == {"visits": 1}
    assert seen == [{"visits": 2}, {"visits": 1}]


@pytest.mark.requirement(1)
def test_without_a_secret_key_no_cookie_is_signed(solution: Solution) -> None:
    response = solution.serve_shared().get("/visits")

    assert response.status_code == 503
    assert "Set-Cookie" not in response.headers


@pytest.mark.requirement(1)
@pytest.mark.parametrize("name, start, length", [("API_KEY", "", 20), ("SECRET_KEY", "", 32), ("SECRET_KEY", "é", 31)])
def test_a_key_has_a_minimum_length(config: Config, name: str, start: str, length: int) -> None:
    key = start + new_secret(length)

    accepted = config.check(**{name: key})
    refused = config.check(**{name: key[:-1]})
    config.write(name, f" {key[:-1]}\n")
    padded = config.check()

    assert accepted.exit_code == 0
    assert refuses(refused, name)
    assert refuses(padded, name)


# Requirement 2: nothing of it in version control.


class Repository:
    """A git repository of what a solution's folder holds, out of reach of this machine's own git settings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "--quiet", "--template=")

    def git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        own = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(self.path.parent)}
        command, env = ["git", "-C", str(self.path), *arguments], {"PATH": os.environ["PATH"], **own}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def added(self) -> list[str]:
        """What `git add --all` takes."""
        assert self.git("add", "--all").returncode == 0
        return self.git("ls-files", "-z").stdout.split("\0")[:-1]

    def findings(self) -> list[str]:
        """Where detect-secrets sees a secret in what git takes."""
        with default_settings():
            get_settings().disable_filters("detect_secrets.filters.allowlist.is_line_allowlisted")
            found = SecretsCollection(root=str(self.path))
            for file in self.added():
                found.scan_file(file)
        return [f"{file}:{finding.line_number}: {finding.type}" for file, finding in found]


@pytest.fixture
def repository(solution: Solution, tmp_path: Path) -> Repository:
    caches = ("__pycache__", ".*_cache", ".git", ".venv", "*.db")
    copy = tmp_path / "repository"
    shutil.copytree(solution.path, copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_THE_SOLUTION, *caches))
    return Repository(copy)


@pytest.mark.requirement(2)
def test_git_ignores_files_with_settings_in_every_folder_but_not_the_examples(repository: Repository) -> None:
    files = [".env", ".env.local", ".env.testing", ".env.production", "deploy/.env", "a/b/.env.x"]
    files += ["secrets/API_KEY", "deploy/secrets/TLS_KEY"]
    for file in files:
        (repository.path / file).parent.mkdir(parents=True, exist_ok=True)
        (repository.path / file).write_text("API_KEY=\n", encoding="utf-8")
    shutil.copy(repository.path / ".env.example", repository.path / "deploy")

    added = repository.added()

    assert {".gitignore", ".env.example", "deploy/.env.example", "app.py"} <= set(added)
    assert set(added).isdisjoint(files)


@pytest.mark.requirement(2)
def test_the_example_names_every_setting_that_a_file_may_set(config: Config, repository: Repository) -> None:
    example = (repository.path / ".env.example").read_text(encoding="utf-8")

    settings = config.settings()

    assert set(settings) == SETTINGS
    assert set(re.findall(r"^(?:export )?(\w+)=", example, re.MULTILINE)) == SETTINGS - {"ENVIRONMENT"}


@pytest.mark.requirement(2)
def test_a_copy_of_the_example_is_enough_for_development_only(config: Config, repository: Repository) -> None:
    shutil.copy(repository.path / ".env.example", config.folder / ".env")

    development = config.check()
    production = config.check(ENVIRONMENT="production")

    assert development.exit_code == 0
    assert refuses(production, "DATABASE_URL", "API_KEY", "SECRET_KEY")


@pytest.mark.requirement(2)
def test_a_scan_finds_no_secret_in_what_git_takes(repository: Repository) -> None:
    findings = repository.findings()

    assert findings == []


@pytest.mark.requirement(2)
def test_the_scan_sees_a_secret_unless_git_ignores_it(repository: Repository) -> None:
    before = repository.findings()
    planted = f'API_KEY = "{new_secret()}"  # pragma: allowlist secret\n'
    for file in (".env", "planted.py"):
        (repository.path / file).write_text(planted, encoding="utf-8")

    findings = repository.findings()

    assert [finding.partition(":")[0] for finding in findings if finding not in before] == ["planted.py"]


# Requirement 3: loaded by environment.


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "environment, size, place",
    [(None, 11, ".env.development"), ("testing", 12, ".env.testing"), ("production", 10, ".env")],
)
def test_the_file_of_the_environment_wins(config: Config, environment: str | None, size: int, place: str) -> None:
    config.write(".env", "PAGE_SIZE=10\nPORT=2000\n")
    config.write(".env.development", "PAGE_SIZE=11\n")
    config.write(".env.testing", "PAGE_SIZE=12\n")

    shown = config.settings(**REQUIRED, **({"ENVIRONMENT": environment} if environment else {}))

    assert shown["PAGE_SIZE"] == {"value": size, "from": place}
    assert shown["PORT"] == {"value": 2000, "from": ".env"}


@pytest.mark.requirement(3)
def test_a_variable_wins_over_a_secret_file_and_that_over_env_files(config: Config) -> None:
    seen = [config.settings()["PAGE_SIZE"]]
    for file, text in [(".env", "PAGE_SIZE=1"), (".env.development", "PAGE_SIZE=2"), ("PAGE_SIZE", "3\n")]:
        config.write(file, text)
        seen.append(config.settings()["PAGE_SIZE"])
    seen.append(config.settings(PAGE_SIZE="4")["PAGE_SIZE"])

    assert [shown["value"] for shown in seen] == [20, 1, 2, 3, 4]
    assert [shown["from"] for shown in seen] == ["default", ".env", ".env.development", "secrets", "environment"]


@pytest.mark.requirement(3)
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_value_is_not_set_and_the_next_place_counts(config: Config, empty: str) -> None:
    seen = []
    for file, text in [(".env", "{}"), (".env.development", "PAGE_SIZE={}"), ("PAGE_SIZE", "{}\n")]:
        config.write(file, text.format(empty))
        seen.append(config.settings(PAGE_SIZE=empty)["PAGE_SIZE"]["value"])
        config.write(".env", "PAGE_SIZE=7")

    assert seen == [20, 7, 7]


@pytest.mark.requirement(3)
def test_the_served_app_has_the_settings_that_the_check_shows(config: Config) -> None:
    config.write(".env.testing", "PAGE_SIZE=33\nDEBUG=true\nLOG_LEVEL=ERROR\nPUBLIC_URL=http://localhost:9000\n")

    shown = config.solution.serve(ENVIRONMENT="testing", **config.folders).get("/config").json()

    assert (shown["environment"], shown["page_size"], shown["debug"]) == ("testing", 33, True)
    assert (shown["log_level"], shown["public_url"]) == ("ERROR", "http://localhost:9000")


@pytest.mark.requirement(3)
def test_env_files_are_read_from_the_working_directory_by_default(solution: Solution, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PAGE_SIZE=17\n", encoding="utf-8")
    process = solution.launcher.start(solution.app, ["check"], clean_environment({}), tmp_path, b"")

    wait_until(lambda: process.exit_code is not None)

    assert re.search(r'"PAGE_SIZE": \{\s*"value": 17', process.stdout)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("name", ["prod", "Production", "../production", "production,testing", "example"])
def test_an_unknown_environment_is_refused(config: Config, name: str) -> None:
    config.write(".env.example", "PAGE_SIZE=1\n")

    finished = config.check(**(PRODUCTION | {"ENVIRONMENT": name}))

    assert refuses(finished, "ENVIRONMENT")


@pytest.mark.requirement(3)
@pytest.mark.parametrize("text, name", [("", "development"), (" \t", "development"), (" production\n", "production")])
def test_whitespace_around_the_environment_does_not_count(config: Config, text: str, name: str) -> None:
    shown = config.settings(**(PRODUCTION | {"ENVIRONMENT": text}))

    assert shown["ENVIRONMENT"] == {"value": name, "from": "environment" if text.strip() else "default"}


@pytest.mark.requirement(3)
@pytest.mark.parametrize(
    "file, text", [(".env", "ENVIRONMENT=production"), (".env.development", "ENVIRONMENT="), ("ENVIRONMENT", "testing")]
)
def test_a_file_cannot_set_the_environment(config: Config, file: str, text: str) -> None:
    config.write(file, f"{text}\n")

    finished = config.check(**REQUIRED)

    assert refuses(finished, "ENVIRONMENT") or refuses(finished, file)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("row", INPUTS["typed"].values(), ids=INPUTS["typed"])
def test_a_value_has_its_type(config: Config, row: dict[str, tuple[str, object]]) -> None:
    settings = config.settings(**{name: text for name, (text, _) in row.items()})

    shown = {name: settings[name]["value"] for name in row}
    assert json.dumps(shown) == json.dumps({name: value for name, (_, value) in row.items()})  # 1 is not true there


@pytest.mark.requirement(3)
@pytest.mark.parametrize("env", WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused_together(config: Config, env: Env) -> None:
    finished = config.check(**env)

    assert refuses(finished, *env)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("file", [".env", ".env.development"])
@pytest.mark.parametrize(
    "line",
    ["DATABSE_URL=sqlite:///shop.db", "page_size=10", "PAGE_SIZE", "PAGE_SIZE: 10", "PAGE_SIZE='10", "=10"],
    ids=["unknown name", "small letters", "no value", "YAML", "quote without end", "no name"],
)
def test_all_lines_of_a_file_that_set_nothing_are_refused_together(config: Config, file: str, line: str) -> None:
    config.write(file, f"PUBLIC_URI=x\nLOG_LEVEL=INFO\n\n{line}\n")

    finished = config.check()

    assert refuses(finished, file)
    assert sum(file in told for told in finished.stderr.splitlines()) == 2


@pytest.mark.requirement(3)
@pytest.mark.parametrize("name", ["DATABASE_URL", "SECRET_KEY", "HOST"])
def test_a_variable_that_is_not_utf_8_is_refused(config: Config, name: str) -> None:
    text = os.fsdecode(b"postgresql://shop:\xff" + PASSWORD.encode() + b"@db.internal/orders")

    finished = config.check(**{name: text})

    assert refuses(finished, name)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("file", [".env", ".env.development", "API_KEY"])
def test_a_file_that_cannot_be_read_is_refused(config: Config, file: str) -> None:
    config.write(file, b"API_KEY=\xff\xfe" + API_KEY.encode())
    garbled = config.check()
    path = next(config.folder.rglob(file))
    path.unlink()
    path.mkdir()
    folder = config.check()

    assert refuses(garbled, file)
    assert refuses(folder, file)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("variable", ["SECRETS_DIR", "ENV_DIR"])
def test_a_folder_that_does_not_exist_is_refused(config: Config, variable: str) -> None:
    config.write(".env", f"API_KEY={API_KEY}\n")

    missing = config.check(**{variable: str(config.folder / "missing")})
    file = config.check(**{variable: str(config.folder / ".env")})
    unset = [config.check(**{variable: blank}) for blank in ("", " \t")]

    assert refuses(missing, variable)
    assert refuses(file, variable)
    assert [finished.exit_code for finished in unset] == [0, 0]


@pytest.mark.requirement(3)
def test_other_variables_and_other_secret_files_do_not_matter(config: Config) -> None:
    config.write("TLS_KEY", b"\xff of another program")
    (config.secrets / "..data").mkdir()  # Kubernetes makes it

    shown = config.settings(DATABSE_URL="x", page_size="5", Log_Level="none")

    assert shown["PAGE_SIZE"] == {"value": 20, "from": "default"}


@pytest.mark.requirement(3)
@pytest.mark.parametrize("names", [list(REQUIRED), *[[name] for name in REQUIRED]], ids=["all", *REQUIRED])
def test_production_asks_for_what_has_no_safe_default(config: Config, names: list[str]) -> None:
    unset = config.check(**{name: text for name, text in PRODUCTION.items() if name not in names})
    blank = config.check(**(PRODUCTION | dict.fromkeys(names, " \t")))

    assert refuses(unset, *names)
    assert refuses(blank, *names)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("env", UNFIT.values(), ids=UNFIT)
def test_production_refuses_what_does_for_development(config: Config, env: Env) -> None:
    production = config.check(**(PRODUCTION | env))
    development = config.check(**(DEVELOPMENT | env))
    config.write(".env", "".join(f"{name}='{text}'\n" for name, text in env.items()))
    from_a_file = config.check(**{name: text for name, text in PRODUCTION.items() if name not in env})

    assert refuses(production, *env)
    assert development.exit_code == 0
    assert refuses(from_a_file, *env)


@pytest.mark.requirement(3)
@pytest.mark.parametrize("env", FIT.values(), ids=FIT)
def test_production_accepts_what_is_just_good_enough(config: Config, env: Env) -> None:
    finished = config.check(**(PRODUCTION | env))

    assert finished.exit_code == 0, finished.stderr


@pytest.mark.requirement(3)
@pytest.mark.parametrize("unfit", [{"DEBUG": "1"}, {"SECRET_KEY": ""}, {"API_KEY": API_KEY[:19]}, {"PORT": API_KEY}])
def test_an_app_with_such_settings_does_not_start(solution: Solution, unfit: Env) -> None:
    with pytest.raises(SolutionCrashedError) as crashed:
        solution.serve(**(PRODUCTION | unfit))

    assert next(iter(unfit)) in str(crashed.value)
    assert not leaks(str(crashed.value))


@pytest.mark.requirement(3)
def test_the_app_listens_on_host_only(solution: Solution) -> None:
    process = solution.start(HOST="192.0.2.1", PORT=str(free_address()[1]))  # no machine has this address

    assert wait_until(lambda: process.exit_code, message="the app did not end with an error, as it cannot use HOST")


# Requirement 4: kept secret in use.


@pytest.mark.requirement(4)
def test_a_check_shows_everything_but_the_secrets(config: Config) -> None:
    finished = config.check(**PRODUCTION)

    shown = {name: entry["value"] for name, entry in finished.json().items()}
    assert leaks(finished.stdout + finished.stderr) == []
    assert {character for name in ("API_KEY", "SECRET_KEY") for character in shown[name]} == {"*"}
    assert shown["API_KEY"] == config.settings(API_KEY=API_KEY[:20])["API_KEY"]["value"]
    assert re.fullmatch(r"postgresql://shop:\*+@db\.internal:5432/orders", shown["DATABASE_URL"])


@pytest.mark.requirement(4)
@pytest.mark.parametrize("form", URLS.values(), ids=URLS)
def test_the_password_of_any_url_is_masked_also_in_the_traceback_for_a_developer(config: Config, form: str) -> None:
    env: Env = REQUIRED | {"DATABASE_URL": form.format(ENCODED)}

    finished = config.check(ENVIRONMENT="production", **env)
    response = config.solution.serve(DEBUG="true", **env).get("/broken")

    assert finished.exit_code == 0, finished.stderr
    assert leaks(finished.stdout + finished.stderr) == []
    assert "/orders" in finished.json()["DATABASE_URL"]["value"]
    assert "RuntimeError: cannot connect to" in response.json()["traceback"]
    assert leaks(response.text) == []


@pytest.mark.requirement(4)
@pytest.mark.parametrize("form", SLIPS.values(), ids=SLIPS)
def test_a_url_that_cannot_be_used_is_not_repeated(config: Config, form: str) -> None:
    finished = config.check(DATABASE_URL=form.format(PASSWORD))

    assert refuses(finished, "DATABASE_URL")


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "name", ["ENVIRONMENT", "PAGE_SIZE", "DEBUG", "LOG_LEVEL", "HOST", "PORT", "PUBLIC_URL", "SECRETS_DIR", "ENV_DIR"]
)
def test_a_secret_in_the_wrong_variable_is_not_repeated(config: Config, name: str) -> None:
    form = {"PUBLIC_URL": "https://shop.example/{}"}.get(name, "{}")

    url = config.check(**{name: REQUIRED["DATABASE_URL"]})
    key = config.check(**{"API_KEY": API_KEY, name: form.format(API_KEY)})

    assert refuses(url, name)
    assert refuses(key, name)


@pytest.mark.requirement(4)
@pytest.mark.parametrize("line", ["{}", "{}==", "API_KEY: {}", "API_KEY='{}", "API_KEI={}"])
def test_a_secret_in_the_wrong_line_of_a_file_is_not_repeated(config: Config, line: str) -> None:
    config.write(".env", line.format(API_KEY))

    finished = config.check()

    assert refuses(finished, ".env")


@pytest.mark.requirement(4)
def test_the_config_has_no_secrets_not_even_masked(solution: Solution) -> None:
    response = solution.serve_shared(**PRODUCTION).get("/config")

    assert set(response.json()) == SHOWN
    assert leaks(response.text) == []


@pytest.mark.requirement(4)
def test_the_log_tells_the_settings_without_the_secrets(solution: Solution) -> None:
    client = solution.serve(isolated=True, **PRODUCTION, PAGE_SIZE="37")
    quiet = solution.serve(isolated=True, **PRODUCTION, LOG_LEVEL="ERROR")

    client.stop()
    quiet.stop()

    assert "db.internal" not in quiet.output
    assert re.search(r"postgresql://shop:\*+@db\.internal:5432/orders", client.output)
    assert "https://shop.example" in client.output
    assert re.search(r"\b37\b", client.output)
    assert leaks(client.output) == []


@pytest.mark.requirement(4)
def test_a_handler_that_was_there_before_writes_no_secrets(solution: Solution, tmp_path: Path) -> None:
    server = tmp_path / "app.py"  # a server that sets up logging before it loads the app
    run = f"sys.path.insert(0, {str(solution.path)!r}); runpy.run_path({str(solution.app)!r}, run_name='__main__')"
    server.write_text(f"import logging, runpy, sys; logging.basicConfig(); {run}\n", encoding="utf-8")

    client = replace(solution, path=tmp_path).serve(isolated=True, **DEVELOPMENT)
    client.get("/broken")
    client.stop()

    assert "RuntimeError" in client.output
    assert leaks(client.output) == []


@pytest.mark.requirement(4)
@pytest.mark.parametrize(
    "env",
    [PRODUCTION, PRODUCTION | {"FLASK_DEBUG": "1", "FLASK_ENV": "development"}, DEVELOPMENT],
    ids=["production", "FLASK_DEBUG", "development"],
)
def test_a_failure_is_logged_without_the_secrets_and_not_shown_in_production(solution: Solution, env: Env) -> None:
    client = solution.serve(isolated=True, **env)

    response = client.get("/broken")
    client.stop()

    assert response.status_code == 500
    assert set(response.json()) == {"detail"}
    assert not re.search(r"Traceback|RuntimeError|cannot connect|db\.internal", response.text)
    assert "Traceback" in client.output
    assert re.search(r"RuntimeError: cannot connect to postgresql://shop:\*+@db\.internal:5432/orders", client.output)
    assert leaks(client.output + response.text) == []


@pytest.mark.requirement(4)
def test_a_password_is_removed_from_texts_if_production_would_accept_it(solution: Solution) -> None:
    urls = [f"postgresql://shop:{PASSWORD[:length]}@db.internal/orders" for length in (12, 6)]

    long, short = (solution.serve(DEBUG="true", DATABASE_URL=url).get("/broken").text for url in urls)

    assert leaks(long) == []
    assert re.search(r"cannot connect to postgresql://shop:\*+@db\.internal/orders", short)


@pytest.mark.requirement(4)
@pytest.mark.parametrize("path", ["/orders?key={}", "/orders/{}", "/{}"])
def test_a_key_in_the_url_of_a_request_is_not_repeated(solution: Solution, path: str) -> None:
    client = solution.serve(isolated=True, **PRODUCTION)

    response = client.get(path.format(API_KEY))
    client.stop()

    assert response.status_code in (401, 404)
    assert leaks(response.text + client.output) == []
