"""What the history knows of model versions that are or were production, and of what is behind them. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import Kind
from stocktake.core.production import ENDPOINTS, Meaning, State, Turn
from stocktake.store.homes import home_of

# A state began by the change of its time. Without one it is a baseline (nobody had looked before: its listing's end is
# when it had surely been seen), or the same state read anew. It ended by the change of that time.
_STATES = """
SELECT w.name AS workspace, a.kind, a.key, v.parent, v.run, v.lifecycle, v.valid_from, v.valid_to,
    encode(v.digest, 'hex') AS digest, v.scan_id AS scan, v.artifact_uri, v.created_at, v.document,
    b.change_id AS began, b.not_before AS began_not_before, b.scan_id AS began_scan,
    coalesce(b.not_after, (SELECT min(l.finished_at) FROM scope_scan l WHERE l.scan_id = v.scan_id
        AND l.kind = v.kind AND l.finished_at >= v.valid_from), v.valid_from) AS began_not_after,
    (SELECT max(p.valid_from) FROM version p WHERE p.asset_id = v.asset_id AND p.valid_to = v.valid_from) AS previous,
    e.change_id AS ended, e.not_before AS ended_not_before, coalesce(e.not_after, v.valid_to) AS ended_not_after,
    e.scan_id AS ended_scan,
    coalesce(h.not_before, greatest(v.valid_from, s.last_complete_at)) AS last_seen,
    CASE WHEN v.valid_to IS NOT NULL THEN CASE WHEN e.not_before <= p.finished_at THEN p.finished_at END
        WHEN h.asset_id IS NULL AND s.state = 'complete'
        THEN coalesce(n.last_finished_at, n.finished_at, clock_timestamp()) END AS last_pass
FROM version v JOIN asset a USING (asset_id) JOIN workspace w ON w.workspace_id = v.workspace_id
LEFT JOIN change b ON b.asset_id = v.asset_id AND b.at = v.valid_from AND b.type <> 'purged'
LEFT JOIN change e ON e.asset_id = v.asset_id AND e.at = v.valid_to
LEFT JOIN scope s ON s.workspace_id = v.workspace_id AND s.kind = v.kind AND s.partition = v.partition
LEFT JOIN scan n ON n.scan_id = s.last_scan
LEFT JOIN scan p ON p.scan_id = v.scan_id -- the scan that found it, and the only one that showed it
LEFT JOIN withheld h ON h.asset_id = v.asset_id
WHERE (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces)) AND v.asset_id = ANY(:ids)
ORDER BY w.name, a.kind, a.key, v.valid_from
"""

# Found by text, so that no document is decoded in vain; the core decides. A registry is small beside its runs.
_CANDIDATES = """
SELECT DISTINCT a.asset_id FROM asset a JOIN workspace w USING (workspace_id) JOIN version v USING (asset_id)
WHERE (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces)) AND a.kind = 'model_version'
  AND EXISTS (SELECT 1 FROM unnest(CAST(:words AS text[])) AS sought (word) WHERE strpos(v.document, word) > 0)
"""
_ENDPOINTS = """
SELECT a.asset_id FROM asset a JOIN workspace w USING (workspace_id)
WHERE (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces)) AND a.kind = ANY(:kinds)
"""
_BY_KEY = """
SELECT a.asset_id FROM asset a JOIN workspace w USING (workspace_id)
WHERE w.name = :workspace AND a.kind = ANY(:kinds) AND a.key = ANY(:keys)
"""


def production_states(
    connection: Connection, meaning: Meaning, *, workspaces: Sequence[str] | None = None
) -> list[State]:
    """Return all states of the model versions that were ever production by their own document, and those of all
    endpoints and deployments where these count."""
    given = {"workspaces": list(workspaces) if workspaces is not None else None}
    tags = meaning.tags.items() if isinstance(meaning.tags, Mapping) else meaning.tags
    sought = [_json(one) for one in (*meaning.aliases, *meaning.stages)]
    sought += [f"{_json(name)}:{_json(value)}" for name, value in tags]
    ids = list(connection.execute(text(_CANDIDATES), given | {"words": sought}).scalars())
    kinds = [
        one
        for counts, endpoint in ((meaning.traffic, Kind.ONLINE_ENDPOINT), (meaning.batch_default, Kind.BATCH_ENDPOINT))
        if counts
        for one in (endpoint, ENDPOINTS[endpoint])
    ]
    ids += connection.execute(text(_ENDPOINTS), given | {"kinds": kinds}).scalars()
    return list(_states(connection, ids, workspaces))


def states_of(connection: Connection, workspace: str, kinds: Collection[Kind], keys: Collection[str]) -> list[State]:
    """Return all states that are kept of assets by key, oldest first."""
    given = {"workspace": workspace, "kinds": sorted(kinds), "keys": [canonical.escape(key) for key in keys]}
    ids = list(connection.execute(text(_BY_KEY), given).scalars())
    return list(_states(connection, ids, [workspace]))


def _states(connection: Connection, ids: Sequence[int], workspaces: Sequence[str] | None) -> Iterator[State]:
    if not ids:
        return
    given = {"workspaces": list(workspaces) if workspaces is not None else None, "ids": list(ids)}
    homes: dict[str, str | None] = {}
    for row in connection.execute(text(_STATES), given).all():
        if row.workspace not in homes:
            homes[row.workspace] = home_of(connection, row.workspace)
        not_before = row.began_not_before
        if row.began is None and row.previous is not None:
            not_before = row.previous
        ended = None
        if row.valid_to is not None:
            ended = Turn(
                not_before=row.ended_not_before,
                not_after=row.ended_not_after,
                change=row.ended,
                scan=row.ended_scan,
            )
        yield State(
            workspace=row.workspace,
            kind=row.kind,
            key=canonical.unescape(row.key),
            parent=canonical.unescape(row.parent) if row.parent is not None else None,
            run=canonical.unescape(row.run) if row.run is not None else None,
            lifecycle=row.lifecycle,
            valid_from=row.valid_from,
            valid_to=row.valid_to,
            digest=row.digest,
            scan=row.scan,
            artifact_uri=row.artifact_uri,
            created_at=row.created_at,
            document=canonical.decode(row.document),
            began=Turn(
                not_before=not_before,
                not_after=max(row.began_not_after, row.valid_from),
                change=row.began,
                scan=row.began_scan or row.scan,
            ),
            ended=ended,
            last_seen=row.last_seen,
            last_pass=row.last_pass,
            home=homes[row.workspace],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A run, job or logged model as it was known at a time, or in its last state."""

    kind: str
    key: str
    name: str | None
    lifecycle: str
    gone: bool  # purged by that time
    run: str | None
    code_version: str | None
    data_version: str | None
    valid_from: datetime
    digest: str
    scan: int
    document: Mapping[str, Any]
    home: str | None  # where its workspace is, of one in Azure


