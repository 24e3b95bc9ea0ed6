"""Alerts, deliveries and silences as people ask for them and change them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from stocktake.core import canonical
from stocktake.store import outbox
from stocktake.store.history import stream


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """An alert, as it stands."""

    id: int
    key: str
    receiver: str
    labels: Mapping[str, str]
    state: str  # waiting (told nothing yet), firing, resolved
    since: datetime | None
    told_at: datetime | None
    due_at: datetime | None
    digest: bool
    acknowledged: bool
    findings: int  # that fire, or wait to be told of
    waiting: int  # deliveries
    dead: int
    receiver_failing_since: datetime | None
    receiver_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """A delivery."""

    id: int
    alert: int
    receiver: str
    key: str
    what: str
    state: str
    findings: int
    created_at: datetime
    tries: int
    next_at: datetime | None  # of one that waits
    ended_at: datetime | None
    status: int | None
    error: str | None
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRow:
    """A silence."""

    id: int
    matchers: Mapping[str, Sequence[str]]
    starts_at: datetime
    ends_at: datetime
    holds: bool
    actor: str
    reason: str
    ended_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverRow:
    """How a receiver does."""

    name: str
    failing_since: datetime | None
    error: str | None
    waiting: int
    oldest: datetime | None  # when the oldest of them was planned
    dead: int


def receivers(connection: Connection) -> dict[str, ReceiverRow]:
    """Those that ever failed or have something that did not arrive, by name. Reads delivery_waiting and
    delivery_dead."""
    rows = connection.execute(
        text(
            "WITH waiting AS (SELECT receiver AS name, count(*) AS number, min(created_at) AS oldest FROM delivery"
            " WHERE state IN ('queued', 'failed') GROUP BY receiver),"
            " dead AS (SELECT receiver AS name, count(*) AS number FROM delivery"
            " WHERE state = 'dead' GROUP BY receiver)"
            " SELECT name, r.failing_since, r.error, coalesce(w.number, 0) AS waiting, w.oldest,"
            " coalesce(d.number, 0) AS dead"
            " FROM receiver r FULL JOIN waiting w USING (name) FULL JOIN dead d USING (name)"
        )
    )
    return {
        row.name: ReceiverRow(**{name: _text(getattr(row, name)) for name in ReceiverRow.__slots__}) for row in rows
    }


_ALERTS = """
SELECT a.alert_id AS id, a.key, a.receiver, a.labels, coalesce(a.told, 'waiting') AS state, a.since, a.told_at,
    a.due_at, a.digest, a.acknowledged, m.findings, d.waiting, d.dead, r.failing_since AS receiver_failing_since,
    r.error AS receiver_error
FROM alert a LEFT JOIN receiver r ON r.name = a.receiver,
LATERAL (SELECT count(*) FILTER (WHERE told = 'firing' OR opened) AS findings FROM alert_finding m
    WHERE m.alert_id = a.alert_id) m,
LATERAL (SELECT count(*) FILTER (WHERE state IN ('queued', 'failed')) AS waiting,
    count(*) FILTER (WHERE state = 'dead') AS dead FROM delivery d WHERE d.alert_id = a.alert_id) d
WHERE (CAST(:number AS bigint) IS NULL OR a.alert_id = :number)
    AND (CAST(:receivers AS text[]) IS NULL OR a.receiver = ANY(:receivers))
    AND (:everything OR a.told = 'firing' OR m.findings > 0 OR d.waiting > 0 OR d.dead > 0)
