"""How far judging is: which rules a workspace knows, what each has seen, how completely it could look, and what failed.

Every function runs inside a transaction that its caller opened; those that write, in one that was fenced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, text

from stocktake.core import canonical
from stocktake.core.assets import ChangeType, Kind
from stocktake.core.production import ENDPOINTS
from stocktake.core.rules import ChangeRule, Rule, Seen, StateRule
from stocktake.store.claims import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is judged on its own: a rule about changes (`kind` is empty), or a rule about how a kind stands."""

    rule: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a unit is."""

    change: int  # judged up to this change
    looked_at: datetime | None  # when it was last judged after complete looks at all that it needs
    epoch: int | None
    severity: str | None
    error: str | None


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


def units(rule: Rule) -> list[Unit]:
    """The units of a rule."""
    kinds = ("",) if isinstance(rule, ChangeRule) else rule.kinds or (Kind.WORKSPACE,)
    return [Unit(rule=rule.id, kind=str(kind)) for kind in kinds]


def standings(connection: Connection, claim: Claim) -> dict[Unit, Standing]:
    """How far every unit of a workspace is. Reads the primary key of judging."""
    rows = connection.execute(
        text(
            "SELECT rule, kind, change_id, looked_at, epoch, severity, error FROM public.judging"
            " WHERE workspace_id = :wid"
        ),
        {"wid": claim.workspace_id},
    )
    return {
        Unit(rule=row.rule, kind=row.kind): Standing(
            change=row.change_id, looked_at=row.looked_at, epoch=row.epoch, severity=row.severity, error=row.error
        )
        for row in rows
    }


def enrol(connection: Connection, claim: Claim, rules: Sequence[Rule], unreadable: Collection[str] = ()) -> None:
    """Let rules begin behind the last change that there is; of those whose file cannot be read the name is noted."""
    begun: list[tuple[Unit, str | None]] = [(unit, str(rule.severity)) for rule in rules for unit in units(rule)]
    begun += [(Unit(rule=name, kind=""), None) for name in unreadable]
    connection.execute(
        text(
            "INSERT INTO judging (workspace_id, rule, kind, change_id, severity)"
            " SELECT :wid, rule, kind, :last, severity FROM unnest(CAST(:rules AS text[]), CAST(:kinds AS text[]),"
            " CAST(:severities AS text[])) AS n (rule, kind, severity) ON CONFLICT DO NOTHING"
        ),
        {
            "wid": claim.workspace_id,
            "last": last_change(connection, claim),
            "rules": [unit.rule for unit, _ in begun],
            "kinds": [unit.kind for unit, _ in begun],
            "severities": [severity for _, severity in begun],
        },
    )


def dismiss(connection: Connection, claim: Claim, gone: Collection[Unit]) -> None:
    """Forget units that are judged no more: one that comes back begins anew."""
    connection.execute(
        text(
            "DELETE FROM judging j USING unnest(CAST(:rules AS text[]), CAST(:kinds AS text[])) AS n (rule, kind)"
            " WHERE j.workspace_id = :wid AND j.rule = n.rule AND j.kind = n.kind"
        ),
        {"wid": claim.workspace_id, "rules": [one.rule for one in gone], "kinds": [one.kind for one in gone]},
    )


def weigh(connection: Connection, claim: Claim, rules: Sequence[Rule]) -> None:
    """Give the findings of these rules the severity that the rules have now."""
    given = {
        "wid": claim.workspace_id,
        "rules": [rule.id for rule in rules],
        "severities": [str(rule.severity) for rule in rules],
    }
    for table, which in (("finding", "t.state <> 'resolved'"), ("judging", "true")):
        connection.execute(
            text(
                f"UPDATE {table} t SET severity = n.severity FROM unnest(CAST(:rules AS text[]),"
                " CAST(:severities AS text[])) AS n (rule, severity) WHERE t.workspace_id = :wid AND t.rule = n.rule"
                f" AND t.severity IS DISTINCT FROM n.severity AND {which}"
            ),
            given,
        )


def last_change(connection: Connection, claim: Claim) -> int:
    """The last change of a workspace, 0 without any. Reads the index change_by_workspace."""
    found = connection.execute(
        text("SELECT max(change_id) FROM change WHERE workspace_id = :wid"), {"wid": claim.workspace_id}
    ).scalar()
    return int(found or 0)


def cursors(connection: Connection, claim: Claim) -> tuple[dict[str, int], set[str]]:
    """Up to which change each rule about changes has judged, and which of them failed the last time."""
    rows = connection.execute(
        text("SELECT rule, change_id, error FROM judging WHERE workspace_id = :wid AND kind = ''"),
        {"wid": claim.workspace_id},
    ).all()
    return {row.rule: row.change_id for row in rows}, {row.rule for row in rows if row.error is not None}


def advance(connection: Connection, claim: Claim, rules: Collection[str], reached: int) -> None:
    """Note up to which change rules have judged; they could."""
    connection.execute(
        text(
            "UPDATE judging SET change_id = greatest(change_id, :reached), error = NULL, failed_since = NULL"
            " WHERE workspace_id = :wid AND kind = '' AND rule = ANY(:rules)"
        ),
        {"reached": reached, "wid": claim.workspace_id, "rules": list(rules)},
    )


# The state before a change is that of the version that ended with it.
_CHANGES = """
SELECT c.change_id, c.kind, a.key, c.name, c.type, c.fields, c.not_before, c.not_after,
    c.scan_id, c.part_of, p.state AS state_before, c.recorded_at,
    CASE WHEN c.kind <> ALL(:serving) THEN NULL WHEN c.type IN ('deleted', 'purged') THEN p.document
        WHEN c.type = 'restored' THEN (SELECT n.document FROM version n WHERE n.asset_id = c.asset_id
            AND n.valid_from = c.at) END AS document,
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
    connection: Connection,
    workspace_id: int,
    workspace: str,
    after: int,
    last: int,
    rules: Sequence[ChangeRule],
    limit: int,
) -> tuple[list[tuple[Seen, datetime]], int]:
    """The next changes that any of these rules may look at, each with when it was recorded; and up to which change that
    is all of them."""
    rows = connection.execute(
        text(_CHANGES),
        {
            "wid": workspace_id,
            "after": after,
            "last": last,
            "kinds": sorted({str(kind) for rule in rules for kind in rule.kinds}),
            "types": sorted({str(one) for rule in rules for one in rule.types}),
            "limit": limit,
            "serving": [str(kind) for kind in _SERVING],
        },
    ).all()
    seen = [
        (
            Seen(
                id=row.change_id,
                workspace=workspace,
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
                document=canonical.decode(row.document) if row.document is not None else None,
            ),
            row.recorded_at,
        )
        for row in rows
    ]
    return seen, seen[-1][0].id if len(seen) == limit else last


