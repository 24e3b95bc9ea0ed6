"""What became of a workspace that is deleted where it was: what is known of it stands as it was last seen. Reads only.

Its own document tells (the scans that still ask for it), or discovery does, which may notice first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

#: How long what is deleted in that way can be brought back.
RECOVERABLE: Mapping[str, timedelta] = {"SoftDeleted": timedelta(days=14)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A workspace that was deleted, between two looks, and had not come back by the time asked about."""

    workspace: str
    state: str  # how, in a word: SoftDeleted, Deleted, Gone (nobody tells which of the two)
    not_before: datetime | None  # the last look that showed it; None where that is no longer kept
    not_after: datetime
    last_seen: datetime | None  # when the last complete look at what is in it ended

    @property
    def recoverable_for(self) -> timedelta | None:
        """How long after its deletion it can be brought back; None: not at all, or nobody tells."""
        return RECOVERABLE.get(self.state)

    @property
    def recoverable_until(self) -> datetime | None:
        """When it can surely no longer be brought back; None where it never could."""
        return self.not_after + self.recoverable_for if self.recoverable_for is not None else None


# A word that changes (soft-deleted, then gone for good) is a new state of the same deletion, which began with the last
# change of that type. Discovery counts where no scan looked at the workspace since: one that did knows better.
_DELETED = """
WITH moment AS MATERIALIZED (
    SELECT least(coalesce(CAST(:at AS timestamptz), 'infinity'), clock_timestamp()) AS at),
told AS (
    SELECT w.workspace_id, w.name, v.state, c.not_before,
        coalesce(c.not_after, v.valid_from) AS not_after, coalesce(c.at, v.valid_from) AS at
    FROM moment CROSS JOIN workspace w JOIN asset a ON a.workspace_id = w.workspace_id AND a.kind = 'workspace'
    JOIN version v ON v.asset_id = a.asset_id AND v.lifecycle = 'deleted' AND v.valid_from <= moment.at
        AND (v.valid_to IS NULL OR v.valid_to > moment.at)
    LEFT JOIN LATERAL (
        SELECT d.at, d.not_before, d.not_after FROM change d
        WHERE d.asset_id = a.asset_id AND d.type = 'deleted' AND d.at <= v.valid_from ORDER BY d.at DESC LIMIT 1
    ) c ON true
    UNION ALL
    SELECT w.workspace_id, w.name, CASE e.event WHEN 'deleted' THEN 'Deleted' ELSE 'SoftDeleted' END, e.not_before,
        e.at, e.at
    FROM moment CROSS JOIN LATERAL (
        SELECT DISTINCT ON (n.name) n.name, n.event, n.not_before, n.at FROM discovery_event n
        WHERE n.at <= moment.at ORDER BY n.name, n.event_id DESC
    ) e JOIN workspace w ON w.name = e.name
    WHERE e.event IN ('deleted', 'soft-deleted')
      AND NOT EXISTS (SELECT 1 FROM scope s WHERE s.workspace_id = w.workspace_id AND s.kind = 'workspace'
                      AND s.last_complete_at > e.at AND s.last_complete_at <= moment.at)
      AND NOT EXISTS (SELECT 1 FROM asset a JOIN version v USING (asset_id) WHERE a.workspace_id = w.workspace_id
                      AND a.kind = 'workspace' AND v.valid_from <= moment.at
                      AND (v.valid_from > e.at OR v.lifecycle = 'deleted')
                      AND (v.valid_to IS NULL OR v.valid_to > moment.at)))
SELECT t.name AS workspace, coalesce(t.state, 'Gone') AS state, t.not_before, t.not_after, coalesce((
    SELECT max(coalesce(s.last_finished_at, s.finished_at)) FROM scan s WHERE s.workspace_id = t.workspace_id
        AND s.state = 'complete' AND coalesce(s.last_finished_at, s.finished_at) <= t.at), t.not_before) AS last_seen
FROM told t WHERE CAST(:workspaces AS text[]) IS NULL OR t.name = ANY(:workspaces) ORDER BY t.name
"""


def deletions(
    connection: Connection, *, workspaces: Sequence[str] | None = None, at: datetime | None = None
) -> list[Deletion]:
    """Return the workspaces that were known to be deleted at a time; without it, now."""
    given = {"at": at, "workspaces": list(workspaces) if workspaces is not None else None}
    return [Deletion(**row._asdict()) for row in connection.execute(text(_DELETED), given)]
