"""Faults at every level, each for the requests that it is told to meet, as often as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stocktake.demo.azure.asked import Asked
from stocktake.demo.azure.listener import CUT
from stocktake.demo.azure.wire import Request, Response, gateway_error

Pause = Callable[[float], object]


@dataclass(slots=True)
class Fault:
    """What happens to requests of a family (and workspace, and page), and how often it still will."""

    family: str | None
    workspace: str | None
    page: int | None  # 1 is the first page of a list; None any
    times: int | None  # None for ever
    before: Callable[[Request], Response | None] | None = None
    after: Callable[[Response], Response] | None = None


class Faults:
    """All faults of a server; without any it is a server that works."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._pages: dict[tuple[str | None, str], int] = {}

    def clear(self) -> None:
        """Work again."""
        with self._lock:
            self._faults.clear()

    # ---- what may go wrong ------------------------------------------------------------------------------------------

    def status(self, code: int, family: str | None = None, *, body: Any = None,
               headers: Mapping[str, str] | None = None, workspace: str | None = None, page: int | None = None,
               times: int | None = 1) -> None:  # fmt: skip
        """Answer with a status, and ARM's body for it unless another is given."""
        words = {401: "ExpiredAuthenticationToken", 403: "AuthorizationFailed", 404: "ResourceNotFound",
                 409: "Conflict", 429: "TooManyRequests", 500: "InternalServerError",
                 503: "ServiceUnavailable", 504: "GatewayTimeout"}  # fmt: skip
        made = gateway_error(code, words.get(code, "Error"), f"A fault of this server: {code}.").response
        answer = replace(made, body=made.body if body is None else body, headers=headers or {})
        self._add(Fault(family, workspace, page, times, before=lambda _: answer))

    def cut(self, family: str | None = None, *, workspace: str | None = None, page: int | None = None,
            times: int | None = 1) -> None:  # fmt: skip
        """Break the connection off."""
        self._add(Fault(family, workspace, page, times, before=lambda _: CUT))

    def latency(self, seconds: float, pause: Pause, family: str | None = None, *, times: int | None = None) -> None:
        """Answer later; `pause` is what waits (an event's, in tests)."""

        def wait(_: Request) -> None:
            pause(seconds)

        self._add(Fault(family, None, None, times, before=wait))

    def malformed(self, family: str, *, page: int | None = None, text: bytes = b'{"value": [{"id":',
                  workspace: str | None = None, times: int | None = 1) -> None:  # fmt: skip
        """Answer 200 with a page that is no JSON, or that is not what it should be."""
        self._add(Fault(family, workspace, page, times, after=lambda _: Response(body=text)))

    def next_link(self, family: str, link: str, *, page: int | None = 1, workspace: str | None = None,
                  times: int | None = None) -> None:  # fmt: skip
        """Point a page's nextLink elsewhere: to another host, to another list."""
        self.change(family, lambda body: body | {"nextLink": link}, page=page, workspace=workspace, times=times)

    def loop(self, family: str, *, workspace: str | None = None) -> None:
        """Let the nextLink of page 2 lead to page 2 again, for ever."""
        kept: list[str] = []

        def again(body: dict[str, Any]) -> dict[str, Any]:
            if not kept and body.get("nextLink"):
                kept.append(body["nextLink"])
            return body | ({"nextLink": kept[0]} if kept else {})

        self.change(family, again, page=None, workspace=workspace, times=None)

    def unknown_item(self, family: str, item: Mapping[str, Any], *, page: int | None = 1,
                     workspace: str | None = None) -> None:  # fmt: skip
        """Put an item that nobody knows into the middle of a page."""

        def within(body: dict[str, Any]) -> dict[str, Any]:
            rows = list(body["value"])
            rows.insert(len(rows) // 2, dict(item))
            return body | {"value": rows}

        self.change(family, within, page=page, workspace=workspace, times=None)

    def token_ends(self, after: int) -> None:
        """Answer 401 to every token that was first seen before, once `after` requests were made."""
        state: dict[str, Any] = {"made": 0, "old": set()}

        def check(request: Request) -> Response | None:
            token = request.headers.get("authorization", "")
            if state["made"] < after:
                state["made"] += 1
                state["old"].add(token)
                return None
            if token not in state["old"]:
                return None
            return gateway_error(401, "ExpiredAuthenticationToken", "The access token has expired.").response

        self._add(Fault(None, None, None, None, before=check))

    def change(self, family: str, change: Callable[[dict[str, Any]], dict[str, Any]], *, page: int | None = None,
               workspace: str | None = None, times: int | None = None) -> None:  # fmt: skip
        """Change the body of a good answer."""

        def altered(answer: Response) -> Response:
            return replace(answer, body=change(answer.body)) if answer.status == 200 else answer

        self._add(Fault(family, workspace, page, times, after=altered))

    # ---- where the server asks --------------------------------------------------------------------------------------

    def before(self, what: Asked, request: Request) -> Response | None:
        """What to answer instead, if anything."""
        with self._lock:
            if not self._faults:
                return None
            key = (what.workspace, what.family)
            self._pages[key] = self._pages.get(key, 0) + 1 if what.page else 1
            met = self._met(what, lambda one: one.before is not None)
        for one in met:
            assert one.before is not None
            answer = one.before(request)
            if answer is not None:
                return answer
        return None

    def after(self, what: Asked, answer: Response) -> Response:
        """The answer as it leaves."""
        with self._lock:
            met = self._met(what, lambda one: one.after is not None) if self._faults else []
        for one in met:
            assert one.after is not None
            answer = one.after(answer)
        return answer

    def _add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def _met(self, what: Asked, kind: Callable[[Fault], bool]) -> list[Fault]:
        met = []
        page = self._pages.get((what.workspace, what.family), 1)
        for one in self._faults:
            if not kind(one) or one.family not in (None, what.family) or one.workspace not in (None, what.workspace):
                continue
            if one.page not in (None, page) or one.times == 0:
                continue
            if one.times is not None:
                one.times -= 1
            met.append(one)
        return met
