"""Plays scenarios together in one world, with scans in between, and holds what the rules found against what is so."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import text

from stocktake.core.assets import Mode
from tests.scenarios.clock import Clock
from tests.scenarios.frame import Book, Plot, Scenario, Subject, Wait, World

_ROUNDS = 5  # in which plays begin
_MOST_ROUNDS = 60


@dataclass(slots=True)
class _Playing:
    scenario: Scenario
    play: Iterator[Wait]
    wakes: datetime | None = None  # None: at the next round


@dataclass(slots=True, kw_only=True)
class Episode:
    """One world from its first scan to its last."""

    world: World
    clock: Clock
    choose: random.Random
    book: Book = field(init=False)
    scans: int = 0
    saw: bool = True  # whether the last sweep could look: nobody else acts until one could
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = Book(now=self.clock.now)

    def run(self, scenarios: Sequence[Scenario]) -> Book:
        """Play them all to their ends."""
        begins: dict[int, list[Scenario]] = {}
        for one in scenarios:
            begins.setdefault(self.choose.randrange(_ROUNDS), []).append(one)
        playing: list[_Playing] = []
        for number in range(_MOST_ROUNDS):
            begin = begins.pop(number, ())
            playing += [_Playing(one, one.play(self.world, Plot(self.book, str(one)))) for one in begin]
            self.choose.shuffle(playing)
            playing = [one for one in playing if self._acts(one)]
            self._look()
            if not playing and not begins and self.saw:
                return self.book
            free = [one for one in playing if self.saw or one.scenario.blind]
            sleeping = [one.wakes for one in free if one.wakes is not None]
            if sleeping and len(sleeping) == len(free) and not begins.keys() & {number + 1}:
                self._pass(max(min(sleeping) - self.clock.now(), timedelta(0)) + timedelta(seconds=5))
                self._look(quick=False)
            else:
                self._pass(timedelta(minutes=self.choose.randint(1, 15)))
        raise AssertionError(f"still playing after {_MOST_ROUNDS} rounds: {[str(one.scenario) for one in playing]}")

    def _acts(self, one: _Playing) -> bool:
        """Let a play go on, if it is its time; say whether there is more of it."""
        if not (self.saw or one.scenario.blind) or (one.wakes is not None and one.wakes > self.clock.now()):
            return True
        try:
            wait = next(one.play)
        except StopIteration:
            return False
        one.wakes = self.clock.now() + wait if wait is not None else None
        return True

    def _pass(self, by: timedelta) -> None:
        self.clock.forward(by)

    def _look(self, *, quick: bool = True) -> None:
        """Scan, sometimes quickly before, and compare what is found with what is claimed."""
        while quick and self.choose.random() < 0.25:
            self.world.scan(Mode.HOT)
            self.scans += 1
            self._compare(look=False, saw=False)
        self.saw = self.world.scan(Mode.SWEEP)
        self.scans += 1
        self._compare(look=True, saw=self.saw)

    def _compare(self, *, look: bool, saw: bool) -> None:
        now, book = self.clock.now(), self.book
        with self.clock.engine.connect() as connection:
            rows = connection.execute(
                text(
                    "SELECT rule, kind, CASE WHEN (kind, key) = ('workspace', 'workspace') THEN workspace ELSE key END"
                    " AS key, state, evidence FROM inventory.finding WHERE opened_at IS NOT NULL"
                )
            ).all()
        stands = {Subject(row.rule, row.kind, row.key): row for row in rows}
        for subject, found in stands.items():
            claim = book.claims.get(subject)
            if claim is not None and (now >= claim.due or claim.found):
                continue
            why = "before its time" if claim is not None else "near miss" if subject in book.near else "nobody's"
            by = claim.by if claim is not None else book.near.get(subject, "company")
            book.false.setdefault(subject, f"{why} ({by}): {found.evidence}")
        for subject, claim in book.claims.items():
            row = stands.get(subject)
            is_open = row is not None and row.state != "resolved"
            if claim.over:
                claim.clear += saw
                if is_open and claim.clear and not claim.lingered:
                    claim.lingered = True
                    self.troubles.append(f"not resolved: {subject} ({claim.by})")
                continue
            if is_open:
                claim.found = True
            if now < claim.late:
                continue
            claim.seen += saw or (look and claim.blind)
            if is_open:
                continue
            if claim.seen >= claim.looks and not claim.missed:
                claim.missed = True
                said = row.state if row is not None else "never found"
                self.troubles.append(f"missed: {subject} ({claim.by}): {said}")
