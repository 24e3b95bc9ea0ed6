"""The recorded reads of one workspace, served: whoever asks for a path is answered what Azure was seen to answer.

Nothing is made up: what was not recorded answers 404 and is noted. Every recording of the collection is of one
workspace under one name (they were sanitised so), and a path that was recorded several times has several turns: the
token of a request says which (`turn(3)`). The link to a next page leads here instead of to Azure; that is all that is
rewritten.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stocktake.demo.azure.listener import Listener
from stocktake.demo.azure.wire import Request, Response
from tests.azure.recordings import Recording
from tests.azure.server import tls

SUBSCRIPTION, GROUP, WORKSPACE = "00000000-0000-0000-0000-000000000", "00000", "00000"
SCOPE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    f"/providers/Microsoft.MachineLearningServices/workspaces/{WORKSPACE}"
)
AZURE = "https://management.azure.com"
_TURN = re.compile(r"Bearer turn-(\d+)")
#: Parameters that say which part of a list is meant: an answer to another part is none to this one.
_PARTS = ("$skiptoken", "$skip", "isdefault", "category", "hash")
Place = tuple[str, ...]


def turn(number: int) -> str:
    """The token by which a request asks for the recording of that number, where a path has several."""
    return f"turn-{number}"


@dataclass(slots=True)
class Replay:
    """Answers, and notes what it could not answer, or only as another version of the API had been answered."""

    uri: str = ""
    turns: dict[Place, list[Recording]] = field(default_factory=dict)  # path and part -> its recordings
    missed: Counter[str] = field(default_factory=Counter)  # paths below the workspace
    others: set[tuple[str, str, str]] = field(default_factory=set)  # path, version asked for, version answered
    acts: list[str] = field(default_factory=list)  # what was no GET

    def answer(self, request: Request) -> Response:
        """The recording of the turn; the last one where there are fewer."""
        if request.method != "GET":
            self.acts.append(f"{request.method} {request.path}")
        place = _place(request.path, request.query)
        below = place[0].removeprefix(SCOPE.lower())
        found = self.turns.get(place) if request.method == "GET" else None
        if not found:
            self.missed[below] += 1
            error = {"code": "NotRecorded", "message": f"Nobody recorded what {request.path} answers."}
            return Response(status=404, body={"error": error})
        number = _TURN.fullmatch(request.headers.get("authorization", ""))
        one = found[min(int(number[1]) if number else 0, len(found) - 1)]
        asked, recorded = request.query.get("api-version", ""), _query(one).get("api-version", "")
        if asked != recorded:
            self.others.add((below, asked, recorded))
        return Response(status=one.status, body=self._here(one.body), headers=one.headers)

    def _here(self, body: Any) -> Any:
        link = body.get("nextLink") if isinstance(body, dict) else None
        return body | {"nextLink": link.replace(AZURE, self.uri)} if isinstance(link, str) else body

    def cloud(self) -> Mapping[str, str]:
        """What MLClient calls cloud_metadata."""
        return {
            "azure_portal": "https://portal.azure.com", "resource_manager": self.uri, "active_directory": self.uri,
            "aml_resource_id": self.uri, "storage_endpoint": "core.windows.net",
            "registry_discovery_endpoint": f"{self.uri}/",
        }  # fmt: skip


def _query(one: Recording) -> Mapping[str, str]:
    return {name.lower(): values[0] for name, values in parse_qs(urlsplit(one.uri).query).items()}


def _place(path: str, query: Mapping[str, str]) -> Place:
    return (path.lower(), *(query.get(name, "") for name in _PARTS))


@contextmanager
def replayed(recordings: Sequence[Recording]) -> Iterator[Replay]:
    """Serve the reads of the one workspace that went well. At the end it raises if anything but a GET was sent."""
    replay = Replay()
    for one in recordings:
        path = urlsplit(one.uri).path
        ours = path.startswith(SCOPE) and one.uri.startswith(AZURE)
        if ours and one.method == "GET" and one.status == 200:
            replay.turns.setdefault(_place(path, _query(one)), []).append(one)
    listener = Listener(replay.answer, tls())
    replay.uri = f"https://127.0.0.1:{listener.port}"
    with listener.running():
        yield replay
    assert not replay.acts, f"something other than a GET was sent: {replay.acts[:5]}"
