"""What a person receives: of each finding what, where, since when, how bad, whose, how sure, and what to do. Pure.

A message is made when a delivery is planned and kept with it, so that what is sent again is what was sent before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote as _quoted
from urllib.parse import urlsplit

import msgspec

from stocktake.core import canonical
from stocktake.core.alerting import Alert, Planned, Told, What
from stocktake.core.rules import ChangeRule, Rule, about

#: Of messages that people read, so many findings are told in full; the others are counted.
SHOWN = 20
_LINES = 8  # of evidence
_LONGEST = 300  # characters of a value


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """How completely a kind was seen."""

    kind: str
    scopes: int
    complete: int
    oldest: datetime | None  # the oldest complete look among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What is known of a finding, for its message."""

    finding: int
    fingerprint: str
    rule: str
    severity: str
    state: str
    workspace: str
    source: str
    uri: str | None
    kind: str
    key: str
    name: str | None
    owner: str | None
    partition: str | None
    since: datetime
    first_seen: datetime
    last_seen: datetime
    resolved_at: datetime | None
    waived_until: datetime | None
    actor: str | None  # of a change: who made it, as far as a source tells
    evidence: Mapping[str, Any]
    labels: Mapping[str, str]  # as when it was first told
    confidence: Sequence[Confidence] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One finding in a message."""

    key: str  # what it is known by for its whole life
    finding: int
    status: Told
    over: str | None  # why it is over: resolved, waived until when
    rule: str
    title: str
    severity: str
    workspace: str
    kind: str
    asset: str
    name: str | None
    owner: str | None
    since: datetime
    first_seen: datetime
    ended: datetime | None
    values: tuple[str, ...]  # what was found, against what was expected
    confidence: tuple[str, ...]
    money: str | None
    inspect: tuple[tuple[str, str], ...]  # with what, and what to type or open
    why: str | None
    fix: str | None
    rollback: str | None
    signal: str | None
    runbook: str
    link: str | None
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One delivery, as every receiver is given it."""

    key: str
    what: What
    status: Told  # of the alert as a whole
    title: str
    severity: str
    labels: tuple[tuple[str, str], ...]
    at: datetime
    since: datetime | None
    firing: int  # findings that fire now
    items: tuple[Item, ...]
    more: int = 0  # findings that it is about beside the items
    counts: tuple[tuple[str, int], ...] = ()  # of all that it is about, by what a person would count
    part: int = 1
    parts: int = 1
    digest: bool = False  # it waited for its hour, and pages nobody

    def encoded(self, clean: Mapping[str, Any] | None = None) -> str:
        """As it is kept."""
        return canonical.encode(clean if clean is not None else self.document()).decode()

    def document(self) -> dict[str, Any]:
        """As plain values."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made


def decoded(text: str) -> Message:
    """A message as it was kept."""
    return msgspec.convert(canonical.decode(text), Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What the words of messages need beside the findings."""

    rules: Mapping[str, Rule]
    runbook: str = "docs/runbook/{rule}.md"
    events: bool = False  # whether Application Insights holds an event for each move of a finding


def message(
    alert: Alert, planned: Planned, details: Mapping[int, Details], wording: Wording, *, each: bool, now: datetime
) -> Message:
    """Put a delivery into words. Findings that are no longer there are counted alone."""
    tells = sorted(planned.tells, key=lambda one: _order(details.get(one[0]), one[1]))
    shown = tells if each else tells[:SHOWN]
    items = tuple(_item(details[name], told, wording) for name, told in shown if name in details)
    over = planned.what is What.RESOLVE or (planned.what is What.DIGEST and not planned.firing)
    known = [(details[name], told) for name, told in tells if name in details]
    return Message(
        key=alert.key,
        what=planned.what,
        status=Told.RESOLVED if over else Told.FIRING,
        title=_title(alert, planned, known, wording),
        severity=min((one.severity for one, _ in known), key=_rank, default="info"),
        labels=alert.labels,
        at=now,
        since=alert.since,
        firing=planned.firing,
        items=items,
        more=len(tells) - len(items),
        counts=tuple(_counts(known, wording)),
        part=planned.part,
        parts=planned.parts,
        digest=alert.digest,
    )


def _rank(severity: str) -> int:
    order = ("critical", "warning", "info")
    return order.index(severity) if severity in order else len(order)


