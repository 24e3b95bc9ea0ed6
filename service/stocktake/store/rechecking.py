"""What must be looked at to judge one finding anew, and whether it was. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import PARTITIONED, PIECEMEAL, Kind
from stocktake.core.findings import State
from stocktake.core.rules import ChangeRule, Rule, Severity, StateRule
from stocktake.store import findings
from stocktake.store.findings import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The kinds to be listed completely, of those that are listed by experiment only these experiments.

    `everything`: it cannot be said what is enough.
    """

    kinds: frozenset[Kind] = frozenset()
    partitions: Mapping[Kind, frozenset[str]] = field(default_factory=dict)
    everything: bool = False

    @property
    def experiments(self) -> frozenset[str] | None:
        """The experiments whose assets must be listed; None: all of them."""
        named = [self.partitions.get(kind) for kind in self.kinds & PARTITIONED]
        if self.everything or any(one is None for one in named):
            return None
        return frozenset[str]().union(*(one for one in named if one is not None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A finding that is to be judged anew."""

    held: Held
    rule: Rule
    fingerprint: bytes
    needs: Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSeen:
    """A kind that was not completely looked at, and why, as far as that is known."""

    kind: Kind
    reason: str | None


def asked(connection: Connection, finding_id: int, rules: Sequence[Rule]) -> Asked | None:
    """One finding. None where there is none, or no rule of its name any more."""
    row = connection.execute(text("SELECT * FROM finding WHERE finding_id = :id"), {"id": finding_id}).first()
    return _asked(connection, row, rules) if row is not None else None


# Of the worst alone, for this is done at every hot pass; what is deeper is left to the next sweep.
_PRESSING = """
SELECT * FROM finding WHERE workspace_id = :wid AND rule = ANY(:rules) AND severity = :severity
  AND state = ANY(:states) ORDER BY since LIMIT :most
"""


def pressing(connection: Connection, workspace_id: int, rules: Sequence[Rule], *, most: int) -> Iterator[Asked]:
    """The critical findings that are open, of rules that a hot pass alone does not judge: what they need is listed by
    experiment. Reads the index finding_by_rule."""
    deep = [
        rule
        for rule in rules
        if set(rule.kinds) & PARTITIONED or (isinstance(rule, StateRule) and set(rule.needs) & PARTITIONED)
    ]
    if not deep:
        return
    rows = connection.execute(
        text(_PRESSING),
        {
            "wid": workspace_id,
            "rules": [rule.id for rule in deep],
            "severity": Severity.CRITICAL,
            "states": [State.OPEN, State.ACKNOWLEDGED, State.STALE],
            "most": most,
        },
    ).all()
    for row in rows:
        if (found := _asked(connection, row, deep)) is not None:
            yield found


def _asked(connection: Connection, row: Any, rules: Sequence[Rule]) -> Asked | None:
    rule = next((one for one in rules if one.id == row.rule), None)
    if rule is None:
        return None
    held = findings.one(row)
    return Asked(
        held=held, rule=rule, fingerprint=bytes(row.fingerprint), needs=needs(connection, row.workspace_id, rule, held)
    )


def needs(connection: Connection, workspace_id: int, rule: Rule, held: Held) -> Needs:
    """What a finding needs: of runs, those of its own experiment, or of the experiment of the run that it names."""
    if isinstance(rule, StateRule) and rule.of_ledger:
        return _of_ledger(held.finding.evidence)
    own = Kind(held.subject.kind)
    wanted = {own} if isinstance(rule, ChangeRule) else {own, *rule.needs}
    partitions: dict[Kind, frozenset[str]] = {}
    for kind in wanted & PARTITIONED:
        if kind == own:
            found = connection.execute(
                text("SELECT partition FROM asset WHERE workspace_id = :wid AND kind = :kind AND key = :key"),
                {"wid": workspace_id, "kind": own, "key": held.subject.key},
            ).scalars()
        else:
            found = connection.execute(
                text(_OF_ITS_RUN),
                {"wid": workspace_id, "kind": own, "key": held.subject.key, "named": held.finding.evidence.get("run")},
            ).scalars()
        if those := frozenset(canonical.unescape(one) for one in found):
            partitions[kind] = those
    return Needs(kinds=frozenset(wanted), partitions=partitions)


_OF_ITS_RUN = """
SELECT DISTINCT r.partition FROM asset r WHERE r.workspace_id = :wid AND r.kind = 'run' AND r.key IN (
    SELECT v.run FROM asset a JOIN version v USING (asset_id)
    WHERE a.workspace_id = :wid AND a.kind = :kind AND a.key = :key AND v.run IS NOT NULL
    UNION SELECT CAST(:named AS text) WHERE CAST(:named AS text) IS NOT NULL)
"""


def _of_ledger(evidence: Mapping[str, Any]) -> Needs:
    """What our own ledger holds against a workspace: the kinds that its evidence names, or else all of them."""
    scopes = evidence.get("scopes")
    named = [one.get("kind") for one in scopes if isinstance(one, Mapping)] if isinstance(scopes, list) else []
    named += kinds if isinstance(kinds := evidence.get("kinds"), list) else []
    found = frozenset(Kind(one) for one in named if one in set(Kind))
    return Needs(kinds=found or frozenset({Kind.WORKSPACE}), everything=not found and not evidence.get("whole"))


def not_seen(connection: Connection, workspace_id: int, rule: Rule, wanted: Needs, since: datetime) -> list[NotSeen]:
    """Which of the kinds that a finding needs were not completely listed since a time. A rule about how things stand
    reads all of a kind: what of it is older must be complete all the same."""
    rows = {
        row.kind: row
        for row in connection.execute(
            text(
                "SELECT s.kind, bool_and(s.state = 'complete') AS whole,"
                " bool_and(s.state = 'complete' AND s.last_complete_at >= :since) FILTER (WHERE n.partitions IS NULL"
                " OR s.partition = ANY(n.partitions)) AS seen,"
                " (array_agg(s.reason ORDER BY s.reason) FILTER (WHERE s.state <> 'complete'))[1] AS reason"
                " FROM scope s JOIN (SELECT kind, CASE WHEN partitions = '' THEN NULL ELSE"
                " string_to_array(partitions, chr(31)) END AS partitions FROM"
                " unnest(CAST(:kinds AS text[]), CAST(:partitions AS text[])) AS n (kind, partitions)) n USING (kind)"
                " WHERE s.workspace_id = :wid GROUP BY s.kind"
            ),
            {
                "wid": workspace_id,
                "since": since,
                "kinds": sorted(wanted.kinds),
                "partitions": [
                    "\x1f".join(sorted(map(canonical.escape, wanted.partitions.get(kind, ()))))
                    for kind in sorted(wanted.kinds)
                ],
            },
        )
    }
    state = isinstance(rule, StateRule) and not rule.of_ledger
    found = []
    for kind in sorted(wanted.kinds - PIECEMEAL):
        row = rows.get(kind)
        if row is None or not row.seen or (state and not row.whole):
            reason = canonical.unescape(row.reason) if row is not None and row.reason else None
            found.append(NotSeen(kind=kind, reason=reason))
    return found


def sizes(connection: Connection, workspace_id: int, experiments: frozenset[str]) -> dict[str, int]:
    """How many runs, models and traces of some experiments are known and not gone. Reads the index asset_live."""
    rows = connection.execute(
        text(
            "SELECT partition, count(*) AS many FROM asset WHERE workspace_id = :wid AND kind = ANY(:kinds)"
            " AND partition = ANY(:partitions) AND gone_at IS NULL GROUP BY partition"
        ),
        {
            "wid": workspace_id,
            "kinds": sorted(PARTITIONED),
            "partitions": [canonical.escape(one) for one in experiments],
        },
    )
    return {canonical.unescape(row.partition): int(row.many) for row in rows}


def judged_since(connection: Connection, workspace_id: int, rule: StateRule, kind: str, since: datetime) -> bool:
    """Whether a rule was asked about all of a kind since a time."""
    found = connection.execute(
        text("SELECT looked_at >= :since FROM judging WHERE workspace_id = :wid AND rule = :rule AND kind = :kind"),
        {"wid": workspace_id, "rule": rule.id, "kind": kind, "since": since},
    ).scalar()
    return bool(found)
