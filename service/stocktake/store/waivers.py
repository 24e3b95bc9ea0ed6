"""Waivers that were entered by command, and findings as waivers and change windows look at them.

Every function runs inside a transaction that its caller opened, after it locked the workspace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.covering import About, Covering
from stocktake.core.findings import State
from stocktake.core.waivers import Move, Waiver
from stocktake.store import findings
from stocktake.store.findings import Held


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiverRow:
    """A waiver as it was entered."""

    id: int
    rule: str
    workspace: str
    kind: str
    asset: str
    exact: bool
    owner: str
    reason: str
    actor: str
    began_at: datetime
    until: datetime
    ended_at: datetime | None
    ended_by: str | None
    end_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A finding, and what patterns see of it."""

    held: Held
    about: About
    change_window: str | None
    partition: str | None  # of its asset, where there is one
    of_change: bool


_COLUMNS = "waiver_id AS id, rule, workspace, kind, asset, exact, owner, reason, actor, began_at, until, ended_at," \
    " ended_by, end_reason"  # fmt: skip


def rows(connection: Connection, *, everything: bool = False) -> list[WaiverRow]:
    """The waivers that run, or all that there ever were; the latest first."""
    found = connection.execute(
        text(
            f"SELECT {_COLUMNS} FROM waiver WHERE :everything OR (ended_at IS NULL AND until > clock_timestamp())"
            " ORDER BY waiver_id DESC"
        ),
        {"everything": everything},
    )
    return [_row(one) for one in found]


def row(connection: Connection, waiver_id: int) -> WaiverRow | None:
    """One of them."""
    found = connection.execute(text(f"SELECT {_COLUMNS} FROM waiver WHERE waiver_id = :id"), {"id": waiver_id}).first()
    return _row(found) if found is not None else None


def running(connection: Connection) -> list[Waiver]:
    """The waivers that run."""
    return [waiver(one) for one in rows(connection)]


def waiver(one: WaiverRow) -> Waiver:
    """A row as the core judges it."""
    return Waiver(
        covering=Covering(
            rules=(one.rule,), workspaces=(one.workspace,), kinds=(one.kind,), assets=(one.asset,), exact=one.exact
        ),
        owner=one.owner,
        reason=one.reason,
        until=one.until,
        source=f"waiver {one.id}",
        actor=one.actor,
    )


def add(connection: Connection, wanted: Covering, *, owner: str, reason: str, until: datetime, actor: str) -> int:
    """Enter a waiver: of each pattern the first."""
    return int(
        connection.execute(
            text(
                "INSERT INTO waiver (rule, workspace, kind, asset, exact, owner, reason, actor, until)"
                " VALUES (:rule, :workspace, :kind, :asset, :exact, :owner, :reason, :actor, :until)"
                " RETURNING waiver_id"
            ),
            {
                "rule": canonical.escape(wanted.rules[0]),
                "workspace": canonical.escape(wanted.workspaces[0]),
                "kind": canonical.escape(wanted.kinds[0]),
                "asset": canonical.escape(wanted.assets[0]),
                "exact": wanted.exact,
                "owner": canonical.escape(owner),
                "reason": canonical.escape(reason),
                "actor": canonical.escape(actor),
                "until": until,
            },
        ).scalar_one()
    )


def end(connection: Connection, waiver_id: int, *, actor: str, reason: str) -> bool:
    """End a waiver before its time. False: there is none that runs."""
    return bool(
        connection.execute(
            text(
                "UPDATE waiver SET ended_at = clock_timestamp(), ended_by = :actor, end_reason = :reason"
                " WHERE waiver_id = :id AND ended_at IS NULL AND until > clock_timestamp()"
            ),
            {"id": waiver_id, "actor": canonical.escape(actor), "reason": canonical.escape(reason)},
        ).rowcount
    )


def lock(connection: Connection, workspace_id: int) -> datetime:
    """Keep rules from judging a workspace meanwhile: what they read before would be written over ours. The time."""
    connection.execute(
        text("SELECT 1 FROM workspace WHERE workspace_id = :wid FOR NO KEY UPDATE"), {"wid": workspace_id}
    )
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def whose(connection: Connection, finding_id: int) -> tuple[int, str, About] | None:
    """The workspace that a finding is of, by number and name, and what it is about. None: there is none."""
    found = connection.execute(
        text(
            "SELECT f.workspace_id, f.rule, w.name AS workspace, f.kind, f.key FROM finding f"
            " JOIN workspace w USING (workspace_id) WHERE finding_id = :id"
        ),
        {"id": finding_id},
    ).first()
    if found is None:
        return None
    about = About(rule=found.rule, workspace=found.workspace, kind=found.kind, key=canonical.unescape(found.key))
    return found.workspace_id, found.workspace, about


def workspaces(connection: Connection) -> list[tuple[int, str]]:
    """The workspaces in which something was found, in the order in which they are locked."""
    found = connection.execute(
        text(
            "SELECT workspace_id, name FROM workspace w WHERE EXISTS (SELECT 1 FROM finding f"
            " WHERE f.workspace_id = w.workspace_id) ORDER BY workspace_id"
        )
    )
    return [(one.workspace_id, one.name) for one in found]


_STANDING = """
SELECT f.*, w.name AS workspace, a.partition FROM finding f JOIN workspace w USING (workspace_id)
LEFT JOIN asset a ON a.workspace_id = f.workspace_id AND a.kind = f.kind AND a.key = f.key
WHERE f.workspace_id = :wid AND f.state NOT IN ('pending', 'resolved')
"""


