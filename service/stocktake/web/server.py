"""Runs the application in a thread beside the worker. It takes no signal: who starts it decides when it stops."""

from __future__ import annotations

import errno
import logging
import socket
import threading
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp

from stocktake.core.errors import ConfigError

log = logging.getLogger(__name__)

_START = 15.0  # seconds the server may take to begin to answer
_DRAIN = 3  # seconds that requests under way may take once it is asked to stop


class _Server(uvicorn.Server):
    """Looks at the stop event ten times a second. In a thread, uvicorn itself installs no signal handler."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()


class WebServer:
    """A running server: where it listens, and how to stop it."""

    def __init__(self, app: ASGIApp, listener: socket.socket, stop: threading.Event) -> None:
        self.host, self.port = listener.getsockname()[:2]
        self._stop = stop
        self._own_stop = threading.Event()
        self._listener = listener
        config = uvicorn.Config(
            app,
            log_config=None,  # logging is set up by stocktake.telemetry.logs alone
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=64,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_DRAIN,
        )
        self._server = _Server(config, _Either(stop, self._own_stop))
        self._thread = threading.Thread(target=self._run, name="stocktake-web", daemon=True)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()
        pause = threading.Event()
        for _ in range(int(_START / 0.02)):
            if self._server.started or not self._thread.is_alive():
                break
            pause.wait(0.02)
        if not self._server.started:
            self.close()
            raise ConfigError(f"The HTTP endpoint at {self.url} did not start. The log above tells why.")
        log.info("listening", extra={"action": "web_listening", "url": self.url})

    def close(self, timeout: float = 10.0) -> None:
        """Stop taking requests, let those under way end, and wait for it."""
        self._own_stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._listener.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except SystemExit:  # uvicorn's way of saying that it could not start
            log.exception("the HTTP endpoint could not start", extra={"action": "web_failed", "url": self.url})
        except Exception:  # the worker goes on without it; /healthz is gone, which is what a probe sees
            log.exception("the HTTP endpoint ended unexpectedly", extra={"action": "web_failed", "url": self.url})

    def __enter__(self) -> WebServer:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()


class _Either(threading.Event):
    """Set as soon as the process's stop event or the server's own is."""

    def __init__(self, *events: threading.Event) -> None:
        super().__init__()
        self._events = events

    def is_set(self) -> bool:
        return any(event.is_set() for event in self._events)


def serve(app: ASGIApp, host: str, port: int, stop: threading.Event) -> WebServer:
    """Listen and answer until `stop` is set or the server is closed. Port 0 takes a free one (see `WebServer.port`).

    Returns once it answers; raises ConfigError when the address cannot be had.
    """
    server = WebServer(app, _listen(host, port), stop)
    server.start()
    return server


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigError(f"web.port: {port} is not a port. Use 0 to 65535.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server((host if family == socket.AF_INET6 else address[0], port), family=family)
    except socket.gaierror as exc:
        raise ConfigError(f"web.host: '{host}' cannot be resolved ({exc.strerror}). Use 127.0.0.1 or 0.0.0.0.") from exc
    except OSError as exc:
        raise ConfigError(_why(exc, host, port)) from exc


def _why(exc: OSError, host: str, port: int) -> str:
    match exc.errno:
        case errno.EADDRINUSE:
            return (
                f"web.port: port {port} on {host} is already taken, perhaps by another stocktake. "
                "Stop that program, or set another web.port (0 takes a free one)."
            )
        case errno.EACCES:
            return f"web.port: this user may not listen on port {port}. Set web.port to one above 1023."
        case errno.EADDRNOTAVAIL:
            return f"web.host: {host} is not an address of this machine. Use 127.0.0.1 or 0.0.0.0."
        case _:
            return f"web.host, web.port: cannot listen on {host} port {port} ({exc.strerror or exc}). Set others."
