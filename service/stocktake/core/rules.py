"""What a rule is: an id, how bad it is, what it needs completely seen, how long it must hold, and its words. Pure.

There are two sorts. A change rule is a function of one change (and of what its finding holds already); it needs nothing
complete, for a change is positive evidence. A state rule is one SQL statement over the views of the schema `inventory`;
what it does not yield counts as not so, and therefore it is asked only where what it needs was completely listed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from stocktake.core.assets import ChangeType, Kind


class Severity(StrEnum):
    """How bad it is."""

    INFO = "info"  # tidiness: somebody should, some day
    WARNING = "warning"  # somebody should look this week
    CRITICAL = "critical"  # production is, or may be, concerned: somebody looks now


class Group(StrEnum):
    """What sort of trouble it is: a whole group may be switched on or off."""

    DRIFT = "drift"  # something moved that should stand still
    HYGIENE = "hygiene"  # it works, and will be hard to find, explain or clean up
    CAPACITY = "capacity"  # machines that idle, queue or run out
    INTEGRITY = "integrity"  # something refers to what is not there
    SERVICE = "service"  # about stocktake's own looking


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a rule says to people. The page of the runbook is made of it, so that there is one source."""

    title: str
    why: str
    cli: str  # how to inspect with the command line
    rest: str  # with the REST API
    portal: str  # in the portal, the studio or MLflow's pages
    fix: str
    rollback: str
    signal: str  # what tells that it happens, and that it is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A change as a rule sees it, with how the asset stood before."""

    id: int
    workspace: str
    kind: Kind
    key: str
    name: str | None
    type: ChangeType
    fields: Sequence[Mapping[str, Any]]  # path, before, after
    not_before: datetime | None
    not_after: datetime
    scan: int
    state_before: str | None  # the state in the version that this change ended
    part_of: int | None = None  # the change that tells the story
    parts: int = 0  # changes that this one tells the story of


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a rule says of an asset: that it is so, or that it is so no longer; with the evidence."""

    holds: bool
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRule:
    """A rule about single changes. `check` is given the evidence of the finding that there is, or None."""

    id: str
    severity: Severity
    words: Words
    kinds: Collection[Kind]
    types: Collection[ChangeType]
    check: Callable[[Seen, Mapping[str, Any] | None], Verdict | None]
    opens_after: int = 1
    resolves_after: int = 1
    group: Group = Group.DRIFT
    for_teams: bool = False  # it makes no sense where one person works alone
    origin: str | None = None  # the file that it came from, of an operator's own rule

    def about(self, change: Seen) -> bool:
        """Whether a change is one that this rule looks at."""
        return change.kind in self.kinds and change.type in self.types


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRule:
    """A rule about how things stand: SQL that yields workspace, kind, key, evidence (jsonb); `:now` is the time.

    It is judged kind by kind (`kinds`), each where it was completely listed and `needs` were as well. A rule without
    kinds is about our own ledger, which is always whole: each judging is a look.
    """

    id: str
    severity: Severity
    words: Words
    statement: str
    kinds: Collection[Kind] = ()
    needs: Collection[Kind] = ()
    opens_after: int = 1  # complete looks for which it must hold
    resolves_after: int = 1  # complete looks for which it must not
    group: Group = Group.DRIFT
    for_teams: bool = False
    origin: str | None = None

    @property
    def of_ledger(self) -> bool:
        """Whether it needs nothing of what is watched."""
        return not self.kinds


Rule = ChangeRule | StateRule


def facts(change: Seen) -> dict[str, Any]:
    """What every finding about a change shows: which one, between which two looks, and which scan saw it. Not by whom:
    that stands at the change, where it may be named later, or taken back."""
    return {
        "change": change.id,
        "not_before": change.not_before.isoformat() if change.not_before else None,
        "not_after": change.not_after.isoformat(),
        "scan": change.scan,
    }


def edited(
    change: Seen, held: Mapping[str, Any] | None, matters: Callable[[Mapping[str, Any]], bool]
) -> Verdict | None:
    """Add the fields of a change to those that a finding holds already: what is again as it was at first drops out."""
    known = {field["path"]: field for field in (held or {}).get("fields", ())}
    touched = False
    for field in change.fields:
        path = field["path"]
        first = known[path]["before"] if path in known else field.get("before")
        if path not in known and not matters(field):
            continue
        touched = True
        known.pop(path, None)
        if first != field.get("after"):
            known[path] = {"path": path, "before": first, "after": field.get("after")}
    if not touched:
        return None
    return Verdict(holds=bool(known), evidence=facts(change) | {"fields": list(known.values())})
