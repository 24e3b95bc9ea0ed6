"""The figures that telemetry holds, read from the database once after each scan; a scrape never asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, text

from stocktake.core.assets import Category, ChangeType, Kind, Lifecycle, Mode, ScopeState
from stocktake.telemetry.figures import KindFigures, WorkspaceFigures

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
    return WorkspaceFigures(
        workspace=workspace,
        as_of=row.as_of,
        watched_since=row.created_at,
        observable=row.unobservable_since is None,
        kinds=kinds,
    )


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
