"""Who did it: what a log of acts says about one change. Pure: values in, values out.

Such a log names who wrote to a resource and when, never which of its fields. So nobody is called the actor of a change
but the one whose act, of a kind that can have caused it, fell between its two looks, while nobody else's did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from stocktake.core.assets import PARTITIONED, Category, ChangeType, Kind
from stocktake.core.diff import category
from stocktake.core.words import words

#: What is said to be the source of an actor that it named.
AZURE = "Azure activity log"
#: How far Azure's clock and the database's may be apart. An act so near to a look may be on its other side.
CLOCKS = timedelta(minutes=1)
#: Kinds of which such a log tells: what is done through MLflow and other data planes is in none.
TOLD = frozenset(Kind) - PARTITIONED - {Kind.EXPERIMENT, Kind.CHILD_JOB, Kind.WEBHOOK, Kind.QUOTA}

#: Of more than these who may have done it the others are counted.
_MOST = 5
#: Acts that set what people decide: everything but what moves by itself.
_WRITES = frozenset(
    words("write resize updateidleshutdownsetting updatecustomservices updateschedules updatedatamounts")
)
#: Fields of state that a write sets.
_WRITTEN = frozenset(words("isArchived privateLinkServiceConnectionState"))
#: Fields that no write to the asset itself sets: a job ends, and a container moves on with each version of it.
_MOVED = frozenset(words("properties.status properties.latestVersion"))
#: Writes to what is there as soon as somebody, maybe somebody else, registers a version in it.
_TO_CONTAINERS = ("/models/write", "/data/write", "/environments/write", "/components/write")
#: Acts that lead to a state: the words of it, and of the last operation.
_LEADS_TO: Mapping[str, frozenset[str]] = {
    "start": frozenset(words("start starting running jobrunning")),
    "stop": frozenset(words("stop stopping stopped")),
    "restart": frozenset(words("restart restarting running jobrunning")),
    "cancel": frozenset(words("cancelrequested canceled cancelled")),
}
#: Actions that change nothing begin so. Of any other that is not known here nobody can say what it does.
_READERS = ("list", "get", "read", "show", "token", "validate", "check", "diagnose", "export")
#: Who started the last operation of a compute, where it was not a person: a schedule, the time that it sat idle.
_TRIGGER, _PERSON = "operationTrigger", "User"


class Line(NamedTuple):
    """One line of a log, about one asset of ours. The lines of one operation tell how it began and how it ended."""

    kind: Kind
    key: str
    operation: str  # .../workspaces/computes/start/action
    operation_id: str  # the same in all lines of one operation
    event_id: str
    caller: str  # a mail address or the id of an application; empty where the log names nobody
    at: datetime  # by the log's own clock
    accepted: bool  # it was accepted or has succeeded, rather than only begun
    failed: bool = False  # it came to nothing in the end, or was cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One operation that was accepted: it may have had its effect at any moment between its first line and its last."""

    operation: str
    caller: str
    began_at: datetime
    ended_at: datetime
    failed: bool = False  # after all: what it had done by then nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """A change, as far as it matters who did it."""

    type: ChangeType
    not_before: datetime  # the two looks
    not_after: datetime
    fields: Sequence[Mapping[str, Any]]  # path, before, after


class Named(NamedTuple):
    """Who did it, and how that is known. No actor but a source: several may have done it, and the source says who."""

    actor: str | None
    source: str


def named(change: Happened, acts: Iterable[Act]) -> Named | None:
    """Say who made a change, by the acts on that very asset; None where none of them can have made it."""
    near = [act for act in acts if _touches(act, change, CLOCKS) and (_doubtful(act) or _explains(act, change))]
    if not any(_touches(act, change, timedelta()) and not _doubtful(act) for act in near):
        return None  # one beside the interval, or one that nobody knows, only keeps others from being sure
    # The directory minds upper case in no address: one person, in whichever letters.
    callers = sorted({act.caller.casefold(): act.caller for act in sorted(near, key=lambda act: act.caller)}.values())
    if callers == [""]:
        return None
    if len(callers) == 1:
        return Named(callers[0], AZURE)
    people = [caller for caller in callers if caller]
    told = ", ".join(people[:_MOST]) + (f" and {len(people) - _MOST} more" if len(people) > _MOST else "")
    return Named(None, f"{AZURE}: one of {told}" + (", or somebody whom it does not name" if "" in callers else ""))


def can_change(operation: str) -> bool:
    """Whether an operation may ever be what made a change. To list keys is an act, too, and changes nothing."""
    does = _verb(operation)
    return _is_known(operation) or (does not in ("", "action") and not does.startswith(_READERS))


def _is_known(operation: str) -> bool:
    does = _verb(operation)
    return does == "delete" or does in _WRITES or does in _LEADS_TO


def _doubtful(act: Act) -> bool:
    """Whether an act may have changed anything or nothing: it names nobody, and keeps others from being sure."""
    return act.failed or not _is_known(act.operation)


def _verb(operation: str) -> str:
    """What an operation does, in small letters: write, delete, or the name of an action."""
    parts = operation.casefold().split("/")
    return parts[-2] if parts[-1] == "action" and len(parts) > 1 else parts[-1]


def _touches(act: Act, change: Happened, margin: timedelta) -> bool:
    return act.began_at - margin <= change.not_after and act.ended_at + margin > change.not_before


def _explains(act: Act, change: Happened) -> bool:
    """Whether an act is of a kind that can have made this change: jobs end by themselves, whoever edited their tags."""
    does = _verb(act.operation)
    match change.type:
        case ChangeType.PURGED:
            return does == "delete"
        case ChangeType.DELETED:
            return does in ("delete", "write")  # archived
        case ChangeType.CREATED | ChangeType.RESTORED:
            there_before = change.type is ChangeType.RESTORED and change.fields  # it was archived, and never gone
            return does == "write" and bool(there_before or not act.operation.casefold().endswith(_TO_CONTAINERS))
    if does in _WRITES:
        paths = {str(one["path"]) for one in change.fields}
        return any(map(_decided, paths)) and paths.isdisjoint(_MOVED)
    if does not in _LEADS_TO or any(_by_itself(one) for one in change.fields):
        return False
    reached = {
        str(one.get("after")).casefold() for one in change.fields if category(str(one["path"])) == Category.STATE
    }
    return not reached.isdisjoint(_LEADS_TO[does])


def _decided(path: str) -> bool:
    return category(path) in (Category.IDENTITY, Category.CONFIG) or not _WRITTEN.isdisjoint(path.split("."))


def _by_itself(one: Mapping[str, Any]) -> bool:
    """Whether a field says that nobody started the last operation."""
    after = one.get("after")
    if isinstance(after, Mapping):
        return bool(after.get(_TRIGGER, _PERSON) != _PERSON)
    return str(one["path"]).endswith(f".{_TRIGGER}") and after != _PERSON
