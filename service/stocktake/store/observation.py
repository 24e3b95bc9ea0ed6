"""What can be said about a time: how much of each kind had been completely seen by then, and is still kept.

It answers about the looking, never about assets: "not observed" is not "nothing", and neither is "no longer kept".
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import NOT_OF_AZURE, ONLY_OF_AZURE, PARTITIONED, PIECEMEAL, Kind
from stocktake.store.deletion import Deletion, deletions


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """How much of a kind of a workspace, or of one partition of it, had been seen completely at a time."""

    workspace: str
    kind: str
    partition: str | None  # the question was about this one alone
    first_observed: datetime | None  # since when anything of it is; None: not yet
    dropped_before: datetime | None  # retention dropped states of that time; None where it did not
    partitions: int  # experiments that were there, or may have been
    unseen: int  # of these, how many had not been listed completely
    examples: Sequence[str]  # some of the unseen
    listed: bool  # the experiments themselves had been listed completely: no further ones are unknown
    hidden: bool  # nothing can be said about that time
    met: bool = False  # of a kind that is read piece by piece some is known, though never was all of it listed

    @property
    def whole(self) -> bool:
        """Whether an answer leaves nothing out."""
        return not self.hidden and not self.unseen and self.listed and not self.met


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Since when an asset is known, and how far back its states are kept."""

    workspace: str
    key: str
    partition: str
    first_seen: datetime
    kept_since: datetime | None  # the beginning of its oldest state that is still there


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """A workspace, or a kind in it, of which an answer is old: it could not be looked at, and what became of it since
    is not known; or it is known to be deleted, with all that was in it."""

    workspace: str
    since: datetime | None  # the first look that failed, or that showed the deletion; None: there was no look at all
    reason: str | None = None  # in a word
    last_complete: datetime | None = None  # when the last complete look ended, if there was one
    deletion: Deletion | None = None
    kind: str | None = None  # this kind alone could not be looked at
    partitions: int = 0  # of a kind that is listed experiment by experiment: in how many


# An experiment is in question if it was known at that time, or was found at the baseline later: then it may have been
# there. One that was seen to be created later was not. Scopes without a known experiment are in question always.
_OBSERVED = """
WITH moment AS MATERIALIZED (
    SELECT least(coalesce(CAST(:at AS timestamptz), 'infinity'), clock_timestamp()) AS at),
w AS MATERIALIZED (
    SELECT workspace_id, name, source FROM workspace
    WHERE CAST(:workspaces AS text[]) IS NULL OR name = ANY(:workspaces)),
looks AS MATERIALIZED (
    SELECT workspace_id, kind, partition, min(since) AS since FROM (
        SELECT s.workspace_id, s.kind, s.partition, coalesce(s.first_complete_at, s.first_listed_at) AS since
        FROM scope s JOIN w USING (workspace_id) WHERE s.state <> 'unsupported'
        UNION ALL
        SELECT f.workspace_id, f.kind, f.partition, f.first_observed_at
        FROM former_scope f JOIN w USING (workspace_id)) each
    GROUP BY workspace_id, kind, partition),
asked AS (
    SELECT w.workspace_id, w.name, coalesce(k.kind, :kind) AS kind, k.since
    FROM w LEFT JOIN (SELECT workspace_id, kind, min(since) AS since FROM looks GROUP BY workspace_id, kind) k
        ON k.workspace_id = w.workspace_id AND (CAST(:kind AS text) IS NULL OR k.kind = :kind)
    WHERE NOT EXISTS (SELECT 1 FROM scope u WHERE u.workspace_id = w.workspace_id
                      AND u.kind = :kind AND u.state = 'unsupported')
      AND (k.kind IS NOT NULL OR NOT (w.source = 'azureml' AND :not_of_azure OR w.source <> 'azureml' AND :of_azure))),
places AS (
    SELECT e.workspace_id, e.key AS partition FROM moment, asset e JOIN w USING (workspace_id)
    WHERE e.kind = 'experiment' AND (CAST(:partition AS text) IS NULL OR e.key = :partition)
      AND (e.baseline AND e.first_seen > moment.at
           OR EXISTS (SELECT 1 FROM version v WHERE v.asset_id = e.asset_id AND v.valid_from <= moment.at
                      AND (v.valid_to IS NULL OR v.valid_to > moment.at)))
    UNION
    SELECT l.workspace_id, l.partition FROM looks l
    WHERE l.partition <> '' AND (CAST(:partition AS text) IS NULL OR l.partition = :partition)
      AND NOT EXISTS (SELECT 1 FROM asset e WHERE e.workspace_id = l.workspace_id AND e.kind = 'experiment'
                      AND e.key = l.partition)),
whole AS MATERIALIZED (SELECT workspace_id, kind, since FROM looks WHERE partition = ''),
-- Put together by grouping, not by joining: nobody knows how large these lists are, and a nested loop over two of them
-- takes minutes where this takes a fraction of a second.
seen AS (
    SELECT each.workspace_id, each.kind, each.partition, least(min(each.since), min(whole.since)) AS since
    FROM (
        SELECT a.workspace_id, a.kind, p.partition, true AS there, CAST(NULL AS timestamptz) AS since
        FROM asked a JOIN places p USING (workspace_id) WHERE a.kind = ANY(:partitioned)
        UNION ALL
        SELECT l.workspace_id, l.kind, l.partition, false, l.since FROM looks l
        WHERE l.kind = ANY(:partitioned) AND (CAST(:kind AS text) IS NULL OR l.kind = :kind)
    ) each LEFT JOIN whole USING (workspace_id, kind)
    GROUP BY each.workspace_id, each.kind, each.partition HAVING bool_or(each.there))
SELECT a.name AS workspace, a.kind, a.since, h.dropped_before, coalesce(s.number, 0) AS partitions,
    coalesce(s.unseen, 0) AS unseen, s.first, s.examples, coalesce(e.since <= moment.at, false) AS listed,
    a.since IS NULL OR a.since > moment.at AS before, e.since AS listed_since,
    a.kind = ANY(:piecemeal) AND EXISTS (SELECT 1 FROM asset m WHERE m.workspace_id = a.workspace_id
        AND m.kind = a.kind AND m.first_seen <= moment.at) AS met
FROM moment, asked a
LEFT JOIN horizon h ON h.workspace_id = a.workspace_id AND h.kind = a.kind
    AND h.dropped_before > (SELECT at FROM moment)
LEFT JOIN looks e ON e.workspace_id = a.workspace_id AND e.kind = 'experiment' AND e.partition = ''
LEFT JOIN (
    SELECT s.workspace_id, s.kind, count(*) AS number, min(s.since) AS first,
        count(*) FILTER (WHERE s.since IS NULL OR s.since > moment.at) AS unseen,
        (array_agg(s.partition ORDER BY s.partition)
            FILTER (WHERE s.since IS NULL OR s.since > moment.at))[1:3] AS examples
    FROM moment, seen s GROUP BY s.workspace_id, s.kind
) s ON s.workspace_id = a.workspace_id AND s.kind = a.kind
ORDER BY a.name, a.kind
"""


