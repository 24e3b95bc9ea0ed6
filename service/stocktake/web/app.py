"""What stocktake answers over HTTP: is it alive, is it ready, its figures. It shows no asset and changes nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

#: Prometheus text; every name in the catalogue fits its classic alphabet, so the oldest format serves every scraper.
PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing readiness asks. Only a `required` one that fails makes the process unready."""

    name: str
    ok: bool
    detail: str = ""  # what is wrong and what to do; never a secret, never a stack
    required: bool = True


class HealthView(Protocol):
    """What the endpoint wants to know; the wiring answers."""

    @property
    def version(self) -> str:
        """stocktake's version."""

    @property
    def heartbeat_limit(self) -> float:
        """Seconds after which a worker whose loop has not turned counts as stuck."""

    def heartbeat_age(self) -> float | None:
        """Seconds since the worker's loop last turned; None while it never did. Reads memory only."""

    def ready(self) -> Sequence[Check]:
        """Database reachable, migrated, ... May ask the database; is called by one thread at most."""


class Readiness:
    """Asks `HealthView.ready` in a thread of its own, one at a time, and waits for it a bounded time.

    A database that hangs holds one thread, however many probes come; they are told so at once.
    """

    def __init__(self, view: HealthView, *, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._view = view
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._asking: _Question | None = None

    def checks(self) -> Sequence[Check]:
        with self._lock:
            question = self._asking
            if question is None or question.done.is_set():
                question = self._asking = _Question(self._view, self._clock())
                threading.Thread(target=question.ask, name="stocktake-readiness", daemon=True).start()
        left = self._timeout - (self._clock() - question.began)
        if left > 0 and question.done.wait(left):
            return question.answer
        if question.done.is_set():
            return question.answer
        waited = self._clock() - question.began
        detail = f"No answer for {waited:.0f} seconds. Look at the database and the network to it."
        return [Check(name="database", ok=False, detail=detail)]


class _Question:
    """One call of `HealthView.ready`, and its answer once it came."""

    def __init__(self, view: HealthView, began: float) -> None:
        self._view = view
        self.began = began
        self.done = threading.Event()
        self.answer: Sequence[Check] = ()

    def ask(self) -> None:
        try:
            self.answer = self._view.ready()
        except Exception as exc:  # an answer too: not ready. Its type alone, since messages may hold addresses
            log.warning("readiness could not be checked", extra={"action": "readiness_failed"}, exc_info=True)
            detail = f"The check itself failed ({type(exc).__name__}). The log tells more; try 'stocktake doctor'."
            self.answer = [Check(name="database", ok=False, detail=detail)]
        finally:
            self.done.set()


class SecurityHeaders:
    """Adds the headers to every answer, errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


def create_app(view: HealthView, metrics: Callable[[], bytes] | None, *, timeout: float = 2.0) -> FastAPI:
    """The application. Without `metrics` there is no /metrics.

    `timeout` (seconds) is the longest a probe waits for the database.
    """
    app = FastAPI(title="stocktake", version=view.version, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SecurityHeaders)
    readiness = Readiness(view, timeout=timeout)

    # Plain functions: they run in threads and never hold up the loop. HEAD is what load balancers send.
    def healthz() -> JSONResponse:
        age = view.heartbeat_age()
        alive = age is not None and age <= view.heartbeat_limit
        body: dict[str, Any] = {"status": "ok" if alive else "stuck", "version": view.version}
        body["heartbeat_age_seconds"] = None if age is None else round(age, 3)
        if not alive:
            body["detail"] = (
                "The worker has not begun its work yet."
                if age is None
                else f"The worker's loop has not turned for {age:.0f} seconds (limit {view.heartbeat_limit:.0f})."
            )
        return JSONResponse(body, status_code=200 if alive else 503)

    def readyz() -> JSONResponse:
        checks = readiness.checks()
        ready = all(check.ok for check in checks if check.required)
        told = [{"name": c.name, "ok": c.ok, "required": c.required, "detail": c.detail} for c in checks]
        return JSONResponse(
            {"status": "ready" if ready else "not ready", "version": view.version, "checks": told},
            status_code=200 if ready else 503,
        )

    look_at = {path: words for path, words in _LOOK_AT.items() if metrics is not None or path != "/metrics"}

    def home(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"name": "stocktake", "version": view.version, "look_at": list(look_at)})
        rows = "".join(f'<li><a href="{path}">{path}</a> {escape(words)}</li>' for path, words in look_at.items())
        return HTMLResponse(_HOME.format(version=escape(view.version), rows=rows))

    routes: dict[str, Callable[..., Response]] = {"/healthz": healthz, "/readyz": readyz, "/": home}
    if metrics is not None:
        routes["/metrics"] = _figures(metrics)
    for path, answer in routes.items():
        app.add_api_route(path, answer, methods=["GET", "HEAD"], response_model=None)
    return app


def _figures(metrics: Callable[[], bytes]) -> Callable[..., Response]:
    def figures() -> Response:
        return Response(metrics(), media_type=PROMETHEUS_TEXT)

    return figures


_LOOK_AT = {
    "/healthz": "200 while the process lives and the worker's loop turns",
    "/readyz": "200 while the database answers and is migrated; it tells what is not seen, but does not wait for it",
    "/metrics": "figures as Prometheus text",
}

_HOME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>stocktake</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}</style>
</head><body><h1>stocktake {version}</h1>
<p>Drift and inventory of MLflow tracking servers and Azure Machine Learning workspaces.</p>
<ul>{rows}</ul>
<p>The inventory itself is on the command line: <code>stocktake status</code>, <code>stocktake changes</code>,
<code>stocktake --help</code>.</p></body></html>
"""
