"""Findings as judging reads and writes them: what differs from what a rule yields, and what became of it.

Every function runs inside a transaction that its caller opened, those that write in one that was fenced. Texts stay as
Postgres holds them; evidence comes and goes as values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any

import psycopg
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

from stocktake.core import canonical
from stocktake.core.findings import Finding, State, close
from stocktake.core.rules import Rule, StateRule
from stocktake.core.statements import asks_now, bindable
from stocktake.store.claims import Claim
from stocktake.store.judging import Unit

#: Rows that one answer may bring at once; more come block by block.
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a finding is about."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A finding that there is, or one that was resolved and may come back."""

    id: int
    subject: Subject
    finding: Finding

    @property
    def live(self) -> bool:
        """Whether it is not resolved."""
        return self.finding.state != State.RESOLVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Differs:
    """Where what a rule yields and its findings differ: it holds and no finding says just so, or it holds no more."""

    subject: Subject
    evidence: Mapping[str, Any] | None  # None: it is not yielded
    finding: int | None  # the finding that there is


@dataclass(slots=True, kw_only=True)
class Draft:
    """What becomes of one finding, before it is written."""

    rule: Rule
    subject: Subject
    fingerprint: bytes
    known: Held | None
    finding: Finding | None
    events: list[tuple[Finding | None, Finding]] = field(default_factory=list)  # before and after, in their order


class Malformed(Exception):
    """A rule cannot be asked, or yields what no finding can be made of; the message says what."""


# What a statement yields, beside the findings that there are, and of both only where they differ. It reads the
# index finding_by_rule. The state in which a finding is quiet is core/findings.quiet, said in SQL.
_ASK = """
WITH said AS MATERIALIZED (
    SELECT DISTINCT ON (kind, key) kind, key, evidence FROM (
{statement}
    ) AS yielded WHERE workspace = :workspace AND kind = ANY(:kinds) ORDER BY kind, key, evidence
), kept AS MATERIALIZED (
    SELECT DISTINCT ON (kind, key) finding_id, kind, key, state, evidence, clear,
        CASE WHEN waived_until > :at THEN 'waived' WHEN acknowledged_at IS NOT NULL THEN 'acknowledged' ELSE 'open' END
        AS rest
    FROM public.finding WHERE workspace_id = :wid AND rule = :rule AND kind = ANY(:kinds)
        AND (state <> 'resolved' OR resolved_at >= :oldest)
    ORDER BY kind, key, state = 'resolved', finding_id DESC
)
SELECT coalesce(s.kind, k.kind) AS kind, coalesce(s.key, k.key) AS key, s.kind IS NOT NULL AS holds,
    CAST(s.evidence AS text) AS evidence, k.finding_id
FROM said s FULL JOIN kept k ON k.kind = s.kind AND k.key = s.key
WHERE k.finding_id IS NULL OR CASE WHEN s.kind IS NULL THEN k.state <> 'resolved'
    ELSE k.state <> k.rest OR k.clear <> 0 OR CAST(k.evidence AS jsonb) IS DISTINCT FROM s.evidence END
"""


def ask(
    connection: Connection, claim: Claim, rule: StateRule, kinds: Sequence[str], now: datetime, reopen: timedelta
) -> Iterator[Differs]:
    """Ask a rule about these kinds of a workspace, in a transaction that cannot write. Yields what differs.

    Raises Malformed when the statement fails, takes too long, or yields nonsense.
    """
    try:
        yield from _asked(connection, claim, rule, kinds, now, reopen)
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise
        raise Malformed(reason(exc)) from exc


def reason(exc: DBAPIError) -> str:
    """Why a statement failed, in Postgres' words; and what to do where it takes too long."""
    if isinstance(exc.orig, psycopg.errors.QueryCanceled):
        return "takes longer than it may (`rules: timeout`): the statement was cancelled"
    said = (str(exc.orig).strip().splitlines() or [type(exc.orig).__name__])[0]
    hint = getattr(getattr(exc.orig, "diag", None), "message_hint", None)
    return f"fails: {said}" + (f" ({hint})" if hint else "")


