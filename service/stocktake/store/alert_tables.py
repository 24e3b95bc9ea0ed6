"""The tables of alerts: what was told to whom, the outbox, silences. Migrations 0019 and 0021 make them."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from stocktake.store.metadata import METADATA

_TIME = DateTime(timezone=True)
_WAITING = text("state IN ('queued', 'failed')")

alert = Table(
    "alert",
    METADATA,
    Column("alert_id", BigInteger, Identity(always=True), primary_key=True),
    Column("key", Text, nullable=False),  # what a receiver knows it by, for its whole life; keyed
    Column("receiver", Text, nullable=False),
    Column("labels", Text, nullable=False),  # canonical JSON: what its findings have in common
    Column("digest", Boolean, nullable=False),
    Column("pace", Text, nullable=False),  # JSON: how long it waits, as its route said last
    Column("told", Text),  # what the receiver was told last: firing or resolved; NULL: nothing yet
    Column("since", _TIME),  # it fires
    Column("told_at", _TIME),
    Column("acknowledged", Boolean, nullable=False, server_default=false()),  # the receiver was told so
    Column("due_at", _TIME),  # when it is looked at next; NULL: when something happens
    Column("news_at", _TIME),  # when it tells what is new; a digest is looked at before, where it must be refreshed
    UniqueConstraint("key", name="alert_key_key"),
    Index("alert_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

alert_finding = Table(
    "alert_finding",
    METADATA,
    Column("alert_id", ForeignKey("alert.alert_id", ondelete="CASCADE"), nullable=False),
    Column("finding_id", ForeignKey("finding.finding_id", ondelete="CASCADE"), nullable=False),
    Column("told", Text),
    Column("told_at", _TIME),
    Column("opened", Boolean, nullable=False),  # it opened since it was last told
    Column("moves", ARRAY(_TIME), nullable=False),  # when it opened and closed lately
    Column("labels", Text),  # canonical JSON: its labels when it was first told, which others know it by
    Column("more", Boolean, nullable=False, server_default=false()),  # something more happened since it was told
    PrimaryKeyConstraint("alert_id", "finding_id"),
    Index("alert_finding_by_finding", "finding_id"),
)

delivery = Table(
    "delivery",
    METADATA,
    Column("delivery_id", BigInteger, Identity(always=True), primary_key=True),
    Column("alert_id", ForeignKey("alert.alert_id", ondelete="CASCADE"), nullable=False),
    Column("receiver", Text, nullable=False),
    Column("key", Text, nullable=False),  # of the alert
    Column("what", Text, nullable=False),  # fire, update, repeat, refresh, acknowledge, resolve, digest
    Column("state", Text, nullable=False),  # queued, failed (to be tried again), sent, dead
    Column("message", Text, nullable=False),  # canonical JSON
    Column("findings", Integer, nullable=False),  # that it tells of
    Column("created_at", _TIME, nullable=False),
    Column("next_at", _TIME, nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("ended_at", _TIME),  # sent, or given up
    Column("status", Integer),  # of the last answer
    Column("error", Text),
    Index("delivery_waiting", "receiver", "next_at", postgresql_where=_WAITING),
    Index("delivery_order", "alert_id", "delivery_id", postgresql_where=_WAITING),
    Index("delivery_dead", "delivery_id", postgresql_where=text("state = 'dead'")),
    Index("delivery_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    Index("delivery_by_alert", "alert_id"),
)

receiver = Table(
    "receiver",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("failing_since", _TIME),  # NULL while it takes what it is sent
    Column("tries", Integer, nullable=False, server_default=text("0")),  # that failed in a row
    Column("next_at", _TIME),  # not before is it tried again, with whatever
    Column("error", Text),
)

silence = Table(
    "silence",
    METADATA,
    Column("silence_id", BigInteger, Identity(always=True), primary_key=True),
    Column("matchers", Text, nullable=False),  # canonical JSON: label -> patterns
    Column("starts_at", _TIME, nullable=False),
    Column("ends_at", _TIME, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_by", Text),  # NULL: by its time
    Index("silence_by_end", "ends_at"),
)
