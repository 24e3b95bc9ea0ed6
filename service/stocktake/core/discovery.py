"""Workspaces that are found and not named: what they are called here, which are selected, and how they stand. Pure.

What a name once stood for it stands for ever: history hangs on it. Nothing is gone because a list did not show it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

_LONGEST = 63
_MARK = 6


class Standing(StrEnum):
    """How a found workspace stands."""

    WATCHED = "watched"  # it is there, and selected
    UNSELECTED = "unselected"  # it is there, but its tags or its place are no longer those that are asked for
    SOFT_DELETED = "soft-deleted"  # deleted; Azure can bring it back for 14 days
    DELETED = "deleted"  # gone, said by somebody who may say so
    ACCESS_LOST = "access-lost"  # it, or its subscription, may not be read any more: nothing is known of it
    MOVED = "moved"  # the same workspace has another address, and is watched there


#: Scanned on. What cannot be seen is asked for on: the scans say so, and its return is noticed. What is soft-deleted
#: may come back, and its own history tells how it ended.
SCANNED = frozenset({Standing.WATCHED, Standing.SOFT_DELETED, Standing.ACCESS_LOST})

#: There is nothing more to ask about these, unless a list shows them again.
ENDED = frozenset({Standing.DELETED, Standing.MOVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A workspace as Azure shows it. `key` tells it from every other: Azure tells no case apart."""

    key: str
    subscription: str
    resource_group: str
    workspace: str
    region: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    guid: str | None = None  # the workspace's own id, which stays when its address changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A workspace that was found before, by the entry that it belongs to."""

    name: str
    entry: str
    place: Place
    standing: Standing


