"""A shop whose log goes to a file: rotated, gzipped, bounded, and complete also with many processes."""

import json
import logging
import os
import re
import signal
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from flask import Blueprint, Flask, Response, abort, request
from flask.typing import ResponseReturnValue
from logs import Settings, SettingsError, configure_logging, number, read_settings, request_id, user_id, with_context
from rotation import tidy
from werkzeug.serving import run_simple

ORDERS = {"1": "KB-1", "2": "MS-2", "3": "MN-3"}
WELL_FORMED = re.compile("[A-Za-z0-9._-]{1,64}")

routes = Blueprint("routes", __name__)
log = logging.getLogger("shop")
library_log = logging.getLogger("tariffs")  # as in a library: made before logging is configured


@routes.get("/orders/<order>")
def read_order(order: str) -> ResponseReturnValue:  # given
    log.debug("looking for order %s", order)
    if order not in ORDERS:
        abort(404)
    return {"id": int(order), "product": ORDERS[order]}


@routes.get("/reports/<name>")
def make_report(name: str) -> ResponseReturnValue:
    """Make the report in another thread, whose lines belong to this request."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(with_context(lambda: count_orders(name))).result()


def count_orders(name: str) -> dict[str, int]:  # given
    log.info("report %s is ready", name)
    return {"orders": len(ORDERS)}


@routes.get("/prices")
def list_prices() -> ResponseReturnValue:  # given
    library_log.info("prices loaded")
    return dict.fromkeys(ORDERS.values(), "49.90")


@routes.post("/feedback")
def take_feedback() -> ResponseReturnValue:  # given
    try:
        text = request.get_data().decode(errors="replace")
    except OSError:
        abort(400, "the body is incomplete")
    log.info("feedback: %s", text)
    return "", 204


@routes.get("/fail")
def fail() -> ResponseReturnValue:  # given
    raise RuntimeError("the payment was refused")


def identify() -> None:
    """Take the IDs from the headers when they are well formed. A request always has an ID."""
    given = {name: request.headers.get(name, "") for name in ("X-Request-ID", "X-User-ID")}
    known = {name: value if WELL_FORMED.fullmatch(value) else None for name, value in given.items()}
    request_id.set(known["X-Request-ID"] or uuid.uuid4().hex)
    user_id.set(known["X-User-ID"])


def log_request(response: Response) -> Response:
    fields = {"method": request.method, "path": request.path, "status": response.status_code}
    log.info("request", extra=fields)
    response.headers["X-Request-ID"] = request_id.get() or ""
    return response


def create_app() -> Flask:
    """Return the shop, with logging configured. Raises SettingsError."""
    configure_logging(read_settings())
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
    app.before_request(identify)
    app.after_request(log_request)
    app.register_blueprint(routes)
    return app


def import_orders(settings: Settings, prefix: str, count: int, stop: threading.Event) -> None:
    """Import `count` orders, or fewer when `stop` is set. Waits for room in the queue: no client waits here."""
    configure_logging(settings, waits=True)
    log.info("import %s begins", prefix)
    for order in range(1, count + 1):
        if stop.is_set():
            return
        log.info("order %s-%d imported", prefix, order)


def at_first_signal(action: Callable[[], object]) -> None:
    """Call the action at the first SIGTERM or SIGINT. Later ones are ignored: the queue is being written."""

    def handle(*_: object) -> None:
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, signal.SIG_IGN)
        action()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, handle)


def clean_up(settings: Settings) -> None:
    folder = settings.folder
    removed, error = tidy(folder, settings.limits) if folder and folder.is_dir() else ([], None)
    print(json.dumps({"removed": removed}))
    if error:
        raise error


def main() -> None:  # given
    """Serve the app on HOST and PORT, or run `cleanup`, or `import PREFIX COUNT`."""
    try:
        match sys.argv[1:]:
            case []:
                at_first_signal(sys.exit)  # the main thread logs nothing, so no lock is held there
                host, port = os.environ.get("HOST", "127.0.0.1"), number("PORT", 8000, least=0, most=65_535)
                run_simple(host, port, create_app(), threaded=True)
            case ["cleanup"]:
                clean_up(read_settings())
            case ["import", prefix, count] if count.isdecimal():
                stop = threading.Event()
                at_first_signal(stop.set)  # an exception between two instructions could leave the queue locked
                import_orders(read_settings(), prefix, int(count), stop)
            case _:
                sys.exit("usage: app.py [cleanup | import PREFIX COUNT]")
    except (SettingsError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    finally:
        logging.shutdown()


if __name__ == "__main__":
    main()