def _asked(
    connection: Connection, claim: Claim, rule: StateRule, kinds: Sequence[str], now: datetime, reopen: timedelta
) -> Iterator[Differs]:
    few, all_of, timed = _question(rule.statement)
    given = {
        "workspace": claim.workspace,
        "wid": claim.workspace_id,
        "rule": rule.id,
        "kinds": list(kinds),
        "at": now,
        "oldest": now - reopen,
    } | ({"now": now} if timed else {})
    rows: Any = connection.execute(few, given).all()
    if len(rows) > _AT_ONCE:  # too many to hold: the same again, from the same snapshot, block by block
        rows = connection.execute(all_of, given, execution_options={"yield_per": _AT_ONCE})
    for row in rows:
        yield Differs(
            subject=Subject(kind=row.kind, key=_key(row.key)),
            evidence=_evidence(row.evidence) if row.holds else None,
            finding=row.finding_id,
        )


@lru_cache(maxsize=500)
def _question(statement: str) -> tuple[TextClause, TextClause, bool]:
    """A rule's statement beside its findings, of some rows and of all, and whether it asks for the time. Kept: each
    pass of each workspace asks the same."""
    question = _ASK.format(statement=bindable(statement))
    return text(f"{question}LIMIT {_AT_ONCE + 1}"), text(question), asks_now(statement)


def yielded(
    connection: Connection, statement: str, workspace: str, kinds: Sequence[str], now: datetime
) -> dict[Subject, Mapping[str, Any]]:
    """All that a statement yields of these kinds of a workspace. Raises Malformed."""
    question = (
        f"SELECT DISTINCT ON (kind, key) kind, key, CAST(evidence AS text) AS evidence FROM (\n{bindable(statement)}"
        ") AS yielded WHERE workspace = :workspace AND kind = ANY(:kinds) ORDER BY kind, key, yielded.evidence"
    )
    given = {"workspace": workspace, "kinds": list(kinds)} | ({"now": now} if asks_now(statement) else {})
    try:
        rows = connection.execute(text(question), given).all()
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise
        raise Malformed(reason(exc)) from exc
    return {Subject(kind=row.kind, key=_key(row.key)): _evidence(row.evidence) for row in rows}


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key:
        raise Malformed("yields a row without a key: `key` must be the asset's key, as text")
    return key


def _evidence(evidence: str | None) -> Mapping[str, Any]:
    decoded = canonical.decode(evidence) if evidence is not None else {}
    if not isinstance(decoded, Mapping):
        raise Malformed("yields evidence that is no object: make it with jsonb_build_object('name', value, ...)")
    return decoded


# Nobody could look: what is open, acknowledged or waived goes stale after a while, and a waiver may have ended.
_WAITING = """
SELECT f.finding_id, f.rule, f.kind FROM finding f JOIN unnest(CAST(:rules AS text[]), CAST(:kinds AS text[]),
    CAST(:looked AS timestamptz[])) AS n (rule, kind, looked_at) ON f.rule = n.rule AND f.kind = n.kind
WHERE f.workspace_id = :wid AND f.state IN ('open', 'acknowledged', 'waived')
    AND (greatest(f.last_seen, n.looked_at) < :oldest OR f.state <> CASE WHEN f.waived_until > :at THEN 'waived'
        WHEN f.acknowledged_at IS NOT NULL THEN 'acknowledged' ELSE 'open' END)
ORDER BY f.finding_id
"""


def waiting(
    connection: Connection, claim: Claim, blind: Mapping[Unit, datetime | None], now: datetime, stale: timedelta
) -> dict[Unit, list[int]]:
    """The findings of units that could not be looked at, of which something must be said nevertheless."""
    if not blind:
        return {}
    rows = connection.execute(
        text(_WAITING),
        {
            "wid": claim.workspace_id,
            "rules": [unit.rule for unit in blind],
            "kinds": [unit.kind for unit in blind],
            "looked": list(blind.values()),
            "oldest": now - stale,
            "at": now,
        },
    )
    found: dict[Unit, list[int]] = {}
    for row in rows:
        found.setdefault(Unit(rule=row.rule, kind=row.kind), []).append(row.finding_id)
    return found


_FIELDS = tuple(one.name for one in fields(Finding))
_TYPES = {
    "state": "text", "evidence": "text", "inherited": "boolean", "held": "integer", "clear": "integer",
}  # fmt: skip
_HELD = f"""
SELECT DISTINCT ON (fingerprint) fingerprint, finding_id, kind, key, {", ".join(_FIELDS)} FROM finding
WHERE {{}} AND (state <> 'resolved' OR resolved_at >= :oldest)
ORDER BY fingerprint, state = 'resolved', finding_id DESC
"""


