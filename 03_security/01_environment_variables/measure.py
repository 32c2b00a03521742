"""Where a secret shows, depending on how a program holds it: each cell is what a process of that kind wrote or left."""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

HERE = Path(__file__).parent

# Each defines `load()`, which returns an object with settings, and how its settings become JSON.
CONSTANTS = """
def load():
    return {name: os.environ[name] for name in ("API_KEY", "DATABASE_URL")} | {"size": int(os.environ["PAGE_SIZE"])}
values = lambda settings: (settings["API_KEY"], settings["DATABASE_URL"])
"""
DATACLASS = """
@dataclasses.dataclass(frozen=True)
class Settings:
    api_key: str
    database_url: str
    page_size: int
def load():
    return Settings(os.environ["API_KEY"], os.environ["DATABASE_URL"], int(os.environ["PAGE_SIZE"]))
as_json = lambda settings: json.dumps(dataclasses.asdict(settings))
"""
ENVIRONS = """
import environs
def load():
    env = environs.Env()
    return {"API_KEY": env.str("API_KEY"), "DATABASE_URL": env.str("DATABASE_URL"), "size": env.int("PAGE_SIZE")}
values = lambda settings: (settings["API_KEY"], settings["DATABASE_URL"])
"""
DYNACONF = """
import dynaconf
def load():
    settings = dynaconf.Dynaconf(envvar_prefix=False, validators=[dynaconf.Validator("PAGE_SIZE", is_type_of=int)])
    settings.validators.validate()
    return settings
values = lambda settings: (settings.API_KEY, settings.DATABASE_URL)
as_json = lambda settings: json.dumps({name: settings[name] for name in ("API_KEY", "DATABASE_URL", "PAGE_SIZE")})
"""
PYDANTIC = """
import pydantic, pydantic_settings
class Settings(pydantic_settings.BaseSettings):
    model_config = {config}
    api_key: {key}
    database_url: {url}
    page_size: int
load = Settings
as_json = lambda settings: settings.model_dump_json()
"""
OWN = """
import masking, settings
def load():
    return settings.load()[0]
as_json = lambda settings: settings.model_dump_json()
class Formatter(masking.RedactingFormatter):
    formatException = Formatter.formatException
    def __init__(self):
        super().__init__(config.redact)
"""
STR, SECRET, DSN = "str", "pydantic.SecretStr", "pydantic.PostgresDsn"
FROM_FILES = "{'hide_input_in_errors': True, 'secrets_dir': os.environ.get('SECRETS_DIR')}"
APPROACHES = {
    "`os.environ`, a dictionary": CONSTANTS,
    "dataclass": DATACLASS,
    "environs": ENVIRONS,
    "dynaconf": DYNACONF,
    "pydantic-settings, `str`": PYDANTIC.format(config={}, key=STR, url=STR),
    "`SecretStr`, `PostgresDsn` for the URL": PYDANTIC.format(config={}, key=SECRET, url=DSN),
    "`SecretStr`": PYDANTIC.format(config={}, key=SECRET, url=SECRET),
    "… and `hide_input_in_errors`": PYDANTIC.format(config={"hide_input_in_errors": True}, key=SECRET, url=SECRET),
    "… and secret files": PYDANTIC.format(config=FROM_FILES, key=SECRET, url=SECRET),
    "this app, secret files": OWN,
}
FILES = ("… and secret files", "this app, secret files")

# What a program does with its settings. `Formatter` shows local variables, as Sentry does.
PROGRAM = """
import dataclasses, json, logging, os, subprocess, sys, traceback
as_json = json.dumps
def values(settings):
    return settings.api_key, settings.database_url
class Formatter(logging.Formatter):
    def formatException(self, info):
        return "".join(traceback.TracebackException.from_exception(info[1], capture_locals=True).format())
{approach}
config = load()
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(Formatter())
logging.basicConfig(handlers=[handler])
def fail(settings):
    raise RuntimeError("cannot work")
def text_of(value):
    return value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
def connect(settings):
    texts = [text_of(value) for value in values(settings)]
    raise RuntimeError(f"cannot connect to {{texts[1]}}")
def logged(function):
    try:
        function(config)
    except RuntimeError:
        logging.exception("failed")
CHILD = [sys.executable, "-c", "import os; print(dict(os.environ))"]
STEPS = [
    lambda: print(repr(config)),
    lambda: print(as_json(config)),
    lambda: logging.warning("started with %s", config),
    lambda: logged(fail),
    lambda: logged(connect),
    lambda: subprocess.run(CHILD, check=True),
]
for step in STEPS:
    step()
    print("\\x1e", flush=True)
sys.stdin.read()
"""
COLUMNS = ["crash output", "repr", "JSON", "log", "traceback", "driver's error", "child process", "`/proc/PID/environ`"]


def run(approach: str, env: dict[str, str]) -> tuple[list[str], str, str]:
    """Run a program of that kind: what each step printed, standard error, and what /proc says meanwhile."""
    program = [sys.executable, "-c", PROGRAM.format(approach=approach)]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, env=env, cwd=HERE, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        steps, text, seen = [], "", ""
        for line in process.stdout:
            if line == "\x1e\n":
                steps.append(text)
                text = ""
                if len(steps) == len(COLUMNS) - 2:  # the program waits for its input to end
                    seen = environ.read_text() if (environ := Path(f"/proc/{process.pid}/environ")).exists() else ""
                    break
            text += line
        _, errors = process.communicate()
    return steps, errors, seen


def what_shows(text: str, parts: dict[str, str]) -> str:
    return ", ".join(name for name, part in parts.items() if part in text) or "–"  # noqa: RUF001


def row(name: str, approach: str, folder: Path) -> str:
    """Try one approach: with good settings, and with a key that was put into the wrong variable."""
    parts = {"key": secrets.token_hex(20), "URL": secrets.token_hex(20)}
    own = {"API_KEY": parts["key"], "DATABASE_URL": f"postgresql://shop:{parts['URL']}@db.internal/shop"}
    env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PAGE_SIZE": "20"}
    if name in FILES:
        for file, text in own.items():
            (folder / file).write_text(text, encoding="utf-8")
        env["SECRETS_DIR"] = str(folder)
    else:
        env |= own
    steps, errors, environ = run(approach, env)
    if len(steps) < len(COLUMNS) - 2:
        raise RuntimeError(f"{name}: {errors}")
    _, errors, _ = run(approach, env | {"PAGE_SIZE": own["API_KEY"]})
    found = [what_shows(text, parts) for text in (errors, *steps, environ)]
    return f"| {name} | {' | '.join(found)} |"


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(file=sys.stderr)) as progress:
        for name, approach in progress.track(APPROACHES.items(), description="approaches"):
            rows.append(row(name, approach, Path(folder)))
    print(f"| Settings in | {' | '.join(COLUMNS)} |")
    print(f"| --- |{' --- |' * len(COLUMNS)}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