_ORIGINS = """
SELECT DISTINCT ON (a.kind, a.key) a.kind, a.key, v.name, v.lifecycle, coalesce(a.gone_at <= :at, false) AS gone,
    v.run, v.code_version, v.data_version, v.valid_from, encode(v.digest, 'hex') AS digest, v.scan_id AS scan,
    v.document
FROM asset a JOIN workspace w USING (workspace_id) JOIN version v USING (asset_id)
WHERE w.name = :workspace AND a.kind = ANY(:kinds) AND a.key = ANY(:keys)
ORDER BY a.kind, a.key, (v.valid_from <= :at) DESC,
    CASE WHEN v.valid_from <= :at THEN v.valid_from END DESC, v.valid_from
"""


def origins(
    connection: Connection, workspace: str, keys: Mapping[Kind, Collection[str]], at: datetime
) -> dict[tuple[str, str], Origin]:
    """Return runs, jobs and logged models by kind and key, each in the state it had at a time, or else the first one
    that is known. One that was never observed is not there."""
    found, home = {}, home_of(connection, workspace)
    for kind, those in keys.items():
        given = {"workspace": workspace, "kinds": [kind], "keys": [canonical.escape(key) for key in those], "at": at}
        for row in connection.execute(text(_ORIGINS), given):
            values = row._asdict() | {"key": canonical.unescape(row.key), "document": canonical.decode(row.document)}
            for name in ("name", "run", "code_version", "data_version"):
                values[name] = canonical.unescape(values[name]) if values[name] is not None else None
            found[str(kind), values["key"]] = Origin(**values, home=home)
    return found


def looks(
    connection: Connection, kind: Kind, workspaces: Sequence[str] | None, start: datetime, end: datetime
) -> dict[str, list[datetime]]:
    """Return by workspace when complete looks at a kind (one that is not partitioned) began in a period, as far as the
    ledger tells: of equal hot passes it keeps the first and the last."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT w.name, look.at FROM scope_scan l JOIN scan s USING (scan_id) JOIN workspace w"
            " USING (workspace_id) CROSS JOIN LATERAL (VALUES (l.began_at), (s.last_began_at)) AS look (at)"
            " WHERE l.kind = :kind AND l.state = 'complete' AND l.ended"
            " AND s.began_at < :end AND coalesce(s.last_finished_at, s.finished_at, l.finished_at) >= :start"
            " AND look.at >= :start AND look.at < :end"
            " AND (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces)) ORDER BY 1, 2"
        ),
        {
            "kind": kind,
            "workspaces": list(workspaces) if workspaces is not None else None,
            "start": start,
            "end": end,
        },
    )
    found: dict[str, list[datetime]] = {}
    for name, at in rows:
        found.setdefault(name, []).append(at)
    return found


def last_looks(connection: Connection, kind: Kind, workspaces: Sequence[str] | None) -> dict[str, datetime | None]:
    """Return by workspace when the last complete look at a kind that is not partitioned began; None: there was none."""
    rows = connection.execute(
        text(
            "SELECT w.name, s.last_complete_at FROM scope s JOIN workspace w USING (workspace_id)"
            " WHERE s.kind = :kind AND s.partition = '' AND s.state <> 'unsupported'"
            " AND (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces))"
        ),
        {"kind": kind, "workspaces": list(workspaces) if workspaces is not None else None},
    )
    return {row.name: row.last_complete_at for row in rows}


def _json(value: str) -> str:
    """A text as it stands in a canonical document, and as Postgres holds it."""
    return canonical.encode({"v": value}).decode()[len('{"v":') : -1]
