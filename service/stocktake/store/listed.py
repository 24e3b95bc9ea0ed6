"""When a kind was last listed completely, by a time: what was not on that list was not there, whoever names it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core.assets import PARTITIONED, PIECEMEAL

# Of a kind that is listed experiment by experiment the oldest of these lists counts, and that of the experiments.
_NOW = """
SELECT s.kind, CASE WHEN s.kind = ANY(:partitioned)
        THEN coalesce(max(s.last_complete_at) FILTER (WHERE s.partition = ''),
            CASE WHEN bool_and(s.last_complete_at IS NOT NULL AND e.last_complete_at IS NOT NULL)
                THEN least(min(s.last_complete_at), min(e.last_complete_at)) END)
        ELSE max(s.last_complete_at) END AS at
FROM scope s JOIN workspace w USING (workspace_id)
LEFT JOIN scope e ON e.workspace_id = s.workspace_id AND e.kind = 'experiment' AND e.partition = ''
WHERE w.name = :workspace AND s.kind = ANY(:kinds) AND s.state <> 'unsupported'
GROUP BY s.kind
"""

# The ledger tells of a time: backwards from it, the first pass that had listed a kind to its end. Equal hot passes are
# one row, with the first and the last of them. Of experiments only a sweep lists all.
_THEN = """
SELECT k.kind, found.at FROM unnest(CAST(:kinds AS text[])) AS k (kind) CROSS JOIN LATERAL (
    SELECT CASE WHEN s.passes > 1 AND s.last_finished_at <= :at THEN s.last_began_at ELSE min(l.began_at) END AS at
    FROM scan s JOIN scope_scan l USING (scan_id)
    WHERE s.workspace_id = (SELECT workspace_id FROM workspace WHERE name = :workspace)
      AND s.began_at <= :at AND (s.mode = 'sweep' OR NOT k.kind = ANY(:partitioned))
      AND (l.kind = k.kind OR l.kind = 'experiment' AND k.kind = ANY(:partitioned))
      AND l.state NOT IN ('incremental', 'unsupported')
    GROUP BY s.scan_id HAVING bool_and(l.state = 'complete' AND l.ended AND l.finished_at <= :at)
      AND bool_or(l.kind = k.kind AND (cardinality(l.covers) > 0 OR k.kind = ANY(:partitioned)))
      AND (bool_or(l.kind = 'experiment') OR NOT k.kind = ANY(:partitioned))
    ORDER BY s.scan_id DESC LIMIT 1) found
"""


def listed(connection: Connection, workspace: str, kinds: Collection[str], at: datetime | None) -> dict[str, datetime]:
    """Return by kind when the last complete list of it began that had ended by a time; without it, the last of all.

    A kind that was never listed completely is not there; neither is one whose lists are filtered by permission, nor one
    that is read piece by piece.
    """
    given: dict[str, Any] = {
        "workspace": workspace,
        "kinds": sorted(set(kinds) - PIECEMEAL),
        "partitioned": sorted(PARTITIONED),
    }
    given |= {"at": at} if at is not None else {}
    rows = connection.execute(text(_NOW if at is None else _THEN), given)
    return {row.kind: row.at for row in rows if row.at is not None}
