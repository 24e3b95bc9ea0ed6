"""An MLflow server whose content moves while it is read: what the wire shows, and what truly happened when.

It speaks MLflow's JSON over loopback HTTP as `mlflow server` does (3.17, SQL store): OFFSET pages under a token, runs
by start_time DESC and run_id, view ALL, no deleted logged models. It keeps every state that every asset ever had,
with the time of the act that made it: that is the truth which a proof holds against the inventory.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stocktake.core.assets import Kind

Document = dict[str, Any]

#: Asked before a request is answered, with its path and number: a body or a status instead of the answer; None breaks
#: the connection off, PLAY_ALONG answers as a server does.
PLAY_ALONG = object()
Interference = Callable[[str, int], object]


@dataclass(slots=True)
class Truth:
    """Every state of one asset, not begun before one time and begun by another; None is "not there"."""

    states: list[tuple[datetime, datetime, Document | None]] = field(default_factory=list)

    @property
    def now(self) -> Document | None:
        return self.states[-1][2] if self.states else None

    def between(self, start: datetime | None, end: datetime) -> list[Document | None]:
        """The states that may have held at some moment of an interval, in order."""
        begun = [(None, None, None), *self.states]
        held: list[Document | None] = []
        for index, (at, _, document) in enumerate(begun):
            over = begun[index + 1][1] if index + 1 < len(begun) else None
            if (at is None or at <= end) and (start is None or over is None or over > start):
                held.append(document)
        return held


class MovingMlflow:
    """Experiments, runs and logged models, and the acts that move them. Every method is one atomic act."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.truth: dict[tuple[Kind, str], Truth] = {}
        self.acts = 0
        self.requests = 0
        self.interfere: Interference | None = None
        self.hidden: set[str] = set()  # not shown at all, as by a filter of permissions
        self.unlisted: set[str] = set()  # left out of lists, though they answer by id
        self._last = 0

    # ---- acts -------------------------------------------------------------------------------------------------------

    def put(self, kind: Kind, key: str, document: Document | None, since: datetime | None = None) -> None:
        """Let an asset be in a state, from now on; `since` is when another server was asked to put it there."""
        with self.lock:
            truth, now = self.truth.setdefault((kind, key), Truth()), datetime.now(UTC)
            if truth.now != document:
                truth.states.append((since or now, now, document))
                self.acts += 1

    def edit(self, kind: Kind, key: str, path: str, value: object) -> None:
        """Set one field of an asset; None takes it away."""
        with self.lock:
            document = json.loads(json.dumps(self.now(kind, key)))
            *parents, name = path.split(".")
            place = document
            for parent in parents:
                place = place.setdefault(parent, {})
            if value is None:
                place.pop(name, None)
            else:
                place[name] = value
            self.put(kind, key, document)

    def add_experiment(self, key: str) -> None:
        now = self._tick()
        self.put(
            Kind.EXPERIMENT, key,
            {"name": f"exp {key}", "artifact_location": f"s3://b/{key}", "lifecycle_stage": "active",
             "creation_time": now, "tags": {}},
        )  # fmt: skip

    def add_run(self, key: str, experiment: str, *, status: str = "FINISHED", ago: int = 0) -> None:
        now = self._tick() - ago
        info = {"run_name": key, "experiment_id": experiment, "user_id": "ada", "status": status, "start_time": now,
                "artifact_uri": f"s3://b/{experiment}/{key}/artifacts", "lifecycle_stage": "active"}  # fmt: skip
        info |= {} if status == "RUNNING" else {"end_time": now + 1}
        document = {"info": info, "params": {"lr": "0.1"}, "tags": {}, "metrics": {}}
        self.put(Kind.RUN, key, document)

    def add_model(self, key: str, experiment: str) -> None:
        now = self._tick()
        info = {"experiment_id": experiment, "name": key, "creation_timestamp_ms": now, "status": "READY",
                "artifact_uri": f"s3://b/{experiment}/models/{key}"}  # fmt: skip
        self.put(Kind.LOGGED_MODEL, key, {"info": info, "params": {}, "tags": {}, "metrics": {},
                                          "lifecycle_stage": "active"})  # fmt: skip

    def finish(self, key: str) -> None:
        """End a run: its status and its end time in one act."""
        with self.lock:
            document = json.loads(json.dumps(self.now(Kind.RUN, key)))
            document["info"] |= {"status": "FINISHED", "end_time": self._tick()}
            self.put(Kind.RUN, key, document)

    def mark(self, kind: Kind, key: str, stage: str) -> None:
        """Delete or restore. An experiment takes all of its runs along."""
        with self.lock:
            self.edit(kind, key, "info.lifecycle_stage" if kind == Kind.RUN else "lifecycle_stage", stage)
            if kind == Kind.EXPERIMENT:
                for run in self.keys(Kind.RUN, experiment=key):
                    self.edit(Kind.RUN, run, "info.lifecycle_stage", stage)

    def purge(self, kind: Kind, key: str) -> None:
        """Remove rows, as `mlflow gc` does; an experiment takes along all that lies in it."""
        with self.lock:
            if kind == Kind.EXPERIMENT:
                for other in (Kind.RUN, Kind.LOGGED_MODEL):
                    for inner in self.keys(other, experiment=key):
                        self.put(other, inner, None)
            self.put(kind, key, None)

    # ---- what is there ----------------------------------------------------------------------------------------------

    def now(self, kind: Kind, key: str) -> Document | None:
        truth = self.truth.get((kind, key))
        return truth.now if truth is not None else None

    def there(self, kind: Kind) -> dict[str, Document]:
        """What a complete list of a kind shows."""
        with self.lock:
            found = {key: truth.now for (one, key), truth in self.truth.items() if one == kind}
        return {
            key: document
            for key, document in found.items()
            if document is not None and not (kind == Kind.LOGGED_MODEL and document["lifecycle_stage"] == "deleted")
        }

    def keys(self, kind: Kind, *, experiment: str | None = None, stage: str | None = None) -> list[str]:
        """Keys that are there, of one experiment, in one stage of life."""
        return [
            key
            for key, document in self.there(kind).items()
            if experiment in (None, document.get("info", {}).get("experiment_id")) and stage in (None, _stage(document))
        ]

    def _tick(self) -> int:
        """Milliseconds, never the same twice: the order of runs is theirs."""
        self._last = max(self._last + 1, int(datetime.now(UTC).timestamp() * 1000))
        return self._last

    # ---- what the wire says -----------------------------------------------------------------------------------------

    def answer(self, path: str, query: Mapping[str, Any]) -> tuple[int, Mapping[str, Any] | bytes]:
        """Answer one request, from one state of everything."""
        if path == "/version":
            return 200, b"3.17.2"
        found = re.fullmatch(r"/api/2\.0/mlflow/([a-z-]+)/?(.*)", path)
        what, verb = found.groups() if found else ("", "")
        with self.lock:
            if (what, verb) in _SEARCHES:
                kind, many = _SEARCHES[what, verb]
                return 200, self._search(kind, many, query)
            if what in ("registered-models", "model-versions") and verb == "search":
                return 200, {}
            kind_of = {"experiments": (Kind.EXPERIMENT, "experiment", query.get("experiment_id")),
                       "runs": (Kind.RUN, "run", query.get("run_id")),
                       "logged-models": (Kind.LOGGED_MODEL, "model", verb)}  # fmt: skip
            if what not in kind_of:
                return 404, {"error_code": "ENDPOINT_NOT_FOUND"}
            kind, one, key = kind_of[what]
            document = self.there(kind).get(str(key))
            if document is None or key in self.hidden:
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}
            return 200, {one: _wire(kind, str(key), document)}

    def _search(self, kind: Kind, many: str, query: Mapping[str, Any]) -> Mapping[str, Any]:
        asked_by_id = " IN " in (query.get("filter") or "")
        left_out = self.hidden if asked_by_id else self.hidden | self.unlisted
        rows = [(key, document) for key, document in self.there(kind).items() if key not in left_out]
        if kind != Kind.EXPERIMENT:
            rows = [(k, d) for k, d in rows if d["info"]["experiment_id"] in query["experiment_ids"]]
            rows = [(k, d) for k, d in rows if _passes(k, d, query.get("filter") or "")]
        rows.sort(key=lambda row: _order(kind, *row))
        token, most = query.get("page_token"), int(query["max_results"])
        offset = int(json.loads(base64.b64decode(token))["offset"]) if token else 0
        page = rows[offset : offset + most]
        # The SQL store gives runs a token whenever a page is full, the others only where more is there.
        more = len(page) == most if kind == Kind.RUN else len(rows) > offset + most
        body: dict[str, Any] = {many: [_wire(kind, key, document) for key, document in page]}
        if more:
            body["next_page_token"] = base64.b64encode(json.dumps({"offset": offset + most}).encode()).decode()
        return body


