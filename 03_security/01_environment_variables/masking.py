"""Secrets that do not show: a database URL without its passwords, and log lines without any secret."""

import logging
import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Secret

MASK = "***"
FORM = "must be postgresql://<user>:<password>@<host>:<port>/<name>?<parameters> or sqlite:///<path>, percent-encoded"
# Where the passwords are in a valid URL, such as ?password= and ?sslpassword=. Elsewhere these find the wrong part.
IN_ADDRESS = "(?<=://)([^:/?@]*:)([^/?@]*)(?=@)"
IN_PARAMETER = r"(?i)(?<=[?&])(\w*password\w*=)([^&]*)"


def valid_url(text: str) -> str:
    """Return a database URL as it is. Raises ValueError, which does not repeat it, for anything else."""
    try:
        url, _ = urlsplit(text), unquote(text, errors="strict").encode()
        has_port = url.port != 0
    except ValueError:
        raise ValueError(FORM) from None
    is_sqlite = re.fullmatch("sqlite:///[^?]+.*", text)
    is_postgresql = re.fullmatch(r"postgres(ql)?(\+\w+)?", url.scheme) and re.fullmatch("/[^/]+", url.path)
    is_query = re.fullmatch(r"(\w+=[^&]*(&(?=.)|$))*", url.query)
    # After an unencoded `/` or `?` in a password, its rest is read as path or query, and the `@` is found there.
    is_stray = re.search(r"[\s\x00-\x1f#\\]|%(?![0-9A-Fa-f]{2})", text) or text.count("@") > ("@" in url.netloc)
    if is_stray or not (has_port and is_query and (is_sqlite or is_postgresql)):
        raise ValueError(FORM)
    return text


class DatabaseUrl(Secret[Annotated[str, AfterValidator(valid_url)]]):
    """A database URL whose repr, str and JSON show all of it but the passwords."""

    def _display(self) -> str:
        text = re.sub(IN_ADDRESS, rf"\1{MASK}", self.get_secret_value())
        return re.sub(IN_PARAMETER, rf"\1{MASK}", text)

    def passwords(self) -> list[str]:
        """Its passwords, still percent-encoded."""
        text = self.get_secret_value()
        return [found[2] for where in (IN_ADDRESS, IN_PARAMETER) for found in re.finditer(where, text) if found[2]]


class RedactingFormatter(logging.Formatter):
    """Removes the secrets from log records and tracebacks: no type can mask what a driver logs or raises."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self.redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self.redact(super().format(record))