ORDER BY a.digest, coalesce(a.since, a.told_at) DESC NULLS FIRST, a.alert_id DESC LIMIT :limit
"""


def alerts(
    connection: Connection,
    *,
    number: int | None = None,
    receivers: Sequence[str] | None = None,
    everything: bool = False,
    limit: int | None = None,
) -> list[AlertRow]:
    """Alerts that fire, wait to be told, or did not arrive; with `everything` also those that are over."""
    rows = connection.execute(
        text(_ALERTS),
        {"number": number, "receivers": receivers, "everything": everything or number is not None, "limit": limit},
    )
    return [
        AlertRow(
            **{name: _text(getattr(row, name)) for name in AlertRow.__slots__ if name != "labels"},
            labels=dict(canonical.decode(row.labels)),
        )
        for row in rows
    ]


def firing(connection: Connection, number: int) -> list[int]:
    """The findings of an alert that fire, or wait to be told of."""
    rows = connection.execute(
        text(
            "SELECT finding_id FROM alert_finding WHERE alert_id = :number AND (told = 'firing' OR opened)"
            " ORDER BY finding_id"
        ),
        {"number": number},
    )
    return list(rows.scalars())


def deliveries(
    connection: Connection,
    *,
    receivers: Sequence[str] | None = None,
    states: Sequence[str] | None = None,
    alert: int | None = None,
    limit: int | None = None,
) -> Iterator[DeliveryRow]:
    """Deliveries, the latest first. Streams."""
    rows = stream(
        connection,
        (
            "SELECT delivery_id AS id, alert_id AS alert, receiver, key, what, state, findings, created_at, tries,"
            " CASE WHEN state IN ('queued', 'failed') THEN next_at END AS next_at, ended_at, status, error,"
            " CAST(message AS jsonb) ->> 'title' AS title"
            " FROM delivery WHERE (CAST(:receivers AS text[]) IS NULL OR receiver = ANY(:receivers))"
            " AND (CAST(:states AS text[]) IS NULL OR state = ANY(:states))"
            " AND (CAST(:alert AS bigint) IS NULL OR alert_id = :alert) ORDER BY delivery_id DESC LIMIT :limit"
        ),
        {
            "receivers": list(receivers) if receivers else None,
            "states": list(states) if states else None,
            "alert": alert,
            "limit": limit,
        },
    )
    for row in rows:
        yield DeliveryRow(**{name: _text(getattr(row, name)) for name in DeliveryRow.__slots__})


def silences(connection: Connection, *, everything: bool = False, number: int | None = None) -> list[SilenceRow]:
    """The silences that hold, or all that there ever were, the latest first."""
    rows = connection.execute(
        text(
            "SELECT silence_id AS id, matchers, starts_at, ends_at, ends_at > clock_timestamp() AS holds, actor,"
            " reason, ended_by FROM silence WHERE (:everything OR ends_at > clock_timestamp())"
            " AND (CAST(:number AS bigint) IS NULL OR silence_id = :number) ORDER BY silence_id DESC"
        ),
        {"everything": everything, "number": number},
    )
    return [
        SilenceRow(
            **{name: _text(getattr(row, name)) for name in SilenceRow.__slots__ if name != "matchers"},
            matchers=canonical.decode(row.matchers),
        )
        for row in rows
    ]


def silence(
    engine: Engine, matchers: Mapping[str, Sequence[str]], *, until: datetime, actor: str, reason: str
) -> SilenceRow:
    """Keep quiet about what fits, from now on."""
    with engine.begin() as connection:
        number = connection.execute(
            text(
                "INSERT INTO silence (matchers, starts_at, ends_at, actor, reason)"
                " VALUES (:matchers, clock_timestamp(), :until, :actor, :reason) RETURNING silence_id"
            ),
            {
                "matchers": canonical.encode({name: list(words) for name, words in matchers.items()}).decode(),
                "until": until,
                "actor": canonical.escape(actor),
                "reason": canonical.escape(reason),
            },
        ).scalar_one()
        return silences(connection, everything=True, number=number)[0]


def expire(engine: Engine, number: int, *, actor: str) -> tuple[SilenceRow | None, bool]:
    """End a silence now. Returns it (None where there is none), and whether it was this that ended it: one that is over
    stays as it is."""
    with engine.begin() as connection:
        ended = connection.execute(
            text(
                "UPDATE silence SET ends_at = clock_timestamp(), ended_by = :actor"
                " WHERE silence_id = :number AND ends_at > clock_timestamp()"
            ),
            {"number": number, "actor": canonical.escape(actor)},
        ).rowcount
        return next(iter(silences(connection, everything=True, number=number)), None), bool(ended)


def revive(engine: Engine, numbers: Sequence[int] | None) -> int:
    """Queue dead letters again; returns how many there were."""
    with engine.begin() as connection:
        now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return outbox.revive(connection, list(numbers) if numbers is not None else None, now)


def _text(value: Any) -> Any:
    return canonical.unescape(value) if isinstance(value, str) else value