def standing(connection: Connection, workspace_id: int, rules: Collection[str] | None) -> Iterator[Standing]:
    """The findings of a workspace that are waived, and those of some rules (None: of any)."""
    return _standing(
        connection,
        " AND (f.waived_until IS NOT NULL OR CAST(:rules AS text[]) IS NULL OR f.rule = ANY(:rules))",
        {"wid": workspace_id, "rules": sorted(rules) if rules is not None else None},
    )


def moved(
    connection: Connection, workspace_id: int, rules: Collection[str], now: datetime, scan_id: int
) -> Iterator[Standing]:
    """The findings of some rules that this transaction has written. Reads the index finding_by_rule."""
    return _standing(
        connection,
        " AND f.rule = ANY(:rules) AND f.scan_id = :scan AND (f.since = :now OR f.last_seen = :now)",
        {"wid": workspace_id, "rules": sorted(rules), "scan": scan_id, "now": now},
    )


def _standing(connection: Connection, which: str, given: dict[str, Any]) -> Iterator[Standing]:
    for one in connection.execute(text(_STANDING + which), given).all():
        yield Standing(
            held=findings.one(one),
            about=About(
                rule=one.rule,
                workspace=one.workspace,
                kind=one.kind,
                key=canonical.unescape(one.key),
                name=canonical.unescape(one.name) if one.name is not None else None,
            ),
            change_window=canonical.unescape(one.change_window) if one.change_window is not None else None,
            partition=one.partition,
            of_change=one.change_id is not None,
        )


def write(
    connection: Connection,
    one: Standing,
    move: Move,
    now: datetime,
    *,
    scan_id: int | None,
) -> None:
    """Write what a waiver, or its end, made of a finding, and who says so."""
    _update(connection, one, move)
    findings.record(
        connection,
        one.held.id,
        one.held.finding,
        move.finding,
        at=now,
        scan_id=scan_id,
        actor=move.actor,
        reason=move.reason,
    )


def write_over(connection: Connection, one: Standing, move: Move, now: datetime) -> None:
    """Write it in the transaction in which the finding opened: nobody ever sees it open, so its history does not."""
    _update(connection, one, move)
    connection.execute(
        text(
            "UPDATE finding_event e SET after = CASE WHEN after = :open THEN :waived ELSE after END,"
            " before = CASE WHEN before = :open AND event_id > (SELECT min(event_id) FROM finding_event o"
            " WHERE o.finding_id = e.finding_id AND o.at = :now) THEN :waived ELSE before END,"
            " actor = :actor, reason = :reason WHERE finding_id = :id AND at = :now"
        ),
        {
            "open": State.OPEN,
            "waived": State.WAIVED,
            "now": now,
            "id": one.held.id,
            "actor": canonical.escape(move.actor) if move.actor else None,
            "reason": canonical.escape(move.reason),
        },
    )


def _update(connection: Connection, one: Standing, move: Move) -> None:
    connection.execute(
        text("UPDATE finding SET state = :state, since = :since, waived_until = :until WHERE finding_id = :id"),
        {
            "state": str(move.finding.state),
            "since": move.finding.since,
            "until": move.finding.waived_until,
            "id": one.held.id,
        },
    )


def set_window(connection: Connection, names: Sequence[tuple[int, str | None]]) -> None:
    """Note in which approved window what findings are about happened."""
    if names:
        connection.execute(
            text(
                "UPDATE finding f SET change_window = n.name FROM"
                " unnest(CAST(:ids AS bigint[]), CAST(:names AS text[])) AS n (id, name) WHERE f.finding_id = n.id"
            ),
            {
                "ids": [id_ for id_, _ in names],
                "names": [canonical.escape(name) if name is not None else None for _, name in names],
            },
        )


_LOOK_BEFORE = """
SELECT CASE WHEN s.passes > 1 THEN s.last_began_at ELSE l.began_at END
FROM scan s JOIN scope_scan l USING (scan_id)
WHERE s.workspace_id = :wid AND s.scan_id < :scan AND l.kind = :kind AND l.state = 'complete' AND l.ended
  AND l.covers @> ARRAY[CAST(:partition AS text)]
ORDER BY s.scan_id DESC, l.ordinal DESC LIMIT 1
"""


def look_before(
    connection: Connection, workspace_id: int, kind: str, partition: str | None, scan_id: int
) -> datetime | None:
    """When the last complete look at a part of a kind began that came before a scan. None: there was none, or that scan
    published nothing (it told nothing new, so what opens now did not happen since a look)."""
    given = {"wid": workspace_id, "scan": scan_id, "kind": kind, "partition": partition or ""}
    equal = connection.execute(text("SELECT passes > 1 FROM scan WHERE scan_id = :scan"), given).scalar()
    if equal:
        return None
    if kind == "workspace":  # what rules say of a workspace as a whole: whether it answered
        found: datetime | None = connection.execute(
            text(
                "SELECT last_began_at FROM scan WHERE workspace_id = :wid AND scan_id < :scan"
                " AND state IN ('complete', 'partial') ORDER BY scan_id DESC LIMIT 1"
            ),
            given,
        ).scalar()
        return found
    looked: datetime | None = connection.execute(text(_LOOK_BEFORE), given).scalar()
    return looked


def _row(one: Any) -> WaiverRow:
    values: dict[str, Any] = {
        name: canonical.unescape(value) if isinstance(value, str) else value for name, value in one._mapping.items()
    }
    return WaiverRow(**values)
