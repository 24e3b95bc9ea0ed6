"""Which model versions were production in a period, and how sure that is. Pure.

What is known of a state are looks: one that did not show it yet, the first that did, the last that did, one that did
not any more. So a state has no beginning and no end, but a span of which the inner part is sure and the rest possible.
Nothing here invents an instant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any

from stocktake.core.assets import Kind, Lifecycle
from stocktake.core.references import model_of, versioned

ENDPOINTS: Mapping[Kind, Kind] = {
    Kind.ONLINE_ENDPOINT: Kind.ONLINE_DEPLOYMENT,
    Kind.BATCH_ENDPOINT: Kind.BATCH_DEPLOYMENT,
}


class Certainty(StrEnum):
    """How far it is certain that a version was production in the period."""

    OBSERVED = "observed"  # a look within the period showed it
    BETWEEN = "between"  # looks before and after the period showed it, and no change in between
    POSSIBLE = "possible"  # a change that began or ended it lies between two looks, and may lie outside the period
    CARRIED = "carried"  # it was so at the last look, which is before the period: nobody has looked since


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What makes a model version production: any of these."""

    aliases: Collection[str] = ("champion", "production")
    stages: Collection[str] = ("Production",)
    tags: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    traffic: bool = True  # an online endpoint sends it a share of its traffic above 0
    batch_default: bool = True  # it is the default deployment of a batch endpoint

    def of_version(self, document: Mapping[str, Any]) -> Iterator[str]:
        """Say why a model version's own document makes it production."""
        aliases = document.get("aliases")
        for alias in self.aliases:
            if isinstance(aliases, (list, tuple)) and alias in aliases:
                yield f"alias {alias}"
        properties = document.get("properties")
        places = [document, properties] if isinstance(properties, Mapping) else [document]
        stages = {place.get("stage") for place in places if isinstance(place.get("stage"), str)}
        yield from (f"stage {stage}" for stage in self.stages if stage in stages)
        for name, value in self.tags.items() if isinstance(self.tags, Mapping) else self.tags:
            if any(isinstance(tags := place.get("tags"), Mapping) and tags.get(name) == value for place in places):
                yield f"tag {name}={value}"

    def of_endpoint(self, kind: str, document: Mapping[str, Any]) -> list[str]:
        """Return the names of the deployments that an endpoint's document makes production."""
        properties = document.get("properties")
        if not isinstance(properties, Mapping):
            return []
        if kind == Kind.ONLINE_ENDPOINT and self.traffic:
            return sorted(name for name, _ in shares(properties))
        if kind == Kind.BATCH_ENDPOINT and self.batch_default:
            defaults = properties.get("defaults")
            name = defaults.get("deploymentName") if isinstance(defaults, Mapping) else None
            return [name] if isinstance(name, str) and name else []
        return []