def held(connection: Connection, prints: Collection[bytes], now: datetime, reopen: timedelta) -> dict[bytes, Held]:
    """The findings with these fingerprints, and those that were resolved so lately that they may come back."""
    if not prints:
        return {}
    rows = connection.execute(
        text(_HELD.format("fingerprint = ANY(:prints)")), {"prints": list(prints), "oldest": now - reopen}
    )
    return {bytes(row.fingerprint): one(row) for row in rows}


def by_number(connection: Connection, numbers: Collection[int]) -> dict[int, tuple[bytes, Held]]:
    """Findings with their fingerprints, by their numbers."""
    if not numbers:
        return {}
    rows = connection.execute(
        text(
            f"SELECT fingerprint, finding_id, kind, key, {', '.join(_FIELDS)} FROM finding"
            " WHERE finding_id = ANY(:numbers)"
        ),
        {"numbers": list(numbers)},
    )
    return {row.finding_id: (bytes(row.fingerprint), one(row)) for row in rows}


def one(row: Any) -> Held:
    """A finding from its row."""
    values = {name: getattr(row, name) for name in _FIELDS}
    values["state"], values["evidence"] = State(row.state), canonical.decode(row.evidence)
    return Held(id=row.finding_id, subject=Subject(kind=row.kind, key=row.key), finding=Finding(**values))


def columns(finding: Finding) -> dict[str, Any]:
    """A finding's values as its row holds them."""
    values = {name: getattr(finding, name) for name in _FIELDS}
    return values | {"state": str(finding.state), "evidence": canonical.encode(finding.evidence).decode()}


def _change(evidence: Mapping[str, Any]) -> int | None:
    """The change that a finding is about, where its evidence names one: who made that is told by the view."""
    number = evidence.get("change")
    return number if type(number) is int else None


def _rows(names: Mapping[str, str]) -> str:
    """Arrays as rows: names and types of the columns."""
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in names.items())
    return f"unnest({arrays}) WITH ORDINALITY AS n ({', '.join(names)}, ordinal)"


_VALUES = {name: _TYPES.get(name, "timestamptz") for name in _FIELDS}
_INSERTED = {
    "fingerprint": "bytea", "rule": "text", "severity": "text", "kind": "text", "key": "text", "change_id": "bigint",
} | _VALUES  # fmt: skip
_INSERT = f"""
INSERT INTO finding (workspace_id, scan_id, name, owner, {", ".join(_INSERTED)})
SELECT :wid, :scan, v.name, v.owner, {", ".join(f"n.{name}" for name in _INSERTED)}
FROM {_rows(_INSERTED)}
LEFT JOIN asset a ON a.workspace_id = :wid AND a.kind = n.kind AND a.key = n.key
LEFT JOIN LATERAL (SELECT name, owner FROM version o WHERE o.asset_id = a.asset_id ORDER BY valid_from DESC LIMIT 1) v
    ON true
ORDER BY n.ordinal RETURNING finding_id, fingerprint
"""
_UPDATED = {"id": "bigint", "severity": "text", "change_id": "bigint"} | _VALUES
_UPDATE = f"""
UPDATE finding f SET {", ".join(f"{name} = n.{name}" for name in _UPDATED if name != "id")}, scan_id = :scan,
    name = coalesce(v.name, f.name), owner = CASE WHEN v.asset_id IS NULL THEN f.owner ELSE v.owner END
FROM {_rows(_UPDATED)}
JOIN finding k ON k.finding_id = n.id
LEFT JOIN asset a ON a.workspace_id = :wid AND a.kind = k.kind AND a.key = k.key
LEFT JOIN version v ON v.asset_id = a.asset_id AND v.valid_to IS NULL
WHERE f.finding_id = n.id
"""
_EVENTS = {"finding_id": "bigint", "before": "text", "after": "text", "evidence": "text"}
_RECORD = f"""
INSERT INTO finding_event (at, actor, reason, scan_id, {", ".join(_EVENTS)})
SELECT :at, :actor, :reason, :scan, {", ".join(f"n.{name}" for name in _EVENTS)}
FROM {_rows(_EVENTS)} ORDER BY n.ordinal
"""


