"""What is told to whom, and when: a pure function of the findings, what was told before, silences, and the time.

An alert is what a receiver is told of under one key: the findings that a route groups together. What opened is told at
least once, also when it was over before anybody was told; what was told to be firing is told to be over, and never the
other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from stocktake.core.findings import State
from stocktake.core.routing import Destination, Flapping, Inhibition, Matcher, Pace, Policy, Traits, fit

_SEVERITIES = ("info", "warning", "critical")
_MOVES = 16  # of a finding's openings and closings no more are kept


class Told(StrEnum):
    """What a receiver believes of an alert, or of one finding in it."""

    FIRING = "firing"
    RESOLVED = "resolved"


class What(StrEnum):
    """What a delivery is for."""

    FIRE = "fire"  # something is new
    UPDATE = "update"  # a part of it is over
    REPEAT = "repeat"  # nothing is new, and nobody took it on
    REFRESH = "refresh"  # for a receiver that forgets
    ACKNOWLEDGE = "acknowledge"  # all of it was taken on
    RESOLVE = "resolve"  # all of it is over
    DIGEST = "digest"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A finding as alerts see it, as it stands."""

    finding: int
    labels: Mapping[str, str]  # core.routing.LABELS, and those of its workspace
    state: State
    inherited: bool = False
    window: str | None = None  # the approved change window that it falls into
    parents: frozenset[tuple[str, str]] = frozenset()  # kind and key of what its asset lies in
    kinds: frozenset[str] = frozenset()  # that it keeps from being looked at, where it is not all of its workspace

    @property
    def firing(self) -> bool:
        """Whether somebody may have to act. What nobody could look at for long is not over."""
        return self.state in (State.OPEN, State.ACKNOWLEDGED, State.STALE)

    @property
    def quiet(self) -> bool:
        """Whether it never pages: it was so before we looked, or it was meant."""
        return self.inherited or self.window is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What was told of one finding in an alert."""

    finding: int
    told: Told | None = None
    told_at: datetime | None = None
    opened: bool = False  # it opened since it was last told
    more: bool = False  # something more happened to it since it was told to be firing
    moves: tuple[datetime, ...] = ()  # when it opened and closed lately


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What a receiver was told under one key."""

    key: str
    receiver: str
    labels: tuple[tuple[str, str], ...]
    digest: bool
    pace: Pace
    told: Told | None = None
    since: datetime | None = None
    told_at: datetime | None = None
    acknowledged: bool = False
    due: datetime | None = None
    news: datetime | None = None  # of a digest: when it tells what is new, though it is looked at before


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What happened to a finding since it was last planned."""

    opened: bool = False
    more: bool = False  # it was so already, and another change made it so once more
    moves: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """What people asked to keep quiet about, until a time."""

    match: tuple[Matcher, ...]
    starts: datetime
    ends: datetime

    def holds(self, labels: Mapping[str, str], now: datetime) -> bool:
        """Whether it keeps a finding quiet."""
        return self.starts <= now < self.ends and fit(self.match, labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One delivery: which findings it tells of, and what of each. `firing`: how many of the alert fire now."""

    what: What
    tells: tuple[tuple[int, Told], ...]
    firing: int
    part: int = 1
    parts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Flushed:
    """What became of an alert that was looked at."""

    alert: Alert
    members: Mapping[int, Member]  # those that changed
    deliveries: tuple[Planned, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """Why a finding that fires is not told of now."""

    silences: Sequence[Silence] = ()
    inhibitors: Sequence[Subject] = ()  # live findings that a source of an inhibition fits
    inhibitions: Sequence[Inhibition] = ()
    # How bad the worst of the sources is: of a workspace or a kind in it, and of an asset that others lie in.
    _whole: dict[tuple[int, str, str | None], int] = field(default_factory=dict)
    _above: dict[tuple[int, str, str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for subject in self.inhibitors:
            labels, severity = subject.labels, _severity(subject)
            for number, one in enumerate(self.inhibitions):
                if not fit(one.source, labels):
                    continue
                if one.below:
                    asset = (number, labels["workspace"], labels["kind"], labels["key"])
                    self._above[asset] = max(severity, self._above.get(asset, 0))
                else:
                    for kind in subject.kinds or (None,):
                        place = (number, labels["workspace"], kind)
                        self._whole[place] = max(severity, self._whole.get(place, 0))

    def why(self, subject: Subject, now: datetime) -> str | None:
        """`silenced`, `inhibited`, or None: it is told of. Nothing goes before what is worse than itself."""
        if any(one.holds(subject.labels, now) for one in self.silences):
            return "silenced"
        severity, workspace = _severity(subject), subject.labels["workspace"]
        for number, one in enumerate(self.inhibitions):
            if one.below:
                found = [self._above.get((number, workspace, *parent), -1) for parent in subject.parents]
            elif not fit(one.source, subject.labels):  # a source does not go before itself
                kind = subject.labels["kind"]
                found = [self._whole.get((number, workspace, what), -1) for what in (None, kind)]
            else:
                continue
            if max(found, default=-1) >= severity and fit(one.target, subject.labels):
                return "inhibited"
        return None


def _severity(subject: Subject) -> int:
    name = subject.labels["severity"]
    return _SEVERITIES.index(name) if name in _SEVERITIES else 0


def begun(key: str, to: Destination) -> Alert:
    """An alert that was never told of."""
    return Alert(key=key, receiver=to.receiver, labels=to.labels, digest=to.digest, pace=to.pace)


def attach(
    alert: Alert, member: Member | None, subject: Subject, news: News, policy: Policy, now: datetime
) -> tuple[Alert, Member | None]:
    """Take in what happened to a finding. None: it is no part of this alert, and there is nothing to tell of it."""
    if member is None and not news.opened and not subject.firing:
        return alert, None
    was = member or Member(finding=subject.finding)
    opened = was.opened or news.opened or (was.told is None and subject.firing)
    known = was.more and subject.state is not State.ACKNOWLEDGED  # who takes it on knows what happened until then
    more = was.told is Told.FIRING and (known or (news.more and subject.window is None))
    made = replace(was, opened=opened, more=more, moves=(*was.moves, *news.moves)[-_MOVES:])
    if made.told is not Told.FIRING and not opened:
        return alert, made
    when = _looked(alert, made, subject, policy, now)
    return replace(alert, due=_earlier(alert.due, when), news=_earlier(alert.news, when)), made


def _looked(alert: Alert, member: Member, subject: Subject, policy: Policy, now: datetime) -> datetime:
    """When an alert is looked at because of this finding."""
    if alert.digest:
        return policy.digest.after(now, policy.zone)
    if alert.told is not Told.FIRING:
        return now + alert.pace.wait
    if member.told is Told.FIRING and subject.firing and not member.more:
        return now  # taken on, or gone stale
    return max(now, (alert.told_at or now) + alert.pace.interval)


def flush(
    alert: Alert,
    members: Iterable[Member],
    subjects: Mapping[int, Subject],
    quiet: Callable[[Subject], str | None],
    policy: Policy,
    now: datetime,
    *,
    queued: bool = False,
) -> Flushed:
    """Look at an alert that is due: what its receiver is told now, and when it is looked at next.

    `queued`: something that was planned before did not arrive yet; then nothing is said again.
    """
    traits = policy.receivers.get(alert.receiver, Traits())
    muted = policy.muted(alert.pace, now)
    early = alert.digest and alert.news is not None and alert.news > now  # it is looked at to be refreshed
    all_of = {one.finding: one for one in members}
    fires, resolves, waits = list[int](), list[int](), list[datetime]()
    after = dict(all_of)
    for one in all_of.values():
        subject = subjects.get(one.finding)
        firing = subject is not None and subject.firing
        if one.told is Told.FIRING:
            if firing and one.more:  # told once more, unless it is not to be told of now
                if early or muted or (subject is not None and quiet(subject) is not None):
                    waits.append(alert.news if early and alert.news else now + alert.pace.interval)
                else:
                    fires.append(one.finding)
                    after[one.finding] = replace(one, told_at=now, opened=False, more=False)
            elif firing:
                after[one.finding] = replace(one, opened=False)
            elif (still := _settles(one, policy.flapping, now)) is not None:
                waits.append(still)
            else:
                resolves.append(one.finding)
                after[one.finding] = replace(one, told=Told.RESOLVED, told_at=now, opened=False, more=False)
            continue
        if not one.opened and not firing:
            continue
        why = quiet(subject) if subject is not None else None
        still = _settles(one, policy.flapping, now) if one.told is not None else None
        if why is not None and not firing:  # over, and nobody was to be told
            after[one.finding] = replace(one, opened=False, told=Told.RESOLVED, told_at=now)
        elif early:
            waits.append(alert.news or now)
        elif why is not None or muted:
            waits.append(now + alert.pace.interval)
        elif still is not None:
            waits.append(still)
        else:
            fires.append(one.finding)
            if not firing:
                resolves.append(one.finding)
            told = Told.FIRING if firing else Told.RESOLVED
            after[one.finding] = replace(one, told=told, told_at=now, opened=False)
    firing_now = [one for one in after.values() if one.told is Told.FIRING]
    made = _told(alert, fires, resolves, firing_now, now)
    deliveries = _deliveries(alert, fires, resolves, firing_now, traits)
    if not deliveries and firing_now and not queued:
        taken_on = all(_acknowledged(subjects.get(one.finding)) for one in firing_now)
        made, deliveries = _again(
            made, firing_now, taken_on=taken_on, held=muted or _all_held(firing_now, subjects, quiet), traits=traits,
            now=now,
        )  # fmt: skip
    changed = {name: one for name, one in after.items() if one != all_of[name]}
    news = min(waits, default=None)
    if news is not None and alert.digest:
        news = alert.news if early else policy.digest.after(now, policy.zone)
    made = replace(made, news=news, due=_next(made, firing_now, news, traits, now))
    return Flushed(alert=made, members=changed, deliveries=deliveries)


def _settles(member: Member, flapping: Flapping, now: datetime) -> datetime | None:
    """When a finding that opens and closes too often has stood still for long enough; None: it is told of now."""
    lately = [at for at in member.moves if now - at <= flapping.within]
    if len(lately) < flapping.moves or now - lately[-1] >= flapping.settle:
        return None
    return lately[-1] + flapping.settle


def _told(
    alert: Alert, fires: Sequence[int], resolves: Sequence[int], firing: Sequence[Member], now: datetime
) -> Alert:
    if not fires and not resolves:
        return alert
    told = Told.FIRING if firing else Told.RESOLVED
    began = now if alert.told is not Told.FIRING or alert.since is None else alert.since
    return replace(
        alert,
        told=told,
        told_at=now,
        since=began if told is Told.FIRING else None,
        acknowledged=alert.acknowledged and not fires and told is Told.FIRING,
    )


def _deliveries(
    alert: Alert, fires: Sequence[int], resolves: Sequence[int], firing: Sequence[Member], traits: Traits
) -> tuple[Planned, ...]:
    opened = [(one, Told.FIRING) for one in fires]
    closed = [(one, Told.RESOLVED) for one in resolves]
    if alert.digest and not traits.each:
        over = set(resolves)
        tells = [one for one in opened if one[0] not in over] + closed
        return tuple(_parts(What.DIGEST, tells, len(firing), traits)) if tells else ()
    found: list[Planned] = []
    if opened:  # what is over by now was firing with the rest
        found += _parts(What.FIRE, opened, len(firing) + len(set(fires) & set(resolves)), traits)
    if closed:
        found += _parts(What.UPDATE if firing else What.RESOLVE, closed, len(firing), traits)
    return tuple(found)


def _parts(what: What, tells: Sequence[tuple[int, Told]], firing: int, traits: Traits) -> list[Planned]:
    size = traits.batch if traits.each else max(1, len(tells))
    blocks = [tuple(tells[start : start + size]) for start in range(0, len(tells), size)]
    return [
        Planned(what=what, tells=block, firing=firing, part=number, parts=len(blocks))
        for number, block in enumerate(blocks, start=1)
    ]


def _again(
    alert: Alert, firing: Sequence[Member], *, taken_on: bool, held: bool, traits: Traits, now: datetime
) -> tuple[Alert, tuple[Planned, ...]]:
    """Say what was said before: because a receiver forgets, nobody took it on, or somebody did."""
    tells = [(one.finding, Told.FIRING) for one in firing]
    last = alert.told_at or now
    if traits.refresh is not None:
        if now - last < traits.refresh:
            return alert, ()
        return replace(alert, told_at=now), tuple(_parts(What.REFRESH, tells, len(firing), traits))
    if alert.digest:
        return alert, ()
    if taken_on:
        if alert.acknowledged or not traits.acknowledges:
            return alert, ()
        made = replace(alert, acknowledged=True)
        return made, (Planned(what=What.ACKNOWLEDGE, tells=tuple(tells), firing=len(firing)),)
    if held or alert.pace.repeat is None or now - last < alert.pace.repeat:
        return alert, ()
    return replace(alert, told_at=now), tuple(_parts(What.REPEAT, tells, len(firing), traits))


def _acknowledged(subject: Subject | None) -> bool:
    """Whether nobody needs to hear of it again: somebody took it on, or nobody can look."""
    return subject is None or subject.state in (State.ACKNOWLEDGED, State.STALE)


def _all_held(
    firing: Sequence[Member], subjects: Mapping[int, Subject], quiet: Callable[[Subject], str | None]
) -> bool:
    known = (subjects.get(one.finding) for one in firing)
    return all(one is None or not one.firing or quiet(one) is not None for one in known)


def _next(
    alert: Alert, firing: Sequence[Member], news: datetime | None, traits: Traits, now: datetime
) -> datetime | None:
    last, again = alert.told_at or now, None
    if firing and traits.refresh is not None:
        again = max(last + traits.refresh, now + _SOON)
    elif firing and alert.pace.repeat is not None and not alert.digest:
        again = max(last + alert.pace.repeat, now + alert.pace.interval)
    return again if news is None else _earlier(again, news)


def _earlier(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)


_SOON = Pace().wait
