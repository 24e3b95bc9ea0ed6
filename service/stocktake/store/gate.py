"""What the inventory knows of a model version or a run, for the gate before a release. Reads only."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import ChangeType, Kind
from stocktake.core.findings import State
from stocktake.core.gate import Compared, Edits, End, Facts, Look, Presence, Thing, Told
from stocktake.core.lineage import ALIAS, DATASET, Node, Walk, walk
from stocktake.core.references import environment_of, logged_model_of, names_no_version
from stocktake.core.rules import ChangeRule, Rule, Seen, Severity, StateRule
from stocktake.rules import run_edited_after_finish
from stocktake.store.homes import home_of
from stocktake.store.lineage import Graph
from stocktake.store.listed import listed

#: The tag by which a run says with what it is compared.
COMPARISON = "stocktake.comparison"
_ENDED = ("FINISHED", "FAILED", "KILLED")
_RUNS = (Kind.RUN, Kind.JOB, Kind.CHILD_JOB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the configuration asks for."""

    bound: timedelta
    tags: Mapping[str, str] = field(default_factory=dict)
    run_tags: Sequence[tuple[str, Sequence[str]]] = ()  # by a pattern for names of experiments
    counts: frozenset[str] = frozenset({Severity.CRITICAL, Severity.WARNING})
    comparison_parameters: Sequence[str] = ()
    rules: Sequence[Rule] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """An asset as it is stored."""

    id: int
    partition: str
    run: str | None
    code_version: str | None
    data_version: str | None
    thing: Thing


_ASSET = """
SELECT a.asset_id, a.kind, a.key, a.partition, a.gone_at, v.name, v.state, v.lifecycle, v.owner, v.run, v.artifact_uri,
    v.code_version, v.data_version, v.created_at, v.ended_at, v.document
FROM asset a JOIN workspace w USING (workspace_id) JOIN version v USING (asset_id)
WHERE w.name = :workspace AND a.kind = :kind AND a.key = :key ORDER BY v.valid_from DESC LIMIT 1
"""


def version_of_alias(connection: Connection, workspace: str, model: str, alias: str) -> str | None:
    """The key of the version that an alias points to, as it was last seen. None: there is no such model or alias."""
    known = _known(connection, workspace, Kind.REGISTERED_MODEL, model)
    if known is None or known.thing.presence != Presence.ACTIVE:
        return None
    aliases = known.thing.document.get("aliases")
    version = aliases.get(alias) if isinstance(aliases, Mapping) else None
    return f"{model}/{version}" if version is not None else None


def facts(connection: Connection, workspace: str, kind: Kind, key: str, asked: Asked) -> Facts | None:
    """Everything that the gate asks about an asset; None where it was never observed."""
    subject = _known(connection, workspace, kind, key)
    if subject is None:
        return None
    home, one = home_of(connection, workspace), subject.thing
    registered = logged = None
    if kind == Kind.MODEL_VERSION:
        registered = _known(connection, workspace, Kind.REGISTERED_MODEL, key.rpartition("/")[0])
        if (model := logged_model_of(one.document, one.artifact_uri)) is not None:
            logged = _known(connection, workspace, Kind.LOGGED_MODEL, model)
    named = (subject.run or (logged.run if logged is not None else None)) if kind not in _RUNS else key
    behind = {of: _known(connection, workspace, of, named) for of in _RUNS} if named else {}
    run, job = behind.get(Kind.RUN), behind.get(Kind.JOB) or behind.get(Kind.CHILD_JOB)
    made_by = run or job
    graph = Graph(connection, workspace, None)
    back = walk(Node(kind, key), graph.touching, back=True)
    nodes = list(dict.fromkeys([Node(kind, key), *(end for edge in back.edges for end in (edge.source, edge.target))]))
    ends = list(_ends(connection, workspace, nodes, graph))
    if registered is not None:
        nodes.append(Node(Kind.REGISTERED_MODEL, registered.thing.key))
        if registered.thing.presence != Presence.ACTIVE:
            model_is = registered.thing
            ends.append(End(kind=model_is.kind, key=model_is.key, standing=model_is.presence, gone=True))
    return Facts(
        workspace=workspace,
        subject=one,
        registered=registered.thing if registered is not None else None,
        run_key=named,
        run=made_by.thing if made_by is not None else None,
        job=job.thing if job is not None else None,
        logged=logged.thing if logged is not None else None,
        made_from=_made_from(run, job, back, home, one.artifact_uri) if made_by is not None else {},
        edits=_edits(connection, workspace, run) if run is not None else Edits(observed=False),
        ends=ends,
        cut=back.cut,
        looks=list(_looks(connection, workspace, kind, run, job)),
        bound=asked.bound,
        required=dict(asked.tags) | _required(connection, workspace, run, asked),
        findings=list(_findings(connection, workspace, nodes, asked.rules)),
        counts=asked.counts,
        compared=_compared(connection, workspace, run, asked) if run is not None else None,
        moved=_moved(connection, subject) if kind == Kind.MODEL_VERSION else (),
    )


