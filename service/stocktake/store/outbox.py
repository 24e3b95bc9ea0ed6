"""The outbox: deliveries that wait, go out, come back and are given up. One delivery is handed out to one worker alone.

Whoever takes one holds its row's lock until it says what became of it: a worker that is killed in between has let go of
it, and the next one sends it again, with the same key. Of one alert the deliveries go out as they were planned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from stocktake.core import canonical

#: Characters of an error that are kept.
_LONGEST = 1000
_BLOCK = 8 * 2**20  # characters of messages in one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A delivery to be written."""

    alert: int
    receiver: str
    key: str
    what: str
    message: str
    findings: int
    error: str | None = None  # why it is given up before it was tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A delivery to be sent, while the transaction lasts."""

    id: int
    what: str
    key: str
    text: str  # the message, as it was kept
    created_at: datetime
    tries: int
    receiver_tries: int  # of this receiver, that failed in a row


def queue(connection: Connection, deliveries: Iterable[Queued], now: datetime) -> None:
    """Write deliveries, in this order."""
    rows: list[dict[str, Any]] = []
    size = 0
    for one in deliveries:
        rows.append(
            {
                "number": len(rows),
                "alert_id": one.alert,
                "receiver": one.receiver,
                "key": one.key,
                "what": one.what,
                "state": "queued" if one.error is None else "dead",
                "message": one.message,
                "findings": one.findings,
                "created_at": now,
                "next_at": now,
                "ended_at": None if one.error is None else now,
                "error": one.error,
            }
        )
        size += len(one.message)
        if size > _BLOCK:
            _insert(connection, rows)
            rows, size = [], 0
    if rows:
        _insert(connection, rows)


def _insert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    names = ", ".join(name for name in rows[0] if name != "number")
    connection.execute(
        text(
            f"INSERT INTO delivery ({names}) SELECT {names} FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r"
            " (number integer, alert_id bigint, receiver text, key text, what text, state text, message text,"
            " findings integer, created_at timestamptz, next_at timestamptz, ended_at timestamptz, error text)"
            " ORDER BY number"
        ),
        {"rows": msgspec.json.encode(rows).decode()},
    )


def take(connection: Connection, receiver: str, now: datetime) -> Taken | None:
    """Lock the next delivery to a receiver. None: there is none, it is not its time, or others have them all.

    One that stands behind another of its alert waits for that one's end. Reads delivery_waiting and delivery_order.
    """
    row = connection.execute(
        text(
            "SELECT d.delivery_id, d.what, d.key, d.message, d.created_at, d.tries,"
            " coalesce((SELECT r.tries FROM receiver r WHERE r.name = d.receiver), 0) AS receiver_tries"
            " FROM delivery d WHERE d.receiver = :receiver AND d.next_at <= :now AND d.state IN ('queued', 'failed')"
            " AND NOT EXISTS (SELECT 1 FROM delivery e WHERE e.alert_id = d.alert_id"
            " AND e.delivery_id < d.delivery_id AND e.state IN ('queued', 'failed'))"
            " AND NOT EXISTS (SELECT 1 FROM receiver r WHERE r.name = d.receiver AND r.next_at > :now)"
            " ORDER BY d.next_at, d.delivery_id LIMIT 1 FOR UPDATE OF d SKIP LOCKED"
        ),
        {"receiver": receiver, "now": now},
    ).first()
    if row is None:
        return None
    return Taken(
        id=row.delivery_id,
        what=row.what,
        key=row.key,
        text=row.message,
        created_at=row.created_at,
        tries=row.tries,
        receiver_tries=row.receiver_tries,
    )


