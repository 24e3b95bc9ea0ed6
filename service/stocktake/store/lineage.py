"""Who refers to whom, as it was known at a time: looked up node by node, never by reading a whole workspace.

The documents say what an edge is (core/lineage.py); SQL only finds the documents that may state one. Reads only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import Kind
from stocktake.core.lineage import ALIAS, DATASET, Edge, Node, Stated, edges
from stocktake.store.homes import home_of

_JOBS = (Kind.JOB, Kind.CHILD_JOB)
_DEPLOYMENTS = (Kind.ONLINE_DEPLOYMENT, Kind.BATCH_DEPLOYMENT)

#: Which documents may refer to a node of a kind, and how such a document is found.
_REFERRERS: Mapping[str, Sequence[tuple[Kind, str]]] = {
    Kind.RUN: (
        (Kind.RUN, "parent"), (Kind.LOGGED_MODEL, "run"), (Kind.MODEL_VERSION, "run"),
        *((kind, "key") for kind in _JOBS),
    ),
    Kind.LOGGED_MODEL: ((Kind.MODEL_VERSION, "model"),),
    Kind.MODEL_VERSION: (
        (Kind.MODEL_VERSION, "source"), *((kind, "words") for kind in (*_JOBS, *_DEPLOYMENTS)),
    ),
    Kind.REGISTERED_MODEL: ((Kind.MODEL_VERSION, "parent"),),
    ALIAS: ((Kind.MODEL_VERSION, "parent"),),
    DATASET: ((Kind.RUN, "data"),),
    **dict.fromkeys(
        _JOBS, ((Kind.CHILD_JOB, "parent"), (Kind.DATA_VERSION, "words"), (Kind.BATCH_DEPLOYMENT, "words"))
    ),
    Kind.DATA_VERSION: tuple((kind, "words") for kind in _JOBS),
    Kind.ENVIRONMENT_VERSION: tuple((kind, "words") for kind in (*_JOBS, *_DEPLOYMENTS)),
    Kind.COMPONENT_VERSION: tuple((kind, "words") for kind in (*_JOBS, *_DEPLOYMENTS)),
    Kind.ONLINE_DEPLOYMENT: ((Kind.ONLINE_ENDPOINT, "key"),),
    Kind.BATCH_DEPLOYMENT: ((Kind.BATCH_ENDPOINT, "key"),),
    Kind.ONLINE_ENDPOINT: ((Kind.ONLINE_DEPLOYMENT, "below"),),
    Kind.BATCH_ENDPOINT: ((Kind.BATCH_DEPLOYMENT, "below"),),
}  # fmt: skip

# `run` of model versions has an index (version_registry); the rest reads all of a kind, which are few beside the runs.
# Runs are asked for by the index of their keys, by their parent or by their datasets alone. A text is sought word by
# word; many of them by cutting every reference out of a document once.
_HOW = {
    "key": "a.key = ANY(:values)",
    "parent": "v.parent = ANY(:values)",
    "run": "v.run = ANY(:values)",
    "below": "split_part(a.key, '/', 1) = ANY(:values)",
    "source": "v.artifact_uri = ANY(:values)",
    "model": '(substring(v.document FROM \'"model_id":"([^"]+)"\') = ANY(:values)'
    " OR substring(v.artifact_uri FROM '^models:/(m-[^/?]+)') = ANY(:values))",
    "data": "EXISTS (SELECT 1 FROM unnest(string_to_array(v.data_version, ', ')) AS s (named)"
    " WHERE named = ANY(:values))",
    "words": "EXISTS (SELECT 1 FROM unnest(CAST(:values AS text[])) AS s (word) WHERE strpos(v.document, word) > 0)",
    "many": "EXISTS (SELECT 1 FROM regexp_matches(v.document, :reference, 'g') AS r (part)"
    " WHERE part[1] = ANY(:values))",
}
_REFERENCE = (
    r"(/[^/\"]+/versions/[^/\"?]+|:[^:/@\"]+:[^:/@\"]+|/jobs/[^/\"?]+|runs:/[^/\"?]+)"  # as _values writes them
)
_MANY = 20
_COLUMNS = """
SELECT a.kind, a.key, v.name, v.state, v.lifecycle, v.parent, v.run, v.artifact_uri, v.code_version, v.data_version,
    v.valid_from, encode(v.digest, 'hex') AS digest, v.scan_id AS scan, v.document,
    coalesce(v.valid_to <= CAST(:at AS timestamptz), false) AS over
FROM asset a JOIN workspace w USING (workspace_id) JOIN version v USING (asset_id)
WHERE w.name = :workspace AND a.kind = :kind
"""
_BY_THEN = " AND v.valid_from <= CAST(:at AS timestamptz)"
_THEN = _BY_THEN + " AND (v.valid_to IS NULL OR v.valid_to > CAST(:at AS timestamptz))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a node at a time."""

    node: Node
    name: str | None
    state: str | None
    standing: str  # active, deleted; purged: its last state is told
    code_version: str | None
    valid_from: datetime
    digest: str
    scan: int


