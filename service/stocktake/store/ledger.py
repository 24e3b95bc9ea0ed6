"""The ledger: what each scan listed, how completely, and what that says about every workspace now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import Kind, Mode, ScanState, Scope, ScopeState
from stocktake.core.words import words
from stocktake.store import chain
from stocktake.store.claims import Claim
from stocktake.store.engine import copy_rows, driver


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeResult:
    """How the listing of one scope ended."""

    scope: Scope
    state: ScopeState
    began_at: datetime
    finished_at: datetime
    reason: str | None = None
    ended: bool = True  # the pages came to their end, whatever was on them
    listed: int = 0
    missing: int = 0
    purged: int = 0
    carried: int = 0
    withheld: int = 0


_SCOPE_SCAN = (
    ("scan_id", "int8"), ("ordinal", "int4"), ("kind", "text"), ("partition", "text"), ("covers", "text[]"),
    ("state", "text"), ("reason", "text"), ("ended", "bool"), ("began_at", "timestamptz"),
    ("finished_at", "timestamptz"), ("listed", "int8"), ("missing", "int8"), ("purged", "int8"), ("carried", "int8"),
    ("withheld", "int8"),
)  # fmt: skip


def record_scopes(connection: Connection, claim: Claim, results: Sequence[ScopeResult], *, ordinal: int) -> None:
    """Write the ledger rows of ended scopes and advance what is known about each partition they cover."""
    copy_rows(
        driver(connection),
        "scope_scan",
        _SCOPE_SCAN,
        (
            (
                claim.scan_id, ordinal + index, str(r.scope.kind), canonical.escape(r.scope.partition),
                [canonical.escape(partition) for partition in r.scope.covers], str(r.state),
                canonical.escape(r.reason) if r.reason else None, r.ended, r.began_at, r.finished_at,
                r.listed, r.missing, r.purged, r.carried, r.withheld,
            )
            for index, r in enumerate(results)
        ),
    )  # fmt: skip
    rows = [
        (r, canonical.escape(partition))
        for r in results
        for partition in (r.scope.covers or (("",) if r.state == ScopeState.UNSUPPORTED else ()))
        if r.state != ScopeState.INCREMENTAL
    ]
    if not rows:
        return
    connection.execute(
        text(
            """
            WITH seen AS (
                SELECT DISTINCT ON (kind, partition) kind, partition, state, reason, began, finished,
                    state IN ('complete', 'permission-filtered') AS listed, state = 'complete' AS complete
                FROM unnest(CAST(:kinds AS text[]), CAST(:partitions AS text[]), CAST(:states AS text[]),
                            CAST(:reasons AS text[]), CAST(:begans AS timestamptz[]), CAST(:finisheds AS timestamptz[]))
                    AS n (kind, partition, state, reason, began, finished)
            ), known AS (
                UPDATE scope s SET
                    state = n.state, reason = n.reason, last_scan = :scan,
                    first_listed_at = coalesce(s.first_listed_at, CASE WHEN n.listed THEN n.finished END),
                    last_listed_at = greatest(CASE WHEN n.listed THEN n.began END, s.last_listed_at),
                    first_complete_at = coalesce(s.first_complete_at, CASE WHEN n.complete THEN n.finished END),
                    last_complete_at = greatest(CASE WHEN n.complete THEN n.began END, s.last_complete_at)
                FROM seen n WHERE s.workspace_id = :wid AND s.kind = n.kind AND s.partition = n.partition
                RETURNING s.kind, s.partition
            )
            INSERT INTO scope (workspace_id, kind, partition, state, reason, first_listed_at, last_listed_at,
                               first_complete_at, last_complete_at, last_scan)
            SELECT :wid, kind, partition, state, reason,
                CASE WHEN listed THEN finished END, CASE WHEN listed THEN began END,
                CASE WHEN complete THEN finished END, CASE WHEN complete THEN began END, :scan
            FROM seen WHERE (kind, partition) NOT IN (SELECT kind, partition FROM known)
            """
        ),
        {
            "wid": claim.workspace_id,
            "scan": claim.scan_id,
            "kinds": [str(r.scope.kind) for r, _ in rows],
            "partitions": [partition for _, partition in rows],
            "states": [str(r.state) for r, _ in rows],
            "reasons": [canonical.escape(r.reason) if r.reason else None for r, _ in rows],
            "begans": [r.began_at for r, _ in rows],
            "finisheds": [r.finished_at for r, _ in rows],
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the last row of a scan says."""

    state: ScanState
    identity: str | None
    filtered: bool
    counts: Mapping[str, int] = field(default_factory=dict)  # columns of `scan` by name
    trouble: str | None = None
    error: str | None = None
    next_step: str | None = None
    unobservable: bool = False


