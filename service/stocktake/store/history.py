"""Questions about the inventory: now, at a time, between two times. Reads only; rows come out as values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import Kind
from stocktake.store.discovered import AS_CHANGES, has_events


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRow:
    """One asset in one state."""

    workspace: str
    kind: str
    key: str
    name: str | None
    state: str | None
    lifecycle: str
    owner: str | None
    partition: str
    parent: str | None
    run: str | None
    first_seen: datetime
    last_changed: datetime
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    artifact_uri: str | None
    code_version: str | None
    data_version: str | None
    gone_at: datetime | None
    document: Mapping[str, Any]
    aside: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One state of an asset and how long it was the state we knew."""

    workspace: str
    kind: str
    key: str
    name: str | None
    state: str | None
    lifecycle: str
    valid_from: datetime
    valid_to: datetime | None
    digest: str
    scan: int
    ended_by: str | None  # "purged" where nothing followed at once; None: another state, or nothing yet
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """One change, with the two looks between which it happened."""

    id: int | None
    at: datetime
    not_before: datetime | None
    not_after: datetime
    actor: str
    actor_source: str | None
    workspace: str
    kind: str
    key: str
    name: str | None
    type: str
    category: str
    scan: int | None
    fields: Sequence[Mapping[str, Any]]
    includes: Mapping[str, int] = field(default_factory=dict)  # changes folded into this one, by kind
    part_of: int | None = None


_WHERE_COLUMNS = {"name": "v.name", "state": "v.state", "owner": "v.owner", "partition": "v.partition",
                  "lifecycle": "v.lifecycle", "parent": "v.parent", "run": "v.run"}  # fmt: skip
_WORDS = frozenset({"state", "lifecycle"})  # of a server or ours, not of people: upper and lower case are the same
_BLOCK = 500

_ASSETS = """
SELECT w.name AS workspace, a.kind, a.key, v.name, v.state, v.lifecycle, v.owner, v.partition, v.parent, v.run,
    a.first_seen, v.valid_from AS last_changed, v.created_at, v.started_at, v.ended_at, v.artifact_uri,
    v.code_version, v.data_version, a.gone_at, v.document, v.aside
FROM version v JOIN asset a USING (asset_id) JOIN workspace w ON w.workspace_id = v.workspace_id
WHERE (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces))
"""
_AT = """ AND (CASE WHEN CAST(:at AS timestamptz) IS NULL THEN v.valid_to IS NULL
    ELSE v.valid_from <= :at AND (v.valid_to IS NULL OR v.valid_to > :at) END)"""
_NOW = " AND v.valid_to IS NULL"


