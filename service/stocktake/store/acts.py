"""The log of who did what, as far as it was read, and the changes that it names an actor of.

What was read stands between two times; a change whose looks are not both between them is left to nobody. Every function
runs inside a transaction that its caller opened and fenced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.actors import CLOCKS, TOLD, Act, Happened, Line, named
from stocktake.core.assets import ChangeType
from stocktake.core.chain import Sort, What
from stocktake.core.errors import SourceError
from stocktake.store import chain
from stocktake.store.claims import Claim
from stocktake.store.engine import driver

#: From when a page is asked for until it is whole no more time passes than this.
_PAGE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """How far a workspace's log was read, by the database's clock; None: never."""

    since: datetime
    until: datetime


def read(connection: Connection, claim: Claim) -> Read | None:
    """From when and until when the log is known without a gap."""
    row = connection.execute(
        text("SELECT read_from, read_to FROM act_log WHERE workspace_id = :wid AND read_to IS NOT NULL"),
        {"wid": claim.workspace_id},
    ).first()
    return Read(since=row.read_from, until=row.read_to) if row is not None else None


def oldest(connection: Connection, claim: Claim, after: datetime) -> datetime | None:
    """The look before the oldest change, not older than a time, of which nobody is known to have made it."""
    found: datetime | None = connection.execute(
        text(
            "SELECT min(not_before) FROM change WHERE workspace_id = :wid AND at > :after AND not_before >= :after"
            " AND actor IS NULL AND kind = ANY(:kinds)"
        ),
        {"wid": claim.workspace_id, "after": after, "kinds": _KINDS},
    ).scalar()
    return found


def keep(connection: Connection, claim: Claim, lines: Sequence[Line]) -> None:
    """Put lines together to acts, with what is known of them from before. What says nothing new writes nothing."""
    if not lines:
        return
    columns: dict[str, list[Any]] = {name: [] for name in Line._fields}
    for line in lines:
        for name, value in zip(Line._fields, line, strict=True):
            columns[name].append(canonical.escape(value) if isinstance(value, str) else value)
    driver(connection).execute(_KEEP, columns | {"wid": claim.workspace_id})


_KINDS = sorted(TOLD)

_KEEP = """
INSERT INTO act AS a (workspace_id, kind, key, operation, operation_id, caller, event_id, accepted, failed, began_at,
    ended_at)
SELECT %(wid)s, kind, key, operation, operation_id, caller,
    (array_agg(event_id ORDER BY accepted DESC, at DESC))[1], bool_or(accepted), bool_or(failed), min(at), max(at)
FROM unnest(%(kind)s::text[], %(key)s::text[], %(operation)s::text[], %(operation_id)s::text[], %(caller)s::text[],
            %(event_id)s::text[], %(accepted)s::bool[], %(failed)s::bool[], %(at)s::timestamptz[])
    AS line (kind, key, operation, operation_id, caller, event_id, accepted, failed, at)
GROUP BY kind, key, operation, operation_id, caller
ON CONFLICT (workspace_id, operation_id, operation, kind, key, caller) DO UPDATE SET
    event_id = CASE WHEN excluded.accepted AND (NOT a.accepted OR excluded.ended_at > a.ended_at)
        THEN excluded.event_id ELSE a.event_id END,
    accepted = a.accepted OR excluded.accepted, failed = a.failed OR excluded.failed,
    began_at = least(a.began_at, excluded.began_at), ended_at = greatest(a.ended_at, excluded.ended_at)
WHERE (excluded.accepted AND NOT a.accepted) OR (excluded.failed AND NOT a.failed)
    OR excluded.began_at < a.began_at OR excluded.ended_at > a.ended_at
