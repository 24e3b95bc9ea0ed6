"""What a rule is: an id, how bad it is, what it needs completely seen, how long it must hold, and its words. Pure.

There are two sorts. A change rule is a function of one change (and of what its finding holds already); it needs nothing
complete, for a change is positive evidence. A state rule is one SQL statement over the views of the schema `inventory`;
what it does not yield counts as not so, and therefore it is asked only where what it needs was completely listed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any
from urllib.parse import quote

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.diff import field_changes


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


def about(words: Words, kind: str, key: str, workspace: str) -> Words:
    """The words for one finding: its KIND and KEY as a shell takes them, and in an address as an address does; and our
    own commands about its workspace alone.

    A watched server chose the key, and somebody will paste this into a shell."""
    shell = {"KIND": kind, "KEY": shlex.quote(key)}
    place = f"-w {shlex.quote(workspace)}"
    shell["-w WORKSPACE"] = place
    address = {"KIND": kind, "KEY": quote(key, safe="/", errors="replace")}

    def filled(text: str, values: Mapping[str, str], place: str = "") -> str:
        return _ROOM.sub(lambda found: values.get(found[0], f"{found[0]} {place}"), text)

    return replace(
        words,
        cli=filled(words.cli, shell, place),
        rest=filled(words.rest, address),
        portal=filled(words.portal, address),
        fix=filled(words.fix, shell, place),
        rollback=filled(words.rollback, shell, place),
    )


# Where the words leave room: for kind and key, and behind our own commands that ask, of which each takes `-w`.
_ROOM = re.compile(
    r"\b(?:KIND|KEY)\b|-w WORKSPACE\b"
    r"|\bstocktake (?:show|history|changes|diff|lineage|list|production|reconcile|status|scope list)(?![\w-]| -w )"
)


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
    #: Of kinds that say what is production: what was deleted or purged, as it was; what is back, as it is.
    document: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a rule says of an asset: that it is so, or that it is so no longer; with the evidence."""

    holds: bool
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRule:
    """A rule about single changes. `check` is given the evidence of the finding that there is, or None; and, by their
    names, those of its `parameters` that the configuration gives."""

    id: str
    severity: Severity
    words: Words
    kinds: Collection[Kind]
    types: Collection[ChangeType]
    check: Callable[..., Verdict | None]
    opens_after: int = 1
    resolves_after: int = 1
    group: Group = Group.DRIFT
    for_teams: bool = False  # it makes no sense where one person works alone
    origin: str | None = None  # the file that it came from, of an operator's own rule
    parameters: Collection[str] = ()

    def about(self, change: Seen) -> bool:
        """Whether a change is one that this rule looks at."""
        return change.kind in self.kinds and change.type in self.types


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """A statement that goes by the configuration: `:name` in it stands for one of its parameters."""

    template: str
    parameters: Mapping[str, Any]  # as they are where the configuration says nothing

    def statement(self, given: Mapping[str, Any] | None = None) -> str:
        """The statement with those of its parameters that are given in place of its own, all written as literals."""
        values = {name: (given or {}).get(name, own) for name, own in self.parameters.items()}
        names = "|".join(sorted(values, key=len, reverse=True))
        return re.sub(rf"(?<![:\w]):({names})\b", lambda hit: _literal(values[hit[1]]), self.template)


def _literal(value: Any) -> str:
    """A value as SQL. Colons are escaped: what looks like a parameter would be taken for one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return f"interval '{value.total_seconds()} seconds'"
    if isinstance(value, str):
        return "E'" + re.sub(r"[\\':;$]", lambda hit: f"\\x{ord(hit[0]):02x}", value) + "'"
    return f"CAST(ARRAY[{', '.join(_literal(one) for one in value)}] AS text[])"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRule:
    """A rule about how things stand: SQL that yields workspace, kind, key, evidence (jsonb); `:now` is the time.

    A number `change` in the evidence is the change that it is about: who made that then stands at the finding.
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
    asks: Asks | None = None  # what the statement was made of, where it goes by the configuration

    @property
    def of_ledger(self) -> bool:
        """Whether it needs nothing of what is watched."""
        return not self.kinds


Rule = ChangeRule | StateRule


def bound(rules: Iterable[Rule], given: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules with those of their parameters that are given in place of their own."""
    made: list[Rule] = []
    for rule in rules:
        if isinstance(rule, StateRule):
            made.append(replace(rule, statement=rule.asks.statement(given)) if rule.asks is not None else rule)
        else:
            own = {name: given[name] for name in rule.parameters if name in given}
            made.append(replace(rule, check=partial(rule.check, **own)) if own else rule)
    return tuple(made)


def facts(change: Seen) -> dict[str, Any]:
    """What every finding about a change shows: which one, between which two looks, and which scan saw it. Not by whom:
    that stands at the change, where it may be named later, or taken back."""
    return {
        "change": change.id,
        "not_before": change.not_before.isoformat() if change.not_before else None,
        "not_after": change.not_after.isoformat(),
        "scan": change.scan,
    }


def _differs(_: str, first: Any, now: Any) -> bool:
    return bool(first != now)


def edited(
    change: Seen,
    held: Mapping[str, Any] | None,
    matters: Callable[[Mapping[str, Any]], bool],
    differs: Callable[[str, Any, Any], bool] = _differs,
) -> Verdict | None:
    """Add the fields of a change to those that a finding holds already: what is again as it was at first drops out,
    or what `differs` (path, at first, now) says is no worse than that."""
    known = {one["path"]: one for one in (held or {}).get("fields", ())}
    touched = False
    for one in change.fields:
        path = one["path"]
        first = known[path]["before"] if path in known else one.get("before")
        if path not in known and not matters(one):
            continue
        touched = True
        known.pop(path, None)
        if differs(path, first, one.get("after")):
            known[path] = {"path": path, "before": first, "after": one.get("after")}
    if not touched:
        return None
    told = known or {one["path"]: one for one in (held or {}).get("fields", ())}  # what is over still says what it was
    return Verdict(holds=bool(known), evidence=facts(change) | {"fields": list(told.values())})


def in_parts(change: Seen) -> Seen:
    """The same change with its objects taken apart: an object that came, or went, is each of its fields."""
    fields: list[Mapping[str, Any]] = []
    for field in change.fields:
        before, after = field.get("before"), field.get("after")
        if isinstance(before, Mapping | None) and isinstance(after, Mapping | None):
            parts = field_changes(before or {}, after or {}, field["path"])
            fields += [{"path": one.path, "before": one.before, "after": one.after} for one in parts]
        else:
            fields.append(field)
    return replace(change, fields=fields)
