"""What a scan says of itself: while it goes, and when it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from stocktake.core.assets import Kind, Mode, ScanState, ScopeState
from stocktake.core.errors import SourceError
from stocktake.core.redact import Redactor
from stocktake.sources.protocol import Identity, Traffic
from stocktake.store.claims import Claim
from stocktake.store.ledger import Outcome, ScopeResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeLine:
    """A scope of a finished scan, for people."""

    kind: str
    partition: str
    state: str
    reason: str | None
    listed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """What a scan did."""

    workspace: str
    mode: Mode
    state: ScanState
    scan_id: int
    began_at: datetime
    finished_at: datetime
    counts: Mapping[str, int]
    scopes: Sequence[ScopeLine]
    traffic: Traffic
    redactions: Mapping[Kind, int]
    identity: str | None = None
    trouble: str | None = None
    error: str | None = None
    next_step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a scan is: told after every page."""

    workspace: str
    mode: Mode
    kind: Kind
    partition: str
    seen: int
    expected: int | None  # assets known of before this scan; None at first sight


def outcome(
    results: Sequence[ScopeResult],
    failure: SourceError | None,
    *,
    identity: Identity | None,
    counts: Counter[str],
    redactor: Redactor,
) -> Outcome:
    """Say how a scan ended, from how its scopes did. `failure` is what made going on pointless, if anything did."""
    states = {result.state for result in results}
    good = states & {ScopeState.COMPLETE, ScopeState.INCREMENTAL, ScopeState.FILTERED}
    bad = states & {ScopeState.PARTIAL, ScopeState.UNOBSERVABLE, ScopeState.FILTERED}
    state = ScanState.COMPLETE
    if failure is not None or bad:
        state = ScanState.PARTIAL if good else ScanState.FAILED
    first = next((r for r in results if r.state in (ScopeState.PARTIAL, ScopeState.UNOBSERVABLE)), None)
    trouble = error = next_step = None
    if failure is not None:
        trouble, error, next_step = str(failure.trouble), failure.what, failure.next_step
    elif first is not None:
        trouble, error = str(first.state), f"{first.scope.kind}: {first.reason}"
        next_step = "The other scopes are not affected; the next scan reads this one again."
    return Outcome(
        state=state,
        identity=identity.name if identity else None,
        filtered=identity.filtered if identity else False,
        counts=counts,
        trouble=trouble,
        error=redactor.text(error) if error else None,
        next_step=next_step,
        unobservable=state == ScanState.FAILED,
    )


def report(
    claim: Claim,
    done: Outcome,
    results: Sequence[ScopeResult],
    *,
    scan_id: int,
    finished_at: datetime,
    traffic: Traffic,
    redactions: Mapping[Kind, int],
) -> ScanReport:
    """Put a finished scan's report together."""
    return ScanReport(
        workspace=claim.workspace,
        mode=claim.mode,
        state=done.state,
        scan_id=scan_id,
        began_at=claim.began_at,
        finished_at=finished_at,
        counts=dict(done.counts),
        scopes=[
            ScopeLine(kind=r.scope.kind, partition=r.scope.partition, state=r.state, reason=r.reason, listed=r.listed)
            for r in results
        ],
        traffic=traffic,
        redactions=dict(redactions),
        identity=done.identity,
        trouble=done.trouble,
        error=done.error,
        next_step=done.next_step,
    )