def list_assets(
    connection: Connection,
    kind: Kind,
    *,
    workspaces: Sequence[str] | None = None,
    at: datetime | None = None,
    deleted: bool = True,
    where: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Iterator[AssetRow]:
    """Yield the assets of a kind as they are known now, or as they were known at a time. Streams."""
    given: dict[str, Any] = {"workspaces": _names(workspaces), "kind": kind}
    statement = _ASSETS + " AND v.kind = :kind"
    if at is None:
        statement += _NOW
    else:
        statement += " AND v.valid_from <= :at AND (v.valid_to IS NULL OR v.valid_to > :at)"
        given["at"] = at
    if not deleted:
        statement += " AND v.lifecycle <> 'deleted'"
    for index, (column, value) in enumerate((where or {}).items()):
        equal = "lower({}) = lower({})" if column in _WORDS else "{} = {}"
        statement += " AND " + equal.format(_WHERE_COLUMNS[column], f":where{index}")
        given[f"where{index}"] = value
    statement += " ORDER BY w.name, v.created_at NULLS FIRST, a.key"
    if limit is not None:
        statement += " LIMIT :limit"
        given["limit"] = limit
    for row in stream(connection, statement, given):
        yield _asset(row)


def values_of(
    connection: Connection,
    kind: Kind,
    column: str,
    *,
    workspaces: Sequence[str] | None = None,
    at: datetime | None = None,
    limit: int,
) -> list[str]:
    """Return what there is to ask for with `where`: the values of a column of a kind, in their order."""
    which = _WHERE_COLUMNS[column]
    rows = connection.execute(
        text(
            f"SELECT DISTINCT {which} AS value FROM version v JOIN workspace w USING (workspace_id)"
            " WHERE (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces))"
            f" AND v.kind = :kind AND {which} <> ''" + _AT + " ORDER BY value LIMIT :limit"
        ),
        {"workspaces": _names(workspaces), "kind": kind, "at": at, "limit": limit},
    )
    return [canonical.unescape(value) for value in rows.scalars()]


def experiment_names(
    connection: Connection, keys: Collection[str], *, workspaces: Sequence[str] | None = None, at: datetime | None
) -> dict[tuple[str, str], str]:
    """Return the names of experiments by workspace and key, as they are now or were at a time."""
    rows = connection.execute(
        text(
            "SELECT w.name AS workspace, a.key, v.name FROM asset a JOIN version v USING (asset_id)"
            " JOIN workspace w ON w.workspace_id = a.workspace_id WHERE a.kind = 'experiment' AND a.key = ANY(:keys)"
            " AND (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces)) AND v.name IS NOT NULL" + _AT
        ),
        {"workspaces": _names(workspaces), "keys": [canonical.escape(key) for key in keys], "at": at},
    )
    return {(row.workspace, canonical.unescape(row.key)): canonical.unescape(row.name) for row in rows}


def find_asset(
    connection: Connection,
    kind: Kind,
    key_or_name: str,
    *,
    workspaces: Sequence[str] | None = None,
    at: datetime | None = None,
) -> list[AssetRow]:
    """Return the assets with that key, or else that name. Purged ones answer with their last state (gone_at set)."""
    given: dict[str, Any] = {
        "workspaces": _names(workspaces),
        "kind": kind,
        "which": canonical.escape(key_or_name),
        "at": at,
    }
    for column in ("a.key", "v.name"):
        found = connection.execute(
            text(_ASSETS + f" AND a.kind = :kind AND {column} = :which" + _AT + " ORDER BY w.name, a.key"), given
        ).all()
        if not found and at is None:
            found = connection.execute(
                text(
                    "SELECT DISTINCT ON (workspace, key) * FROM ("
                    + _ASSETS
                    + f" AND a.kind = :kind AND {column} = :which AND a.gone_at IS NOT NULL) gone"
                    " ORDER BY workspace, key, last_changed DESC"
                ),
                given,
            ).all()
        if found:
            return [_asset(row) for row in found]
    return []


def asset_history(
    connection: Connection,
    kind: Kind,
    key_or_name: str,
    *,
    workspaces: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[VersionRow]:
    """Return the states of an asset, oldest first. A name answers for every asset that ever had it."""
    rows = connection.execute(
        text(
            """
            SELECT w.name AS workspace, a.kind, a.key, v.name, v.state, v.lifecycle, v.valid_from, v.valid_to,
                encode(v.digest, 'hex') AS digest, v.scan_id AS scan, v.document,
                CASE WHEN v.valid_to IS NOT NULL AND NOT EXISTS (
                    SELECT 1 FROM version n WHERE n.asset_id = v.asset_id AND n.valid_from = v.valid_to
                ) THEN 'purged' END AS ended_by
            FROM version v JOIN asset a USING (asset_id) JOIN workspace w ON w.workspace_id = v.workspace_id
            WHERE (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces)) AND v.asset_id IN (
                SELECT asset_id FROM asset WHERE kind = :kind AND key = :which
                UNION
                SELECT asset_id FROM version WHERE kind = :kind AND name = :which AND NOT EXISTS (
                    SELECT 1 FROM asset WHERE kind = :kind AND key = :which))
              AND (CAST(:since AS timestamptz) IS NULL OR v.valid_to IS NULL OR v.valid_to > :since)
              AND (CAST(:until AS timestamptz) IS NULL OR v.valid_from <= :until)
            ORDER BY w.name, a.key, v.valid_from
            """
        ),
        {
            "workspaces": _names(workspaces),
            "kind": kind,
            "which": canonical.escape(key_or_name),
            "since": since,
            "until": until,
        },
    )
    return [VersionRow(**(_original(row) | {"document": canonical.decode(row.document)})) for row in rows]


def changes(
    connection: Connection,
    *,
    workspaces: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    kind: Kind | None = None,
    key: str | None = None,
    type: str | None = None,  # noqa: A002 - the word of the field
    category: str | None = None,
    expand: bool = False,
    limit: int | None = None,
) -> Iterator[ChangeRow]:
    """Yield changes, oldest first (the newest `limit` of them). Unless `expand`, a story is one row. Streams.

    A question about a time is not answered with what retention left of it; about one asset, all that is kept is told.
    """
    given: dict[str, Any] = {"workspaces": _names(workspaces)}
    conditions = ["(CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces))"]
    for column, operator, name, value in (
        ("c.at", ">", "since", since),
        ("c.at", "<=", "until", until),
        ("c.kind", "=", "kind", kind),
        ("a.key", "=", "key", key),
        ("c.type", "=", "type", type),
        ("c.category", "=", "category", category),
    ):
        if value is not None:
            conditions.append(f"{column} {operator} :{name}")
            given[name] = value
    if not expand:
        # A part is shown on its own only where its story is outside the question: each condition holds for both.
        told = [condition.replace("c.", "p.") for condition in conditions if condition.startswith("c.")]
        told += ["o.key = :key"] if key is not None else []
        conditions.append(
            "NOT EXISTS (SELECT 1 FROM change p JOIN asset o USING (asset_id) WHERE p.change_id = c.part_of"
            f" AND {' AND '.join(told)})"
            if told
            else "c.part_of IS NULL"
        )
    if key is None and not (since is None and until is None):
        # What is left of a time whose history was dropped is no answer about it.
        conditions.append(
            "NOT EXISTS (SELECT 1 FROM horizon h WHERE h.workspace_id = c.workspace_id AND h.kind = c.kind"
            " AND h.dropped_before >= c.at)"
        )
    statement = f"""
        SELECT c.change_id AS id, c.at, c.not_before, c.not_after, coalesce(c.actor, 'unknown') AS actor,
            c.actor_source, w.name AS workspace, c.kind, a.key, c.name, c.type, c.category, c.scan_id AS scan,
            c.fields, c.part_of, (
                SELECT json_object_agg(kind, number) FROM (
                    SELECT p.kind, count(*) AS number FROM change p WHERE p.part_of = c.change_id GROUP BY p.kind
                ) parts) AS includes
        FROM change c JOIN asset a USING (asset_id) JOIN workspace w ON w.workspace_id = c.workspace_id
        WHERE {" AND ".join(conditions)}
    """
    order = "c.at {0}, c.change_id {0}"
    if has_events(connection):
        # Workspaces that appear are changes, too: told by discovery, before any scan of theirs.
        about = [one.replace("w.name", "e.workspace") for one in conditions if one.startswith("(CAST(:workspaces")]
        about += [
            re.sub(r"^[ca]\.", "e.", one) for one in conditions if re.fullmatch(r"[ca]\.(\w+) (=|>|<=) :\w+", one)
        ]
        statement = f"{statement} UNION ALL SELECT * FROM ({AS_CHANGES}) e WHERE {' AND '.join(about)}"
        statement, order = f"SELECT * FROM ({statement}) told", "at {0}, id {0}"
    if limit is not None:
        statement = f"SELECT * FROM ({statement} ORDER BY {order.format('DESC')} LIMIT :limit) newest ORDER BY at, id"
        given["limit"] = limit
    else:
        statement += f" ORDER BY {order.format('ASC')}"
    for row in stream(connection, statement, given):
        yield ChangeRow(**(_original(row) | {"fields": canonical.decode(row.fields), "includes": row.includes or {}}))


def workspace_names(connection: Connection) -> list[str]:
    """Return the names of all workspaces the inventory knows."""
    return list(connection.execute(text("SELECT name FROM workspace ORDER BY name")).scalars())


def _names(workspaces: Sequence[str] | None) -> list[str] | None:
    return list(workspaces) if workspaces is not None else None


def _original(row: Any) -> dict[str, Any]:
    """Return a row's columns with the characters that Postgres could not hold."""
    return {
        name: canonical.unescape(value)
        if isinstance(value, str) and name not in ("document", "aside", "fields")
        else value
        for name, value in row._asdict().items()
    }


def stream(connection: Connection, statement: str, given: Mapping[str, Any]) -> Iterator[Any]:
    """Read through a server-side cursor, block by block."""
    options = connection.execution_options(yield_per=_BLOCK)
    with options.execute(text(statement), given) as result:
        yield from result


def _asset(row: Any) -> AssetRow:
    values = _original(row)
    values["document"] = canonical.decode(row.document)
    values["aside"] = canonical.decode(row.aside) if row.aside else {}
    return AssetRow(**values)