"""


def was_read(connection: Connection, claim: Claim, so_far: Read, asked_at: datetime) -> None:
    """Note that the log is known between two times."""
    connection.execute(
        text(
            "INSERT INTO act_log (workspace_id, read_from, read_to, asked_at) VALUES (:wid, :since, :until, :asked)"
            " ON CONFLICT (workspace_id) DO UPDATE SET read_from = excluded.read_from, read_to = excluded.read_to,"
            " asked_at = excluded.asked_at, trouble = NULL, error = NULL, next_step = NULL"
        ),
        {"wid": claim.workspace_id, "since": so_far.since, "until": so_far.until, "asked": asked_at},
    )


def unread(connection: Connection) -> dict[str, str]:
    """Say of each workspace whose log could not be read the last time why, and what to do."""
    rows = connection.execute(
        text(
            "SELECT w.name, l.error, l.next_step FROM act_log l JOIN workspace w USING (workspace_id)"
            " WHERE l.trouble IS NOT NULL"
        )
    )
    return {row.name: ". ".join(part.rstrip(".") for part in (row.error, row.next_step) if part) for row in rows}


def not_read(connection: Connection, claim: Claim, why: SourceError, error: str, asked_at: datetime) -> bool:
    """Note why the log could not be read on, and say whether that is new; what was read before stands."""
    before = connection.execute(
        text("SELECT trouble FROM act_log WHERE workspace_id = :wid"), {"wid": claim.workspace_id}
    ).scalar()
    connection.execute(
        text(
            "INSERT INTO act_log (workspace_id, asked_at, trouble, error, next_step)"
            " VALUES (:wid, :asked, :trouble, :error, :next)"
            " ON CONFLICT (workspace_id) DO UPDATE SET asked_at = excluded.asked_at, trouble = excluded.trouble,"
            " error = excluded.error, next_step = excluded.next_step"
        ),
        {"wid": claim.workspace_id, "asked": asked_at, "trouble": why.trouble, "error": canonical.escape(error),
         "next": canonical.escape(why.next_step)},
    )  # fmt: skip
    return before != why.trouble


def name(connection: Connection, claim: Claim, so_far: Read, since: datetime) -> int:
    """Name the actors of changes, as far as the log tells; return how many. Of what this scan saw, and of whatever else
    was seen since a time: a line that came late, or a second act, may say something else than was known before."""
    given = {
        "wid": claim.workspace_id,
        "scan": claim.scan_id,
        "kinds": _KINDS,
        "seen": _reaching_back(connection, claim, since) - CLOCKS - _PAGE,
        "since": so_far.since,
        "until": so_far.until,
        "clocks": CLOCKS,
    }
    found: list[tuple[str | None, str, int]] = []
    rows = connection.execute(text(_TOLD), given)
    for _, group in groupby(rows, key=lambda row: row.change_id):
        acts = list(group)
        change = acts[0]
        happened = Happened(
            type=ChangeType(change.type),
            not_before=change.not_before,
            not_after=change.not_after,
            fields=canonical.decode(change.fields),
        )
        told = named(
            happened,
            (
                Act(
                    operation=act.operation,
                    caller=act.caller,
                    began_at=act.began_at,
                    ended_at=act.ended_at,
                    failed=act.failed,
                )
                for act in acts
            ),
        )
        if told is not None and tuple(told) != (change.actor, change.actor_source):
            found.append((*told, change.change_id))
    if found:
        with driver(connection).cursor() as cursor:
            cursor.executemany("UPDATE change SET actor = %s, actor_source = %s WHERE change_id = %s", found)
        ids = [change_id for *_, change_id in found]
        chain.amend(
            driver(connection), What.NAMED, Sort.CHANGE, "change_id = ANY(%s) ORDER BY change_id", (ids,),
            key=claim.salts, scan=claim.scan_id,
        )  # fmt: skip
    return len(found)


def _reaching_back(connection: Connection, claim: Claim, since: datetime) -> datetime:
    """When the longest operation began that had not ended before a time: it may have changed something all along."""
    began: datetime | None = connection.execute(
        text("SELECT min(began_at) FROM act WHERE workspace_id = :wid AND accepted AND ended_at >= :since"),
        {"wid": claim.workspace_id, "since": since - CLOCKS},
    ).scalar()
    return min(since, began) if began is not None else since


# Changes by the indexes change_by_time and change_by_scan, their acts by act_by_asset. Azure tells upper and lower case
# apart in no id, but names of models may differ in nothing else: then an act is about the one that it names exactly;
# where it names none exactly it may be about each of them, so it leaves doubt and names nobody.
_TOLD = """
SELECT c.change_id, c.type, c.not_before, c.not_after, c.fields, c.actor, c.actor_source,
    e.operation, e.began_at, e.ended_at, e.failed,
    CASE WHEN e.key = a.key OR (c.kind, lower(a.key)) NOT IN (SELECT o.kind, lower(o.key) FROM asset o
        WHERE o.workspace_id = :wid AND o.kind = ANY(:kinds) GROUP BY o.kind, lower(o.key) HAVING count(*) > 1)
    THEN e.caller ELSE '' END AS caller
FROM (
    SELECT change_id FROM change WHERE workspace_id = :wid AND at BETWEEN :seen AND :until AND kind = ANY(:kinds)
    UNION SELECT change_id FROM change WHERE workspace_id = :wid AND scan_id = :scan AND kind = ANY(:kinds)
) seen JOIN change c USING (change_id) JOIN asset a USING (asset_id) JOIN act e
    ON e.workspace_id = c.workspace_id AND e.kind = c.kind AND lower(e.key) = lower(a.key) AND e.accepted
    AND e.ended_at > c.not_before - CAST(:clocks AS interval) AND e.began_at <= c.not_after + CAST(:clocks AS interval)
WHERE c.not_before >= :since AND c.not_after <= :until
    AND (e.key = a.key OR NOT EXISTS (SELECT 1 FROM asset o
        WHERE o.workspace_id = a.workspace_id AND o.kind = a.kind AND o.key = e.key))
ORDER BY c.change_id
"""
