"""What was made from what: the edges that a document states, and a walk along them. Pure.

An edge runs the way that things are made: from data to run, from run to model, from model to endpoint. It is stated by
one document, of either of its ends; the other end may be gone, or nobody may ever have seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stocktake.core.assets import Kind
from stocktake.core.production import ENDPOINTS, shares
from stocktake.core.references import job, logged_model_of, model_of, versioned

#: Ends of edges that are no assets of their own: an alias (MODEL@ALIAS) and a logged dataset (NAME@DIGEST).
ALIAS, DATASET = "alias", "dataset"
_JOBS = (Kind.JOB, Kind.CHILD_JOB)
_DEPLOYMENTS = {deployment: endpoint for endpoint, deployment in ENDPOINTS.items()}


class Node(NamedTuple):
    """An end of an edge."""

    kind: str
    key: str


class Edge(NamedTuple):
    """One thing was made from, or with, another."""

    source: Node
    relation: str
    target: Node
    detail: str | None = None  # the share of traffic


class Stated(NamedTuple):
    """An asset's document and what was lifted out of it."""

    kind: str
    key: str
    document: Mapping[str, Any]
    parent: str | None = None
    run: str | None = None
    artifact_uri: str | None = None
    data_version: str | None = None
    home: str | None = None  # where its workspace is, of one in Azure


def edges(asset: Stated) -> Iterator[Edge]:
    """Yield the edges that an asset's document states, each once."""
    yield from dict.fromkeys(_STATED[asset.kind](asset) if asset.kind in _STATED else ())


def _of_run(asset: Stated) -> Iterator[Edge]:
    me = Node(Kind.RUN, asset.key)
    if asset.parent:
        yield Edge(Node(Kind.RUN, asset.parent), "started", me)
    for name in (asset.data_version or "").split(", "):
        if name:
            yield Edge(Node(DATASET, name), "read by", me)
    for id_ in _map(_map(asset.document, "inputs"), "models"):
        yield Edge(Node(Kind.LOGGED_MODEL, id_), "read by", me)
    for id_ in _map(_map(asset.document, "outputs"), "models"):
        yield Edge(me, "logged", Node(Kind.LOGGED_MODEL, id_))


def _of_logged_model(asset: Stated) -> Iterator[Edge]:
    if asset.run:
        yield Edge(Node(Kind.RUN, asset.run), "logged", Node(Kind.LOGGED_MODEL, asset.key))


def _of_model_version(asset: Stated) -> Iterator[Edge]:
    me = Node(Kind.MODEL_VERSION, asset.key)
    if asset.run:
        yield Edge(Node(Kind.RUN, asset.run), "registered", me)
    if (logged := logged_model_of(asset.document, asset.artifact_uri)) is not None:
        yield Edge(Node(Kind.LOGGED_MODEL, logged), "registered", me)
    elif (copied := (asset.artifact_uri or "").removeprefix("models:/")) != (asset.artifact_uri or ""):
        yield Edge(Node(Kind.MODEL_VERSION, copied), "copied", me)
    if asset.parent:
        yield Edge(me, "version of", Node(Kind.REGISTERED_MODEL, asset.parent))
        aliases = asset.document.get("aliases")
        for alias in aliases if isinstance(aliases, (list, tuple)) else ():
            yield Edge(me, "named", Node(ALIAS, f"{asset.parent}@{alias}"))


def _of_job(asset: Stated) -> Iterator[Edge]:
    me, here = Node(asset.kind, asset.key), asset.home
    yield Edge(me, "is", Node(Kind.RUN, asset.key))  # a job's name is the id of its run
    if asset.parent and asset.parent != asset.key:
        yield Edge(Node(Kind.JOB, asset.parent), "started", me)
    properties = _map(asset.document, "properties")
    for place in (properties, _map(properties, "trial")):
        yield from _made_with(place, me, here)
    for stated in _map(properties, "inputs").values():
        if isinstance(stated, Mapping) and (read := versioned(stated.get("uri"), _type(stated), here)) is not None:
            yield Edge(Node(*read), "read by", me)
    for named in ("trainingData", "validationData", "testData"):  # of AutoML
        uri = _map(_map(properties, "taskDetails"), named).get("uri")
        if (read := versioned(uri, Kind.DATA_VERSION, here)) is not None:
            yield Edge(Node(*read), "read by", me)
    for stated in _map(asset.document, "inputs").values():  # of a child, as run-history has it
        asset_id = stated.get("assetId") if isinstance(stated, Mapping) else None
        if (read := versioned(asset_id, Kind.DATA_VERSION, here)) is not None:
            yield Edge(Node(*read), "read by", me)
    for stated in _map(asset.document, "outputs").values():
        asset_id = stated.get("assetId") if isinstance(stated, Mapping) else None
        if (made := versioned(asset_id, Kind.DATA_VERSION, here)) is not None:
            yield Edge(me, "wrote", Node(*made))
    for stated in _map(properties, "outputs").values():
        if not isinstance(stated, Mapping):
            continue
        name, version = stated.get("assetName"), stated.get("assetVersion")
        if isinstance(name, str) and name and isinstance(version, str) and version:
            yield Edge(me, "wrote", Node(_type(stated), f"{name}/{version}"))


