"""The state behind the observable instruments: figures in memory, read by every exporter, never a query.

Ages are told by the database's clock when the figures were taken, and by this process's monotonic clock since.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from stocktake.core.assets import Lifecycle, ScopeState
from stocktake.core.discovery import Standing
from stocktake.core.findings import LIVE
from stocktake.telemetry import instruments as i
from stocktake.telemetry.figures import DeliveryFigures, KindFigures, ReceiverFigures, WorkspaceFigures

Observed = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class _Held:
    """Figures of one workspace and when (monotonic) they were received."""

    figures: WorkspaceFigures
    at: float


class WorkspaceNames:
    """Keeps the number of series bounded: the first `limit` workspaces keep their names, the rest share one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def label(self, workspace: str) -> str:
        with self._lock:
            if workspace in self._names:
                return workspace
            if len(self._names) < self._limit:
                self._names.add(workspace)
                return workspace
        return i.OTHER


class State:
    """What the observable gauges tell. Written after a scan, read by any exporter's thread."""

    def __init__(self, *, version: str, names: WorkspaceNames, clock: Callable[[], float]) -> None:
        self._version = version
        self._names = names
        self._clock = clock
        self._lock = threading.Lock()
        self._workspaces: dict[str, _Held] = {}
        self._budgets: dict[str, float] = {}
        self._beat: float | None = None
        self._database_size: int | None = None
        self._discovered: Mapping[str, int] | None = None
        self._not_looked = 0
        self._exports: dict[tuple[str, str], int] = {}
        self._head: tuple[float, float] | None = None  # when it was published, and how old it may become
        self._receivers: tuple[str, ...] = ()
        self._planned: float | None = None
        self._outbox: tuple[DeliveryFigures, float] | None = None  # and when (monotonic) it was read

    def put(self, figures: WorkspaceFigures) -> None:
        with self._lock:
            self._workspaces[figures.workspace] = _Held(figures, self._clock())

    def forget(self, workspace: str) -> None:
        with self._lock:
            self._workspaces.pop(workspace, None)
            self._budgets.pop(workspace, None)

    def budget(self, workspace: str, share: float) -> None:
        with self._lock:
            self._budgets[workspace] = share

    def beat(self) -> None:
        with self._lock:
            self._beat = self._clock()

    def heartbeat_age(self) -> float | None:
        with self._lock:
            return None if self._beat is None else max(0.0, self._clock() - self._beat)

    def database(self, size: int) -> None:
        with self._lock:
            self._database_size = size

    def head(self, age_limit: float) -> None:
        """A head of the evidence chain was published, or is to be from now on."""
        with self._lock:
            self._head = self._clock(), age_limit

    def discovered(self, standings: Mapping[str, int], not_looked: int) -> None:
        with self._lock:
            self._discovered, self._not_looked = dict(standings), not_looked

    def receivers(self, names: Iterable[str]) -> None:
        """The receivers that the configuration names, which are planned for from now on; no other name is ever told."""
        with self._lock:
            self._receivers, self._planned = tuple(names), self._clock()

    def receiver(self, name: str) -> str:
        return name if name in self._receivers else i.OTHER

    def planned(self) -> None:
        with self._lock:
            self._planned = self._clock()

    def outbox(self, figures: DeliveryFigures) -> None:
        with self._lock:
            self._outbox = figures, self._clock()

    def exporter(self, name: str) -> None:
        """Make an exporter known, so that its counters begin at nought."""
        with self._lock:
            for result in i.RESULTS:
                self._exports.setdefault((name, result), 0)

    def exported(self, name: str, *, success: bool) -> None:
        key = (name, "success" if success else "failure")
        with self._lock:
            self._exports[key] = self._exports.get(key, 0) + 1

    def observe(self, declaration: i.Declaration) -> list[Observed]:
        """The figures of one instrument, one per set of attributes; workspaces past the limit are folded together."""
        folded: dict[tuple[str, ...], float] = {}
        for attributes, value in self._figures(declaration):
            allowed = i.checked(declaration, attributes)
            key = tuple(allowed[name] for name in declaration.attributes)
            folded[key] = _fold(declaration.fold, folded[key], value) if key in folded else value
        return [(dict(zip(declaration.attributes, key, strict=True)), value) for key, value in folded.items()]

    def _found(self, declaration: i.Declaration) -> Iterator[Observed]:
        with self._lock:
            standings, not_looked = self._discovered, self._not_looked
        if standings is None:  # nothing is looked for: that is not nought
            return
        if declaration is i.DISCOVERY_NOT_LOOKED:
            yield {}, not_looked
            return
        for standing in Standing:
            yield {"standing": standing}, standings.get(standing, 0)

    def _figures(self, declaration: i.Declaration) -> Iterable[Observed]:
        with self._lock:
            held = list(self._workspaces.values())
            size, exports, budgets = self._database_size, dict(self._exports), dict(self._budgets)
        if declaration is i.BUILD_INFO:
            return [({"version": self._version, "python": platform.python_version()}, 1)]
        if declaration is i.DATABASE_SIZE:
            return [] if size is None else [({}, size)]
        if declaration in (i.DISCOVERED, i.DISCOVERY_NOT_LOOKED):
            return list(self._found(declaration))
        if declaration is i.HEARTBEAT_AGE:
            age = self.heartbeat_age()
            return [] if age is None else [({}, age)]
        if declaration is i.EXPORTS:
            return [({"exporter": name, "result": result}, count) for (name, result), count in exports.items()]
        if declaration in (i.HEAD_AGE, i.HEAD_AGE_LIMIT):
            return self._of_head(declaration)
        if declaration is i.FINDINGS:
            return list(self._findings(held))
        if declaration is i.NOT_JUDGED:
            return [({"workspace": self._label(h)}, h.figures.not_judged) for h in held]
        if declaration is i.RULES_FAILING:
            return [({"workspace": self._label(h)}, h.figures.rules_failing) for h in held]
        if declaration is i.PLANNING_AGE:
            planned = self._planned
            return [] if planned is None else [({}, max(0.0, self._clock() - planned))]
        if declaration.name in _RECEIVER_FIGURES:
            return list(self._by_receiver(declaration))
        if declaration is i.BUDGET_USED:
            return [({"workspace": self._names.label(name)}, share) for name, share in budgets.items()]
        if declaration is i.WORKSPACE_OBSERVABLE:
            return [({"workspace": self._label(h)}, float(h.figures.observable)) for h in held]
        return self._by_kind(declaration, held)

    def _of_head(self, declaration: i.Declaration) -> list[Observed]:
        with self._lock:
            head = self._head
        if head is None:  # none is published: that has no age
            return []
        at, limit = head
        return [({}, max(0.0, self._clock() - at) if declaration is i.HEAD_AGE else limit)]

    def _findings(self, held: Iterable[_Held]) -> Iterator[Observed]:
        for one in held:
            for (rule, severity), counts in one.figures.findings.items():
                for state in LIVE:  # one that is left behind goes to nought
                    attributes = {"workspace": self._label(one), "rule": rule, "severity": severity, "state": state}
                    yield attributes, counts.get(state, 0)

    def _by_receiver(self, declaration: i.Declaration) -> Iterator[Observed]:
        with self._lock:
            outbox, names = self._outbox, self._receivers
        if outbox is None:  # never read: that is not nought
            return
        figures, at = outbox
        quiet = (ReceiverFigures(receiver=name) for name in names)  # those of which there is nothing to tell
        for one in (*figures.receivers, *quiet):
            if declaration is i.RECEIVER_RESTING and one.receiver not in names:
                continue  # nobody tries one that left the configuration: it would rest for ever
            age = 0.0
            if one.oldest is not None:
                age = max(0.0, (figures.as_of - one.oldest).total_seconds() + self._clock() - at)
            yield {"receiver": self.receiver(one.receiver)}, _RECEIVER_FIGURES[declaration.name](one, age)

    def _by_kind(self, declaration: i.Declaration, held: Iterable[_Held]) -> Iterator[Observed]:
        tell = _KIND_FIGURES[declaration.name]
        now = self._clock()
        for one in held:
            label = self._label(one)
            for kind in one.figures.kinds:
                if _offered(kind):
                    for extra, value in tell(one.figures, kind, now - one.at):
                        yield {"workspace": label, "kind": kind.kind, **extra}, value

    def _label(self, held: _Held) -> str:
        return self._names.label(held.figures.workspace)