@contextmanager
def reading(engine: Engine, timeout: timedelta) -> Iterator[Connection]:
    """A transaction in which rules are asked: one snapshot, nothing can be written, and no statement takes for ever.

    Names without a schema are those of the public views. Postgres lets no statement turn read-only off again. Every
    pass of every workspace asks the same statements, of which planning is most of the cost: here, unlike elsewhere, a
    plan is kept once the driver has prepared the statement (after five times). It is no worse: a workspace is given by
    its name, of which no plan knows how much it holds. New statistics make Postgres plan anew.
    """
    with engine.connect() as connection:
        reader = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        reader.execute(
            text(
                "SELECT set_config('statement_timeout', :timeout, true), set_config('search_path', 'inventory', true),"
                " set_config('lock_timeout', '5s', true), set_config('plan_cache_mode', 'force_generic_plan', true)"
            ),
            {"timeout": f"{max(int(timeout.total_seconds() * 1000), 1)}ms"},
        )
        yield reader
        connection.commit()  # nothing was written; a rollback would make the driver forget what it has prepared


# Of what is listed experiment by experiment all is seen where each experiment has its scope, and where there was a
# whole list of experiments: a scan that was cut has written no scope of what it did not reach.
_COMPLETE = """
SELECT s.kind, min(s.last_complete_at) AS seen FROM {schema}scope s WHERE s.workspace_id = :wid
GROUP BY s.kind HAVING bool_and(s.state = 'complete') AND (bool_or(s.partition = '') OR EXISTS (
    SELECT 1 FROM {schema}scope x WHERE x.workspace_id = :wid AND x.kind = 'experiment'
        AND x.last_complete_at IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM {schema}asset e
        WHERE e.workspace_id = :wid AND e.kind = 'experiment' AND e.gone_at IS NULL AND NOT EXISTS (
            SELECT 1 FROM {schema}scope o
            WHERE o.workspace_id = :wid AND o.kind = s.kind AND o.partition = e.key)))
"""