def _order(one: Details | None, told: Told) -> tuple[bool, bool, int, str, int]:
    if one is None:
        return True, True, 9, "", 0
    return False, told is Told.RESOLVED, _rank(one.severity), one.rule, one.finding


def _counts(known: Sequence[tuple[Details, Told]], wording: Wording) -> Iterator[tuple[str, int]]:
    found = Counter((_rank(one.severity), one.severity, one.rule, told) for one, told in known)
    for (_, severity, rule, told), number in sorted(found.items()):
        state = "" if told is Told.FIRING else ", over"
        yield f"{_rule_title(rule, wording)} ({severity}{state})", number


def _title(alert: Alert, planned: Planned, known: Sequence[tuple[Details, Told]], wording: Wording) -> str:
    if planned.what is What.DIGEST:
        new = sum(told is Told.FIRING for _, told in known)
        return f"stocktake: {new:,} new, {len(known) - new:,} over, {planned.firing:,} open"
    said = {
        What.FIRE: "",
        What.REPEAT: "still: ",
        What.REFRESH: "",
        What.UPDATE: "partly over: ",
        What.ACKNOWLEDGE: "taken on: ",
        What.RESOLVE: "over: ",
        What.TEST: "test: ",
    }[planned.what]
    rules = {one.rule for one, _ in known}
    places = {one.workspace for one, _ in known} or {value for name, value in alert.labels if name == "workspace"}
    title = _rule_title(next(iter(rules)), wording) if len(rules) == 1 else f"findings of {len(rules)} rules"
    number = len(planned.tells)
    which = f": {_named(known[0][0])}" if number == 1 and known else f" ({number:,} findings)"
    where = f" in {next(iter(places))}" if len(places) == 1 else f" in {len(places)} workspaces" if places else ""
    return f"{said}{title}{which}{where}"


def _rule_title(rule: str, wording: Wording) -> str:
    known = wording.rules.get(rule)
    return known.words.title if known is not None else rule


def _named(one: Details) -> str:
    kind = one.kind.replace("_", " ")
    return f"{kind} {one.key}" + (f" ({one.name})" if one.name and one.name != one.key else "")


def _item(one: Details, told: Told, wording: Wording) -> Item:
    rule = wording.rules.get(one.rule)
    words = about(rule.words, one.kind, one.key, one.workspace) if rule is not None else None
    ended = told is Told.RESOLVED
    return Item(
        key=one.fingerprint,
        finding=one.finding,
        status=told,
        over=_over(one) if ended else None,
        rule=one.rule,
        title=_rule_title(one.rule, wording),
        severity=one.severity,
        workspace=one.workspace,
        kind=one.kind,
        asset=one.key,
        name=one.name,
        owner=one.owner,
        since=one.since if not ended else one.first_seen,
        first_seen=one.first_seen,
        ended=(one.resolved_at or one.since) if ended else None,
        values=tuple(_values(one)),
        confidence=tuple(_confidence(one, rule)),
        money=_money(one.evidence),
        inspect=tuple(_inspect(one, rule, wording)),
        why=words.why if words else None,
        fix=words.fix if words else None,
        rollback=words.rollback if words else None,
        signal=words.signal if words else None,
        runbook=wording.runbook.replace("{rule}", one.rule),
        link=portal(one),
        labels=tuple(sorted(one.labels.items())),
    )


def _over(one: Details) -> str:
    if one.state == "waived":
        return "waived" + (f" until {moment(one.waived_until)}" if one.waived_until else "")
    return "resolved" if one.state == "resolved" else f"{one.state} by now"


#: Names in evidence that are told elsewhere, or tell a person nothing.
_ELSEWHERE = frozenset(
    {"fields", "change", "scan", "not_before", "not_after", "value", "threshold", "unit", "cost", "cost_per_hour",
     "currency"}
)  # fmt: skip


def _values(one: Details) -> Iterator[str]:
    """What was found: a value against its threshold, fields before and after, and the rest of the evidence."""
    evidence = one.evidence
    lines: list[str] = []
    if "value" in evidence:
        unit = f" {evidence['unit']}" if evidence.get("unit") else ""
        against = f", threshold {_short(evidence['threshold'])}{unit}" if "threshold" in evidence else ""
        lines.append(f"value {_short(evidence['value'])}{unit}{against}")
    lines += [
        f"{field['path']}: {_short(field.get('before'))} -> {_short(field.get('after'))}"
        for field in evidence.get("fields") or ()
        if isinstance(field, Mapping) and "path" in field
    ]
    lines += [f"{name}: {_short(value)}" for name, value in evidence.items() if name not in _ELSEWHERE]
    if one.actor is not None:
        lines.append(f"done by: {one.actor}")
    yield from lines[:_LINES]
    if len(lines) > _LINES:
        yield f"and {len(lines) - _LINES} more"


