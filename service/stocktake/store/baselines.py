"""How assets are, as far as a baseline can speak of them, and what differs from the baselines of a workspace."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import Kind
from stocktake.core.baseline import KINDS, Actual, Baseline, Off, actual, compare

#: Kinds of which a baseline names assets by their own name: the others are few, or known by something else.
_BY_NAME = (Kind.EXPERIMENT, Kind.REGISTERED_MODEL, Kind.ONLINE_ENDPOINT, Kind.BATCH_ENDPOINT)

_ACTUAL = """
SELECT a.kind, a.key, v.name, v.owner, v.document FROM version v JOIN asset a USING (asset_id)
JOIN workspace w ON w.workspace_id = v.workspace_id
WHERE w.name = :workspace AND v.kind = ANY(:kinds) AND v.valid_to IS NULL AND v.lifecycle = 'active'
  AND a.gone_at IS NULL AND (v.kind = ANY(:whole) OR v.name = ANY(:names) OR a.key = ANY(:names))
ORDER BY a.kind, v.name, a.key
"""


def actuals(
    connection: Connection,
    workspace: str,
    kinds: Collection[Kind] = KINDS,
    names: Mapping[Kind, Collection[str]] | None = None,
) -> list[Actual]:
    """How the assets of some kinds are; of those in `names` only these. Reads the index version_open."""
    given = names or {}
    rows = connection.execute(
        text(_ACTUAL),
        {
            "workspace": workspace,
            "kinds": sorted(kinds),
            "whole": sorted(kind for kind in kinds if kind not in given),
            "names": sorted({canonical.escape(name) for those in given.values() for name in those}),
        },
    )
    return [
        actual(
            Kind(row.kind),
            canonical.unescape(row.key),
            canonical.unescape(row.name) if row.name is not None else None,
            canonical.unescape(row.owner) if row.owner is not None else None,
            canonical.decode(row.document),
        )
        for row in rows
    ]


def looked_at(connection: Connection, workspace: str) -> dict[str, datetime]:
    """The kinds that a baseline can speak of, and that are completely seen, with the time of the oldest such look."""
    rows = connection.execute(
        text(
            "SELECT s.kind, min(s.last_complete_at) AS at FROM scope s JOIN workspace w USING (workspace_id)"
            " WHERE w.name = :workspace AND s.kind = ANY(:kinds) GROUP BY s.kind HAVING bool_and(s.state = 'complete')"
        ),
        {"workspace": workspace, "kinds": sorted(KINDS)},
    )
    return {row.kind: row.at for row in rows}


def differences(connection: Connection, workspace: str, baselines: Sequence[Baseline]) -> list[Off]:
    """In what a workspace is not as its baselines say; each asset once, by the first that differs."""
    ours = [one for one in baselines if one.workspace == workspace]
    if not ours:
        return []
    kinds = {wanted.kind for one in ours for wanted in one.wanted} | {kind for one in ours for kind in one.exact}
    exact = {kind for one in ours for kind in one.exact}
    names: dict[Kind, set[str]] = {kind: set() for kind in kinds if kind in _BY_NAME and kind not in exact}
    for one in ours:
        for wanted in one.wanted:
            if wanted.kind in names:
                names[wanted.kind].add(wanted.name)
    seen, known = looked_at(connection, workspace), actuals(connection, workspace, kinds, names)
    named = {(wanted.kind, wanted.name) for one in ours for wanted in one.wanted}
    found: dict[tuple[str, str], Off] = {}
    for one in ours:
        for off in compare(one, known, seen.keys()):
            if off.what == "not in the baseline" and (off.kind, off.name) in named:
                continue  # another file of this workspace names it
            found.setdefault((off.kind, off.key), off)
    return list(found.values())


def keep(connection: Connection, workspace_id: int, found: Sequence[Off], clean: Any) -> None:
    """Let what differs be what rules read. Writes nothing where that is what stands already."""
    wanted = {
        (str(off.kind), canonical.escape(off.key)): canonical.encode(clean(off.evidence)).decode() for off in found
    }
    stand = {
        (row.kind, row.key): row.evidence
        for row in connection.execute(
            text("SELECT kind, key, evidence FROM off_baseline WHERE workspace_id = :wid"), {"wid": workspace_id}
        )
    }
    if gone := stand.keys() - wanted.keys():
        connection.execute(
            text(
                "DELETE FROM off_baseline WHERE workspace_id = :wid AND (kind, key) IN"
                " (SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:keys AS text[])))"
            ),
            {"wid": workspace_id, "kinds": [kind for kind, _ in gone], "keys": [key for _, key in gone]},
        )
    if news := {which: evidence for which, evidence in wanted.items() if stand.get(which) != evidence}:
        connection.execute(
            text(
                "INSERT INTO off_baseline (workspace_id, kind, key, evidence) SELECT :wid, * FROM"
                " unnest(CAST(:kinds AS text[]), CAST(:keys AS text[]), CAST(:evidence AS text[]))"
                " ON CONFLICT (workspace_id, kind, key) DO UPDATE SET evidence = excluded.evidence"
            ),
            {
                "wid": workspace_id,
                "kinds": [kind for kind, _ in news],
                "keys": [key for _, key in news],
                "evidence": list(news.values()),
            },
        )