# Since when a kind cannot be looked at is the ledger's word: the first look in vain after the last complete one.
_DENIED = """
SELECT * FROM (
    SELECT d.name, d.kind, d.last_complete, d.partitions, coalesce(
        (SELECT min(l.began_at) FROM scan c JOIN scope_scan l USING (scan_id) WHERE c.workspace_id = d.workspace_id
         AND l.kind = d.kind AND l.state = 'unobservable' AND l.began_at > d.last_complete), d.last_complete) AS since
    FROM (
        SELECT w.workspace_id, w.name, s.kind, min(coalesce(s.last_complete_at, s.last_listed_at)) AS last_complete,
            count(*) FILTER (WHERE s.partition <> '') AS partitions
        FROM scope s JOIN workspace w USING (workspace_id)
        WHERE s.state = 'unobservable' AND w.unobservable_since IS NULL AND s.last_listed_at IS NOT NULL
            AND (CAST(:kind AS text) IS NULL OR s.kind = :kind)
            AND (CAST(:partition AS text) IS NULL OR s.partition = :partition)
            AND (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces))
        GROUP BY w.workspace_id, w.name, s.kind) d) each
WHERE since < least(coalesce(CAST(:at AS timestamptz), 'infinity'), clock_timestamp())
ORDER BY name, kind
"""


