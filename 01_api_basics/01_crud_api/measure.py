"""How many updates do two editors lose who read, change and write the same product, with If-Match and without?"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import httpx2
import uvicorn
from app import create_app

EDITORS = 2
CHANGES = 100


@contextmanager
def served() -> Iterator[str]:
    """Serve the app on a free port and a new database; yield its URL."""
    with tempfile.TemporaryDirectory() as folder:
        with mock.patch.dict(os.environ, {"DATABASE_URL": f"sqlite:///{Path(folder) / 'shop.db'}"}):
            app = create_app()
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the app does not start")
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def add_one(client: httpx2.Client, path: str, *, if_match: bool) -> int:
    """Read the stock, write back one more, until an answer says that it was stored; return how often that was tried."""
    for attempt in range(1, 10_000):
        answer = client.get(path)
        headers = {"If-Match": answer.headers["ETag"]} if if_match else {}
        changed = client.patch(path, json={"stock": answer.json()["stock"] + 1}, headers=headers)
        if changed.is_success:
            return attempt
    raise RuntimeError("the other editor is always faster")


def experiment(*, if_match: bool) -> tuple[int, int]:
    """Return the stock at the end and the requests that had to be repeated."""
    with served() as url:
        product = httpx2.post(f"{url}/products", json={"sku": "KB-1", "name": "Keyboard", "price": "49.90"})
        path = product.headers["Location"]
        start = threading.Barrier(EDITORS)

        def edit(_editor: int) -> int:
            with httpx2.Client(base_url=url, timeout=30) as client:
                start.wait()
                return sum(add_one(client, path, if_match=if_match) for _ in range(CHANGES))

        with ThreadPoolExecutor(EDITORS) as editors:
            attempts = sum(editors.map(edit, range(EDITORS)))
        return httpx2.get(f"{url}{path}").json()["stock"], attempts - EDITORS * CHANGES


def main() -> None:
    total = EDITORS * CHANGES
    print("| How they save | Changes made | Changes kept | Lost | Repeated after 412 or 409 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for label, if_match in [("PATCH as it comes", False), ("PATCH with If-Match", True)]:
        print(f"measuring: {label}", file=sys.stderr)
        stock, repeated = experiment(if_match=if_match)
        print(f"| {label} | {total} | {stock} | {total - stock} | {repeated} |")


if __name__ == "__main__":
    main()