class Word(StrEnum):
    """What asking for one workspace by its id came to."""

    THERE = "there"
    SOFT_DELETED = "soft-deleted"
    DELETED = "deleted"
    ACCESS_LOST = "access-lost"
    UNKNOWN = "unknown"  # no answer that says anything: nothing is concluded


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """One workspace asked for by its id: the word, and what a person is told."""

    word: Word
    why: str = ""
    next_step: str = ""
    place: Place | None = None  # of one that is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A subscription, a resource group or a management group, and whether it was looked at."""

    path: str
    looked: bool
    why: str = ""
    next_step: str = ""
    trouble: str = ""

    def covers(self, place: Place) -> bool:
        """Whether a workspace lies in it. What lies below a management group is not told by a path."""
        here = f"/subscriptions/{place.subscription}/resourceGroups/{place.resource_group}/".casefold()
        return here.startswith(self.path.casefold() + "/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found: presence is sure; absence is asked about one by one."""

    began_at: datetime
    finished_at: datetime
    places: Mapping[str, Place]
    how: Mapping[str, str]  # key -> what showed it: resource-graph, list
    scopes: Sequence[Scope]
    whole: bool = True  # whether the scopes are all that the entry names: False where what is below a group is not told
    requests: int = 0

    def scope_of(self, place: Place) -> Scope | None:
        """The scope that a workspace lies in."""
        return next((one for one in self.scopes if one.covers(place)), None)


class Event(StrEnum):
    """What happened to a found workspace."""

    APPEARED = "appeared"
    RETURNED = "returned"
    UNSELECTED = "unselected"
    SOFT_DELETED = "soft-deleted"
    DELETED = "deleted"
    ACCESS_LOST = "access-lost"
    MOVED = "moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a known workspace stands after a look, where that is not how it stood."""

    standing: Standing
    event: Event
    why: str
    next_step: str = ""


def selected(tags: Mapping[str, str], wanted: Iterable[tuple[str, str | None]]) -> bool:
    """Whether a workspace has every wanted tag. Names in any case, values as they are written, as Azure has it."""
    has = {name.casefold(): value for name, value in tags.items()}
    return all(name.casefold() in has and (value is None or has[name.casefold()] == value) for name, value in wanted)


def doubted(known: Iterable[Known], look: Look) -> list[Known]:
    """Those to be asked for by their ids: known, not shown by this look, and not in what could not be looked at.

    A scope that was refused is looked into all the same, one by one: only so lost access is told. One that failed
    otherwise (throttled, a fault, no answer) would fail for each of them, and says nothing about any.
    """
    refused = ("permission", "not-found")
    return [
        one
        for one in known
        if one.place.key not in look.places
        and one.standing not in ENDED
        and ((scope := look.scope_of(one.place)) is None or scope.looked or scope.trouble in refused)
    ]


def judge(
    one: Known, look: Look, wanted: Sequence[tuple[str, str | None]], confirmed: Confirmation | None
) -> Verdict | None:
    """How a known workspace stands now, or None where it stands as it stood."""
    place = look.places.get(one.place.key)
    covered = place is not None
    if place is None and confirmed is not None and confirmed.word is Word.THERE:
        place = confirmed.place or one.place
        scope = look.scope_of(place)
        # Lists lag, and leave out what may not be read. It is there, and asked for, until its place no longer is.
        covered = scope is not None or not look.whole
    if place is not None:
        if not covered:
            standing, why = Standing.UNSELECTED, "its subscription or group is no longer among those that are asked for"
        elif not selected(place.tags, wanted):
            standing, why = Standing.UNSELECTED, "its tags are no longer those that are asked for"
        else:
            standing, why = Standing.WATCHED, _back(one, place)
        if standing == one.standing:
            return None
        event = Event.RETURNED if standing == Standing.WATCHED else Event.UNSELECTED
        return Verdict(standing=standing, event=event, why=why)
    if confirmed is None or confirmed.word in (Word.UNKNOWN, Word.THERE):
        return None
    moved = _moved(one, look) if confirmed.word in (Word.DELETED, Word.SOFT_DELETED) else None
    if moved is not None:
        return Verdict(
            standing=Standing.MOVED,
            event=Event.MOVED,
            why=f"it is at {moved.resource_group}/{moved.workspace} in subscription {moved.subscription} now",
            next_step="Its history until here stays under this name; what follows stands under the new one.",
        )
    standing = Standing(confirmed.word)
    if standing == one.standing:
        return None
    return Verdict(standing=standing, event=Event(confirmed.word), why=confirmed.why, next_step=confirmed.next_step)


def _back(one: Known, place: Place) -> str:
    if one.place.guid and place.guid and one.place.guid != place.guid:
        return "another workspace was made at its address"
    return {
        Standing.SOFT_DELETED: "it was brought back",
        Standing.DELETED: "it is there again",
        Standing.ACCESS_LOST: "it can be read again",
        Standing.UNSELECTED: "its tags and its place are those that are asked for again",
        Standing.MOVED: "it is at its old address again",
    }.get(one.standing, "")


def _moved(one: Known, look: Look) -> Place | None:
    guid = one.place.guid
    return next((place for place in look.places.values() if guid and place.guid == guid), None)


def named(pattern: str, place: Place) -> str:
    """The name that a pattern makes: small letters, digits and hyphens."""
    made = pattern.format(
        workspace=place.workspace,
        resource_group=place.resource_group,
        subscription=place.subscription[:8],
        region=place.region,
    )
    return _cut(re.sub(r"[^a-z0-9]+", "-", made.lower()).strip("-"), _LONGEST) or "workspace"


def names(pattern: str, places: Iterable[Place], taken: Collection[str]) -> dict[str, str]:
    """Names for workspaces that have none yet, by key. The same for the same workspaces, whatever their order.

    One that wants a name that is given already, or that another new one wants too, gets characters of its address
    added: nobody is asked to guess which of two came first.
    """
    new = sorted(places, key=lambda place: place.key)
    wanted = {place.key: named(pattern, place) for place in new}
    given: dict[str, str] = {}
    used = set(taken)
    several = {name for name, many in Counter(wanted.values()).items() if many > 1}
    for key, name in wanted.items():
        if name not in used and name not in several:
            given[key] = name
            used.add(name)
    for key, name in wanted.items():
        if key in given:
            continue
        digest = hashlib.sha256(key.encode()).hexdigest()
        longer = (f"{_cut(name, _LONGEST - length - 1)}-{digest[:length]}" for length in range(_MARK, 41))
        given[key] = next(one for one in longer if one not in used)
        used.add(given[key])
    return given


def _cut(text: str, length: int) -> str:
    return text[:length].strip("-")
