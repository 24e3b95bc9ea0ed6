"""Recorded exchanges, replayed by method and path: what was truly answered once, word by word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stocktake.demo.azure.wire import Request, Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One exchange."""

    file: Path
    method: str
    uri: str
    status: int
    headers: dict[str, str]
    body: Any


class Recordings:
    """All exchanges below a folder. Of several for one path the first that was a success is replayed."""

    def __init__(self, folder: Path) -> None:
        self.all = sorted(_read(folder), key=lambda one: (one.status >= 300, str(one.file)))
        self._by_path: dict[tuple[str, str], Recording] = {}
        for one in self.all:
            if one.method in ("GET", "POST"):
                self._by_path.setdefault((one.method, urlsplit(one.uri).path.lower()), one)

    def answer(self, request: Request) -> Response | None:
        """The recorded answer to a request, or None."""
        found = self._by_path.get((request.method, request.path.lower()))
        return Response(status=found.status, body=found.body, headers=found.headers) if found else None


def _read(folder: Path) -> Iterator[Recording]:
    for file in folder.rglob("*.json"):
        exchange = json.loads(file.read_text(encoding="utf-8"))
        if "request" not in exchange:
            continue  # an example of a specification: no exchange
        asked, got = exchange["request"], exchange["response"]
        headers = {name: value for name, value in got["headers"].items() if name.lower() not in _OURS}
        yield Recording(
            file=file, method=asked["method"], uri=asked["uri"], status=got["status"], headers=headers,
            body=got["body"],
        )  # fmt: skip


_OURS = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})
