"""A proxy on loopback that records every request and breaks answers by rule: the wire is faked on the wire.

with recording_proxy(server.uri) as proxy:
    proxy.fault(r"runs/search", status(503), times=2)
    ... talk to proxy.uri ...
    assert proxy.seen[0].method == "POST"
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "date", "server", "host"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as it came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer. `cut_after` sends only so many bytes of the body it promised, then breaks the connection off."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None


#: Given the request and a way to ask the real server, give an answer; None breaks the connection off.
Action = Callable[[Seen, Callable[[], Reply]], Reply | None]


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Action:
    """Answer with a status, without asking the server."""
    return lambda seen, ask: Reply(status=code, headers=headers or {}, body=body)


def web_page(code: int = 200) -> Action:
    """Answer with a login page."""
    page = b"<!doctype html><html><title>Sign in</title><form>user, password</form></html>"
    return status(code, {"content-type": "text/html; charset=utf-8"}, page)


def half_json() -> Action:
    """Send a whole answer that holds half of the JSON."""

    def act(seen: Seen, ask: Callable[[], Reply]) -> Reply:
        reply = ask()
        return replace(reply, body=reply.body[: len(reply.body) // 2])

    return act


def cut(after: int | None = None) -> Action:
    """Break the connection off: at once, or after so many bytes of the body."""

    def act(seen: Seen, ask: Callable[[], Reply]) -> Reply | None:
        return None if after is None else replace(ask(), cut_after=after)

    return act


def edit(change: Callable[[Any], Any]) -> Action:
    """Change the JSON of the server's answer; what is no JSON object is left alone."""

    def act(seen: Seen, ask: Callable[[], Reply]) -> Reply:
        reply = ask()
        if not reply.body.lstrip().startswith(b"{"):
            return reply
        return replace(reply, body=json.dumps(change(json.loads(reply.body))).encode())

    return act


def first_page_again(tokens: Callable[[], str], empty: bool = False) -> Action:
    """Answer every search with its first page (or nothing) and a token from the test: pages that never end."""
    kept: list[Any] = []

    def act(seen: Seen, ask: Callable[[], Reply]) -> Reply:
        kept.append(kept[0] if kept else json.loads(ask().body))
        page = ({} if empty else kept[0]) | {"next_page_token": tokens()}
        return Reply(headers={"content-type": "application/json"}, body=json.dumps(page).encode())

    return act


def hang(released: threading.Event, longest: float = 30.0, *, asked: threading.Event | None = None) -> Action:
    """Say nothing until the test sets the event. `asked` is set once somebody waits for the answer."""

    def act(seen: Seen, ask: Callable[[], Reply]) -> Reply:
        if asked is not None:
            asked.set()
        released.wait(longest)
        return ask()

    return act


@dataclass(slots=True)
class _Fault:
    pattern: re.Pattern[str]
    action: Action
    after: int
    times: int | None
    method: str | None


class RecordingProxy:
    """What was asked, and the rules for what is answered. The first rule that applies wins."""

    def __init__(self, upstream: str) -> None:
        self.seen: list[Seen] = []
        self.uri = ""
        self.upstream = upstream.rstrip("/")
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._client = httpx.Client(timeout=60.0, trust_env=False, follow_redirects=False)

    def fault(
        self, pattern: str, action: Action, *, after: int = 0, times: int | None = None, method: str | None = None
    ) -> None:
        """Apply an action to requests whose path and query match: after the first `after`, `times` times."""
        with self._lock:
            self._faults.append(_Fault(re.compile(pattern), action, after, times, method))

    def clear(self) -> None:
        """Forget all rules and all requests."""
        with self._lock:
            self._faults.clear()
            self.seen.clear()

    def asked(self, pattern: str) -> list[Seen]:
        """Requests whose path and query match."""
        return [seen for seen in list(self.seen) if re.search(pattern, f"{seen.path}?{seen.query}")]

    def answer(self, seen: Seen) -> Reply | None:
        """Record a request and answer it by the rules, or with what the server says."""
        with self._lock:
            self.seen.append(seen)
            action = self._action(seen)
        return action(seen, lambda: self._ask(seen)) if action is not None else self._ask(seen)

    def close(self) -> None:
        """Release connections to the server."""
        self._client.close()

    def _action(self, seen: Seen) -> Action | None:
        for fault in self._faults:
            if fault.method not in (None, seen.method) or not fault.pattern.search(f"{seen.path}?{seen.query}"):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times == 0:
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault.action
        return None

    def _ask(self, seen: Seen) -> Reply:
        url = self.upstream + seen.path + (f"?{seen.query}" if seen.query else "")
        headers = {name: value for name, value in seen.headers.items() if name.lower() not in _HOP}
        answer = self._client.request(seen.method, url, content=seen.body or None, headers=headers)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        return Reply(status=answer.status_code, headers=kept, body=answer.content)


@contextmanager
def recording_proxy(upstream: str, *, tls: ssl.SSLContext | None = None) -> Iterator[RecordingProxy]:
    """Run a proxy in front of a server, over TLS when a context is given."""
    proxy = RecordingProxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            seen = Seen(method=self.command, path=path, query=query, headers=dict(self.headers.items()), body=body)
            reply = proxy.answer(seen)
            if reply is None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body[: reply.cut_after])
            if reply.cut_after is not None:
                self.wfile.flush()
                self.close_connection = True

        def __getattr__(self, name: str) -> Any:
            """Every method is taken: do_GET, do_POST, do_DELETE, ..."""
            if name.startswith("do_"):
                return self.handle_any
            raise AttributeError(name)

        def log_message(self, *_: Any) -> None:
            """Say nothing: requests are in `seen`."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away, or a TLS handshake that it refused."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    proxy.uri = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        proxy.close()
