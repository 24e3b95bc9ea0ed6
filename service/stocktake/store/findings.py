"""Findings as judging reads and writes them: how far each rule has judged, what it found, and what became of it.

Every function runs inside a transaction that its caller opened and fenced. Texts stay as Postgres holds them; evidence
comes and goes as values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import ChangeType, Kind
from stocktake.core.findings import Finding, Policy, State
from stocktake.core.production import ENDPOINTS
from stocktake.core.rules import ChangeRule, Rule, Seen, StateRule
from stocktake.store.claims import Claim


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
class Look:
    """How completely what a rule needs was seen, for one kind that it is about."""

    kind: str
    before: datetime | None  # when it was last judged
    first: bool  # never judged before, or not as we understand what we read now
    seen: datetime | None  # the oldest complete look at what it needs; None: not all of it is complete

    @property
    def due(self) -> bool:
        """Whether all that it needs was listed completely since it was last judged: lists that began later, each of
        them, for what was seen lately must not be judged by what was listed before."""
        return self.seen is not None and (self.before is None or self.seen > self.before)


def _units(rules: Sequence[Rule]) -> list[tuple[str, str]]:
    """What is judged on its own: a rule about changes, or a rule about how a kind stands."""
    units = []
    for rule in rules:
        kinds = ("",) if isinstance(rule, ChangeRule) else rule.kinds or (Kind.WORKSPACE,)
        units += [(rule.id, str(kind)) for kind in kinds]
    return units


def new_to(connection: Connection, claim: Claim, rules: Sequence[Rule]) -> bool:
    """Whether a rule was never enrolled for this workspace."""
    rows = connection.execute(
        text("SELECT rule, kind FROM judging WHERE workspace_id = :wid"), {"wid": claim.workspace_id}
    )
    return bool(set(_units(rules)) - {(row.rule, row.kind) for row in rows})


def enrol(connection: Connection, claim: Claim, rules: Sequence[Rule]) -> None:
    """Let rules begin behind the last change that there is."""
    units = _units(rules)
    connection.execute(
        text(
            "INSERT INTO judging (workspace_id, rule, kind, change_id)"
            " SELECT :wid, rule, kind, :last FROM unnest(CAST(:rules AS text[]), CAST(:kinds AS text[]))"
            " AS n (rule, kind) ON CONFLICT DO NOTHING"
        ),
        {
            "wid": claim.workspace_id,
            "last": last_change(connection, claim),
            "rules": [rule for rule, _ in units],
            "kinds": [kind for _, kind in units],
        },
    )


def last_change(connection: Connection, claim: Claim) -> int:
    """The last change of a workspace, 0 without any. Reads the index change_by_workspace."""
    found = connection.execute(
        text("SELECT max(change_id) FROM change WHERE workspace_id = :wid"), {"wid": claim.workspace_id}
    ).scalar()
    return int(found or 0)


def cursors(connection: Connection, claim: Claim) -> dict[str, int]:
    """Up to which change each rule about changes has judged."""
    rows = connection.execute(
        text("SELECT rule, change_id FROM judging WHERE workspace_id = :wid AND kind = ''"), {"wid": claim.workspace_id}
    )
    return {row.rule: row.change_id for row in rows}


def advance(connection: Connection, claim: Claim, rules: Collection[str], reached: int) -> None:
    """Note up to which change rules have judged."""
    connection.execute(
        text(
            "UPDATE judging SET change_id = greatest(change_id, :reached)"
            " WHERE workspace_id = :wid AND kind = '' AND rule = ANY(:rules)"
        ),
        {"reached": reached, "wid": claim.workspace_id, "rules": list(rules)},
    )


# The state before a change is that of the version that ended with it.
_CHANGES = """
SELECT c.change_id, c.kind, a.key, c.name, c.type, c.fields, c.not_before, c.not_after,
    c.scan_id, c.part_of, p.state AS state_before,
    CASE WHEN c.type IN ('deleted', 'purged') AND c.kind = ANY(:serving) THEN p.document END AS document_before,
    (SELECT count(*) FROM change i WHERE i.part_of = c.change_id) AS parts
FROM change c JOIN asset a USING (asset_id)
LEFT JOIN version p ON p.asset_id = c.asset_id AND p.valid_to = c.at
WHERE c.workspace_id = :wid AND c.change_id > :after AND c.change_id <= :last
    AND c.kind = ANY(:kinds) AND c.type = ANY(:types)