def sent(connection: Connection, taken: Taken, receiver: str, now: datetime, *, status: int | None) -> None:
    """It arrived. What only refreshes a receiver is not kept: there would be no end of it."""
    if taken.what == "refresh":
        connection.execute(text("DELETE FROM delivery WHERE delivery_id = :id"), {"id": taken.id})
    else:
        connection.execute(
            text(
                "UPDATE delivery SET state = 'sent', tries = tries + 1, ended_at = :now, status = :status, error = NULL"
                " WHERE delivery_id = :id"
            ),
            {"id": taken.id, "now": now, "status": status},
        )
    if taken.receiver_tries:
        connection.execute(
            text(
                "UPDATE receiver SET failing_since = NULL, tries = 0, next_at = NULL, error = NULL WHERE name = :name"
            ),
            {"name": receiver},
        )


def failed(
    connection: Connection,
    taken: Taken,
    now: datetime,
    *,
    error: str,
    status: int | None,
    again: datetime | None,
) -> None:
    """It did not arrive: it is tried again then, or given up (None)."""
    connection.execute(
        text(
            "UPDATE delivery SET state = :state, tries = tries + 1, next_at = coalesce(:again, next_at),"
            " ended_at = :ended, status = :status, error = :error WHERE delivery_id = :id"
        ),
        {
            "id": taken.id,
            "state": "failed" if again is not None else "dead",
            "again": again,
            "ended": now if again is None else None,
            "status": status,
            "error": canonical.escape(error)[:_LONGEST],
        },
    )


def give_up(connection: Connection, *, receivers: Sequence[str], before: datetime, now: datetime) -> int:
    """Give up what waits since then for receivers other than these. Reads delivery_waiting."""
    return connection.execute(
        text(
            "UPDATE delivery SET state = 'dead', ended_at = :now,"
            " error = 'The configuration has no receiver ' || quote_literal(receiver) || ' any more.'"
            " WHERE state IN ('queued', 'failed') AND created_at < :before AND receiver <> ALL(:receivers)"
        ),
        {"receivers": list(receivers), "before": before, "now": now},
    ).rowcount


def rest(connection: Connection, receiver: str, now: datetime, *, until: datetime, error: str) -> None:
    """Try nothing with a receiver until a time: it takes nothing at the moment."""
    connection.execute(
        text(
            "INSERT INTO receiver AS r (name, failing_since, tries, next_at, error)"
            " VALUES (:name, :now, 1, :until, :error) ON CONFLICT (name) DO UPDATE SET"
            " failing_since = coalesce(r.failing_since, excluded.failing_since), tries = r.tries + 1,"
            " next_at = excluded.next_at, error = excluded.error"
        ),
        {"name": receiver, "now": now, "until": until, "error": canonical.escape(error)[:_LONGEST]},
    )


def revive(connection: Connection, numbers: list[int] | None, now: datetime) -> int:
    """Queue again what was given up: these deliveries, or all; and what was sent of the same alert after them, or its
    receiver would be told last that what is over fires. Their age counts anew. Returns how many were given up."""
    return int(
        connection.execute(
            text(
                "WITH dead AS MATERIALIZED (SELECT delivery_id, alert_id FROM delivery WHERE state = 'dead'"
                " AND (CAST(:numbers AS bigint[]) IS NULL OR delivery_id = ANY(:numbers)) FOR UPDATE), queued AS ("
                "UPDATE delivery d SET state = 'queued', created_at = :now, next_at = :now, ended_at = NULL"
                " WHERE d.delivery_id IN (SELECT delivery_id FROM dead) OR d.state = 'sent' AND d.what <> 'digest'"
                " AND EXISTS (SELECT 1 FROM dead b WHERE b.alert_id = d.alert_id AND b.delivery_id < d.delivery_id))"
                " SELECT count(*) FROM dead"
            ),
            {"numbers": numbers, "now": now},
        ).scalar_one()
    )


def prune(connection: Connection, *, keep: timedelta, now: datetime, limit: int) -> int:
    """Drop what arrived, or was given up, long ago."""
    return connection.execute(
        text(
            "DELETE FROM delivery WHERE delivery_id IN"
            " (SELECT delivery_id FROM delivery WHERE ended_at < :before ORDER BY ended_at LIMIT :limit)"
        ),
        {"before": now - keep, "limit": limit},
    ).rowcount