def _fold(fold: i.Fold, one: float, other: float) -> float:
    match fold:
        case i.Fold.SUM:
            return one + other
        case i.Fold.MAX:
            return max(one, other)
        case i.Fold.MIN:
            return min(one, other)


def _offered(kind: KindFigures) -> bool:
    """False where the server does not offer the kind at all: it has no age and no coverage to alert on."""
    counted = {state for state, count in kind.scopes.items() if count}
    return counted != {ScopeState.UNSUPPORTED}


_Tell = Callable[[WorkspaceFigures, KindFigures, float], Iterator[Observed]]


def _age(figures: WorkspaceFigures, kind: KindFigures, since: float) -> Iterator[Observed]:
    oldest = kind.oldest_complete or figures.watched_since
    yield {}, max(0.0, (figures.as_of - oldest).total_seconds() + since)


def _age_limit(_: WorkspaceFigures, kind: KindFigures, __: float) -> Iterator[Observed]:
    yield {}, kind.age_limit


def _coverage(_: WorkspaceFigures, kind: KindFigures, __: float) -> Iterator[Observed]:
    offered = {state: count for state, count in kind.scopes.items() if state is not ScopeState.UNSUPPORTED}
    if total := sum(offered.values()):
        yield {}, offered.get(ScopeState.COMPLETE, 0) / total


def _scopes(_: WorkspaceFigures, kind: KindFigures, __: float) -> Iterator[Observed]:
    for state in ScopeState:  # a state left behind goes to nought, it does not vanish
        yield {"state": state}, kind.scopes.get(state, 0)


def _assets(_: WorkspaceFigures, kind: KindFigures, __: float) -> Iterator[Observed]:
    if kind.assets:  # nothing known yet is not nought; nought of one lifecycle is
        for lifecycle in Lifecycle:
            yield {"lifecycle": lifecycle}, kind.assets.get(lifecycle, 0)


def _withheld(_: WorkspaceFigures, kind: KindFigures, __: float) -> Iterator[Observed]:
    yield {}, kind.withheld


#: Of one receiver, and how long the oldest that waits for it has waited.
_RECEIVER_FIGURES: Mapping[str, Callable[[ReceiverFigures, float], float]] = {
    i.DELIVERIES_WAITING.name: lambda one, _: one.waiting,
    i.DELIVERY_AGE.name: lambda _, age: age,
    i.DEAD_LETTERS.name: lambda one, _: one.dead,
    i.RECEIVER_RESTING.name: lambda one, _: float(one.resting),  # OTLP takes no bool
}

_KIND_FIGURES: Mapping[str, _Tell] = {
    i.SCAN_AGE.name: _age,
    i.SCAN_AGE_LIMIT.name: _age_limit,
    i.SCAN_COVERAGE.name: _coverage,
    i.SCOPE_COUNT.name: _scopes,
    i.ASSET_COUNT.name: _assets,
    i.WITHHELD_REMOVALS.name: _withheld,
}