def shares(properties: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the deployments that an online endpoint sends traffic, and how much."""
    traffic = properties.get("traffic")
    for name, share in traffic.items() if isinstance(traffic, Mapping) else ():
        if isinstance(share, (int, float)) and not isinstance(share, bool) and share > 0:
            yield name, share


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A change of state: it happened after one look and by another."""

    not_before: datetime | None  # None: nobody had looked before
    not_after: datetime
    change: int | None = None  # its row in the history; None where it is a baseline
    scan: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One version (in the history's sense) of an asset that bears on what is production."""

    workspace: str
    kind: str
    key: str
    parent: str | None
    run: str | None
    lifecycle: str
    valid_from: datetime
    valid_to: datetime | None
    digest: str
    scan: int
    artifact_uri: str | None
    created_at: datetime | None
    document: Mapping[str, Any]
    began: Turn
    ended: Turn | None  # None: it is the newest that is known
    last_seen: datetime  # the last look that showed it
    last_pass: datetime | None = None  # when the scan of that look ended, where that is known
    home: str | None = None  # where its workspace is, of one in Azure


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From when to when something was so, as far as looks tell: surely between the inner two, possibly between the
    outer two. `seen`: it was so at some moment, even where the inner two are the two ends of a single look."""

    after: datetime | None  # the last look before it; None: nobody had looked
    begun: datetime  # the first look that showed it
    until: datetime  # the last look that showed it
    ended: datetime | None  # the first look that did not; None: none yet
    seen: bool = True
    passed: datetime | None = None  # when the scan of the last look that showed it ended, where that is known

    def meets(self, other: Span) -> Span | None:
        """What both have in common; None where they cannot have met."""
        met = Span(
            after=_latest(self.after, other.after),
            begun=max(self.begun, other.begun),
            until=min(self.until, other.until),
            ended=_earliest(self.ended, other.ended),
            passed=min(self.passed, other.passed) if self.passed and other.passed else None,
        )
        if met.ended is not None and met.after is not None and met.ended <= met.after:
            return None
        inner = (met.begun, met.until)
        whole = inner in ((self.begun, self.until), (other.begun, other.until))
        met_surely = met.begun <= met.until or whole or self._stand_beside(other)
        return replace(met, seen=self.seen and other.seen and met_surely)

    def _stand_beside(self, other: Span) -> bool:
        """Whether one scan showed both: it looks at one kind after the other, and is taken for one moment."""
        if self.passed is None or other.passed is None:
            return False
        return max(self.begun, other.begun) <= min(self.passed, other.passed)

    def touches(self, other: Span) -> bool:
        """Whether they surely are one stretch of time."""
        return (self.begun <= other.until and other.begun <= self.until) or self._stand_beside(other)

    def joined(self, other: Span) -> Span:
        """One stretch out of two that touch."""
        after = None if self.after is None or other.after is None else min(self.after, other.after)
        ended = None if self.ended is None or other.ended is None else max(self.ended, other.ended)
        begun, until = min(self.begun, other.begun), max(self.until, other.until)
        passed = max(self.passed, other.passed) if self.passed and other.passed else self.passed or other.passed
        return Span(after=after, begun=begun, until=until, ended=ended, seen=self.seen or other.seen, passed=passed)

    def certainty(self, start: datetime, end: datetime, looks: Iterable[datetime] = ()) -> Certainty | None:
        """How certain it is that it was so at some time of [start, end); None: it was not, or nothing is known."""
        if self.seen and self.begun < end and self.until >= start:
            within = [self.begun, self.until, *(look for look in looks if self.begun <= look <= self.until)]
            return Certainty.OBSERVED if any(start <= look < end for look in within) else Certainty.BETWEEN
        if self.ended is None and self.until < start and self.begun < end:
            return Certainty.CARRIED
        # Before the first look ever nothing is known, not even that it was possible.
        began = self.begun < end if self.after is None else self.after < end
        return Certainty.POSSIBLE if began and (self.ended is None or self.ended > start) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """A model version was production for a while: why, from when to when, and by which states that is known."""

    workspace: str
    key: str
    span: Span
    reasons: Sequence[tuple[str, Span]]  # each for its own time
    states: Sequence[State]

    @property
    def because(self) -> list[str]:
        """All of the reasons."""
        return list(dict.fromkeys(why for why, _ in self.reasons))

    def because_in(self, start: datetime, end: datetime) -> list[str]:
        """The reasons that hold, or may, at some time of [start, end)."""
        held = [why for why, span in self.reasons if span.certainty(start, end) is not None]
        return list(dict.fromkeys(held)) or self.because


def spells(states: Iterable[State], meaning: Meaning) -> list[Spell]:
    """Return when each model version was production, oldest first, out of states of versions, endpoints and
    deployments in any order."""
    by_asset: dict[tuple[str, str, str], list[State]] = {}
    for state in sorted(states, key=lambda one: (one.workspace, one.kind, one.key, one.valid_from)):
        by_asset.setdefault((state.workspace, state.kind, state.key), []).append(state)
    found: dict[tuple[str, str], list[Spell]] = {}
    for (workspace, kind, key), known in by_asset.items():
        if kind == Kind.MODEL_VERSION:
            for span, run in _runs(known, lambda one: _active(one) and any(meaning.of_version(one.document))):
                reasons = list(_reasons(run, meaning))
                found.setdefault((workspace, key), []).append(
                    Spell(workspace=workspace, key=key, span=span, reasons=reasons, states=run)
                )
        elif kind in ENDPOINTS:
            for one in _served(workspace, Kind(kind), key, known, by_asset, meaning):
                found.setdefault((workspace, one.key), []).append(one)
    made = [spell for those in found.values() for spell in _merged(those)]
    return sorted(made, key=lambda one: (one.workspace, one.key, one.span.begun))


def _reasons(run: Sequence[State], meaning: Meaning) -> Iterator[tuple[str, Span]]:
    whys = {one.valid_from: tuple(meaning.of_version(one.document)) for one in run}
    for why in dict.fromkeys(why for those in whys.values() for why in those):
        for span, _ in _runs(run, lambda one, why=why: why in whys[one.valid_from]):  # type: ignore[misc]
            yield why, span


def _active(state: State) -> bool:
    return state.lifecycle == Lifecycle.ACTIVE


def _runs(states: Sequence[State], holds: Callable[[State], bool]) -> Iterator[tuple[Span, list[State]]]:
    """Cut an asset's states into the unbroken stretches in which something holds."""
    held: list[State] = []
    for state in states:
        if held and not (holds(state) and held[-1].valid_to == state.valid_from):
            yield _span(held), held
            held = []
        if holds(state):
            held.append(state)
    if held:
        yield _span(held), held


def _span(held: Sequence[State]) -> Span:
    first, last = held[0].began, held[-1]
    if last.ended is None:
        return Span(
            after=first.not_before, begun=first.not_after, until=last.last_seen, ended=None, passed=last.last_pass
        )
    until = last.ended.not_before if last.ended.not_before is not None else last.valid_from
    ended = last.ended.not_after
    return Span(after=first.not_before, begun=first.not_after, until=until, ended=ended, passed=last.last_pass)


def _served(
    workspace: str,
    kind: Kind,
    endpoint: str,
    known: Sequence[State],
    by_asset: Mapping[tuple[str, str, str], Sequence[State]],
    meaning: Meaning,
) -> Iterator[Spell]:
    """What an endpoint served: while it sent a deployment traffic, the model of that deployment at the same time."""
    names = sorted({name for state in known for name in meaning.of_endpoint(kind, state.document)})
    for name in names:
        deployment = f"{endpoint}/{name}"
        told = "traffic of" if kind == Kind.ONLINE_ENDPOINT else "default of batch endpoint"
        why = f"{told} {deployment}"
        serving = list(
            _runs(known, lambda one, name=name: _active(one) and name in meaning.of_endpoint(kind, one.document))  # type: ignore[misc]
        )
        deployed = by_asset.get((workspace, ENDPOINTS[kind], deployment), ())
        for model, which in groupby(deployed, _model):
            if model is None:
                continue
            for span, holding in _runs(list(which), _active):
                for open_span, sending in serving:
                    if (met := span.meets(open_span)) is not None:
                        states = [*sending, *holding]
                        yield Spell(workspace=workspace, key=model, span=met, reasons=[(why, met)], states=states)


def _model(deployment: State) -> str | None:
    found = versioned(model_of(deployment.document), Kind.MODEL_VERSION, deployment.home)
    return found[1] if found is not None else None


def _merged(those: Sequence[Spell]) -> Iterator[Spell]:
    """Make one of spells that surely overlap: an alias and a share of traffic are one stay in production."""
    waiting = sorted(those, key=lambda one: one.span.begun)
    while waiting:
        made = waiting.pop(0)
        while (other := next((one for one in waiting if made.span.touches(one.span)), None)) is not None:
            waiting.remove(other)
            reasons = [*made.reasons, *other.reasons]
            states = list({id(one): one for one in (*made.states, *other.states)}.values())
            made = replace(made, span=made.span.joined(other.span), reasons=reasons, states=states)
        yield made


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at is not None), default=None)


def _earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((at for at in (one, other) if at is not None), default=None)
