"""The net difference between two times: what came and went in between leaves no row, and one act is one story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from stocktake.core import canonical, diff
from stocktake.core.assets import ChangeType, Kind, Lifecycle
from stocktake.store.history import ChangeRow, stream

#: What may explain the changes of others (core.diff.story). Their keys are held in memory, what they explain is not.
_TELLERS = {
    Kind.EXPERIMENT: (ChangeType.DELETED, ChangeType.RESTORED, ChangeType.PURGED),
    Kind.REGISTERED_MODEL: (ChangeType.UPDATED, ChangeType.PURGED),
    Kind.JOB: (ChangeType.PURGED,),
}

# Only what changed in between is compared. `unsure`: when the first look at an asset came after the beginning, it was
# created since only if that is proved: by a look in between that did not show it, or since its scope had been listed
# completely by then, or its experiment was itself seen to begin later.
_PAIRS = """
SELECT w.name AS workspace, a.kind, a.key, coalesce(n.name, o.name) AS name, o.document AS before,
    n.document AS after, o.lifecycle AS was, n.lifecycle AS now, t.last_at, t.last_after, t.first_before, t.created,
    t.restored,
    coalesce(n.partition, o.partition, a.partition) AS partition, coalesce(n.parent, o.parent) AS parent,
    CASE WHEN o.asset_id IS NULL AND coalesce(t.first_before < :start, true) THEN NOT (
        EXISTS (SELECT 1 FROM scope s WHERE s.workspace_id = a.workspace_id AND s.kind = a.kind
                AND s.partition IN (a.partition, '') AND coalesce(s.first_complete_at, s.first_listed_at) <= :start)
        OR EXISTS (SELECT 1 FROM former_scope f WHERE f.workspace_id = a.workspace_id AND f.kind = a.kind
                   AND f.partition = a.partition AND f.first_observed_at <= :start)
        OR EXISTS (SELECT 1 FROM asset e WHERE e.workspace_id = a.workspace_id AND e.kind = 'experiment'
                   AND e.key = a.partition AND NOT e.baseline AND e.first_seen > :start))
        ELSE false END AS unsure
FROM (SELECT asset_id, max(at) AS last_at, max(not_after) AS last_after, min(not_before) AS first_before,
        bool_or(type = 'created') AS created,
        -- Back from being purged; a restoration with fields is of one that was marked deleted.
        bool_or(type = 'restored' AND fields = '[]') AS restored FROM change
      WHERE at > :start AND at <= :end GROUP BY asset_id) t
JOIN asset a USING (asset_id) JOIN workspace w ON w.workspace_id = a.workspace_id
LEFT JOIN version o ON o.asset_id = a.asset_id AND o.valid_from <= :start
    AND (o.valid_to IS NULL OR o.valid_to > :start)
LEFT JOIN version n ON n.asset_id = a.asset_id AND n.valid_from <= :end
    AND (n.valid_to IS NULL OR n.valid_to > :end)
WHERE (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces))
  AND (CAST(:kind AS text) IS NULL OR a.kind = :kind)
"""
_ORDER = " ORDER BY w.name, a.kind, a.key"
# Only what may be a part of the stories at hand. Postgres looks such a list up in a hash; joined with it, the two were
# multiplied.
_SAME_ACT = """
  AND CASE a.kind WHEN 'model_version' THEN coalesce(n.parent, o.parent) = ANY(:registered_model)
      WHEN 'child_job' THEN coalesce(n.parent, o.parent) = ANY(:job)
      ELSE coalesce(n.partition, o.partition, a.partition) = ANY(:experiment) END
"""

_Teller = tuple[str, str, str, str]  # workspace, kind, key and type of the difference that tells a story
_Compare = Callable[[str, Mapping[str, Any]], Iterator[tuple[ChangeRow, _Teller | None]]]


def difference(
    connection: Connection,
    *,
    start: datetime,
    end: datetime,
    workspaces: Sequence[str] | None = None,
    kind: Kind | None = None,
    without: Set[tuple[str, str]] = frozenset(),
    expand: bool = False,
) -> Iterator[ChangeRow]:
    """Yield the net difference between two times. Streams; only what may be folded is read twice.

    `without` are workspaces and kinds about which nothing can be said. Unless `expand`, what a larger difference
    explains is folded into that one, if it is in the answer too.
    """
    given = {
        "start": start,
        "end": end,
        "workspaces": list(workspaces) if workspaces is not None else None,
        "kind": kind,
    }
    compared = partial(_compared, connection, without)
    parts: Mapping[_Teller, Counter[str]] = {}
    if not expand and (kind is None or kind in _TELLERS):
        parts = _stories(compared, given)
    for row, told in compared(_PAIRS + _ORDER, given):
        if told not in parts:
            yield replace(row, includes=dict(parts.get((row.workspace, row.kind, row.key, row.type), {})))


def _stories(compared: _Compare, given: Mapping[str, Any]) -> dict[_Teller, Counter[str]]:
    """Count, for every difference that may tell a story, those that it explains."""
    found: dict[_Teller, Counter[str]] = {}
    for teller, types in _TELLERS.items():
        if given["kind"] in (None, teller):
            for row, _ in compared(_PAIRS, dict(given) | {"kind": teller}):
                if row.type in types:
                    found[row.workspace, row.kind, row.key, row.type] = Counter()
    if found:
        keys = {str(teller): [canonical.escape(one[2]) for one in found if one[1] == teller] for teller in _TELLERS}
        for row, told in compared(_PAIRS + _SAME_ACT, dict(given) | keys | {"kind": None}):
            if told is not None and told in found:
                found[told][row.kind] += 1
    return found


def _compared(
    connection: Connection, without: Set[tuple[str, str]], statement: str, given: Mapping[str, Any]
) -> Iterator[tuple[ChangeRow, _Teller | None]]:
    """Compare the two states of each asset; yield what differs, and what larger difference would explain it."""
    for row in stream(connection, statement, given):
        if (row.workspace, row.kind) in without:
            continue
        if row.before is None and not row.restored and (row.unsure or not row.created):
            continue  # it was there before, but not seen or no longer kept: nothing can be said of a difference
        found = diff.difference(
            None if row.before is None else canonical.decode(row.before),
            None if row.after is None else canonical.decode(row.after),
            was=Lifecycle(row.was or "active"),
            now=Lifecycle(row.now or "active"),
        )
        if found is None:
            continue
        workspace, key = canonical.unescape(row.workspace), canonical.unescape(row.key)
        story = None
        if found.type != ChangeType.CREATED:
            parent = canonical.unescape(row.parent) if row.parent else None
            story = diff.story(Kind(row.kind), found, partition=canonical.unescape(row.partition), parent=parent)
        yield (
            ChangeRow(
                id=None,
                at=row.last_at,
                not_before=row.first_before,
                not_after=row.last_after,
                actor="unknown",
                actor_source=None,
                workspace=workspace,
                kind=row.kind,
                key=key,
                name=canonical.unescape(row.name) if row.name else row.name,
                type=str(found.type),
                category=str(found.category),
                scan=None,
                fields=[{"path": f.path, "before": f.before, "after": f.after} for f in found.fields],
            ),
            (workspace, str(story.kind), story.key, str(story.type)) if story else None,
        )
