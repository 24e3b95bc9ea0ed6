"""An HTTPS server on loopback, a thread for each connection, that gives every request to one function."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from stocktake.demo.azure.wire import Request, Response

#: Ends the connection without an answer.
CUT = Response(status=0)
_json = msgspec.json.Encoder()


class Listener(ThreadingHTTPServer):
    """Listens from the moment that it is made; `running` answers."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[Request], Response], context: ssl.SSLContext, port: int = 0) -> None:
        self.answer = answer
        self.context = context
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.server_address[1])

    def get_request(self) -> tuple[Any, Any]:
        """Accept; the handshake belongs to the connection's own thread."""
        one, address = self.socket.accept()
        return self.context.wrap_socket(one, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or does not trust us, is no news."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Answer until the end of the block."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one write for head and body
    timeout = 60.0
    server: Listener

    def setup(self) -> None:
        self.request.settimeout(self.timeout)
        self.request.do_handshake()
        super().setup()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        request = Request(
            method=self.command,
            path=unquote(parts.path),
            query={name.lower(): value for name, value in parse_qsl(parts.query, keep_blank_values=True)},
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
        )
        answer = self.server.answer(request)
        if answer.status == 0:
            self.close_connection = True
            return
        self._write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _write(self, answer: Response) -> None:
        body = (
            answer.body if isinstance(answer.body, bytes) else b"" if answer.body is None else _json.encode(answer.body)
        )
        headers = {"content-type": "application/json; charset=utf-8", "content-length": str(len(body))}
        headers |= {name.lower(): value for name, value in answer.headers.items()}
        self.send_response_only(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named so by its base
        """Say nothing: what was asked is counted by whoever answers."""
