"""The settings: their types, limits and defaults, what production asks of them, and how they are loaded."""

import json
import os
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

from masking import MASK, DatabaseUrl
from places import ConfigurationError, read_places
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, IPvAnyAddress, Secret, ValidationError

SHORTEST_PASSWORD = 12  # shorter ones are found in ordinary words, so they are not searched for in logs either
FEWEST_CHARACTERS = 6  # different ones
PLACEHOLDER = "(?i)change[-_]?me|example|placeholder"
LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST_NAME = rf"({LABEL}\.)*(?=[A-Za-z]){LABEL}"
PORT = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
PUBLIC_URL = rf"(?a)https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:({PORT}))?(/[\w.~!$&'()*+,;=:%/-]*)?"


def spelled(pattern: str, form: str) -> BeforeValidator:  # given
    """A rule for a value's text, before it is converted: pydantic also takes `yes` for true and `1_0` for 10."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {form}")
        return text

    return BeforeValidator(check)


Number = Annotated[int, spelled("[0-9]+", "a whole number")]
Switch = Annotated[bool, spelled("(?i:true|false|1|0)", "true, false, 1 or 0")]
ApiKey = Secret[Annotated[str, spelled("[!-~]{20,}", "at least 20 visible ASCII characters")]]
SecretKey = Secret[Annotated[str, spelled("[^\ud800-\udfff]{32,}", "at least 32 characters, as UTF-8")]]
Host = IPvAnyAddress | Annotated[str, spelled(HOST_NAME, "a host name")]
PublicUrl = Annotated[str, spelled(PUBLIC_URL, "http(s)://<host>:<port>/<path>")]


class Settings(BaseModel):  # yours
    """All settings. The secret ones mask themselves, and are in no dump. Raises ValidationError for wrong values."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "testing", "production"] = "development"
    database_url: DatabaseUrl | None = Field(default=None, exclude=True)
    api_key: ApiKey | None = Field(default=None, exclude=True)
    secret_key: SecretKey | None = Field(default=None, exclude=True)
    public_url: PublicUrl | None = None
    debug: Switch = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    page_size: Number = Field(default=20, ge=1, le=100)
    host: Host = "127.0.0.1"
    port: Number = Field(default=8000, ge=1, le=65535)

    def shown(self) -> dict[str, Any]:
        """All settings as they may be shown, by the names of their variables."""
        dump = self.model_dump(mode="json")
        return {name.upper(): dump.get(name, value and str(value)) for name, value in self}

    def secrets(self) -> list[str]:
        """The texts that must not be seen: the keys, and the passwords as they are in the URL and decoded."""
        written = self.database_url.passwords() if self.database_url else []
        passwords = [text for text in (*written, *map(unquote, written)) if len(text) >= SHORTEST_PASSWORD]
        return [*passwords, *(key.get_secret_value() for key in (self.api_key, self.secret_key) if key)]

    def redact(self, text: str) -> str:
        """Replace the secrets in a text, in each spelling, and the URL by what may be shown of it."""
        masks: dict[str, str] = {}
        for secret in self.secrets():
            masks |= dict.fromkeys([secret, quote(secret, safe=""), repr(secret)[1:-1], json.dumps(secret)[1:-1]], MASK)
        if self.database_url:
            masks[self.database_url.get_secret_value()] = str(self.database_url)
        pattern = "|".join(map(re.escape, sorted(masks, key=len, reverse=True)))
        return re.sub(pattern, lambda found: masks[found[0]], text) if masks else text


def load() -> tuple["Settings", dict[str, str]]:
    """Return the settings, and the place that each came from. Raises ConfigurationError, which repeats no value."""
    places = read_places(os.environ, [name.upper() for name in Settings.model_fields])
    origins = {name: place for place in reversed(places) for name in places[place]}
    try:
        settings = Settings.model_validate({name.lower(): places[place][name] for name, place in origins.items()})
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        problems = [f"{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}" for item in wrong]
        raise ConfigurationError(problems) from None
    if problems := list(faults(settings)):
        raise ConfigurationError(problems)
    return settings, origins


def faults(settings: "Settings") -> Iterator[str]:
    """What is wrong with settings whose values are well-formed."""
    for name, value in settings.model_dump(mode="json").items():
        if any(secret in str(value) for secret in settings.secrets()):
            yield f"{name.upper()}: contains a secret, and would show it"
    if settings.environment == "production":
        yield from faults_in_production(settings)


def faults_in_production(settings: "Settings") -> Iterator[str]:
    """What is good enough for a developer's machine, and not for production."""
    for name, value in settings:
        if value is None:
            yield f"{name.upper()}: must be set in production"
        elif name in ("api_key", "secret_key") and is_placeholder(value.get_secret_value()):
            yield f"{name.upper()}: is a placeholder"
    if settings.debug:
        yield "DEBUG: must be off in production"
    if settings.public_url and not settings.public_url.startswith("https:"):
        yield "PUBLIC_URL: must begin with https:// in production"
    if url := settings.database_url:
        passwords = [unquote(text) for text in url.passwords()] or [""]
        if url.get_secret_value().startswith("sqlite") or min(map(len, passwords)) < SHORTEST_PASSWORD:
            yield f"DATABASE_URL: must be PostgreSQL's, with a password of at least {SHORTEST_PASSWORD} characters"
        elif any(map(is_placeholder, passwords)):
            yield "DATABASE_URL: its password is a placeholder"


def is_placeholder(text: str) -> bool:
    """Whether a value was copied from an example or typed to fill the space."""
    return bool(re.search(PLACEHOLDER, text)) or len(set(text)) < FEWEST_CHARACTERS