def complete_kinds(connection: Connection, workspace_id: int, schema: str = "public.") -> dict[str, datetime]:
    """The kinds that were completely listed, with their oldest complete look. `schema`: what the tables' names begin
    with, which may be those of another time."""
    rows = connection.execute(text(_COMPLETE.format(schema=schema)), {"wid": workspace_id})
    return {row.kind: row.seen for row in rows}


def looks(
    rule: StateRule,
    standing: Mapping[Unit, Standing],
    complete: Mapping[str, datetime],
    epoch: int,
    now: datetime,
) -> list[Look]:
    """How completely what a rule needs was seen, for each kind that it is about."""
    there = [unit for unit in units(rule) if unit in standing]  # another version, without it, may have dismissed it
    if rule.of_ledger:
        first = {one: standing[one].epoch is None for one in there}  # how we understand what we read is no matter here
        return [Look(kind=one.kind, before=standing[one].looked_at, first=first[one], seen=now) for one in there]
    found = []
    for unit in there:
        needed = {unit.kind, *(str(one) for one in rule.needs)}
        seen = min(complete[one] for one in needed) if needed <= complete.keys() else None
        at = standing[unit]
        found.append(Look(kind=unit.kind, before=at.looked_at, first=at.epoch != epoch, seen=seen))
    return found


def still(connection: Connection, claim: Claim, rule: str, due: Sequence[Look]) -> bool:
    """Whether nobody judged this since these looks were read: what another pass said is newer."""
    rows = connection.execute(
        text("SELECT kind, looked_at FROM judging WHERE workspace_id = :wid AND rule = :rule"),
        {"wid": claim.workspace_id, "rule": rule},
    )
    at = {row.kind: row.looked_at for row in rows}
    return all(one.kind in at and at[one.kind] == one.before for one in due)


def looked(connection: Connection, claim: Claim, due: Sequence[tuple[str, Look]], now: datetime) -> None:
    """Note that rules were judged, after complete looks at all that they need; they could."""
    if not due:
        return
    connection.execute(
        text(
            "UPDATE judging j SET looked_at = :now, epoch = :epoch, error = NULL, failed_since = NULL"
            " FROM unnest(CAST(:rules AS text[]), CAST(:kinds AS text[]), CAST(:befores AS timestamptz[]))"
            " AS n (rule, kind, before) WHERE j.workspace_id = :wid AND j.rule = n.rule AND j.kind = n.kind"
            " AND j.looked_at IS NOT DISTINCT FROM n.before"
        ),
        {
            "now": now,
            "epoch": claim.epoch,
            "wid": claim.workspace_id,
            "rules": [rule for rule, _ in due],
            "kinds": [look.kind for _, look in due],
            "befores": [look.before for _, look in due],
        },
    )


def failed(connection: Connection, claim: Claim, errors: Mapping[str, str], now: datetime) -> None:
    """Note which rules could not be asked, and why."""
    connection.execute(
        text(
            "UPDATE judging j SET error = n.error, failed_since = coalesce(j.failed_since, :now)"
            " FROM unnest(CAST(:rules AS text[]), CAST(:errors AS text[])) AS n (rule, error)"
            " WHERE j.workspace_id = :wid AND j.rule = n.rule AND j.error IS DISTINCT FROM n.error"
        ),
        {
            "now": now,
            "wid": claim.workspace_id,
            "rules": list(errors),
            "errors": [canonical.escape(error)[:2000] for error in errors.values()],
        },
    )
