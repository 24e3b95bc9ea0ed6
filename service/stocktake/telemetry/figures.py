"""The figures other rooms hand to telemetry: plain values, prepared after each scan, never queried at export time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from stocktake.core.assets import Category, ChangeType, Kind, Lifecycle, Mode, ScanState, ScopeState
from stocktake.core.findings import State


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFigures:
    """What one finished scan adds to the counters."""

    workspace: str
    mode: Mode
    state: ScanState
    seconds: float
    changes: Mapping[tuple[Kind, ChangeType, Category], int] = field(default_factory=dict)
    redactions: Mapping[Kind, int] = field(default_factory=dict)
    waited: float = 0.0  # seconds that its requests waited for their turn
    budget_used: float | None = None  # share of its budget of requests; None where it has none


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFigures:
    """What is known of one kind in one workspace.

    `scopes` counts the scopes by the state of the last look that promised completeness (INCREMENTAL only where there
    never was one). `oldest_complete` is the oldest among their last complete looks, None when one of them was never
    completely seen. `age_limit` is what the schedule promises, in seconds.
    """

    kind: Kind
    assets: Mapping[Lifecycle, int]
    scopes: Mapping[ScopeState, int]
    oldest_complete: datetime | None
    age_limit: float
    withheld: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceFigures:
    """The state of one workspace as the database knew it at `as_of` (the database's clock, like every time here)."""

    workspace: str
    as_of: datetime
    watched_since: datetime
    observable: bool
    kinds: Sequence[KindFigures]
    #: By rule and severity (of which there ever was one), how many stand how; resolved ones are not counted.
    findings: Mapping[tuple[str, str], Mapping[State, int]] = field(default_factory=dict)
    not_judged: int = 0  # rules that claim nothing, for want of a complete look
    rules_failing: int = 0  # rules that could not be asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverFigures:
    """What waits for one receiver, and how it does."""

    receiver: str
    waiting: int = 0
    oldest: datetime | None = None  # when the oldest that waits was planned
    dead: int = 0
    resting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFigures:
    """The outbox as it stood at `as_of`, by the database's clock."""

    as_of: datetime
    receivers: Sequence[ReceiverFigures]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFigures:
    """One request to a watched server. `status` is None when no answer came."""

    workspace: str
    status: int | None
    seconds: float
    bytes_read: int = 0
    throttled: bool = False
    retried: bool = False