def _short(value: Any) -> str:
    if value is None:
        return "(absent)"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _confidence(one: Details, rule: Rule | None) -> Iterator[str]:
    """Which scopes were complete, and when."""
    evidence = one.evidence
    if evidence.get("not_after"):
        since = evidence.get("not_before")
        yield f"it happened between the looks of {since or 'nobody knows when'} and {evidence['not_after']}"
    of_change = isinstance(rule, ChangeRule)
    for seen in one.confidence:
        share = f"{seen.complete:,} of {seen.scopes:,} scopes of {seen.kind} were completely listed"
        yield share + (f", the oldest {moment(seen.oldest)}" if seen.oldest else "")
    if not one.confidence and not of_change:
        yield "it is told by stocktake's own ledger"


def _money(evidence: Mapping[str, Any]) -> str | None:
    currency = f" {evidence['currency']}" if evidence.get("currency") else ""
    told = [
        f"{_short(evidence[name])}{currency}{how}"
        for name, how in (("cost", ""), ("cost_per_hour", " an hour"))
        if evidence.get(name) is not None
    ]
    return ", ".join(told) or None


def _inspect(one: Details, rule: Rule | None, wording: Wording) -> Iterator[tuple[str, str]]:
    yield "stocktake", f"stocktake finding show {one.finding}"
    if rule is not None:
        words = about(rule.words, one.kind, one.key, one.workspace)
        yield "command line", words.cli
        yield "REST", words.rest
        yield "portal", words.portal
    if wording.events:
        yield (
            "KQL",
            "customEvents | where name startswith 'stocktake.finding'"
            f" and tostring(customDimensions.fingerprint) == '{one.fingerprint}' | order by timestamp desc",
        )


def portal(one: Details) -> str | None:
    """Where a person sees the asset: the studio of Azure Machine Learning, or the pages of an MLflow server."""
    parts = urlsplit(one.uri or "")
    if parts.scheme not in ("http", "https"):
        return None
    key = quote(one.key, safe="")
    if one.source == "azureml":
        return _studio(one.kind, one.key, parts.path)
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/#"
    match one.kind:
        case "experiment":
            return f"{base}/experiments/{key}"
        case "run" if one.partition:
            return f"{base}/experiments/{quote(one.partition, safe='')}/runs/{key}"
        case "registered_model":
            return f"{base}/models/{key}"
        case "model_version":
            name, _, version = one.key.rpartition("/")
            return f"{base}/models/{quote(name, safe='')}/versions/{quote(version, safe='')}"
    return base


def _studio(kind: str, key: str, scope: str) -> str:
    base, wsid = "https://ml.azure.com", f"wsid={quote(scope, safe='/')}"
    name, _, version = key.rpartition("/")
    path = {
        "run": f"/runs/{quote(key)}",
        "job": f"/runs/{quote(key)}",
        "child_job": f"/runs/{quote(key)}",
        "compute": f"/compute/{quote(key)}/details",
        "online_endpoint": f"/endpoints/realtime/{quote(key)}/detail",
        "online_deployment": f"/endpoints/realtime/{quote(name)}/detail",
        "batch_endpoint": f"/endpoints/batch/{quote(key)}/detail",
        "batch_deployment": f"/endpoints/batch/{quote(name)}/detail",
        "registered_model": f"/model/list?{wsid}",
        "model_version": f"/model/{quote(name)}:{quote(version)}/details",
        "data_version": f"/data/{quote(name)}/{quote(version)}/details",
    }.get(kind, "/home")
    return f"{base}{path}" + ("" if "?" in path else f"?{wsid}")


def quote(text: str, safe: str = "/") -> str:
    """A part of an address, whatever a watched server called it."""
    return _quoted(text, safe=safe, errors="replace")


def moment(at: datetime | None) -> str:
    """A time for a person, in UTC."""
    return at.strftime("%Y-%m-%d %H:%M UTC") if at is not None else "never"
