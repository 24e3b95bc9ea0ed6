"""The figures that telemetry holds, read from the database once after each scan; a scrape never asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, text

from stocktake.core.assets import Category, ChangeType, Kind, Lifecycle, Mode, ScopeState
from stocktake.core.findings import State
from stocktake.store import alert_list, finding_list
from stocktake.telemetry.figures import DeliveryFigures, KindFigures, ReceiverFigures, WorkspaceFigures

#: Kinds that every hot pass lists completely; the others are complete once a sweep.
HOT_KINDS = frozenset({Kind.WORKSPACE, Kind.EXPERIMENT, Kind.REGISTERED_MODEL, Kind.MODEL_VERSION, Kind.WEBHOOK})


def workspace_figures(
    connection: Connection, workspace: str, *, age_limits: Mapping[Mode, float]
) -> WorkspaceFigures | None:
    """Return the state of a workspace; None before its first scan. `age_limits` are seconds by mode."""
    row = connection.execute(
        text(
            "SELECT workspace_id, created_at, unobservable_since, clock_timestamp() AS as_of"
            " FROM workspace WHERE name = :name"
        ),
        {"name": workspace},
    ).first()
    if row is None:
        return None
    given = {"wid": row.workspace_id}
    assets: dict[Kind, dict[Lifecycle, int]] = defaultdict(dict)
    for kind, lifecycle, number in connection.execute(
        text(
            "SELECT kind, lifecycle, count(*) FROM asset WHERE workspace_id = :wid AND gone_at IS NULL"
            " GROUP BY kind, lifecycle"
        ),
        given,
    ):
        assets[Kind(kind)][Lifecycle(lifecycle)] = number
    scopes: dict[Kind, dict[ScopeState, int]] = defaultdict(dict)
    oldest: dict[Kind, datetime | None] = {}
    for kind, state, number, never, complete in connection.execute(
        text(
            "SELECT kind, state, count(*), bool_or(last_complete_at IS NULL), min(last_complete_at) FROM scope"
            " WHERE workspace_id = :wid GROUP BY kind, state"
        ),
        given,
    ):
        scopes[Kind(kind)][ScopeState(state)] = number
        if state != ScopeState.UNSUPPORTED:
            before = oldest.get(Kind(kind), complete)
            oldest[Kind(kind)] = None if never or before is None else min(before, complete)
    withheld = {
        Kind(kind): number
        for kind, number in connection.execute(
            text("SELECT kind, count(*) FROM withheld WHERE workspace_id = :wid GROUP BY kind"), given
        )
    }
    kinds = [
        KindFigures(
            kind=kind,
            assets=assets.get(kind, {}),
            scopes=scopes.get(kind, {}),
            oldest_complete=oldest.get(kind),
            age_limit=age_limits[Mode.HOT if kind in HOT_KINDS else Mode.SWEEP],
            withheld=withheld.get(kind, 0),
        )
        for kind in sorted(set(assets) | set(scopes))
    ]
    unasked = finding_list.not_judged(connection, [workspace])
    return WorkspaceFigures(
        workspace=workspace,
        as_of=row.as_of,
        watched_since=row.created_at,
        observable=row.unobservable_since is None,
        kinds=kinds,
        findings=_findings(connection, row.workspace_id),
        not_judged=len({one.rule for one in unasked if one.error is None}),
        rules_failing=len({one.rule for one in unasked if one.error is not None}),
    )


def _findings(connection: Connection, workspace_id: int) -> dict[tuple[str, str], dict[State, int]]:
    found: dict[tuple[str, str], dict[State, int]] = defaultdict(dict)
    for rule, severity, state, number in connection.execute(
        text(
            "SELECT rule, severity, state, count(*) FROM finding WHERE workspace_id = :wid"
            " GROUP BY rule, severity, state"
        ),
        {"wid": workspace_id},
    ):
        found[rule, severity][State(state)] = number
    return found


def last_event(connection: Connection) -> int:
    """The last entry in the history of findings, 0 without any."""
    return int(connection.execute(text("SELECT coalesce(max(event_id), 0) FROM finding_event")).scalar_one())


def transitions(connection: Connection, workspace: str, after: int) -> tuple[dict[tuple[str, str, str], int], int]:
    """Count, of a workspace's findings, the moves from state to state behind an entry of their history, by rule,
    severity and the state moved to; and say which entry was the last. Those of one workspace are written one after the
    other, under its lock."""
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    reached = after
    for rule, severity, state, number, last in connection.execute(
        text(
            "SELECT f.rule, f.severity, e.after, count(*) FILTER (WHERE e.before IS DISTINCT FROM e.after),"
            " max(e.event_id) FROM finding_event e JOIN finding f USING (finding_id) JOIN workspace w"
            " USING (workspace_id) WHERE e.event_id > :after AND w.name = :workspace"
            " GROUP BY f.rule, f.severity, e.after"
        ),
        {"after": after, "workspace": workspace},
    ):
        if number:
            counts[rule, severity, state] = number
        reached = max(reached, last)
    return dict(counts), reached


def deliveries(connection: Connection) -> DeliveryFigures:
    """Return what waits for whom, and who rests."""
    receivers = [
        ReceiverFigures(
            receiver=one.name,
            waiting=one.waiting,
            oldest=one.oldest,
            dead=one.dead,
            resting=one.failing_since is not None,
        )
        for one in alert_list.receivers(connection).values()
    ]
    as_of: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return DeliveryFigures(as_of=as_of, receivers=receivers)


def scan_changes(connection: Connection, scan_id: int) -> dict[tuple[Kind, ChangeType, Category], int]:
    """Count the changes that a scan published."""
    rows = connection.execute(
        text("SELECT kind, type, category, count(*) FROM change WHERE scan_id = :scan GROUP BY kind, type, category"),
        {"scan": scan_id},
    )
    return {(Kind(kind), ChangeType(what), Category(category)): number for kind, what, category, number in rows}


def database_size(connection: Connection) -> int:
    """Return the size of the database in bytes."""
    return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
