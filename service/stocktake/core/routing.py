"""Which receiver a finding goes to: matchers, the tree of routes, and what findings of one alert have in common. Pure.

A tree always ends somewhere: its root takes what no other route does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta, tzinfo
from functools import lru_cache

#: What findings can be matched and grouped by. Labels of a workspace are `label.NAME`.
LABELS = ("workspace", "rule", "severity", "kind", "key", "owner", "finding")
LABEL = "label."
#: The name of the receiver that is none: what is routed there is told nobody, on purpose.
NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """One label and the patterns of which one must fit; `*` and `?` stand for any text and any character."""

    label: str
    patterns: tuple[str, ...]

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether a label has one of the values. A pattern that begins with ! must not fit; alone it lets others."""
        value = labels.get(self.label, "")
        refused = [one[1:] for one in self.patterns if one.startswith("!")]
        wanted = [one for one in self.patterns if not one.startswith("!")]
        if any(_pattern(one).fullmatch(value) for one in refused):
            return False
        return not wanted or any(_pattern(one).fullmatch(value) for one in wanted)


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def matchers(given: Mapping[str, str | Sequence[str]]) -> tuple[Matcher, ...]:
    """Matchers as a person writes them: a label and its pattern, or a list of patterns."""
    return tuple(
        Matcher(label=label, patterns=(words,) if isinstance(words, str) else tuple(words))
        for label, words in given.items()
    )


def fit(all_of: Sequence[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether every matcher fits."""
    return all(one.fits(labels) for one in all_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long an alert waits: for company, for more, until it is said again; and when it keeps quiet."""

    wait: timedelta = timedelta(seconds=30)
    interval: timedelta = timedelta(minutes=5)
    repeat: timedelta | None = timedelta(hours=4)
    mutes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One node of the tree."""

    receiver: str
    match: tuple[Matcher, ...] = ()
    group_by: tuple[str, ...] = ("workspace", "rule")
    pace: Pace = Pace()
    digest: bool = False
    goes_on: bool = False  # the routes after it are asked as well
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """A time of the week in which nothing new is told: days (Monday is 0) and a span of the clock."""

    days: frozenset[int] = frozenset(range(7))
    start: time = time(0, 0)
    end: time = time(0, 0)  # not later than the start: on the next day

    def holds(self, now: datetime, zone: tzinfo) -> bool:
        """Whether it is such a time. A span over midnight belongs to the day it begins on."""
        local = now.astimezone(zone)
        clock = local.time()
        if self.start < self.end:
            return local.weekday() in self.days and self.start <= clock < self.end
        if clock >= self.start:
            return local.weekday() in self.days
        return clock < self.end and (local.weekday() - 1) % 7 in self.days


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """When the digest goes out."""

    at: time = time(9, 0)
    days: frozenset[int] = frozenset(range(7))

    def after(self, now: datetime, zone: tzinfo) -> datetime:
        """The next one, strictly later."""
        local = now.astimezone(zone)
        for ahead in range(9):
            day = local.date() + timedelta(days=ahead)
            found = datetime.combine(day, self.at, tzinfo=zone)
            if day.weekday() in self.days and found.timestamp() > now.timestamp():
                return found.astimezone(now.tzinfo)
        raise ValueError("a digest has at least one day of the week")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flapping:
    """What opens and closes so often is told once more when it has stood still for a while."""

    moves: int = 4
    within: timedelta = timedelta(hours=2)
    settle: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inhibition:
    """While one finding is there, others go without saying: those of its workspace, or of what lies below its asset."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...] = ()
    below: bool = False


#: A workspace that cannot be looked at, over all that is known of it; what is deleted, over what lay in it.
INHIBITIONS = (
    Inhibition(source=matchers({"rule": "access-lost"})),
    Inhibition(source=matchers({"rule": ["experiment-deleted", "run-deleted"]}), below=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a receiver can take."""

    each: bool = False  # every finding, rather than the first few and a count
    refresh: timedelta | None = None  # forgets what it is not told again
    acknowledges: bool = False
    batch: int = 100  # findings in one message, of those that take each


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that decides who is told what, and when."""

    root: Route
    receivers: Mapping[str, Traits]
    zone: tzinfo
    digest: Digest = Digest()
    mutes: Mapping[str, Sequence[Mute]] = field(default_factory=dict)
    flapping: Flapping = Flapping()
    inhibitions: Sequence[Inhibition] = INHIBITIONS

    def muted(self, pace: Pace, now: datetime) -> bool:
        """Whether an alert keeps quiet now. A name that is no longer in the configuration mutes nothing."""
        return any(one.holds(now, self.zone) for name in pace.mutes for one in self.mutes.get(name, ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a finding goes: a receiver, and the alert there that it is a part of."""

    receiver: str
    labels: tuple[tuple[str, str], ...]
    digest: bool
    pace: Pace


def destinations(policy: Policy, labels: Mapping[str, str], *, quiet: bool) -> tuple[Destination, ...]:
    """Where a finding goes, each place once. One that is `quiet` never pages: it goes into the digest of the root."""
    routes = list(_taken(policy.root, labels))
    if quiet:  # whatever a route says of what is new
        routes = [one for one in routes if one.digest] or [policy.root]
        routes = [replace(one, digest=True) for one in routes]
    found: dict[tuple[str, tuple[tuple[str, str], ...], bool], Destination] = {}
    for route in routes:
        if route.receiver == NONE:
            continue
        named = () if route.digest else route.group_by
        made = Destination(
            receiver=route.receiver,
            labels=tuple((name, labels.get(name, "")) for name in named),
            digest=route.digest,
            pace=route.pace,
        )
        found.setdefault((made.receiver, made.labels, made.digest), made)
    return tuple(found.values())


def _taken(route: Route, labels: Mapping[str, str]) -> Iterator[Route]:
    """The deepest routes that take it; the first of each level, and those after one that goes on."""
    found = False
    for below in route.routes:
        if fit(below.match, labels):
            found = True
            yield from _taken(below, labels)
            if not below.goes_on:
                break
    if not found:
        yield route