class Graph:
    """The edges of one workspace at one time, looked up as they are asked for; what was met is kept."""

    def __init__(self, connection: Connection, workspace: str, at: datetime | None) -> None:
        self._connection = connection
        self._given: dict[str, Any] = {"workspace": workspace, "at": at if at is not None else "infinity"}
        self._home = home_of(connection, workspace)
        self._touching: dict[Node, set[Edge]] = {}
        self._referred: set[Node] = set()  # whoever refers to these has been looked up
        self._asked: set[Node] = set()
        self.known: dict[Node, Known] = {}

    def touching(self, nodes: Collection[Node]) -> set[Edge]:
        """Return the edges that touch any of some nodes, and some more."""
        self._load(nodes)
        for kind, how, values in _sought([node for node in nodes if node not in self._referred]):
            given = self._given | {"kind": kind, "values": [canonical.escape(value) for value in values]}
            given |= {"reference": _REFERENCE} if how == "many" else {}
            for row in self._connection.execute(text(_COLUMNS + f" AND {_HOW[how]}" + _THEN), given).all():
                self._keep(row)
        self._referred |= set(nodes)
        named = {*nodes, *(Node(Kind.JOB, node.key) for node in nodes if node.kind == Kind.CHILD_JOB)}
        return self._resolved({edge for node in named for edge in self._touching.get(node, ())})

    def _resolved(self, found: Collection[Edge]) -> set[Edge]:
        """What is named as a job may be a child of one: its name does not say which."""
        named = {node for edge in found for node in (edge.source, edge.target) if node.kind == Kind.JOB}
        self._load([*named, *(Node(Kind.CHILD_JOB, node.key) for node in named)])

        def really(node: Node) -> Node:
            child = Node(Kind.CHILD_JOB, node.key)
            return child if node in named and node not in self.known and child in self.known else node

        return {edge._replace(source=really(edge.source), target=really(edge.target)) for edge in found}

    def _load(self, nodes: Collection[Node]) -> None:
        """Read the nodes themselves: one that is purged in its last state."""
        wanted: dict[str, set[str]] = {}
        for node in nodes:
            if node not in self._asked and node.kind in set(Kind):
                wanted.setdefault(node.kind, set()).add(node.key)
        self._asked |= set(nodes)
        for kind, keys in wanted.items():
            statement = (
                f"SELECT DISTINCT ON (key) * FROM ({_COLUMNS} AND a.key = ANY(:keys){_BY_THEN}) known"
                " ORDER BY key, valid_from DESC"
            )
            given = self._given | {"kind": kind, "keys": [canonical.escape(key) for key in keys]}
            for row in self._connection.execute(text(statement), given).all():
                self._keep(row)

    def _keep(self, row: Any) -> None:
        def told(value: str | None) -> str | None:
            return canonical.unescape(value) if value is not None else None

        node = Node(row.kind, canonical.unescape(row.key))
        if node not in self.known:
            asset = Stated(
                kind=row.kind,
                key=node.key,
                document=canonical.decode(row.document),
                parent=told(row.parent),
                run=told(row.run),
                artifact_uri=told(row.artifact_uri),
                data_version=told(row.data_version),
                home=self._home,
            )
            for edge in edges(asset):
                for end in (edge.source, edge.target):
                    self._touching.setdefault(end, set()).add(edge)
            self.known[node] = Known(
                node=node,
                name=told(row.name),
                state=told(row.state),
                standing="purged" if row.over else row.lifecycle,
                code_version=told(row.code_version),
                valid_from=row.valid_from,
                digest=row.digest,
                scan=row.scan,
            )


def _sought(nodes: Collection[Node]) -> Iterator[tuple[Kind, str, list[str]]]:
    """Say which kinds to look through for documents that refer to the nodes, how, and for what."""
    by_way: dict[tuple[Kind, str], set[str]] = {}
    for node in nodes:
        for kind, how in _REFERRERS.get(node.kind, ()):
            by_way.setdefault((kind, how), set()).update(_values(node, how))
    for (kind, how), values in sorted(by_way.items()):
        yield kind, "many" if how == "words" and len(values) > _MANY else how, sorted(values)


def _values(node: Node, how: str) -> Iterator[str]:
    name, slash, version = node.key.rpartition("/")
    if how == "words" and node.kind in _JOBS:
        yield from (f"/jobs/{node.key}", f"runs:/{node.key}")
    elif how == "words" and "/versions/" in node.key:  # of a registry
        yield f"/{name.removesuffix('/versions').rpartition('/')[2]}/versions/{version}"
    elif how == "words" and slash:
        yield from (f"/{name}/versions/{version}", f":{name}:{version}")
    elif how == "source":
        yield f"models:/{node.key}"
    elif node.kind == ALIAS:
        yield node.key.partition("@")[0]
    elif how == "key" and node.kind in _DEPLOYMENTS:
        yield node.key.partition("/")[0]
    else:
        yield node.key