def _known(connection: Connection, workspace: str, kind: Kind, key: str) -> _Known | None:
    given = {"workspace": workspace, "kind": kind, "key": canonical.escape(key)}
    row = connection.execute(text(_ASSET), given).first()
    if row is None:
        return None
    document = canonical.decode(row.document)
    presence = Presence.GONE if row.gone_at is not None else Presence(row.lifecycle)
    return _Known(
        id=row.asset_id,
        partition=row.partition,
        run=_text(row.run),
        code_version=_text(row.code_version),
        data_version=_text(row.data_version),
        thing=Thing(
            kind=row.kind,
            key=canonical.unescape(row.key),
            name=_text(row.name),
            presence=presence,
            state=_text(row.state),
            owner=_text(row.owner),
            tags=_tags(document),
            artifact_uri=_text(row.artifact_uri),
            created_at=row.created_at,
            ended_at=row.ended_at,
            document=document,
        ),
    )


def _tags(document: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = document.get("properties")
    inner = properties.get("tags") if isinstance(properties, Mapping) else None
    tags = document.get("tags")
    return {**(inner if isinstance(inner, Mapping) else {}), **(tags if isinstance(tags, Mapping) else {})}


# ---- what it was made from -----------------------------------------------------------------------------------------


def _made_from(
    run: _Known | None, job: _Known | None, back: Walk, home: str | None, source: str | None
) -> dict[str, str | None]:
    """What the rule not-reproducible asks for: a script's name is no code version, a model that MLflow logged has its
    environment with it."""
    both = [one for one in (run, job) if one is not None]
    tags: Mapping[str, Any] = run.thing.tags if run is not None else {}
    keys = {one.thing.key for one in both}
    used: dict[str, list[str]] = {}
    for edge in back.edges:
        if edge.target.key in keys and edge.source.kind != Kind.MODEL_VERSION:
            used.setdefault(edge.relation, []).append(edge.source.key)
    commits = (tags.get("mlflow.source.git.commit"), tags.get("azureml.git.commit"))
    notebook = next((one.code_version for one in both if re.search("@.", one.code_version or "")), None)
    document = run.thing.document if run is not None else {}
    params = document.get("params")
    environments = [environment_of(one.thing.document, home) for one in both]
    return {
        "code": next((one for one in (*commits, notebook, *used.get("component of", ())) if one), None),
        "data": next((one.data_version for one in both if one.data_version), None)
        or ", ".join(sorted(set(used.get("read by", ())))),
        "environment": next((one for one in environments if one), None)
        or next(iter(used.get("environment of", ())), None)
        or _with_model(tags, document, source),
        "parameters": f"{len(params)} of them" if isinstance(params, Mapping) and params else None,
    }


def _with_model(tags: Mapping[str, Any], document: Mapping[str, Any], source: str | None) -> str | None:
    """Whether MLflow logged a model, and so wrote its environment beside it."""
    outputs = document.get("outputs")
    logged = outputs.get("models") if isinstance(outputs, Mapping) else None
    if tags.get("mlflow.log-model.history") or logged or re.match(r"models:/+m-", source or ""):
        return "with the model that was logged"
    return None


_CHANGES = """
SELECT c.change_id, c.name, c.fields, c.not_before, c.not_after, c.scan_id, p.state AS state_before
FROM change c LEFT JOIN version p ON p.asset_id = c.asset_id AND p.valid_to = c.at
WHERE c.asset_id = :id AND c.type = 'updated' ORDER BY c.change_id
"""
_BEGAN = """
SELECT a.first_seen, a.baseline, v.valid_from, v.state FROM asset a JOIN version v USING (asset_id)
WHERE a.asset_id = :id ORDER BY v.valid_from LIMIT 1
"""


def _edits(connection: Connection, workspace: str, run: _Known) -> Edits:
    """What the rule about edited runs would say of all changes that are kept, one after the other."""
    held: Mapping[str, Any] | None = None
    for row in connection.execute(text(_CHANGES), {"id": run.id}):
        change = Seen(
            id=row.change_id, workspace=workspace, kind=Kind.RUN, key=run.thing.key, name=row.name,
            type=ChangeType.UPDATED, fields=canonical.decode(row.fields), not_before=row.not_before,
            not_after=row.not_after, scan=row.scan_id, state_before=row.state_before,
        )  # fmt: skip
        said = run_edited_after_finish.RULE.check(change, held)
        if said is not None:
            held = said.evidence if said.holds else None
    began = connection.execute(text(_BEGAN), {"id": run.id}).one()
    kept = began.valid_from <= began.first_seen
    observed = kept and not (began.baseline and began.state in _ENDED)
    return Edits(fields=held["fields"] if held is not None else (), observed=observed, since=began.valid_from)


def _moved(connection: Connection, version: _Known) -> list[Mapping[str, Any]]:
    rows = connection.execute(text(_CHANGES), {"id": version.id})
    return [
        one
        for row in rows
        for one in canonical.decode(row.fields)
        if re.fullmatch(r"source|model_id|properties\.modelUri|storage_location", one["path"])
    ]


def _ends(connection: Connection, workspace: str, nodes: Collection[Node], graph: Graph) -> Iterator[End]:
    """The nodes that are not there, or that nobody ever observed."""
    there = {node.key for node in nodes if node.kind in _RUNS and node in graph.known}
    unknown = [
        node
        for node in nodes
        if node.kind not in (ALIAS, DATASET) and node not in graph.known and "/registries/" not in node.key.lower()
        if not (node.kind in _RUNS and node.key in there)  # a job and its run are one
    ]
    lists = listed(connection, workspace, {node.kind for node in unknown}, None) if unknown else {}
    for node in unknown:
        if "/workspaces/" in node.key.lower():
            yield End(kind=node.kind, key=node.key, standing="in another workspace", gone=False)
        elif names_no_version(node.kind, node.key):
            yield End(kind=node.kind, key=node.key, standing="names no version", gone=False)
        elif node.kind in lists and node.kind not in (Kind.JOB, Kind.CHILD_JOB):  # a step may be named as a job
            why = f", and not in the complete list of {lists[node.kind].isoformat(timespec='seconds')}"
            yield End(kind=node.kind, key=node.key, standing="never observed", gone=True, why=why)
        else:
            why = ", and nobody looked completely"
            yield End(kind=node.kind, key=node.key, standing="never observed", gone=False, why=why)
    for node in nodes:
        found = graph.known.get(node)
        if found is not None and found.standing != Presence.ACTIVE:
            yield End(kind=node.kind, key=node.key, standing=found.standing, gone=True)


# ---- how it was looked at ------------------------------------------------------------------------------------------


def _looks(
    connection: Connection, workspace: str, kind: Kind, run: _Known | None, job: _Known | None
) -> Iterator[Look]:
    wanted: dict[str, str] = {}
    if kind == Kind.MODEL_VERSION:
        wanted |= {Kind.REGISTERED_MODEL: "", Kind.MODEL_VERSION: ""}
    if run is not None:
        wanted |= {Kind.RUN: run.partition}
    elif job is not None:
        wanted |= {Kind.JOB: ""}
    rows = {
        row.kind: row
        for row in connection.execute(
            text(
                "SELECT s.kind, s.state, s.reason, s.last_complete_at FROM scope s"
                " JOIN workspace w USING (workspace_id)"
                " JOIN unnest(CAST(:kinds AS text[]), CAST(:partitions AS text[])) AS n (kind, partition)"
                " ON n.kind = s.kind AND n.partition = s.partition WHERE w.name = :workspace"
            ),
            {"workspace": workspace, "kinds": list(wanted), "partitions": list(wanted.values())},
        )
    }
    for one in wanted:
        row = rows.get(one)
        if row is None:
            yield Look(kind=one, state="never listed", at=None)
        else:
            yield Look(kind=one, state=row.state, at=row.last_complete_at, reason=_text(row.reason))


# ---- what is found, required, compared -----------------------------------------------------------------------------


def _findings(connection: Connection, workspace: str, nodes: Sequence[Node], rules: Sequence[Rule]) -> Iterator[Told]:
    of_ledger = [rule.id for rule in rules if isinstance(rule, StateRule) and rule.of_ledger]
    of_change = {rule.id for rule in rules if isinstance(rule, ChangeRule)}
    rows = connection.execute(
        text(
            "SELECT f.finding_id, f.rule, f.severity, f.state, f.kind, f.key, f.change_window FROM finding f"
            " JOIN workspace w USING (workspace_id) WHERE w.name = :workspace"
            " AND f.state NOT IN ('resolved', 'pending') AND (f.rule = ANY(:ledger) OR (f.kind, f.key) IN ("
            " SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:keys AS text[])))) ORDER BY f.finding_id"
        ),
        {
            "workspace": workspace,
            "ledger": of_ledger,
            "kinds": [node.kind for node in nodes],
            "keys": [canonical.escape(node.key) for node in nodes],
        },
    )
    for row in rows:
        settled = row.change_window is not None or (row.rule in of_change and row.state == State.ACKNOWLEDGED)
        yield Told(
            id=row.finding_id, rule=row.rule, severity=row.severity, state=row.state, kind=row.kind,
            key=canonical.unescape(row.key), settled=settled, workspace_wide=row.rule in of_ledger,
        )  # fmt: skip


def _required(connection: Connection, workspace: str, run: _Known | None, asked: Asked) -> dict[str, str]:
    """The tags that runs of this experiment must bear."""
    if run is None or not asked.run_tags:
        return {}
    experiment = _known(connection, workspace, Kind.EXPERIMENT, canonical.unescape(run.partition))
    name = (experiment.thing.name if experiment is not None else None) or ""
    return {tag: "*" for pattern, tags in asked.run_tags if re.search(pattern, name) for tag in tags}


def _compared(connection: Connection, workspace: str, run: _Known, asked: Asked) -> Compared | None:
    """The other runs of the set that a run declares by its tag, as the rule parameter-mismatch reads them."""
    named = run.thing.tags.get(COMPARISON)
    if not isinstance(named, str) or not named:
        return None
    rows = connection.execute(
        text(
            "SELECT key, CAST(inventory.json_map(params) AS text) AS params, match FROM inventory.compared_run"
            " WHERE workspace = :workspace AND experiment_id = :experiment AND comparison = :named"
            " AND lifecycle = 'active' AND state NOT IN ('FAILED', 'KILLED')"
        ),
        {"workspace": workspace, "experiment": run.partition, "named": canonical.escape(named)},
    ).all()
    others = {canonical.unescape(row.key): canonical.decode(row.params) for row in rows}
    said = [run.thing.tags.get(f"{COMPARISON}.match"), *(row.match for row in rows)]
    must = {one.strip() for each in said if isinstance(each, str) for one in canonical.unescape(each).split(",")}
    whole = connection.execute(
        text(
            "SELECT bool_and(s.state = 'complete') FROM scope s JOIN workspace w USING (workspace_id)"
            " WHERE w.name = :workspace AND (s.kind = 'experiment' OR s.kind = 'run' AND s.partition = :experiment)"
        ),
        {"workspace": workspace, "experiment": run.partition},
    ).scalar()
    params = run.thing.document.get("params")
    return Compared(
        name=named,
        parameters=sorted((must | set(asked.comparison_parameters)) - {""}),
        own=params if isinstance(params, Mapping) else {},
        others={key: params for key, params in others.items() if key != run.thing.key},
        whole=bool(whole),
    )


def _text(value: str | None) -> str | None:
    return canonical.unescape(value) if value is not None else None
