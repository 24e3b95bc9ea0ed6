"""How receivers are posted to: one request, no redirect, in bounded time, and what the answer means.

No address and no header is ever told: for many receivers the address is the secret.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from stocktake import __version__
from stocktake.core.errors import ConfigError, SendError
from stocktake.core.message_text import cut, line
from stocktake.core.waiting import retry_after

#: What an answer may hold; the rest is not read.
_LARGEST = 65_536
#: Statuses that say: as it is, it will never be taken.
_NEVER = frozenset({400, 413, 415, 422})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that means yes."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Poster:
    """Posts to one receiver. `secrets` are taken out of whatever it answers before that is told."""

    whose: str  # the receiver, for messages
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: tuple[str, str] | None = field(default=None, repr=False)
    ca_file: str | None = None
    secrets: Sequence[str] = field(default=(), repr=False)
    silence: float = 8.0  # seconds of silence
    total: float = 12.0  # of one request, however slowly its answer trickles
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _context: list[ssl.SSLContext] = field(default_factory=list, repr=False)
    _open: set[socket.socket] = field(default_factory=set, repr=False)
    _closed: threading.Event = field(default_factory=threading.Event, repr=False)

    def post(self, url: str, content: bytes, kind: str = "application/json") -> Reply:
        """Post and read the answer. Raises SendError."""
        sockets = list[socket.socket]()
        late = threading.Event()

        def connected(event: str, info: Mapping[str, Any]) -> None:
            if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
                one = info["return_value"].get_extra_info("socket")
                sockets.append(one)
                self._open.add(one)
                if late.is_set() or self._closed.is_set():
                    _shut(sockets)

        def cut_off() -> None:
            late.set()
            _shut(list(sockets))

        timer = threading.Timer(self.total, cut_off)
        timer.daemon = True
        timer.start()
        try:
            with httpx.Client(
                verify=self._tls() if url.startswith("https:") else False,
                timeout=httpx.Timeout(self.silence, connect=5.0),
                follow_redirects=False,
                headers={"user-agent": f"stocktake/{__version__}", **self.headers},
                auth=self.auth,
            ) as client:
                request = client.build_request(
                    "POST", url, content=content, headers={"content-type": kind}, extensions={"trace": connected}
                )
                reply = client.send(request, stream=True)
                try:
                    body = _read(reply)
                finally:
                    reply.close()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, RuntimeError) as exc:
            raise self._not_answered(exc, late=late.is_set()) from None  # the library's words may hold the address
        finally:
            timer.cancel()
            self._open.difference_update(sockets)
        self._judge(reply, body)
        return Reply(status=reply.status_code, body=body)

    def close(self) -> None:
        """Cut what is under way."""
        self._closed.set()
        _shut(list(self._open))

    def _tls(self) -> ssl.SSLContext:
        if not self._context:  # made once: it reads hundreds of certificates
            context = httpx.create_ssl_context()
            if self.ca_file is not None:
                try:
                    context.load_verify_locations(self.ca_file)
                except (OSError, ssl.SSLError) as exc:
                    raise ConfigError(
                        f"{self.whose}: the file of authorities {self.ca_file} cannot be read ({type(exc).__name__}).",
                        next_step="Give a file with one or more PEM certificates under `ca_file`.",
                    ) from exc
            self._context.append(context)
        return self._context[0]

    def _not_answered(self, exc: Exception, *, late: bool) -> SendError:
        if self._closed.is_set():
            return SendError(
                f"{self.whose} was cut off by our shutdown", recoverable=True, next_step="It is sent again."
            )
        reason = str(exc)
        if late or isinstance(exc, httpx.TimeoutException):
            what, step = "did not answer in time", "Look whether it is overloaded, or whether a firewall drops packets."
        elif "CERTIFICATE" in reason or "SSL" in reason:
            what, step = "shows a certificate that is not trusted", "Name its authority under `ca_file`."
        elif isinstance(exc, httpx.UnsupportedProtocol | httpx.InvalidURL | UnicodeError):
            what, step = "has an address that is none", "Write it as https://host[:port]/path."
        elif isinstance(exc, httpx.ConnectError):
            what, step = "could not be connected to", "Check its address, DNS, the firewall, and that it runs."
        else:
            what, step = "broke the connection off", "Look at its log, and at proxies in between."
        return SendError(f"{self.whose} {what}", recoverable=True, next_step=step)

    def _judge(self, reply: httpx.Response, body: bytes) -> None:
        """Raise SendError unless the answer means yes."""
        status = reply.status_code
        page = reply.headers.get("content-type", "").startswith("text/html") or body[:64].lstrip()[:1] == b"<"
        if 200 <= status < 300 and not page:
            return
        what, step, after = f"{self.whose} answered with status {status}", "Look at its log for this request.", None
        if page:
            what += " and a web page"
            step = "Is this its address, or is a login or a proxy in front of it?"
        elif body:
            what += f": {self._told(body)}"
        if 300 <= status < 400:
            step = "It points elsewhere: give the address that it points to."
        elif status in (401, 403, 407):
            step = "Check the secret that the configuration names for it."
        elif status in (404, 410):
            step = "Check its address: it may have been deleted or renewed there."
        elif status in (429, 503):
            after = retry_after(reply.headers.get("retry-after"), self.now())
            step = "Nothing: it is sent again when it may be. Group more findings together if it happens often."
        elif status in _NEVER:
            step = "It is given up: `stocktake alerts deliveries` shows it, `alerts retry` sends it once more."
        raise SendError(what, recoverable=status not in _NEVER or page, next_step=step, status=status, after=after)

    def _told(self, body: bytes) -> str:
        told = line(body.decode("utf-8", "replace"))
        for secret in self.secrets:
            if secret:
                told = told.replace(secret, "***")
        return cut(told, 200)


def _read(reply: httpx.Response) -> bytes:
    body = bytearray()
    for block in reply.iter_bytes():
        body += block
        if len(body) >= _LARGEST:
            break
    return bytes(body)


def _shut(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def never_taken(whose: str) -> Iterator[None]:
    """What cannot even be written for a receiver is given up, and said."""
    try:
        yield
    except (ValueError, TypeError, UnicodeError) as exc:
        raise SendError(
            f"{whose}: the message cannot be written ({type(exc).__name__})",
            recoverable=False,
            next_step="This is a bug; please report it.",
        ) from exc
