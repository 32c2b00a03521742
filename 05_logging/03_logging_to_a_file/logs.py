"""Where the log goes and what its lines say: one dictConfig for development, and one for production."""

import json
import logging
import logging.config
import os
import re
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from handlers import QueuedFile, RotatedFileHandler
from rotation import Limits

T = TypeVar("T")
FIELDS = ("method", "path", "status", "dropped")  # what `extra` may add to a line; other fields are left out
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
CONTROL_IN_TRACE = {code: text for code, text in CONTROL.items() if chr(code) != "\n"}

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
user_id: ContextVar[str | None] = ContextVar("user_id", default=None)


class SettingsError(ValueError):
    """An environment variable has a wrong value. The message names it."""


@dataclass(frozen=True)
class Settings:
    """What the environment says about the log."""

    is_production: bool
    folder: Path | None
    """Where `api.log` is; None for no file."""
    queue_size: int
    limits: Limits


def read_settings() -> Settings:
    """Return the settings. Raises SettingsError."""
    is_production = one_of("ENVIRONMENT", "development", "production") == "production"
    folder = os.environ.get("LOG_DIR") or ("logs" if is_production else None)
    limits = Limits(
        by_day=one_of("LOG_ROTATION", "size", "time") == "time",
        max_bytes=number("LOG_MAX_BYTES", 10_000_000),
        backups=number("LOG_BACKUPS", 100, least=0),
        retention_days=number("LOG_RETENTION_DAYS", 30, most=36_500),
        total_bytes=number("LOG_TOTAL_BYTES", 1_000_000_000),
    )
    if limits.total_bytes < limits.max_bytes:
        raise SettingsError("LOG_TOTAL_BYTES must not be less than LOG_MAX_BYTES")
    return Settings(is_production, Path(folder).absolute() if folder else None, number("LOG_QUEUE", 10_000), limits)


def one_of(name: str, default: str, other: str) -> str:
    value = os.environ.get(name) or default
    if value not in (default, other):
        raise SettingsError(f"{name} must be {default} or {other}, not {value!r}")
    return value


def number(name: str, default: int, *, least: int = 1, most: int = 10**15) -> int:
    text = os.environ.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,16}", text) or not least <= int(text) <= most:
        raise SettingsError(f"{name} must be a whole number from {least} to {most}, not {text!r}")
    return int(text)


class AddContext(logging.Filter):
    """Puts the IDs of the request on a record, in the thread that logs: another one would not know them."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id, record.user_id = request_id.get(), user_id.get()
        return True


def with_context(function: Callable[[], T]) -> Callable[[], T]:
    """Return a function that runs `function` with the IDs of this request, in whatever thread it is called."""
    context = copy_context()
    return lambda: context.run(function)


class JsonFormatter(logging.Formatter):
    """One line of JSON a record."""

    def format(self, record: logging.LogRecord) -> str:
        created = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "timestamp": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", None),
            "user_id": getattr(record, "user_id", None),
            "process": record.process,
        }
        line |= {name: value for name, value in vars(record).items() if name in FIELDS}
        if trace := record.exc_text or record.stack_info:
            line["trace"] = trace
        return json.dumps(line, ensure_ascii=False, allow_nan=False, default=str)


class ConsoleFormatter(logging.Formatter):
    """A line for people. Control characters would act on their terminal, or begin a forged line: they are escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        values = [str(getattr(record, name)) for name in FIELDS if hasattr(record, name)]
        record.message = " ".join([record.message, *values]).translate(CONTROL)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(CONTROL_IN_TRACE).replace("\n", "\n    ")


def configure_logging(settings: Settings, *, waits: bool = False) -> None:
    """Configure logging anew; the handlers from before are closed, with all written that they had.

    `waits` makes those who log wait when the queue is full; otherwise the line is lost.
    """
    file = {"()": RotatedFileHandler, "formatter": "json", "folder": settings.folder, "limits": settings.limits}
    queue = {"()": QueuedFile, "filters": ["context"], "file": "cfg://handlers.file", "size": settings.queue_size}
    console = {"class": "logging.StreamHandler", "filters": ["context"], "formatter": "console"}
    files = {"file": file, "queue": queue | {"waits": waits}} if settings.folder else {}
    consoles = {} if settings.is_production else {"console": console}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,  # libraries have made theirs by now
            "filters": {"context": {"()": AddContext}},
            "formatters": {
                "json": {"()": JsonFormatter},
                "console": {
                    "()": ConsoleFormatter,
                    "format": "{asctime} {levelname:<7} {name}: {message} [{request_id} {user_id}]",
                    "style": "{",
                },
            },
            "handlers": files | consoles,
            "loggers": {"werkzeug": {"level": "WARNING"}},  # its line a request says less than ours
            "root": {
                "level": "INFO" if settings.is_production else "DEBUG",
                "handlers": [name for name in ("queue", "console") if name in files | consoles],
            },
        }
    )
