"""Where settings come from: the environment, secret files and .env files, in the order in which they win."""

import io
from collections.abc import Collection, Mapping
from pathlib import Path

from dotenv.parser import parse_stream

ENVIRONMENTS = ("development", "testing", "production")
NOT_IN_FILES = "ENVIRONMENT decides which files are read: set it as a variable"


class ConfigurationError(Exception):
    """The settings cannot be used. `problems` has a sentence for each reason; none repeats a value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_places(environ: Mapping[str, str], names: Collection[str]) -> dict[str, dict[str, str]]:
    """What each place has of the settings `names`, without empty texts; the first wins. Raises ConfigurationError."""
    environment = environ.get("ENVIRONMENT", "").strip() or "development"
    if environment not in ENVIRONMENTS:
        raise ConfigurationError([f"ENVIRONMENT must be one of {', '.join(ENVIRONMENTS)}"])
    secrets, folder = existing_folder(environ, "SECRETS_DIR"), existing_folder(environ, "ENV_DIR") or Path()
    places = {"environment": {name: environ[name] for name in names if name in environ}}
    places["secrets"] = read_secrets(secrets, names) if secrets else {}
    for file in (f".env.{environment}", ".env"):
        places[file] = read_env_file(folder / file, names)
    return {at: {name: text.strip() for name, text in texts.items() if text.strip()} for at, texts in places.items()}


def existing_folder(environ: Mapping[str, str], variable: str) -> Path | None:
    """The folder that a variable names, None if it is not set. Raises ConfigurationError if there is no such folder."""
    text = environ.get(variable, "").strip()
    try:
        next(Path(text).iterdir(), None)
    except OSError as error:
        raise ConfigurationError([f"{variable} must name a folder that can be read ({error.strerror})"]) from None
    return Path(text) if text else None


def read_secrets(folder: Path, names: Collection[str]) -> dict[str, str]:
    """Read the files that are named like a setting, as containers have them mounted. Raises ConfigurationError."""
    found = {name: text for name in sorted(names) if (text := read_text(folder / name)) is not None}
    if "ENVIRONMENT" in found:
        raise ConfigurationError([NOT_IN_FILES])
    return found


def read_env_file(file: Path, names: Collection[str]) -> dict[str, str]:
    """Read a .env file, if it exists. Raises ConfigurationError, which numbers wrong lines and does not repeat them."""
    texts: dict[str, str] = {}
    problems: list[str] = []
    for found in parse_stream(io.StringIO(read_text(file) or "")):
        number = found.original.line + found.original.string.rstrip().count("\n")
        if found.key == "ENVIRONMENT":
            problems.append(f"{file.name}, line {number}: {NOT_IN_FILES}")
        elif found.error or (found.key and found.value is None):
            problems.append(f"{file.name}, line {number}: is not of the form NAME=value")
        elif found.key and found.key not in names:
            problems.append(f"{file.name}, line {number}: sets a name that is not a setting")
        elif found.key and found.value:
            texts[found.key] = found.value
    if problems:
        raise ConfigurationError(problems)
    return texts


def read_text(file: Path) -> str | None:
    """The text of a file, or None if there is no such file. Raises ConfigurationError."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError([f"{file.name} cannot be read: it must be a file of UTF-8 text"]) from None