def write(connection: Connection, claim: Claim, drafts: Sequence[Draft], *, now: datetime, scan_id: int) -> None:
    """Write what became of findings, with the owner and the name that their assets have now, and add to their history:
    an event for every move, and for every change of the evidence."""
    numbers: dict[bytes, int] = {one.fingerprint: one.known.id for one in drafts if one.known is not None}
    dropped = [one.known.id for one in drafts if one.known is not None and one.finding is None]
    if dropped:  # they never opened
        connection.execute(text("DELETE FROM finding WHERE finding_id = ANY(:ids)"), {"ids": dropped})
    given = {"wid": claim.workspace_id, "scan": scan_id}
    new = [_row(one) for one in drafts if one.known is None and one.finding is not None]
    if new:
        made = connection.execute(text(_INSERT), given | _arrays(new, _INSERTED))
        numbers |= {bytes(row.fingerprint): row.finding_id for row in made}
    moved = [_row(one) for one in drafts if one.known is not None and one.finding not in (None, one.known.finding)]
    if moved:
        connection.execute(text(_UPDATE), given | _arrays(moved, _UPDATED))
    events = [
        (numbers[one.fingerprint], before, after)
        for one in drafts
        if one.finding is not None
        for before, after in one.events
        if before is None or before.state != after.state or before.evidence != after.evidence
    ]
    _record(connection, events, at=now, scan_id=scan_id)


def _row(draft: Draft) -> dict[str, Any]:
    assert draft.finding is not None
    return columns(draft.finding) | {
        "id": draft.known.id if draft.known is not None else None,
        "fingerprint": draft.fingerprint,
        "rule": draft.rule.id,
        "severity": str(draft.rule.severity),
        "kind": draft.subject.kind,
        "key": draft.subject.key,
        "change_id": _change(draft.finding.evidence),
    }


def _arrays(rows: Sequence[Mapping[str, Any]], names: Collection[str]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in names}


def _record(
    connection: Connection,
    events: Sequence[tuple[int, Finding | None, Finding]],
    *,
    at: datetime,
    scan_id: int | None,
    actor: str | None = None,
    reason: str | None = None,
) -> None:
    if not events:
        return
    rows = [
        {
            "finding_id": number,
            "before": str(before.state) if before is not None else None,
            "after": str(after.state),
            "evidence": columns(after)["evidence"],
        }
        for number, before, after in events
    ]
    connection.execute(
        text(_RECORD),
        {
            "at": at,
            "actor": canonical.escape(actor) if actor else None,
            "reason": canonical.escape(reason) if reason else None,
            "scan": scan_id,
        }
        | _arrays(rows, _EVENTS),
    )


def record(
    connection: Connection,
    finding_id: int,
    before: Finding | None,
    after: Finding,
    *,
    at: datetime,
    scan_id: int | None = None,
    actor: str | None = None,
    reason: str | None = None,
) -> None:
    """Add to a finding's history."""
    _record(connection, [(finding_id, before, after)], at=at, scan_id=scan_id, actor=actor, reason=reason)


def end(connection: Connection, claim: Claim, gone: Mapping[Unit, str], *, now: datetime) -> int:
    """End the findings of units that are judged no more, each with an event that says why; how many there were."""
    ended = 0
    for reason, several in groupby(sorted(gone, key=lambda unit: gone[unit]), key=lambda unit: gone[unit]):
        which = list(several)
        rows = connection.execute(
            text(
                "SELECT f.fingerprint, f.finding_id, f.rule, f.kind, f.key, "
                + ", ".join(f"f.{name}" for name in _FIELDS)
                + " FROM finding f JOIN unnest(CAST(:rules AS text[]), CAST(:kinds AS text[])) AS n (rule, kind)"
                " ON f.rule = n.rule AND (n.kind = '' OR f.kind = n.kind)"
                " WHERE f.workspace_id = :wid AND f.state <> 'resolved' ORDER BY f.finding_id"
            ),
            {"wid": claim.workspace_id, "rules": [one.rule for one in which], "kinds": [one.kind for one in which]},
        )
        known = [one(row) for row in rows]
        unopened = [each.id for each in known if each.finding.opened_at is None]
        connection.execute(text("DELETE FROM finding WHERE finding_id = ANY(:ids)"), {"ids": unopened})
        closed = [(each.id, each.finding, close(each.finding, now)) for each in known if each.finding.opened_at]
        connection.execute(
            text(
                "UPDATE finding SET state = 'resolved', since = :now, resolved_at = :now, held = 0, clear = 0"
                " WHERE finding_id = ANY(:ids)"
            ),
            {"now": now, "ids": [number for number, _, _ in closed]},
        )
        _record(connection, closed, at=now, scan_id=None, actor="stocktake", reason=reason)
        ended += len(closed)
    return ended
