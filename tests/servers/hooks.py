"""A loopback receiver of alerts: keeps what it is posted, and answers as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Posted:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """What was posted, read."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """An answer. `hang`: nothing is answered until it is set."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    hang: threading.Event | None = None
    trickle: bool = False  # the body never ends
    drop: bool = False  # the connection is closed without a word


@dataclass(slots=True)
class Hooks:
    """What was posted, and what is answered."""

    url: str = ""
    posted: list[Posted] = field(default_factory=list)
    answer: Callable[[Posted], Says] = lambda _: Says()
    lock: threading.Lock = field(default_factory=threading.Lock)

    def says(self, says: Says) -> None:
        """Answer everything like this."""
        self.answer = lambda _: says


@contextmanager
def hooks() -> Iterator[Hooks]:
    """The receiver, on a free port of the loopback address."""
    made = Hooks()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            one = Posted(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            with made.lock:
                made.posted.append(one)
                says = made.answer(one)
            if says.hang is not None:
                says.hang.wait(60)
            if says.drop or says.hang is not None:
                self.close_connection = True
                return
            self.send_response(says.status)
            for name, value in says.headers.items():
                self.send_header(name, value)
            if says.trickle:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while not over.wait(0.1):
                    try:
                        self.wfile.write(b"1\r\nx\r\n")
                    except OSError:
                        break
                self.close_connection = True
                return
            self.send_header("Content-Length", str(len(says.body)))
            self.end_headers()
            self.wfile.write(says.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface's name
            """Be quiet: pytest shows what failed."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Whoever posted is gone: it was killed, and that is no trouble of ours."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