def _type(stated: Mapping[str, Any]) -> Kind:
    """The kind that an input or output of a job refers to, when `azureml:NAME:VERSION` does not say."""
    said = stated.get("jobInputType") or stated.get("jobOutputType")
    return Kind.MODEL_VERSION if isinstance(said, str) and said.endswith("_model") else Kind.DATA_VERSION


def _made_with(place: Mapping[str, Any], me: Node, here: str | None) -> Iterator[Edge]:
    for name, kind, relation in (
        ("environmentId", Kind.ENVIRONMENT_VERSION, "environment of"),
        ("componentId", Kind.COMPONENT_VERSION, "component of"),
    ):
        if (found := versioned(place.get(name), kind, here)) is not None:
            yield Edge(Node(*found), relation, me)


def _of_data_version(asset: Stated) -> Iterator[Edge]:
    if (writer := job(asset.artifact_uri, asset.home)) is not None:
        yield Edge(Node(Kind.JOB, writer), "wrote", Node(Kind.DATA_VERSION, asset.key))


def _of_deployment(asset: Stated) -> Iterator[Edge]:
    me, here = Node(asset.kind, asset.key), asset.home
    model = model_of(asset.document)
    if (served := versioned(model, Kind.MODEL_VERSION, here)) is not None:
        yield Edge(Node(*served), "deployed", me)
    elif (writer := job(model, here)) is not None:
        yield Edge(Node(Kind.JOB, writer), "deployed", me)
    properties = _map(asset.document, "properties")
    yield from _made_with(properties, me, here)
    named = _map(properties, "properties").get("ComponentDeployment.ComponentId")
    if (component := versioned(named, Kind.COMPONENT_VERSION, here)) is not None:
        yield Edge(Node(*component), "component of", me)
    endpoint, slash, _ = asset.key.partition("/")
    if slash:
        yield Edge(me, "deployed to", Node(_DEPLOYMENTS[Kind(asset.kind)], endpoint))


def _of_endpoint(asset: Stated) -> Iterator[Edge]:
    me, deployment = Node(asset.kind, asset.key), ENDPOINTS[Kind(asset.kind)]
    properties = _map(asset.document, "properties")
    for name, share in shares(properties):
        yield Edge(Node(deployment, f"{asset.key}/{name}"), "traffic", me, f"{share:g}")
    default = _map(properties, "defaults").get("deploymentName")
    if isinstance(default, str) and default:
        yield Edge(Node(deployment, f"{asset.key}/{default}"), "default", me)


_STATED: Mapping[str, Callable[[Stated], Iterator[Edge]]] = {
    Kind.RUN: _of_run,
    Kind.LOGGED_MODEL: _of_logged_model,
    Kind.MODEL_VERSION: _of_model_version,
    **dict.fromkeys(_JOBS, _of_job),
    Kind.DATA_VERSION: _of_data_version,
    **dict.fromkeys(_DEPLOYMENTS, _of_deployment),
    **dict.fromkeys(ENDPOINTS, _of_endpoint),
}
#: Kinds whose documents state edges.
STATING = frozenset(Kind(kind) for kind in _STATED)


def _map(place: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = place.get(name)
    return found if isinstance(found, Mapping) else {}


class Walk(NamedTuple):
    """The edges met on a walk, nearest first, and whether it ended early because there were too many."""

    edges: Sequence[Edge]
    cut: bool


def walk(start: Node, touching: Callable[[Collection[Node]], Iterable[Edge]], *, back: bool, most: int = 500) -> Walk:
    """Follow edges from a node, back to what it was made from or forth to what was made of it; each node once.

    `touching` answers with the edges that touch any of some nodes, in whatever direction. Cycles end by themselves.
    """
    seen, frontier, found = {start}, [start], dict[Edge, None]()
    while frontier:
        asked = set(frontier)
        frontier = []
        for edge in sorted(set(touching(asked))):
            here, there = (edge.target, edge.source) if back else (edge.source, edge.target)
            if here not in asked:
                continue
            if there not in seen:
                if len(seen) > most:
                    return Walk(list(found), cut=True)
                seen.add(there)
                frontier.append(there)
            found[edge] = None
    return Walk(list(found), cut=False)
