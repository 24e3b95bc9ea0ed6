"""What a rule would have opened and resolved over the recorded history. It reads, and writes nothing.

A rule about changes is given the recorded changes in their order; a rule about how things stand is asked as of the
times when something had been published, the last of each day. Both go through the state machine that judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from stocktake.core.findings import Finding, Patience, Policy, Said, State, comes_back, step
from stocktake.core.rules import ChangeRule, Rule, StateRule
from stocktake.store import findings, judging
from stocktake.store.findings import Malformed, Subject
from stocktake.store.judging import Look, Standing, Unit
from stocktake.store.past import Past, past

_BATCH = 5_000
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What would have become of a finding."""

    at: datetime
    workspace: str
    rule: str
    kind: str
    key: str
    before: State | None
    after: State | None  # None: it never opened, and is over
    inherited: bool  # it was so at the beginning
    evidence: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Unobserved:
    """For what part of the time nothing can be said, of one workspace."""

    workspace: str
    never: list[str] = field(default_factory=list)  # kinds that were not completely seen in all this time
    first: datetime | None = None  # the first time at which the rule could be asked of everything
    dropped_before: datetime | None = None  # what was earlier, retention dropped


@dataclass(slots=True, kw_only=True)
class Replay:
    """Goes through the history of one workspace after another."""

    engine: Engine
    rule: Rule
    since: datetime
    until: datetime
    policy: Policy
    timeout: timedelta
    progress: Callable[[str, datetime], None] = lambda _name, _at: None
    unobserved: list[Unobserved] = field(default_factory=list)
    looks: int = 0  # times at which something was looked at
    _held: dict[Subject, Finding] = field(default_factory=dict)

    def run(self, workspaces: Sequence[str]) -> Iterator[Move]:
        """Yield what would have moved, workspace by workspace, each in the order of time. Raises Malformed, NoPast."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT workspace_id, name FROM workspace WHERE name = ANY(:names) ORDER BY name"),
                {"names": list(workspaces)},
            ).all()
        if isinstance(self.rule, StateRule):
            with past(self.engine, self.rule, self.timeout) as then:
                for row in rows:
                    self._held = {}
                    yield from self._states(then, self.rule, row.workspace_id, row.name)
        else:
            for row in rows:
                self._held = {}
                yield from self._changes(self.rule, row.workspace_id, row.name)

    # ---- changes -----------------------------------------------------------------------------------------------------

    def _changes(self, rule: ChangeRule, wid: int, name: str) -> Iterator[Move]:
        with self.engine.connect() as connection:
            reader = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            dropped = self._horizon(reader, wid, [str(kind) for kind in rule.kinds])
            first = reader.execute(
                text("SELECT min(first_complete_at) FROM scope WHERE workspace_id = :wid AND kind = ANY(:kinds)"),
                {"wid": wid, "kinds": [str(kind) for kind in rule.kinds]},
            ).scalar()
            self._note(name, [] if first else [str(kind) for kind in rule.kinds], first, dropped)
            begin = max(self.since, dropped or self.since)
            bounds = reader.execute(
                text(
                    "SELECT coalesce(max(change_id) FILTER (WHERE recorded_at <= :begin), 0),"
                    " coalesce(max(change_id) FILTER (WHERE recorded_at <= :until), 0)"
                    " FROM change WHERE workspace_id = :wid"
                ),
                {"wid": wid, "begin": begin, "until": self.until},
            ).one()
            after, last = int(bounds[0]), int(bounds[1])
            while after < last:
                seen, after = judging.changes_after(reader, wid, name, after, last, [rule], _BATCH)
                for change, at in seen:
                    if not rule.about(change):
                        continue
                    self.progress(name, at)
                    self.looks += 1
                    subject = Subject(kind=str(change.kind), key=change.key)
                    known = self._held.get(subject)
                    live = known is not None and known.state != State.RESOLVED
                    try:
                        verdict = rule.check(change, known.evidence if known is not None and live else None)
                    except Exception as exc:
                        raise Malformed(f"fails on change {change.id}: {type(exc).__name__}: {exc}") from exc
                    if verdict is not None:
                        said = Said(complete=True, holds=verdict.holds, evidence=verdict.evidence, again=True)
                        yield from self._step(name, subject, said, at)

    # ---- how things stand --------------------------------------------------------------------------------------------

    def _states(self, then: Past, rule: StateRule, wid: int, name: str) -> Iterator[Move]:
        connection = then.connection
        needed = [str(kind) for kind in (*rule.kinds, *rule.needs)]
        dropped = self._horizon(connection, wid, needed)
        standing = {
            unit: Standing(change=0, looked_at=None, epoch=None, severity=None, error=None)
            for unit in judging.units(rule)
        }
        first: dict[str, datetime] = {}
        for at in self._times(connection, wid):
            self.progress(name, at)
            if dropped is not None and at < dropped:
                continue
            then.at(wid, at)
            complete = judging.complete_kinds(connection, wid, "pg_temp.past_")
            looks = judging.looks(rule, standing, complete, 0, at)
            due = [one for one in looks if one.due]
            if due:
                self.looks += 1
                found = findings.yielded(connection, then.statement, name, [one.kind for one in due], at)
                yield from self._look(name, due, found, at)
            yield from self._blind(name, [one for one in looks if not one.due], at)
            for one in due:
                first.setdefault(one.kind, at)
                unit = Unit(rule=rule.id, kind=one.kind)
                standing[unit] = replace(standing[unit], looked_at=at, epoch=0)
        never = [unit.kind for unit in standing if unit.kind not in first]
        self._note(name, never, max(first.values(), default=None), dropped)

    def _look(
        self, name: str, due: Sequence[Look], found: Mapping[Subject, Mapping[str, Any]], at: datetime
    ) -> Iterator[Move]:
        first = {one.kind: one.first for one in due}
        for subject, evidence in found.items():
            said = Said(complete=True, holds=True, evidence=evidence, first=first[subject.kind])
            yield from self._step(name, subject, said, at)
        for subject in [one for one in self._held if one.kind in first and one not in found]:
            yield from self._step(name, subject, Said(complete=True), at)

    def _blind(self, name: str, unseen: Sequence[Look], at: datetime) -> Iterator[Move]:
        before = {one.kind: one.before for one in unseen}
        for subject in [one for one in self._held if one.kind in before]:
            yield from self._step(name, subject, Said(complete=False, looked_at=before[subject.kind]), at)

    def _times(self, connection: Connection, wid: int) -> list[datetime]:
        """The beginning, and of each day on which scans ended the last end. A hot pass that repeated the one before
        extended its row: it was looked at on every day between."""
        rows = connection.execute(
            text(
                "SELECT finished_at, coalesce(last_finished_at, finished_at) AS last FROM public.scan"
                " WHERE workspace_id = :wid AND finished_at <= :until"
                " AND coalesce(last_finished_at, finished_at) > :since AND state IN ('complete', 'partial', 'failed')"
            ),
            {"wid": wid, "since": self.since, "until": self.until},
        )
        days: dict[datetime, datetime] = {}
        for row in rows:
            at = max(row.finished_at, self.since)
            last = min(row.last, self.until)
            while at < last:
                day = _day(at)
                end = min(day + _DAY - timedelta(microseconds=1), last)
                days[day] = max(days.get(day, end), end)
                at = day + _DAY
            if last > self.since:
                days[_day(last)] = max(days.get(_day(last), last), last)
        return [self.since, *(at for _, at in sorted(days.items()))]

    # ---- both --------------------------------------------------------------------------------------------------------

    def _step(self, name: str, subject: Subject, said: Said, at: datetime) -> Iterator[Move]:
        before = self._held.get(subject)
        if before is not None and not comes_back(before, at, self.policy):
            before = None
        patience = Patience(opens_after=self.rule.opens_after, resolves_after=self.rule.resolves_after)
        after = step(before, said, at, patience, self.policy)
        if after is before:
            return
        if after is None:
            self._held.pop(subject, None)
        else:
            self._held[subject] = after
        was = before.state if before is not None else None
        now = after.state if after is not None else None
        told = after or before
        if was != now and told is not None:
            yield Move(
                at=at,
                workspace=name,
                rule=self.rule.id,
                kind=subject.kind,
                key=subject.key,
                before=was,
                after=now,
                inherited=told.inherited,
                evidence=told.evidence,
            )

    def _horizon(self, connection: Connection, wid: int, kinds: Sequence[str]) -> datetime | None:
        """Until when retention dropped states of these kinds, where that is in the time asked for."""
        dropped: datetime | None = connection.execute(
            text("SELECT max(dropped_before) FROM public.horizon WHERE workspace_id = :wid AND kind = ANY(:kinds)"),
            {"wid": wid, "kinds": list(kinds)},
        ).scalar()
        return dropped if dropped is not None and dropped > self.since else None

    def _note(self, name: str, never: list[str], first: datetime | None, dropped: datetime | None) -> None:
        late = first is not None and first > self.since
        if never or late or dropped is not None:
            self.unobserved.append(
                Unobserved(workspace=name, never=never, first=first if late else None, dropped_before=dropped)
            )


def _day(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