def observed(
    connection: Connection,
    kind: Kind | None,
    *,
    workspaces: Sequence[str] | None = None,
    at: datetime | None = None,
    partition: str | None = None,
) -> list[Observation]:
    """Say for each workspace and kind (one row for a workspace that was never scanned) what was seen at a time.

    Without `at` it is now, by the database's clock. A kind that a server does not offer has no row, and neither has one
    that its source never lists: jobs of an MLflow server are not missing.
    """
    partition = partition if kind in PARTITIONED else None
    rows = connection.execute(
        text(_OBSERVED),
        {
            "at": at,
            "kind": kind,
            "workspaces": list(workspaces) if workspaces is not None else None,
            "partition": canonical.escape(partition) if partition is not None else None,
            "partitioned": sorted(PARTITIONED),
            "piecemeal": sorted(PIECEMEAL),
            "not_of_azure": kind in NOT_OF_AZURE,
            "of_azure": kind in ONLY_OF_AZURE,
        },
    )
    found = []
    for row in rows:
        split = row.kind in PARTITIONED
        met = bool(row.before and row.met)
        unseen = (
            row.unseen == row.partitions and (row.partitions > 0 or not row.listed) if split else row.before and not met
        )
        first = row.first if split and row.partitions else row.since
        if split and not row.partitions and first is None:
            first = row.listed_since  # there was no experiment to observe
        found.append(
            Observation(
                workspace=row.workspace,
                kind=row.kind or Kind.WORKSPACE,
                partition=partition,
                first_observed=first,
                dropped_before=row.dropped_before,
                partitions=row.partitions if split else 0,
                unseen=row.unseen if split else 0,
                examples=[canonical.unescape(one) for one in row.examples or ()] if split else (),
                listed=row.listed or not split,
                hidden=unseen or row.dropped_before is not None,
                met=met,
            )
        )
    return found


def unseen(
    connection: Connection,
    *,
    workspaces: Sequence[str] | None = None,
    at: datetime | None = None,
    kind: Kind | None = None,
    partition: str | None = None,
) -> list[Unseen]:
    """Return what was deleted by a time, or could not be looked at since before it; without it, now. These are whole
    workspaces, and single kinds of others: a list that was complete once says nothing of the time since it is denied.

    That a workspace is deleted is no gap in an answer about workspaces themselves (`kind`): it is the answer.
    """
    gone = deletions(connection, workspaces=workspaces, at=at) if kind != Kind.WORKSPACE else []
    rows = connection.execute(
        text(
            "SELECT name, unobservable_since, trouble, (SELECT max(coalesce(last_finished_at, finished_at)) FROM scan s"
            " WHERE s.workspace_id = w.workspace_id AND s.state = 'complete') AS last_complete FROM workspace w"
            " WHERE unobservable_since < least(coalesce(CAST(:at AS timestamptz), 'infinity'), clock_timestamp())"
            " AND (CAST(:workspaces AS text[]) IS NULL OR name = ANY(:workspaces)) ORDER BY name"
        ),
        {"at": at, "workspaces": list(workspaces) if workspaces is not None else None},
    )
    return (
        [
            Unseen(
                workspace=one.workspace,
                since=one.not_after,
                reason=one.state,
                last_complete=one.last_seen,
                deletion=one,
            )
            for one in gone
        ]
        + [
            Unseen(
                workspace=row.name, since=row.unobservable_since, reason=row.trouble, last_complete=row.last_complete
            )
            for row in rows
        ]
        + _denied(connection, workspaces, at, kind, partition, {one.workspace for one in gone})
    )


def _denied(
    connection: Connection,
    workspaces: Sequence[str] | None,
    at: datetime | None,
    kind: Kind | None,
    partition: str | None,
    gone: Set[str],
) -> list[Unseen]:
    """Kinds that were listed once and could not be looked at the last time, of workspaces that could."""
    rows = connection.execute(
        text(_DENIED),
        {
            "at": at,
            "kind": kind,
            "workspaces": list(workspaces) if workspaces is not None else None,
            "partition": canonical.escape(partition) if partition is not None and kind in PARTITIONED else None,
        },
    )
    return [
        Unseen(
            workspace=row.name,
            since=row.since,
            last_complete=row.last_complete,
            kind=row.kind,
            partitions=row.partitions,
        )
        for row in rows
        if row.name not in gone
    ]


def lives(
    connection: Connection, kind: Kind, key_or_name: str, *, workspaces: Sequence[str] | None = None
) -> list[Life]:
    """Return what is known of the assets with that key, or else of those that ever had that name."""
    for which in (
        "a.key = :which",
        "a.asset_id IN (SELECT asset_id FROM version WHERE kind = :kind AND name = :which)",
    ):
        rows = connection.execute(
            text(
                "SELECT w.name AS workspace, a.key, a.partition, a.first_seen,"
                " (SELECT min(v.valid_from) FROM version v WHERE v.asset_id = a.asset_id) AS kept_since"
                " FROM asset a JOIN workspace w USING (workspace_id)"
                " WHERE (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces))"
                f" AND a.kind = :kind AND {which} ORDER BY w.name, a.key"
            ),
            {
                "workspaces": list(workspaces) if workspaces is not None else None,
                "kind": kind,
                "which": canonical.escape(key_or_name),
            },
        ).all()
        if rows:
            return [
                Life(
                    workspace=row.workspace,
                    key=canonical.unescape(row.key),
                    partition=canonical.unescape(row.partition),
                    first_seen=row.first_seen,
                    kept_since=row.kept_since,
                )
                for row in rows
            ]
    return []
