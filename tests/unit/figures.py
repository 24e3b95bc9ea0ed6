"""Makers of figures for the tests of telemetry: every instrument gets something to tell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from stocktake.core.assets import Category, ChangeType, Kind, Lifecycle, Mode, ScanState, ScopeState
from stocktake.core.findings import State
from stocktake.telemetry import (
    DeliveryFigures,
    KindFigures,
    ReceiverFigures,
    RequestFigures,
    ScanFigures,
    Telemetry,
    WorkspaceFigures,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def make_kind(
    kind: Kind = Kind.RUN,
    *,
    assets: dict[Lifecycle, int] | None = None,
    scopes: dict[ScopeState, int] | None = None,
    oldest_complete: datetime | None = NOW - timedelta(hours=1),
    age_limit: float = 86400,
    withheld: int = 0,
) -> KindFigures:
    return KindFigures(
        kind=kind,
        assets={Lifecycle.ACTIVE: 3, Lifecycle.DELETED: 1} if assets is None else assets,
        scopes={ScopeState.COMPLETE: 3, ScopeState.PARTIAL: 1} if scopes is None else scopes,
        oldest_complete=oldest_complete,
        age_limit=age_limit,
        withheld=withheld,
    )


def make_workspace(
    workspace: str = "research", *, observable: bool = True, kinds: Sequence[KindFigures] | None = None
) -> WorkspaceFigures:
    return WorkspaceFigures(
        workspace=workspace,
        as_of=NOW,
        watched_since=NOW - timedelta(days=2),
        observable=observable,
        kinds=[make_kind()] if kinds is None else kinds,
        findings={("missing-owner", "info"): {State.OPEN: 2}},
        not_judged=1,
        rules_failing=1,
    )


def make_scan(workspace: str = "research", *, state: ScanState = ScanState.COMPLETE) -> ScanFigures:
    return ScanFigures(
        workspace=workspace,
        mode=Mode.HOT,
        state=state,
        seconds=3.2,
        changes={(Kind.RUN, ChangeType.CREATED, Category.IDENTITY): 5},
        redactions={Kind.RUN: 2},
        waited=1.5,
        budget_used=0.25,
    )


def make_outbox(*receivers: ReceiverFigures) -> DeliveryFigures:
    waiting = ReceiverFigures(receiver="ops", waiting=2, oldest=NOW - timedelta(hours=1), dead=1, resting=True)
    return DeliveryFigures(as_of=NOW, receivers=receivers or [waiting])


def tell_everything(telemetry: Telemetry, workspace: str = "research") -> None:
    """Give every instrument of the catalogue at least one figure (exports count themselves)."""
    telemetry.discovered({"watched": 3, "deleted": 1}, 1)
    telemetry.inventory(make_workspace(workspace))
    telemetry.scan_finished(make_scan(workspace))
    telemetry.request(RequestFigures(workspace=workspace, status=200, seconds=0.02, bytes_read=1000))
    telemetry.request(RequestFigures(workspace=workspace, status=429, seconds=0.01, throttled=True))
    telemetry.request(RequestFigures(workspace=workspace, status=None, seconds=5, retried=True))
    telemetry.transitions(workspace, {("missing-owner", "info", "open"): 2})
    telemetry.receivers(["ops", "team"])
    telemetry.attempted("ops", "failed")
    telemetry.outbox(make_outbox())
    telemetry.head(86400.0)
    telemetry.beat()
    telemetry.database(123_456)
