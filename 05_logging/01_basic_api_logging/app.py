"""An API whose log says what happened: one JSON object a line on standard output, and no secrets in it."""

import logging
import logging.config
import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import uvicorn
from masking import mask_named
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from request_log import LOGGED, RequestLog, request_id
from shop import make_shop

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True)
class LogSettings:
    """What the environment says about the log."""

    level: str
    body_bytes: int
    """The largest body that is logged, in bytes."""
    sample: float
    """The share of successful requests that is logged, from 0 to 1."""


def read_settings() -> LogSettings:
    """Return LOG_LEVEL, LOG_BODY_BYTES and LOG_SAMPLE. Raises ValueError, which says which one is wrong and why."""
    level = os.environ.get("LOG_LEVEL", "INFO")
    if level not in LEVELS:
        raise ValueError(f"LOG_LEVEL must be one of {', '.join(LEVELS)}, not {level!r}")
    body_bytes = os.environ.get("LOG_BODY_BYTES", "2048")
    if not re.fullmatch("[0-9]{1,9}", body_bytes):
        raise ValueError(f"LOG_BODY_BYTES must be a number of bytes from 0 to 999999999, not {body_bytes!r}")
    try:
        sample = float(os.environ.get("LOG_SAMPLE", "1"))
    except ValueError:
        sample = -1
    if not 0 <= sample <= 1:  # NaN is not between them either
        raise ValueError(f"LOG_SAMPLE must be a number from 0 to 1, not {os.environ['LOG_SAMPLE']!r}")
    return LogSettings(level, int(body_bytes), sample)


def read_port() -> int:  # given
    port = os.environ.get("PORT", "8000")
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) >= 2**16:
        raise ValueError(f"PORT must be a number from 0 to 65535, not {port!r}")
    return int(port)


class JsonLines(JsonFormatter):
    """Writes a record as one line of JSON; whatever is in it passes through `mask`, also a library's messages."""

    def format(self, record: logging.LogRecord) -> str:
        """A record that cannot be written (wrong arguments, a `__str__` that raises) leaves a line that says so."""
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001
            message = f"a line of {record.filename}:{record.lineno} could not be written: {type(error).__name__}"
            return super().format(logging.LogRecord(record.name, record.levelno, "", 0, message, None, None))

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        super().add_fields(log_data, record, message_dict)
        is_servers = record.name.startswith("uvicorn")  # may speak of a request that it could not read
        log_data |= {  # last, so that no `extra` replaces them
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.message,
            "request_id": None if is_servers else request_id.get(),
        }

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {name: mask_named(name, value) for name, value in log_data.items()}


class OnlyOnce(logging.Filter):
    """Drops the server's report of an exception that RequestLog has logged and raised again."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return record.name != "uvicorn.error" or not hasattr(error, LOGGED)


def configure_logging(level: str) -> None:
    """Send every record to standard output as JSON, the server's and Python's warnings included.

    `level` is that of our own loggers. Libraries stay at INFO, since DEBUG of all libraries hides ours.
    """
    json_lines = {
        "()": JsonLines,
        "rename_fields": {"exc_info": "trace"},
        "reserved_attrs": [*RESERVED_ATTRS, "color_message"],  # uvicorn's, with the colours of a terminal
    }
    handler = {
        "class": "logging.StreamHandler",
        "stream": "ext://sys.stdout",
        "formatter": "json_lines",
        "filters": ["only_once"],
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json_lines": json_lines},
            "filters": {"only_once": {"()": OnlyOnce}},
            "handlers": {"stdout": handler},
            "root": {"level": "INFO" if level == "DEBUG" else level, "handlers": ["stdout"]},
            "loggers": {
                "shop": {"level": level},
                "uvicorn": {"handlers": [], "propagate": True},
                "uvicorn.access": {"handlers": [], "propagate": False},  # RequestLog says more
            },
        }
    )
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # else logging writes its own failures to standard error, with nothing masked


def create_app() -> RequestLog:
    """Return the shop inside of the middleware that logs its requests. Raises ValueError for wrong settings.

    The middleware is outermost, so that it sees also the 500 that Starlette makes of an exception.
    """
    settings = read_settings()
    configure_logging(settings.level)
    return RequestLog(make_shop(), body_bytes=settings.body_bytes, sample=settings.sample)


def main() -> None:  # given
    """Serve the app on HOST and PORT, and leave logging as `create_app` has configured it."""
    try:
        app = create_app()
        host, port = os.environ.get("HOST", "127.0.0.1"), read_port()
    except ValueError as error:
        sys.exit(str(error))
    # ws: a request that asks for a WebSocket is answered, and logged, like any other
    uvicorn.run(app, host=host, port=port, log_config=None, access_log=False, proxy_headers=False, ws="none")


if __name__ == "__main__":
    main()
