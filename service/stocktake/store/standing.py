"""How every workspace stands: its last scans, what each kind's scopes came to, what is withheld. Read only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core.assets import Mode
from stocktake.store.claims import LOCK
from stocktake.store.deletion import Deletion, deletions


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How completely a kind of a workspace is seen."""

    kind: str
    partitions: int
    complete: int
    oldest_complete: datetime | None
    state: str  # the worst of its scopes
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Removals that were confirmed but are too many to believe at once."""

    kind: str
    partition: str
    count: int
    since: datetime
    confirmations: int
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRow:
    """A row of the ledger."""

    scan_id: int
    mode: str
    state: str
    began_at: datetime
    finished_at: datetime | None
    passes: int
    last_finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceStatus:
    """How a workspace stands now. Ages are in seconds, by the database's clock."""

    name: str
    source: str
    uri: str | None
    state: str  # never scanned, complete, partial, permission-filtered, unobservable, deleted (at its source)
    state_since: datetime | None
    error: str | None
    next_step: str | None
    last_hot: ScanRow | None
    last_sweep: ScanRow | None
    age: float | None  # since the oldest complete look at anything; None before the first
    assets: Mapping[str, int]
    coverage: Sequence[Coverage]
    withheld: Sequence[Withheld]
    scanning: str | None
    deletion: Deletion | None = None  # what is known of it, though it may be out of reach by now


_RETIRE = "If it shall stay deleted, take it out of the configuration: its history is kept."
#: What to do about a workspace that is deleted, by the word for how.
_DELETED = {
    "SoftDeleted": f"For 14 days it can be brought back (portal: recently deleted workspaces). {_RETIRE}",
    "": _RETIRE,
}
_WORST = ("unobservable", "partial", "permission-filtered", "complete", "unsupported")


def status(connection: Connection) -> list[WorkspaceStatus]:
    """Say how every workspace stands, by name."""
    workspaces = connection.execute(text("SELECT * FROM workspace ORDER BY name")).all()
    deleted = {one.workspace: one for one in deletions(connection)}
    return [_status(connection, row, deleted.get(row.name)) for row in workspaces]


def _status(connection: Connection, row: Any, deleted: Deletion | None) -> WorkspaceStatus:
    given = {"wid": row.workspace_id}
    coverage = [
        Coverage(
            kind=r.kind,
            partitions=r.partitions,
            complete=r.complete,
            oldest_complete=r.oldest,
            state=next((state for state in _WORST if state in r.states), "complete"),
            reason=r.reason,
        )
        for r in connection.execute(
            text(
                "SELECT kind, count(*) AS partitions, count(*) FILTER (WHERE state = 'complete') AS complete,"
                " min(last_complete_at) FILTER (WHERE state <> 'unsupported') AS oldest,"
                " array_agg(DISTINCT state) AS states,"
                " min(reason) FILTER (WHERE state <> 'complete') AS reason"
                " FROM scope WHERE workspace_id = :wid GROUP BY kind ORDER BY kind"
            ),
            given,
        )
    ]
    withheld = [
        Withheld(kind=r.kind, partition=r.partition, count=r.n, since=r.since, confirmations=r.c, accepted=r.accepted)
        for r in connection.execute(
            text(
                "SELECT kind, partition, count(*) AS n, min(since) AS since, min(confirmations) AS c,"
                " bool_and(accepted_at IS NOT NULL) AS accepted FROM withheld WHERE workspace_id = :wid"
                " GROUP BY kind, partition ORDER BY kind, partition"
            ),
            given,
        )
    ]
    assets = {
        kind: int(number)
        for kind, number in connection.execute(
            text(
                "SELECT kind, count(*) FROM asset WHERE workspace_id = :wid AND gone_at IS NULL"
                " GROUP BY kind ORDER BY kind"
            ),
            given,
        )
    }
    # A row may say `running` though its worker was killed: only the lock, which goes with the connection, is proof.
    running = connection.execute(
        text(
            "SELECT s.mode FROM scan s JOIN pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 2"
            " AND l.classid = CAST(:space AS oid)"
            " AND l.objid = CAST(s.workspace_id * 2 + CASE WHEN s.mode = 'sweep' THEN 1 ELSE 0 END AS oid)"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " WHERE s.workspace_id = :wid AND s.state = 'running' ORDER BY s.scan_id DESC LIMIT 1"
        ),
        given | {"space": LOCK},
    ).scalar()
    supported = [c for c in coverage if c.state != "unsupported"]
    oldest = [c.oldest_complete for c in supported if c.oldest_complete is not None]
    age = None
    if oldest and len(oldest) == len(supported):
        age = float(
            connection.execute(
                text("SELECT extract(epoch FROM clock_timestamp() - CAST(:at AS timestamptz))"), {"at": min(oldest)}
            ).scalar_one()
        )
    last_hot, last_sweep = (_last(connection, row.workspace_id, mode) for mode in (Mode.HOT, Mode.SWEEP))
    latest = max((s for s in (last_hot, last_sweep) if s), key=lambda s: s.last_finished_at or s.began_at, default=None)
    state_since, error, next_step = row.unobservable_since, row.error, row.next_step
    if row.unobservable_since is not None:
        state = "unobservable"
    elif deleted is not None:
        state, state_since = "deleted", deleted.not_after
        error = f"the workspace itself is deleted ({deleted.state}): what was in it stands as it was last seen"
        next_step = _DELETED.get(deleted.state, _DELETED[""])
    elif latest is None:
        state = "never scanned"
    else:
        # One kind that may not be read makes the whole partial; unobservable is a workspace of which nothing is seen.
        states = {"partial" if c.state == "unobservable" else c.state for c in supported}
        state = next((s for s in _WORST if s in states), str(latest.state))
    return WorkspaceStatus(
        name=row.name,
        source=row.source,
        uri=row.uri,
        state=state,
        state_since=state_since,
        error=error,
        next_step=next_step,
        last_hot=last_hot,
        last_sweep=last_sweep,
        age=age,
        assets=assets,
        coverage=coverage,
        withheld=withheld,
        scanning=running,
        deletion=deleted,
    )


def _last(connection: Connection, wid: int, mode: Mode) -> ScanRow | None:
    row = connection.execute(
        text(
            "SELECT scan_id, mode, state, began_at, finished_at, passes, last_finished_at FROM scan"
            " WHERE workspace_id = :wid AND mode = :mode AND state <> 'running' ORDER BY scan_id DESC LIMIT 1"
        ),
        {"wid": wid, "mode": mode},
    ).first()
    return ScanRow(**row._asdict()) if row else None