_SEARCHES = {
    ("experiments", "search"): (Kind.EXPERIMENT, "experiments"),
    ("runs", "search"): (Kind.RUN, "runs"),
    ("logged-models", "search"): (Kind.LOGGED_MODEL, "models"),
}


def _stage(document: Document) -> str:
    return str(document.get("lifecycle_stage") or document["info"]["lifecycle_stage"])


def _order(kind: Kind, key: str, document: Document) -> tuple[Any, ...]:
    if kind == Kind.EXPERIMENT:
        return (int(key),)
    return (-int(document["info"].get("start_time") or document["info"].get("creation_timestamp_ms")), key)


def _passes(key: str, document: Document, filter_: str) -> bool:
    if not filter_:
        return True
    name, operator, value = re.fullmatch(r"(\S+) (>|=|IN) (.+)", filter_).groups()  # type: ignore[union-attr]
    name = name.removeprefix("attributes.")
    if operator == "IN":
        return key in re.findall(r"'([^']*)'", value)
    if name == "last_updated_timestamp":
        return int(document["info"]["creation_timestamp_ms"]) > int(value)
    held = document["info"].get(name)
    return held == value.strip("'") if operator == "=" else held is not None and held > int(value)


def _pairs(value: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": name, "value": text} for name, text in value.items()]


def _wire(kind: Kind, key: str, document: Document) -> Document:
    if kind == Kind.EXPERIMENT:
        moved = {"experiment_id": key, "last_update_time": document["creation_time"], "tags": _pairs(document["tags"])}
        return document | moved
    info = dict(document["info"])
    metrics = [{"key": name} | entry for name, entry in document["metrics"].items()]
    if kind == Kind.RUN:
        info |= {"run_id": key, "run_uuid": key}
        data = {"params": _pairs(document["params"]), "tags": _pairs(document["tags"]), "metrics": metrics}
        return {"info": info, "data": data, "inputs": {}}
    info |= {"model_id": key, "tags": _pairs(document["tags"]), "last_updated_timestamp_ms": 0}
    return {"info": info, "data": {"params": _pairs(document["params"]), "metrics": metrics}}


@contextmanager
def served() -> Iterator[Served]:
    """Serve a world on a free port of loopback."""
    place = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self._answer(parts.path, query)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            self._answer(self.path, json.loads(body))

        def _answer(self, path: str, query: Mapping[str, Any]) -> None:
            world = place.world
            with world.lock:
                world.requests += 1
                number, interfere = world.requests, world.interfere
            instead = interfere(path, number) if interfere is not None else PLAY_ALONG
            if instead is None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, body = (instead, b"{}") if isinstance(instead, int) else world.answer(path, query)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            if isinstance(instead, float):  # that share of the answer, as a whole one
                content = content[: int(len(content) * instead)]
            with suppress(OSError):  # who asked may have been killed meanwhile
                self.send_response(int(status))
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed."""

    server = Server(("127.0.0.1", 0), Handler)
    place.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(slots=True)
class Served:
    """Where a world is served; the world may be replaced between passes."""

    uri: str = ""
    world: MovingMlflow = field(default_factory=MovingMlflow)


def leaves(document: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a document by path, as changes name them; lists and empty maps are leaves."""
    if not isinstance(document, Mapping):
        return {path: document}
    return {
        name: value
        for key, inner in document.items()
        for name, value in leaves(inner, f"{path}.{key}" if path else key).items()
    }


def differing(before: Document, after: Document) -> Sequence[tuple[str, Any, Any]]:
    """The leaves in which two documents differ."""
    old, new = leaves(before), leaves(after)
    return sorted((p, old.get(p), new.get(p)) for p in old.keys() | new.keys() if old.get(p) != new.get(p))