ORDER BY c.change_id LIMIT :limit
"""


#: Kinds whose documents say what is production.
_SERVING = (Kind.REGISTERED_MODEL, Kind.MODEL_VERSION, *ENDPOINTS)


def changes_after(
    connection: Connection, claim: Claim, after: int, last: int, rules: Sequence[ChangeRule], limit: int
) -> tuple[list[Seen], int]:
    """The next changes that any of these rules may look at, and up to which change that is all of them."""
    rows = connection.execute(
        text(_CHANGES),
        {
            "wid": claim.workspace_id,
            "after": after,
            "last": last,
            "kinds": sorted({str(kind) for rule in rules for kind in rule.kinds}),
            "types": sorted({str(one) for rule in rules for one in rule.types}),
            "limit": limit,
            "serving": [str(kind) for kind in _SERVING],
        },
    ).all()
    seen = [
        Seen(
            id=row.change_id,
            workspace=claim.workspace,
            kind=Kind(row.kind),
            key=row.key,
            name=row.name,
            type=ChangeType(row.type),
            fields=canonical.decode(row.fields),
            not_before=row.not_before,
            not_after=row.not_after,
            scan=row.scan_id,
            state_before=row.state_before,
            part_of=row.part_of,
            parts=row.parts,
            document_before=canonical.decode(row.document_before) if row.document_before is not None else None,
        )
        for row in rows
    ]
    return seen, seen[-1].id if len(seen) == limit else last


def looks(connection: Connection, claim: Claim, rule: StateRule, now: datetime) -> list[Look]:
    """How completely what a rule needs was seen, for each kind that it is about."""
    before = {
        row.kind: (row.looked_at, row.epoch)
        for row in connection.execute(
            text("SELECT kind, looked_at, epoch FROM judging WHERE workspace_id = :wid AND rule = :rule"),
            {"wid": claim.workspace_id, "rule": rule.id},
        )
    }
    if rule.of_ledger:
        return [Look(kind=Kind.WORKSPACE, before=before[Kind.WORKSPACE][0], first=False, seen=now)]
    wanted = {str(kind) for kind in (*rule.kinds, *rule.needs)}
    complete = {
        row.kind: row.seen
        for row in connection.execute(
            text(
                "SELECT kind, min(last_complete_at) AS seen FROM scope WHERE workspace_id = :wid AND kind = ANY(:kinds)"
                " GROUP BY kind HAVING bool_and(state = 'complete')"
            ),
            {"wid": claim.workspace_id, "kinds": sorted(wanted)},
        )
    }
    found = []
    for kind in rule.kinds:
        needed = {str(one) for one in (kind, *rule.needs)}
        seen = min(complete[one] for one in needed) if needed <= complete.keys() else None
        looked_at, epoch = before[str(kind)]
        found.append(Look(kind=str(kind), before=looked_at, first=epoch != claim.epoch, seen=seen))
    return found


def ask(
    connection: Connection, claim: Claim, rule: StateRule, now: datetime
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What a rule's statement yields for this workspace: evidence by kind and key."""
    rows = connection.execute(
        text(
            f"SELECT kind, key, CAST(evidence AS text) AS evidence FROM ({rule.statement}) AS said"
            " WHERE workspace = :workspace"
        ),
        {"workspace": claim.workspace, **rule.parameters} | ({"now": now} if ":now" in rule.statement else {}),
    )
    return {(row.kind, row.key): canonical.decode(row.evidence) for row in rows}


def looked(connection: Connection, claim: Claim, rule: str, kind: str, now: datetime) -> None:
    """Note that a rule was judged, after complete looks at all that it needs."""
    connection.execute(
        text(
            "UPDATE judging SET looked_at = :now, epoch = :epoch"
            " WHERE workspace_id = :wid AND rule = :rule AND kind = :kind"
        ),
        {"now": now, "epoch": claim.epoch, "wid": claim.workspace_id, "rule": rule, "kind": kind},
    )


_FIELDS = tuple(one.name for one in fields(Finding))
_HELD = f"""
SELECT DISTINCT ON (fingerprint) fingerprint, finding_id, kind, key, {", ".join(_FIELDS)} FROM finding
WHERE {{}} AND (state <> 'resolved' OR resolved_at >= :oldest)
ORDER BY fingerprint, state = 'resolved', finding_id DESC
"""


def held(connection: Connection, prints: Sequence[bytes], now: datetime) -> dict[bytes, Held]:
    """The findings with these fingerprints, and those that were resolved so lately that they may come back."""
    if not prints:
        return {}
    return _held(connection, "fingerprint = ANY(:prints)", {"prints": list(prints)}, now)


