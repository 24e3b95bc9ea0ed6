"""What a scenario is, and what it claims: which findings must come of it, and when; all others must not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from stocktake.core.assets import Mode


class Subject(NamedTuple):
    """What a finding would be about. A workspace itself is known by its name."""

    rule: str
    kind: str
    key: str

    def __str__(self) -> str:
        return f"{self.rule} on {self.kind} {self.key}"


#: What a play yields to let others act, and a sweep come: None. Or for how long it has nothing to do.
Wait = timedelta | None
Plays = Iterator[Wait]

#: In place of a rule: what happens on any day.
COMPANY = "company"


class World(Protocol):
    """A place that plays change and that is scanned."""

    @property
    def choose(self) -> random.Random:
        """The only source of chance."""

    def scan(self, mode: Mode) -> bool:
        """Take stock of it; say whether it could be seen."""


@dataclass(slots=True, kw_only=True)
class Claim:
    """A fault that stands: its rule must say so."""

    by: str  # the scenario
    since: datetime  # by the simulated clock
    due: datetime  # before then it must not be found
    late: datetime  # from then on it must be
    looks: int  # complete looks until it must be found
    blind: bool = False  # looks that see nothing count as well
    seen: int = 0  # of those
    found: bool = False
    missed: bool = False
    over: bool = False  # it was put right
    clear: int = 0  # complete looks since
    lingered: bool = False


@dataclass(slots=True, kw_only=True)
class Book:
    """Everything that the plays of a world claim, and what came of it."""

    now: Callable[[], datetime]
    claims: dict[Subject, Claim] = field(default_factory=dict)
    near: dict[Subject, str] = field(default_factory=dict)  # what must not be found, by which scenario
    false: dict[Subject, str] = field(default_factory=dict)  # what was, and why that is wrong


@dataclass(frozen=True, slots=True)
class Plot:
    """What one scenario says of its acts, before the look that will see them."""

    book: Book
    scenario: str

    def fault(
        self,
        rule: str,
        kind: str,
        key: str,
        *,
        after: timedelta = timedelta(0),
        grace: timedelta = timedelta(0),
        looks: int = 1,
        blind: bool = False,
    ) -> None:
        """From here on this is a fault: once `after` has gone by it may be found, and after `grace` the `looks`th sweep
        must have found it. `blind`: one that sees nothing is a look as well."""
        now = self.book.now()
        subject = Subject(rule, str(kind), key)
        known = self.book.claims.get(subject)
        if known is not None and known.over:  # it is planted again
            known.over, known.seen, known.clear = False, 0, 0
            known.since, known.due, known.late, known.looks = now, now + after, now + after + grace, looks
            return
        assert known is None, f"{subject} is planted twice, by {known.by} and by {self.scenario}"
        self.book.claims[subject] = Claim(
            by=self.scenario, since=now, due=now + after, late=now + after + grace, looks=looks, blind=blind
        )

    def over(self, rule: str, kind: str, key: str) -> None:
        """The fault was put right: the next sweep must resolve it. One that was not due yet never was."""
        subject = Subject(rule, str(kind), key)
        claim = self.book.claims[subject]
        if self.book.now() < claim.due and not claim.found:
            del self.book.claims[subject]
            self.book.near[subject] = self.scenario
        else:
            claim.over, claim.clear = True, 0

    def near_miss(self, rule: str, kind: str, key: str) -> None:
        """This looks like the fault and is none: it must never be found."""
        self.book.near.setdefault(Subject(rule, str(kind), key), self.scenario)


Play = Callable[[Any, Plot], Plays]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One way in which a fault comes about, or nearly does.

    `play` acts on the world and yields a Wait whenever a sweep should come in between. `alone`: it concerns what
    there is once in a world, so no other scenario of its rule is played there. `blind`: it keeps scans from seeing
    anything, and goes on while they do; at most one of these is played in a world.
    """

    rule: str
    name: str
    fault: bool  # or a near miss
    play: Play
    alone: bool = False
    blind: bool = False

    def meets(self, other: Scenario) -> bool:
        """Whether the two can share a world."""
        return not (self.alone and self.rule == other.rule) and not (self.blind and other.blind)

    def __str__(self) -> str:
        return f"{self.rule}: {self.name}"

    @classmethod
    def of(
        cls, rule: str, faults: Sequence[Play], near_misses: Sequence[Play], *, alone: bool = False, blind: bool = False
    ) -> tuple[Scenario, ...]:
        """The scenarios of a rule, named after their functions."""
        return tuple(
            cls(rule=rule, name=play.__name__.replace("_", " "), fault=fault, play=play, alone=alone, blind=blind)
            for fault, plays in ((True, faults), (False, near_misses))
            for play in plays
        )
