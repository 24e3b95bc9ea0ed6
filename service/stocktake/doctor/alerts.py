"""Checks of alerts: whether anybody is told, and whether what was sent arrives. Nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Engine

from stocktake.doctor.checks import Check, ok, warn
from stocktake.settings import Settings
from stocktake.store import alert_list, migrate


def delivered(engine: Engine, settings: Settings) -> Iterator[Check]:
    """Which receivers take nothing, and what was given up."""
    if settings.alerts is None:
        return
    with engine.connect() as connection:
        if migrate.current(connection) != migrate.newest():
            return
        stands = alert_list.receivers(connection)
    for one in settings.alerts.receivers:
        known = stands.get(one.name)
        check = f"alerts to {one.name}"
        if known is None or (known.failing_since is None and not known.dead):
            yield ok(check, f"{known.waiting if known else 0:,} on the way, nothing failed")
            continue
        if known.failing_since is not None:
            yield warn(
                check,
                f"takes nothing since {known.failing_since:%Y-%m-%d %H:%M} UTC, {known.waiting:,} wait: {known.error}",
                f"`stocktake alerts test {one.name}` tries it.",
            )
        if known.dead:
            yield warn(
                check,
                f"{known.dead:,} deliveries were given up",
                "`stocktake alerts deliveries --state dead` says why, `stocktake alerts retry` sends them again.",
            )