def held_by(connection: Connection, claim: Claim, rule: str, kind: str, now: datetime) -> dict[bytes, Held]:
    """The same of a rule and a kind. Reads the index finding_by_rule."""
    given = {"wid": claim.workspace_id, "rule": rule, "kind": kind}
    return _held(connection, "workspace_id = :wid AND rule = :rule AND kind = :kind", given, now)


def _held(connection: Connection, which: str, given: Mapping[str, Any], now: datetime) -> dict[bytes, Held]:
    oldest = now - Policy().reopen_within
    rows = connection.execute(text(_HELD.format(which)), {**given, "oldest": oldest})
    return {bytes(row.fingerprint): one(row) for row in rows}


def one(row: Any) -> Held:
    """A finding from its row."""
    values = {name: getattr(row, name) for name in _FIELDS}
    values["state"], values["evidence"] = State(row.state), canonical.decode(row.evidence)
    return Held(id=row.finding_id, subject=Subject(kind=row.kind, key=row.key), finding=Finding(**values))


def columns(finding: Finding) -> dict[str, Any]:
    """A finding's values as its row holds them."""
    values = {name: getattr(finding, name) for name in _FIELDS}
    return values | {"state": str(finding.state), "evidence": canonical.encode(finding.evidence).decode()}


_INSERT = f"""
INSERT INTO finding (fingerprint, workspace_id, rule, severity, kind, key, change_id, scan_id, name, owner,
    {", ".join(_FIELDS)})
SELECT :fingerprint, :wid, :rule, :severity, :kind, :key, :change, :scan, v.name, v.owner,
    {", ".join(f":{name}" for name in _FIELDS)}
FROM (SELECT 1) AS always
LEFT JOIN asset a ON a.workspace_id = :wid AND a.kind = :kind AND a.key = :key
LEFT JOIN LATERAL (SELECT name, owner FROM version o WHERE o.asset_id = a.asset_id ORDER BY valid_from DESC LIMIT 1) v
    ON true
RETURNING finding_id
"""
_UPDATE = f"""
UPDATE finding f SET {", ".join(f"{name} = :{name}" for name in _FIELDS)}, severity = :severity, scan_id = :scan,
    change_id = :change,
    name = coalesce(v.name, f.name), owner = CASE WHEN v.asset_id IS NULL THEN f.owner ELSE v.owner END
FROM (SELECT 1) AS always
LEFT JOIN asset a ON a.workspace_id = :wid AND a.kind = :kind AND a.key = :key
LEFT JOIN version v ON v.asset_id = a.asset_id AND v.valid_to IS NULL
WHERE f.finding_id = :id
"""


def write(
    connection: Connection,
    claim: Claim,
    rule: Rule,
    which: bytes,
    before: Held | None,
    after: Finding,
    subject: Subject,
    *,
    now: datetime,
    scan_id: int,
) -> Held:
    """Write what became of a finding, with the owner and the name that its asset has now."""
    given = columns(after) | {
        "fingerprint": which,
        "wid": claim.workspace_id,
        "rule": rule.id,
        "severity": str(rule.severity),
        "kind": subject.kind,
        "key": subject.key,
        "change": after.evidence.get("change") if isinstance(rule, ChangeRule) else None,
        "scan": scan_id,
    }
    if before is None:
        number = int(connection.execute(text(_INSERT), given).scalar_one())
    else:
        number = before.id
        connection.execute(text(_UPDATE), given | {"id": number})
    was = before.finding if before is not None else None
    if was is None or was.state != after.state or was.evidence != after.evidence:
        record(connection, number, was, after, at=now, scan_id=scan_id)
    return Held(id=number, subject=subject, finding=after)


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
    connection.execute(
        text(
            "INSERT INTO finding_event (finding_id, at, before, after, actor, reason, evidence, scan_id)"
            " VALUES (:id, :at, :before, :after, :actor, :reason, :evidence, :scan)"
        ),
        {
            "id": finding_id,
            "at": at,
            "before": str(before.state) if before is not None else None,
            "after": str(after.state),
            "actor": canonical.escape(actor) if actor else None,
            "reason": canonical.escape(reason) if reason else None,
            "evidence": columns(after)["evidence"],
            "scan": scan_id,
        },
    )


def drop(connection: Connection, known: Held) -> None:
    """Forget one that never opened."""
    connection.execute(text("DELETE FROM finding WHERE finding_id = :id"), {"id": known.id})
