"""The gate before a release: what must be so of a model version, or a run, and how far it is known to be. Pure.

A check passes on what was seen alone. What nobody could look at, or looked at too long ago, is unknown, and unknown is
never a pass; what was excepted beforehand by a waiver is said to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from stocktake.core.assets import Kind
from stocktake.core.covering import About
from stocktake.core.findings import State
from stocktake.core.waivers import Waiver, covering, told


class Result(StrEnum):
    """What came of a check."""

    PASS = "pass"  # noqa: S105 - no word to enter with
    FAIL = "fail"
    UNKNOWN = "unknown"  # it was not, or cannot be, looked at
    WAIVED = "waived"  # it would not pass, and that was agreed on


#: The worst first: a verdict is the worst of its checks.
_WORST = (Result.FAIL, Result.UNKNOWN, Result.WAIVED, Result.PASS)


class Presence(StrEnum):
    """How a thing stands."""

    ACTIVE = "active"
    DELETED = "deleted"  # marked so, and still there
    GONE = "gone"  # purged
    UNSEEN = "not observed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """An asset that is checked, or stands behind it, as it is known."""

    kind: str
    key: str
    name: str | None = None
    presence: Presence = Presence.ACTIVE
    state: str | None = None
    owner: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    artifact_uri: str | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How completely, and when last, a kind was looked at."""

    kind: str
    state: str  # of a scope; "never"
    at: datetime | None  # when the last complete look began
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What was changed in a run after it had ended. `since`: edits before that time cannot be known."""

    fields: Sequence[Mapping[str, Any]] = ()
    observed: bool = True  # its end was seen, or it came and ended between two looks
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """An end of the lineage that is not as it should be."""

    kind: str
    key: str
    standing: str
    gone: bool  # surely not there; else nobody knows
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A finding about something that is checked."""

    id: int
    rule: str
    severity: str
    state: str
    kind: str
    key: str
    settled: bool = False  # of a change: somebody took note of it, or it was made in an approved window
    workspace_wide: bool = False  # it keeps things from being seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The runs that are compared with this one, by the set that it declares."""

    name: str
    parameters: Sequence[str]  # that must match
    own: Mapping[str, Any]
    others: Mapping[str, Mapping[str, Any]]  # by run
    whole: bool = True  # all runs were listed completely


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What was found where the artifacts lie, when somebody looked for this check."""

    blobs: int
    bytes: int
    newest: datetime | None
    place: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known for a gate."""

    workspace: str
    subject: Thing
    registered: Thing | None = None
    run_key: str | None = None
    run: Thing | None = None  # the run, or the job where there is no run
    job: Thing | None = None
    logged: Thing | None = None
    made_from: Mapping[str, str | None] = field(default_factory=dict)  # code, data, environment, parameters
    edits: Edits = Edits()
    ends: Sequence[End] = ()
    cut: bool = False  # the lineage is longer than what was followed
    looks: Sequence[Look] = ()
    bound: timedelta = timedelta(days=1)  # how old a look may be
    required: Mapping[str, str] = field(default_factory=dict)  # tags of the run, * for any value
    findings: Sequence[Told] = ()
    counts: frozenset[str] = frozenset({"critical", "warning"})  # severities that fail
    compared: Compared | None = None
    files: Files | None = None
    moved: Sequence[Mapping[str, Any]] = ()  # changes of where a version's artifacts lie


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check and what came of it."""

    id: str
    result: Result
    words: str
    details: Sequence[str] = ()
    about: Sequence[tuple[str, str]] = ()  # kind and key of what does not pass

    @property
    def rule(self) -> str:
        """By what a waiver names it."""
        return f"check-{self.id}"


#: The checks, in their order, and the rules that find the same: a waiver of one of these excepts the check as well.
CHECKS: Mapping[str, Sequence[str]] = {
    "subject": (),
    "seen": (),
    "lineage": (
        "model-version-lost-its-run", "version-source-missing", "production-run-deleted",
        "registry-references-deleted",
    ),
    "run-finished": ("stale-running",),
    "run-unedited": ("run-edited-after-finish",),
    "reproducible": ("not-reproducible",),
    "tags": ("missing-required-tags",),
    "owner": ("missing-owner",),
    "artifacts": ("local-artifact-uri",),
    "comparison": ("parameter-mismatch",),
    "findings": (),
}  # fmt: skip


def gate(facts: Facts, waivers: Sequence[Waiver], now: datetime) -> list[Check]:
    """Check everything; what does not pass and is excepted is waived."""
    made = [
        _subject(facts),
        _seen(facts, now),
        _lineage(facts),
        _finished(facts),
        _unedited(facts),
        _reproducible(facts),
        _tags(facts),
        _owner(facts),
        _artifacts(facts),
        _comparison(facts),
        _findings(facts),
    ]
    return [_excepted(one, facts, waivers, now) for one in made]


def verdict(checks: Iterable[Check]) -> Result:
    """What they come to."""
    results = {one.result for one in checks}
    return next((one for one in _WORST if one in results), Result.UNKNOWN)


def _excepted(one: Check, facts: Facts, waivers: Sequence[Waiver], now: datetime) -> Check:
    if one.result == Result.PASS:
        return one
    found = []
    for kind, key in one.about or ((facts.subject.kind, facts.subject.key),):
        those = (
            covering(waivers, About(rule=rule, workspace=facts.workspace, kind=kind, key=key), now)
            for rule in (one.rule, *(CHECKS[one.id] if one.result == Result.FAIL else ()))
        )
        waiver = next((each for each in those if each is not None), None)
        if waiver is None:
            return one
        found.append(f"excepted by {told(waiver)}")
    return replace(one, result=Result.WAIVED, details=[*one.details, *dict.fromkeys(found)])


def _of(thing: Thing) -> tuple[str, str]:
    return thing.kind, thing.key


def _subject(facts: Facts) -> Check:
    one = facts.subject
    named = f"{one.kind.replace('_', ' ')} {one.key}"
    if one.presence != Presence.ACTIVE:
        return Check(id="subject", result=Result.FAIL, words=f"{named} is {one.presence}", about=[_of(one)])
    status = one.document.get("status")
    if one.kind == Kind.MODEL_VERSION and isinstance(status, str) and status != "READY":
        return Check(id="subject", result=Result.FAIL, words=f"{named} is {status}", about=[_of(one)])
    return Check(id="subject", result=Result.PASS, words=f"{named} is there")


def _seen(facts: Facts, now: datetime) -> Check:
    problems = []
    for look in facts.looks:
        kind = look.kind.replace("_", " ") + "s"
        why = f" ({look.reason})" if look.reason else ""
        if look.state != "complete":
            problems.append(f"{kind}: {look.state}{why}")
        elif look.at is None or now - look.at > facts.bound:
            last = look.at.isoformat(timespec="seconds") if look.at is not None else "never"
            problems.append(f"{kind}: last looked at completely {last}, longer ago than {facts.bound}")
    if problems:
        return Check(
            id="seen", result=Result.UNKNOWN, words="Not all that this rests on was completely seen of late",
            details=problems,
        )  # fmt: skip
    if not facts.looks:
        return Check(id="seen", result=Result.UNKNOWN, words="Nobody looked")
    oldest = min((look.at for look in facts.looks if look.at is not None), default=now)
    return Check(
        id="seen", result=Result.PASS,
        words=f"All that this rests on was completely seen since {oldest.isoformat(timespec='seconds')}",
    )  # fmt: skip


def _lineage(facts: Facts) -> Check:
    gone = [f"{one.kind.replace('_', ' ')} {one.key}: {one.standing}{one.why}" for one in facts.ends if one.gone]
    unseen = [f"{one.kind.replace('_', ' ')} {one.key}: {one.standing}{one.why}" for one in facts.ends if not one.gone]
    about = [(one.kind, one.key) for one in facts.ends if one.gone]
    if facts.run_key is None:
        return Check(
            id="lineage", result=Result.FAIL, words="No run is named: nobody can say what it was made by",
            details=[*gone, *unseen], about=[_of(facts.subject)],
        )  # fmt: skip
    if gone:
        return Check(
            id="lineage", result=Result.FAIL, words="Something that it was made from is not there any more",
            details=[*gone, *unseen], about=[_of(facts.subject), *about],
        )  # fmt: skip
    if unseen or facts.cut or facts.run is None:
        details = [*unseen, *(["it is longer than what was followed"] if facts.cut else [])]
        return Check(
            id="lineage", result=Result.UNKNOWN, words="Something that it was made from was never observed",
            details=details,
        )  # fmt: skip
    return Check(id="lineage", result=Result.PASS, words="All that it was made from is known and there")


def _no_run(facts: Facts, what: str) -> Check:
    words = "no run is named" if facts.run_key is None else f"its run {facts.run_key} was not observed"
    result = Result.FAIL if facts.run_key is None else Result.UNKNOWN
    return Check(id=what, result=result, words=f"It cannot be said: {words}", about=[_of(facts.subject)])


def _finished(facts: Facts) -> Check:
    run = facts.run
    if run is None or run.presence == Presence.UNSEEN:
        return _no_run(facts, "run-finished")
    if run.state in ("FINISHED", "Completed"):
        return Check(id="run-finished", result=Result.PASS, words=f"Run {run.key} is {run.state}")
    if run.state is None:
        return Check(id="run-finished", result=Result.UNKNOWN, words=f"Run {run.key} has no state", about=[_of(run)])
    return Check(id="run-finished", result=Result.FAIL, words=f"Run {run.key} is {run.state}", about=[_of(run)])


def _side(value: Any) -> str:
    """What a field was or is; of a metric its value alone."""
    if isinstance(value, Mapping) and "value" in value and value.keys() <= {"value", "step", "timestamp"}:
        value = value["value"]
    return "nothing" if value is None else repr(value)


def _unedited(facts: Facts) -> Check:
    run, edits = facts.run, facts.edits
    if run is None or run.presence == Presence.UNSEEN:
        return _no_run(facts, "run-unedited")
    since = f" before {edits.since.isoformat(timespec='seconds')}" if edits.since is not None else ""
    if edits.fields:
        details = [f"{one['path']}: {_side(one.get('before'))} -> {_side(one.get('after'))}" for one in edits.fields]
        return Check(
            id="run-unedited", result=Result.FAIL, words=f"Run {run.key} was edited after it had ended",
            details=details, about=[_of(run)],
        )  # fmt: skip
    if not edits.observed:
        return Check(
            id="run-unedited", result=Result.UNKNOWN, about=[_of(run)],
            words=f"Run {run.key} had ended before it was first seen, or its history is not kept so far back: whether"
            f" it was edited{since} is not known",
        )  # fmt: skip
    return Check(id="run-unedited", result=Result.PASS, words=f"Run {run.key} is as it ended")


def _reproducible(facts: Facts) -> Check:
    if facts.run is None or facts.run.presence == Presence.UNSEEN:
        return _no_run(facts, "reproducible")
    lacks = [name for name, value in facts.made_from.items() if not value]
    has = [f"{name}: {value}" for name, value in facts.made_from.items() if value]
    if lacks:
        return Check(
            id="reproducible", result=Result.FAIL, words=f"Not recorded: {', '.join(lacks)}", details=has,
            about=[_of(facts.run)],
        )  # fmt: skip
    return Check(
        id="reproducible", result=Result.PASS, words="Code, data, environment and parameters are recorded", details=has
    )


def _tags(facts: Facts) -> Check:
    if not facts.required:
        return Check(id="tags", result=Result.PASS, words="No tags are required")
    if facts.run is None or facts.run.presence == Presence.UNSEEN:
        return _no_run(facts, "tags")
    bears = {**facts.subject.tags, **facts.run.tags}
    lacks = [
        name if value == "*" else f"{name}={value}"
        for name, value in facts.required.items()
        if not bears.get(name) or value not in ("*", bears[name])
    ]
    if lacks:
        return Check(
            id="tags", result=Result.FAIL, words=f"Required tags are missing: {', '.join(lacks)}",
            about=[_of(facts.run)],
        )  # fmt: skip
    return Check(id="tags", result=Result.PASS, words=f"It bears {', '.join(facts.required)}")


def _owner(facts: Facts) -> Check:
    for one in (facts.subject, facts.registered, facts.run):
        if one is not None and one.owner:
            return Check(id="owner", result=Result.PASS, words=f"{one.owner}, by its {one.kind.replace('_', ' ')}")
    about = facts.registered or facts.subject
    return Check(id="owner", result=Result.FAIL, words="Nobody owns it", about=[_of(about)])


def _artifacts(facts: Facts) -> Check:
    one, run = facts.subject, facts.run
    about = [_of(one)]
    if facts.moved:
        details = [f"{each['path']}: {each.get('before')!r} -> {each.get('after')!r}" for each in facts.moved]
        return Check(
            id="artifacts", result=Result.FAIL, words="Where its artifacts lie was changed after it was made",
            details=details, about=about,
        )  # fmt: skip
    if not one.artifact_uri and not (run is not None and run.artifact_uri):
        return Check(id="artifacts", result=Result.UNKNOWN, words="Nobody says where its artifacts lie", about=about)
    if run is not None and run.presence in (Presence.DELETED, Presence.GONE):
        return Check(
            id="artifacts", result=Result.FAIL, about=about,
            words=f"Its run is {run.presence}: what lies in the run goes with it (`mlflow gc`), if it is there at all",
        )  # fmt: skip
    files = facts.files
    if files is None:
        return Check(
            id="artifacts", result=Result.UNKNOWN, about=about,
            words="Scans read no artifacts, so nobody knows whether the files are there and unchanged",
        )  # fmt: skip
    if files.error is not None:
        return Check(
            id="artifacts", result=Result.UNKNOWN, words="The files could not be looked at", details=[files.error],
            about=about,
        )  # fmt: skip
    if not files.blobs:
        return Check(id="artifacts", result=Result.FAIL, words=f"Nothing lies at {files.place}", about=about)
    ended = (run.ended_at if run is not None else None) or one.created_at
    count = f"{files.blobs:,} files, {files.bytes:,} bytes at {files.place}"
    if ended is None or files.newest is None:
        return Check(
            id="artifacts", result=Result.UNKNOWN, about=about,
            words=f"{count}; when they should have been written last is not known",
        )  # fmt: skip
    if files.newest > ended + timedelta(minutes=10):  # what is uploaded as a run ends
        return Check(
            id="artifacts", result=Result.FAIL, about=about,
            words=f"{count}; written last at {files.newest.isoformat(timespec='seconds')}, after the run had ended at"
            f" {ended.isoformat(timespec='seconds')}",
        )  # fmt: skip
    return Check(id="artifacts", result=Result.PASS, words=f"{count}, none written after the run had ended")


def _comparison(facts: Facts) -> Check:
    compared = facts.compared
    if compared is None:
        return Check(id="comparison", result=Result.PASS, words="It declares no comparison set")
    run = facts.run or facts.subject
    if not compared.parameters:
        return Check(
            id="comparison", result=Result.UNKNOWN, about=[_of(run)],
            words=f"It is compared in {compared.name}, but nobody says which parameters must match",
        )  # fmt: skip
    differs = [
        f"{name}: {compared.own.get(name)!r}, but {params.get(name)!r} in run {run}"
        for run, params in sorted(compared.others.items())
        for name in compared.parameters
        if params.get(name) != compared.own.get(name)
    ]
    if differs:
        return Check(
            id="comparison", result=Result.FAIL, words=f"It differs from its comparison set {compared.name}",
            details=differs, about=[_of(run)],
        )  # fmt: skip
    if not compared.whole:
        return Check(
            id="comparison", result=Result.UNKNOWN, about=[_of(run)],
            words=f"Not all runs that may be in {compared.name} were completely seen",
        )  # fmt: skip
    return Check(
        id="comparison", result=Result.PASS,
        words=f"{', '.join(compared.parameters)} match in all {len(compared.others) + 1} runs of {compared.name}",
    )  # fmt: skip


def _findings(facts: Facts) -> Check:
    open_ = [one for one in _standing(facts, State.OPEN, State.ACKNOWLEDGED) if not one.settled]
    blocks = [one for one in open_ if one.severity in facts.counts and not one.workspace_wide]
    blind = [one for one in facts.findings if one.workspace_wide or one.state == State.STALE]
    waived = list(_standing(facts, State.WAIVED))
    details = [_line(one) for one in facts.findings]
    if blocks:
        return Check(
            id="findings", result=Result.FAIL, details=details,
            words=f"{len(blocks)} {'finding is' if len(blocks) == 1 else 'findings are'} open",
            about=[(one.kind, one.key) for one in blocks],
        )  # fmt: skip
    if any(one.state != State.WAIVED for one in blind):
        return Check(
            id="findings", result=Result.UNKNOWN, words="What is found cannot be relied on: nobody can look",
            details=details,
        )  # fmt: skip
    if waived:
        return Check(id="findings", result=Result.WAIVED, words=f"{len(waived)} findings are waived", details=details)
    light = f" that counts; {len(open_)} of less weight" if open_ else ""
    return Check(id="findings", result=Result.PASS, words=f"No finding is open{light}", details=details)


def _standing(facts: Facts, *states: State) -> Iterator[Told]:
    return (one for one in facts.findings if one.state in states)


def _line(one: Told) -> str:
    return f"finding {one.id}, {one.state}: {one.rule} ({one.severity}), {one.kind} {one.key}"