_COUNTS = words(
    "seen created updated deleted restored purged baseline carried withheld redacted requests bytes_read throttled"
)
_EVENTS = ["created", "updated", "deleted", "restored", "purged", "baseline"]


def cost(connection: Connection, workspace: str) -> int:
    """How many requests the last sweep of a workspace took, 0 without one. Reads the index scan_by_workspace."""
    found = connection.execute(
        text(
            "SELECT s.requests FROM scan s JOIN workspace w USING (workspace_id) WHERE w.name = :name"
            " AND s.mode = 'sweep' AND s.state IN ('complete', 'partial') ORDER BY s.scan_id DESC LIMIT 1"
        ),
        {"name": workspace},
    ).scalar()
    return int(found or 0)


def finish(connection: Connection, claim: Claim, outcome: Outcome) -> tuple[int, datetime]:
    """Close the scan's row. A hot pass equal to the one before extends that row instead.

    Returns the id of the row that tells of this scan, and when it finished.
    """
    values: dict[str, Any] = {name: outcome.counts.get(name, 0) for name in _COUNTS}
    assignments = ", ".join(f"{name} = :{name}" for name in _COUNTS)
    finished: datetime = connection.execute(
        text(
            f"UPDATE scan SET state = :state, identity = :identity, filtered = :filtered, {assignments},"
            " trouble = :trouble, error = :error, next_step = :next_step, finished_at = clock_timestamp(),"
            " last_finished_at = clock_timestamp() WHERE scan_id = :scan RETURNING finished_at"
        ),
        values
        | {
            "state": outcome.state,
            "identity": outcome.identity,
            "filtered": outcome.filtered,
            "trouble": outcome.trouble,
            "error": canonical.escape(outcome.error) if outcome.error else None,
            "next_step": outcome.next_step,
            "scan": claim.scan_id,
        },
    ).scalar_one()
    connection.execute(
        text(
            "UPDATE workspace SET unobservable_since = CASE WHEN :blind THEN"
            " coalesce(unobservable_since, clock_timestamp()) END,"
            " trouble = :trouble, error = :error, next_step = :next_step WHERE workspace_id = :wid"
        ),
        {
            "blind": outcome.unobservable,
            "trouble": outcome.trouble,
            "error": canonical.escape(outcome.error) if outcome.error else None,
            "next_step": outcome.next_step,
            "wid": claim.workspace_id,
        },
    )
    if claim.mode == Mode.SWEEP:
        connection.execute(text(_FORGET_SCOPES), {"wid": claim.workspace_id})
    quiet = claim.mode == Mode.HOT and not any(outcome.counts.get(name) for name in (*_EVENTS, "rebased"))
    if quiet and (twin := _fold(connection, claim)) is not None:
        return twin, finished
    chain.settle(driver(connection), claim.workspace_id, claim.salts, scan=claim.scan_id)
    return claim.scan_id, finished


# Scopes of experiments of which nothing is left are never listed again: their age would grow for ever. Since when
# they were observed is kept for questions about the time when they were there. A kind that the server did not offer
# has lost that mark once something of it was listed.
_FORGET_SCOPES = """
WITH gone AS (
    DELETE FROM scope s WHERE s.workspace_id = :wid AND (
        s.partition <> '' AND NOT EXISTS (
            SELECT 1 FROM asset a WHERE a.workspace_id = s.workspace_id AND a.gone_at IS NULL
              AND ((a.kind = 'experiment' AND a.key = s.partition) OR (a.kind = s.kind AND a.partition = s.partition)))
        OR s.state = 'unsupported' AND EXISTS (
            SELECT 1 FROM scope o
            WHERE o.workspace_id = s.workspace_id AND o.kind = s.kind AND o.state <> 'unsupported'))
    RETURNING s.workspace_id, s.kind, s.partition, coalesce(s.first_complete_at, s.first_listed_at) AS first)
INSERT INTO former_scope AS f (workspace_id, kind, partition, first_observed_at)
SELECT workspace_id, kind, partition, first FROM gone WHERE partition <> '' AND first IS NOT NULL
ON CONFLICT (workspace_id, kind, partition) DO UPDATE
    SET first_observed_at = least(f.first_observed_at, excluded.first_observed_at)
"""

