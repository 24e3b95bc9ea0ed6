"""Findings as people ask for them: listed, shown with their history, acknowledged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from stocktake.core import canonical
from stocktake.core.findings import LIVE, State, acknowledge
from stocktake.store import findings
from stocktake.store.history import stream

#: Where a finding stands that somebody has to do something about.
TOLD = (State.OPEN, State.ACKNOWLEDGED, State.STALE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of a finding's history."""

    at: datetime
    before: str | None
    after: str
    actor: str | None
    reason: str | None
    evidence: Mapping[str, Any]
    scan: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A finding, as it stands."""

    id: int
    fingerprint: str
    workspace: str
    rule: str
    severity: str
    kind: str
    key: str
    name: str | None
    owner: str | None
    state: str
    since: datetime
    inherited: bool
    first_seen: datetime
    last_seen: datetime
    opened_at: datetime | None
    resolved_at: datetime | None
    acknowledged_at: datetime | None
    waived_until: datetime | None
    evidence: Mapping[str, Any]
    change: int | None  # the last change that it is about
    actor: str | None  # who made that, "unknown" unless a source names somebody
    actor_source: str | None
    scan: int
    history: Sequence[Event] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotJudged:
    """What a rule could not be asked about: because it, or what the rule needs, was never completely seen, or because
    the rule fails (`error`)."""

    workspace: str
    rule: str
    kind: str  # empty where it fails on changes
    error: str | None = None
    since: datetime | None = None


def listed(
    connection: Connection,
    *,
    workspaces: Sequence[str] | None = None,
    rules: Sequence[str] | None = None,
    severities: Sequence[str] | None = None,
    states: Sequence[str] | None = None,
    limit: int | None = None,
) -> Iterator[FindingRow]:
    """Yield findings, the worst and the latest first; without `states` those that are not resolved. Streams."""
    rows = stream(
        connection,
        (
            "SELECT f.*, CAST(f.evidence AS text) AS told FROM inventory.finding f"
            " WHERE (CAST(:workspaces AS text[]) IS NULL OR workspace = ANY(:workspaces))"
            " AND (CAST(:rules AS text[]) IS NULL OR rule = ANY(:rules))"
            " AND (CAST(:severities AS text[]) IS NULL OR severity = ANY(:severities)) AND state = ANY(:states)"
            " ORDER BY array_position(ARRAY['critical', 'warning', 'info'], severity), since DESC, id DESC LIMIT :limit"
        ),
        {
            "workspaces": _list(workspaces),
            "rules": _list(rules),
            "severities": _list(severities),
            "states": [str(state) for state in states or LIVE],
            "limit": limit,
        },
    )
    return map(_row, rows)


def shown(connection: Connection, finding_id: int) -> FindingRow | None:
    """One finding with its history, oldest first."""
    row = connection.execute(
        text("SELECT f.*, CAST(f.evidence AS text) AS told FROM inventory.finding f WHERE id = :id"),
        {"id": finding_id},
    ).first()
    if row is None:
        return None
    events = connection.execute(
        text(
            "SELECT at, before, after, actor, reason, evidence, scan_id AS scan FROM finding_event"
            " WHERE finding_id = :id ORDER BY event_id"
        ),
        {"id": finding_id},
    )
    return _row(
        row,
        [
            Event(
                at=one.at,
                before=one.before,
                after=one.after,
                actor=_text(one.actor),
                reason=_text(one.reason),
                evidence=canonical.decode(one.evidence),
                scan=one.scan,
            )
            for one in events
        ],
    )


def number(connection: Connection, states: Sequence[str]) -> int:
    """How many findings stand so."""
    return int(
        connection.execute(
            text("SELECT count(*) FROM finding WHERE state = ANY(:states)"), {"states": [str(one) for one in states]}
        ).scalar_one()
    )


def about(connection: Connection, workspace: str, kind: str, key: str) -> Iterator[FindingRow]:
    """Yield every finding about an asset, resolved ones too, with their histories, oldest first."""
    numbers = connection.execute(
        text(
            "SELECT f.finding_id FROM finding f JOIN workspace w USING (workspace_id) WHERE w.name = :workspace"
            " AND f.kind = :kind AND f.key = :key ORDER BY f.finding_id"
        ),
        {"workspace": workspace, "kind": kind, "key": canonical.escape(key)},
    ).scalars()
    for number in numbers.all():
        if (row := shown(connection, number)) is not None:
            yield row


def not_judged(connection: Connection, workspaces: Sequence[str] | None = None) -> list[NotJudged]:
    """Which rules say nothing of a kind that is listed, because it was never completely seen; and which fail."""
    rows = connection.execute(
        text(
            "SELECT w.name AS workspace, j.rule, j.kind, j.error, j.failed_since AS since"
            " FROM judging j JOIN workspace w USING (workspace_id)"
            " WHERE (j.error IS NOT NULL OR j.kind <> '' AND j.looked_at IS NULL"
            " AND EXISTS (SELECT 1 FROM scope s WHERE s.workspace_id = j.workspace_id AND s.kind = j.kind"
            " AND s.state <> 'unsupported')) AND (CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces))"
            " ORDER BY w.name, j.rule, j.kind"
        ),
        {"workspaces": _list(workspaces)},
    )
    return [
        NotJudged(
            workspace=row.workspace,
            rule=row.rule,
            kind=row.kind,
            error=_text(row.error),
            since=row.since,
        )
        for row in rows
    ]


def failing(connection: Connection) -> list[NotJudged]:
    """Which rules fail, each once for a workspace."""
    found = {(one.workspace, one.rule): one for one in not_judged(connection) if one.error is not None}
    return list(found.values())


def has_findings(connection: Connection, rule: str) -> bool:
    """Whether a rule that may be there no more ever found something."""
    found = connection.execute(text("SELECT 1 FROM finding WHERE rule = :rule LIMIT 1"), {"rule": rule}).first()
    return found is not None


def judged(connection: Connection, workspaces: Sequence[str] | None = None) -> bool:
    """Whether rules were ever asked about any of these workspaces."""
    found = connection.execute(
        text(
            "SELECT 1 FROM judging j JOIN workspace w USING (workspace_id)"
            " WHERE CAST(:workspaces AS text[]) IS NULL OR w.name = ANY(:workspaces) LIMIT 1"
        ),
        {"workspaces": _list(workspaces)},
    ).first()
    return found is not None


def acknowledged(engine: Engine, finding_id: int, *, actor: str, reason: str) -> FindingRow | None:
    """Note that a person took a finding on, and why. None where there is none; else how it stands, which is as it stood
    where there was nothing to take on."""
    with engine.begin() as connection:
        # Not while rules judge the same workspace: what they read of it before would be written over this.
        connection.execute(
            text(
                "SELECT 1 FROM workspace WHERE workspace_id = (SELECT workspace_id FROM finding WHERE finding_id = :id)"
                " FOR NO KEY UPDATE"
            ),
            {"id": finding_id},
        )
        row = connection.execute(
            text("SELECT *, clock_timestamp() AS now FROM finding WHERE finding_id = :id FOR UPDATE"),
            {"id": finding_id},
        ).first()
        if row is None:
            return None
        held = findings.one(row)
        taken = acknowledge(held.finding, row.now)
        if taken is not None:  # also where somebody did before: that another did, and why, is kept as well
            connection.execute(
                text(
                    "UPDATE finding SET state = :state, since = :since, acknowledged_at = :acknowledged_at"
                    " WHERE finding_id = :id"
                ),
                {
                    "state": str(taken.state),
                    "since": taken.since,
                    "acknowledged_at": taken.acknowledged_at,
                    "id": finding_id,
                },
            )
            findings.record(connection, finding_id, held.finding, taken, at=row.now, actor=actor, reason=reason)
        return shown(connection, finding_id)


def can_be_acknowledged(state: str) -> bool:
    """Whether there is something to take on."""
    return state not in (State.PENDING, State.RESOLVED)


def _row(row: Any, history: Sequence[Event] = ()) -> FindingRow:
    names = [name for name in FindingRow.__slots__ if name not in ("evidence", "history")]
    values = {name: _text(getattr(row, name)) for name in names}
    return FindingRow(**values, evidence=canonical.decode(row.told), history=tuple(history))


def _text(value: Any) -> Any:
    return canonical.unescape(value) if isinstance(value, str) else value


def _list(values: Sequence[str] | None) -> list[str] | None:
    return [str(value) for value in values] if values is not None else None
