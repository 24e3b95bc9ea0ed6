"""The one HTTP client of the sources: read-only by construction, patient, bounded, honest about what went wrong.

It must never send anything but GET, HEAD and POST to a listed search endpoint, never follow a redirect to another
host (a token would leave the host), and never put a payload, a query or a credential into an error or a log.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import random
import re
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from stocktake import __version__
from stocktake.core.errors import SourceError, Trouble
from stocktake.core.waiting import retry_after
from stocktake.sources.http_connection import config_error, connection_error
from stocktake.sources.protocol import Traffic

log = logging.getLogger(__name__)

#: Answers worth another try: the server was busy, restarting or behind a proxy that was.
RETRIED = frozenset({429, 500, 502, 503, 504})

MIB = 1024 * 1024

_ERROR_CODE = re.compile(r"[A-Z][A-Z0-9_]{2,63}")


class ForbiddenRequest(RuntimeError):
    """Our own code tried to send something that could change the watched server: a bug, never a source's trouble."""


class PageTooLarge(SourceError):
    """The answer is larger than one page may be: ask again for half as many items."""

    def __init__(self, what: str) -> None:
        super().__init__(
            Trouble.TRUNCATED,
            f"{what} answered with more than one page may hold",
            next_step="Look for a proxy that alters answers; a server's answer to this is small.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Where to and how. Secrets are plain values here; they come from the environment by way of wiring."""

    base_url: str  # may have a path: https://host/mlflow
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | Callable[[], str] | None = field(default=None, repr=False)  # a callable is asked before each request
    ca_file: str | None = None  # trusted in addition to the usual authorities
    insecure_tls: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    posts: frozenset[str] = frozenset()  # paths below base_url that may be POSTed to: search endpoints, nothing else
    connect_timeout: float = 10.0
    read_timeout: float = 60.0  # of silence
    total_timeout: float = 600.0  # one request with all its retries
    retries: int = 4
    backoff: float = 0.5  # seconds before the first retry, doubled each time, with jitter
    backoff_cap: float = 30.0
    throttle_floor: float = 1.0  # the least wait after a 429 without Retry-After
    retry_after_cap: float = 120.0
    slots: AbstractContextManager[object] = field(default_factory=nullcontext, repr=False)  # held while asking
    page_bytes: int = 16 * MIB
    hard_bytes: int = 256 * MIB  # one single item larger than this is not read at all
    #: What an answer that is no success means: a service with error codes of its own reads them here.
    explain: Callable[[Answer], SourceError] | None = field(default=None, repr=False)
    #: Told of every whole answer and which attempt it was (0, 1, ...), in any thread. Seconds: ask again after so many,
    #: though the status alone would not say so.
    heard: Callable[[Answer, int], float | None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer that was read to its end."""

    what: str  # method and path, for messages
    status: int
    body: bytes
    content_type: str
    requested_at: datetime
    answered_at: datetime | None = None  # when its last byte had come
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # names in any case

    def json(self) -> Any:
        """Decode a small answer. Pages of items are decoded by their own, faster, code."""
        self.require_json()
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as exc:
            raise self.not_json() from exc

    def require_json(self) -> None:
        """Tell a web page from JSON before anybody tries to decode it."""
        start = self.body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
        if start[:1] == b"<" or self.content_type.startswith("text/html"):
            raise SourceError(
                Trouble.SHAPE,
                f"{self.what} answered with a web page: is this the right URL, or is a login in front of it?",
                next_step="Open the URL in a browser; give the address of the server behind the login, and a token.",
                status=self.status,
            )

    def not_json(self) -> SourceError:
        """The answer ended early or is something else."""
        return SourceError(
            Trouble.SHAPE,
            f"{self.what} answered with status {self.status} and {len(self.body):,} bytes that are not whole JSON",
            next_step="Look for a proxy that cuts or rewrites answers; the next scan tries again.",
            status=self.status,
        )


class HttpClient:
    """Sends one request at a time to one server. `close` cuts what another thread is waiting for."""

    def __init__(
        self,
        config: HttpConfig,
        *,
        now: Callable[[], datetime],
        traffic: Traffic | None = None,
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.traffic = traffic if traffic is not None else Traffic()
        self.page_bytes = config.page_bytes
        self._config = config
        self._now = now
        self._monotonic = monotonic
        self._jitter = jitter
        self._closed = threading.Event()
        self._lock = threading.Lock()  # traffic is counted from the prefetching thread too
        self._sockets = weakref.WeakSet[socket.socket]()  # those of open connections
        self._sleep = sleep or self._closed.wait
        try:
            self._base = httpx.URL(config.base_url.rstrip("/"))
        except httpx.InvalidURL as exc:
            raise config_error("the URL of the server is not a URL", "Write it as https://host[:port][/path].") from exc
        if self._base.scheme not in ("http", "https") or not self._base.host:
            raise config_error("the URL of the server is not http or https", "Write it as https://host[:port][/path].")
        if self._base.userinfo:
            raise config_error("the URL of the server has a password in it", "Name an environment variable instead.")
        self._host = self._base.host if self._base.port is None else f"{self._base.host}:{self._base.port}"
        self._client = httpx.Client(
            verify=_tls(config),
            headers={"user-agent": f"stocktake/{__version__}", "accept": "application/json", **config.headers},
            timeout=httpx.Timeout(config.read_timeout, connect=config.connect_timeout),
            follow_redirects=False,
        )

    def close(self) -> None:
        """Release connections. A request under way fails at once; one that is still connecting, at its timeout.

        To close a socket does not wake the thread that reads from it: it must be shut down.
        """
        self._closed.set()
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            with contextlib.suppress(OSError):  # the other side was faster
                one.shutdown(socket.SHUT_RDWR)
        self._client.close()

    def _connected(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the socket of a new connection: the HTTP library tells what it does, but cannot be interrupted."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            one = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._sockets.add(one)
            if self._closed.is_set():
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def get(
        self,
        path: str,
        params: Mapping[str, str | int | Sequence[str]] | None = None,
        *,
        accept: frozenset[int] = frozenset(),
        limit: int | None = None,
    ) -> Answer:
        """GET a path below the base URL. Statuses in `accept` are answers, not errors."""
        return self._request("GET", path, params=params, accept=accept, limit=limit)

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        accept: frozenset[int] = frozenset(),
        limit: int | None = None,
    ) -> Answer:
        """POST a search. Only the paths in `posts` can be sent at all."""
        return self._request("POST", path, body=body, accept=accept, limit=limit)

    def head(self, path: str, *, accept: frozenset[int] = frozenset()) -> Answer:
        """HEAD a path below the base URL."""
        return self._request("HEAD", path, accept=accept)

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | Sequence[str]] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: frozenset[int] = frozenset(),
        limit: int | None = None,
    ) -> Answer:
        config = self._config
        deadline = self._monotonic() + config.total_timeout
        what = f"{method} {self._base.path.rstrip('/')}{path.partition('?')[0]}"  # a query may hold anything
        url = self._base.copy_with(raw_path=self._base.raw_path.split(b"?")[0].rstrip(b"/") + path.encode("ascii"))
        url = url.copy_merge_params(dict(params)) if params else url
        content = json.dumps(body).encode() if body is not None else None
        for attempt in range(config.retries + 1):
            last = attempt == config.retries
            if self._closed.is_set():
                raise self._cut(what)
            try:
                answer, wait = self._once(
                    method, url, content, what, limit or config.page_bytes, deadline, retry=attempt > 0
                )
                again = config.heard(answer, attempt) if config.heard is not None else None
            except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL) as exc:
                if self._closed.is_set():
                    raise self._cut(what) from exc
                error = connection_error(exc, what, self._host)
                if last or error.trouble in (Trouble.TLS, Trouble.CONFIG):
                    raise error from exc
                wait, reason = self._backoff(attempt), type(exc).__name__
            except RuntimeError as exc:  # httpx has no type of its own for "the client was closed meanwhile"
                if not self._closed.is_set() or isinstance(exc, ForbiddenRequest):
                    raise
                raise self._cut(what) from exc
            else:
                if self._closed.is_set():  # an answer without a length ends where it is cut
                    raise self._cut(what)
                if answer.status < 300 or answer.status in accept:
                    return answer
                error, reason = (config.explain or status_error)(answer), str(answer.status)
                if last or (answer.status not in RETRIED and again is None):
                    raise error
                floor = max(config.throttle_floor if answer.status == 429 else 0.0, again or 0.0)
                wait = max(self._backoff(attempt), floor) if wait is None else min(wait, config.retry_after_cap)
            if self._monotonic() + wait >= deadline:
                raise error
            with self._lock:
                self.traffic.retries += 1
            log.info(
                "request will be tried again",
                extra={"action": "request_retry", "request": what, "reason": reason, "wait_seconds": round(wait, 3)},
            )
            self._sleep(wait)
        raise AssertionError("unreachable")  # the last attempt returns or raises

    def _once(
        self, method: str, url: httpx.URL, content: bytes | None, what: str, limit: int, deadline: float, *, retry: bool
    ) -> tuple[Answer, float | None]:
        """One attempt, with the redirects that stay on the host. Returns the answer and its Retry-After."""
        for _ in range(6):
            self._guard(method, url)
            asked = self._monotonic()
            with self._config.slots:  # the wait for a slot is none of the server's time
                deadline += self._monotonic() - asked
                found = self._exchange(method, url, content, what, limit, deadline, retry=retry)
            if not isinstance(found, httpx.Response):
                return found
            status, target = found.status_code, url.join(found.headers["location"])
            url, method, content = self._redirect(status, url, target, method, content, what)
        raise SourceError(
            Trouble.NOT_FOUND, f"{what} redirects in a circle", next_step="Check the URL and the proxy in front of it."
        )

    def _exchange(
        self, method: str, url: httpx.URL, content: bytes | None, what: str, limit: int, deadline: float, *, retry: bool
    ) -> tuple[Answer, float | None] | httpx.Response:
        """Send once and read to the end: the answer and its Retry-After, or a response that names another place."""
        requested_at, began = self._now(), self._monotonic()
        status, size = 0, 0
        try:
            headers = self._authorization()
            if content is not None:
                headers["content-type"] = "application/json"
            with self._client.stream(
                method, url, content=content, headers=headers, extensions={"trace": self._connected}
            ) as response:
                status = response.status_code
                if response.has_redirect_location:
                    return response
                chunks = bytearray()
                declared = response.headers.get("content-length", "")
                if declared.isdigit() and int(declared) > limit and method != "HEAD":
                    raise PageTooLarge(what)
                for chunk in response.iter_bytes():
                    size += len(chunk)
                    chunks += chunk
                    if size > limit:
                        raise PageTooLarge(what)
                    if self._monotonic() > deadline:
                        raise httpx.ReadTimeout("the total budget of the request is used up")
                answer = Answer(
                    what=what,
                    status=status,
                    body=bytes(chunks),
                    content_type=response.headers.get("content-type", "").lower(),
                    requested_at=requested_at,
                    answered_at=self._now(),
                    headers=response.headers,
                )
                return answer, retry_after(response.headers.get("retry-after"), self._now())
        finally:
            self._count(status, size, self._monotonic() - began, retry)

    def _guard(self, method: str, url: httpx.URL) -> None:
        path = url.path.removeprefix(self._base.path.rstrip("/"))
        if method not in ("GET", "HEAD") and not (method == "POST" and path in self._config.posts):
            raise ForbiddenRequest(f"stocktake only reads: {method} {path} is not on the list of search endpoints")

    def _authorization(self) -> dict[str, str]:
        token, config = self._config.token, self._config
        if callable(token):
            try:
                token = token()
            except SourceError:
                raise
            except Exception as exc:  # a credential library of any make: its message may hold secrets
                raise SourceError(
                    Trouble.AUTHENTICATION,
                    f"no token could be had ({type(exc).__name__})",
                    next_step="Check the credential that this workspace uses; `stocktake doctor` shows which one.",
                ) from exc
        if token:
            return {"authorization": f"Bearer {token}"}
        if config.username is not None:
            pair = f"{config.username}:{config.password or ''}".encode()
            return {"authorization": "Basic " + base64.b64encode(pair).decode("ascii")}
        return {}

    def _redirect(
        self, status: int, url: httpx.URL, target: httpx.URL, method: str, content: bytes | None, what: str
    ) -> tuple[httpx.URL, str, bytes | None]:
        same = (url.scheme, url.host, _port(url)) == (target.scheme, target.host, _port(target))
        upgrade = url.host == target.host and (url.scheme, target.scheme) == ("http", "https") and _port(target) == 443
        if not (same or upgrade) or target.userinfo:
            raise SourceError(
                Trouble.NOT_FOUND,
                f"{what} redirects to {target.scheme}://{target.host}, another server; stocktake does not follow it",
                next_step="Use that address if it is the server; if it is a login page, give a token for this one.",
                status=status,
            )
        if method == "POST" and status not in (307, 308):
            raise SourceError(
                Trouble.NOT_FOUND,
                f"{what} redirects with status {status}, which would lose the search",
                next_step=f"Use the address it redirects to: {target.scheme}://{target.host}.",
                status=status,
            )
        return target, method, content

    def _cut(self, what: str) -> SourceError:
        return SourceError(
            Trouble.UNREACHABLE, f"{what} was cut off: stocktake is stopping", next_step="The next scan asks again."
        )

    def _backoff(self, attempt: int) -> float:
        return float(min(self._config.backoff_cap, self._config.backoff * 2**attempt) * (0.5 + self._jitter() / 2))

    def _count(self, status: int, size: int, seconds: float, retry: bool) -> None:
        with self._lock:
            self.traffic.requests += 1
            self.traffic.bytes += size
            self.traffic.seconds += seconds
            self.traffic.throttled += status in (429, 503)
            name = str(status) if status else "none"
            self.traffic.by_status[name] = self.traffic.by_status.get(name, 0) + 1
        if self.traffic.observer is not None:
            self.traffic.observer(status or None, seconds, size, retry)


def error_code(answer: Answer) -> str | None:
    """MLflow's own error code, when the answer is one of its errors. The message is left: it may quote a payload."""
    try:
        code = json.loads(answer.body).get("error_code")
    except (ValueError, AttributeError, RecursionError):
        return None
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else None


def status_error(answer: Answer) -> SourceError:
    """The trouble behind a status, with what a person can do about it."""
    code = error_code(answer)
    what = f"{answer.what} answered with status {answer.status}" + (f" {code}" if code else "")
    trouble, step = {
        401: (
            Trouble.AUTHENTICATION,
            "Check the user and password or the token of this workspace; it may have expired.",
        ),
        403: (
            Trouble.PERMISSION,
            "Give the identity permission to read; `stocktake doctor` shows which identity it is.",
        ),
        404: (Trouble.NOT_FOUND, "Check the URL: is this the root of an MLflow server, with the right path prefix?"),
        405: (Trouble.UNSUPPORTED, "This server does not offer the endpoint; nothing needs to be done."),
        407: (Trouble.AUTHENTICATION, "A proxy asks for credentials: set HTTPS_PROXY with them, or NO_PROXY."),
        429: (Trouble.THROTTLED, "Scan less often, or raise the server's request limit for this identity."),
        501: (Trouble.UNSUPPORTED, "This server does not offer the endpoint; nothing needs to be done."),
    }.get(answer.status, (Trouble.SHAPE, "Look at the server's log for this request."))
    if answer.status >= 500 and trouble is Trouble.SHAPE:
        trouble, step = Trouble.SERVER, "Look at the server's log for this request; the next scan tries again."
    return SourceError(trouble, what, next_step=step, status=answer.status)


def _port(url: httpx.URL) -> int:
    return url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _tls(config: HttpConfig) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    if config.insecure_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca_file is not None:
        try:
            context.load_verify_locations(config.ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise config_error(
                f"the CA file {config.ca_file} cannot be read as certificates ({type(exc).__name__})",
                "Give a file with one or more PEM certificates.",
            ) from exc
    return context