# The hot pass before, and this one, have the same outcome scope by scope (apart from times and counts).
_TWIN = """
SELECT p.scan_id FROM scan p, scan n
WHERE n.scan_id = :scan AND p.workspace_id = n.workspace_id AND p.mode = 'hot' AND p.scan_id < n.scan_id
  AND p.state = n.state AND p.epoch = n.epoch AND p.identity IS NOT DISTINCT FROM n.identity
  AND p.filtered = n.filtered AND p.error IS NOT DISTINCT FROM n.error
  AND p.carried = n.carried AND p.withheld = n.withheld
  AND p.scan_id = (SELECT max(scan_id) FROM scan o WHERE o.workspace_id = n.workspace_id AND o.scan_id < n.scan_id)
  AND (SELECT array_agg((kind, partition, state, reason) ORDER BY ordinal) FROM scope_scan WHERE scan_id = p.scan_id)
      IS NOT DISTINCT FROM
      (SELECT array_agg((kind, partition, state, reason) ORDER BY ordinal) FROM scope_scan WHERE scan_id = n.scan_id)
"""


def _fold(connection: Connection, claim: Claim) -> int | None:
    twin = connection.execute(text(_TWIN), {"scan": claim.scan_id}).scalar()
    if twin is None:
        return None
    given = {"twin": twin, "scan": claim.scan_id, "wid": claim.workspace_id}
    connection.execute(
        text(
            "UPDATE scan p SET passes = p.passes + 1, last_began_at = n.began_at, last_finished_at = n.finished_at,"
            " seen = n.seen, requests = p.requests + n.requests, bytes_read = p.bytes_read + n.bytes_read,"
            " throttled = p.throttled + n.throttled, chained = least(p.chained, 1)"
            " FROM scan n WHERE p.scan_id = :twin AND n.scan_id = :scan"
        ),
        given,
    )
    connection.execute(
        text("UPDATE scope SET last_scan = :twin WHERE workspace_id = :wid AND last_scan = :scan"), given
    )
    connection.execute(text("UPDATE withheld SET scan_id = :twin WHERE workspace_id = :wid AND scan_id = :scan"), given)
    connection.execute(text("UPDATE claim SET scan_id = :twin WHERE workspace_id = :wid AND scan_id = :scan"), given)
    connection.execute(text("DELETE FROM scan WHERE scan_id = :scan"), given)
    return int(twin)


def accept_removals(connection: Connection, workspace: str, kind: Kind, partition: str | None, *, actor: str) -> int:
    """Accept withheld removals: the next scan that confirms them by id publishes them. Returns how many."""
    return connection.execute(
        text(
            "UPDATE withheld h SET accepted_at = clock_timestamp(), accepted_by = :actor FROM workspace w"
            " WHERE w.workspace_id = h.workspace_id AND w.name = :name AND h.kind = :kind"
            " AND (CAST(:partition AS text) IS NULL OR h.partition = :partition) AND h.accepted_at IS NULL"
        ),
        {"actor": actor, "name": workspace, "kind": kind, "partition": partition},
    ).rowcount


def accept_address(connection: Connection, workspace: str, source: str, uri: str) -> bool:
    """Let a workspace's history go on at this address and no other. False when it is its address already."""
    return bool(
        connection.execute(
            text("UPDATE workspace SET uri = :uri, source = :source WHERE name = :name AND uri IS DISTINCT FROM :uri"),
            {"name": workspace, "source": source, "uri": uri},
        ).rowcount
    )


def beat(connection: Connection, holder: str) -> None:
    """Say that a worker lives."""
    connection.execute(
        text(
            "INSERT INTO heartbeat (holder, at) VALUES (:holder, clock_timestamp())"
            " ON CONFLICT (holder) DO UPDATE SET at = clock_timestamp()"
        ),
        {"holder": holder},
    )
    connection.execute(text("DELETE FROM heartbeat WHERE at < clock_timestamp() - interval '7 days'"))
