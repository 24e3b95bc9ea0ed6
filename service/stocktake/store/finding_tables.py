"""The tables of findings: how each stands, its history, and how far rules have judged. Migration 0012 makes them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    false,
    text,
)

from stocktake.store.metadata import METADATA

_TIME = DateTime(timezone=True)

finding = Table(
    "finding",
    METADATA,
    Column("finding_id", BigInteger, Identity(always=True), primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),  # keyed, of rule, workspace, kind and key
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("rule", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("name", Text),
    Column("owner", Text),  # NULL: unknown
    Column("state", Text, nullable=False),
    Column("since", _TIME, nullable=False),  # it stands so
    Column("inherited", Boolean, nullable=False),  # it was so when we began to look
    Column("first_seen", _TIME, nullable=False),
    Column("last_seen", _TIME, nullable=False),
    Column("opened_at", _TIME),
    Column("resolved_at", _TIME),
    Column("acknowledged_at", _TIME),
    Column("waived_until", _TIME),
    Column("held", Integer, nullable=False),  # complete looks in a row that showed it, while it is pending
    Column("clear", Integer, nullable=False),  # and that did not, until it is resolved
    Column("evidence", Text, nullable=False),  # canonical JSON
    Column("change_id", BigInteger),  # the last change that it is about, which names who did it, maybe later
    Column("scan_id", BigInteger, nullable=False),  # the last that wrote something here
    Column("change_window", Text),  # the approved window that what it is about happened in; it does not page
    Index("finding_live", "fingerprint", unique=True, postgresql_where=text("state <> 'resolved'")),
    Index("finding_by_fingerprint", "fingerprint"),  # one that comes back
    Index("finding_by_rule", "workspace_id", "rule", "kind"),
    Index("finding_resolved", "resolved_at", postgresql_where=text("state = 'resolved'")),  # retention
)

finding_event = Table(
    "finding_event",
    METADATA,
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("finding_id", ForeignKey("finding.finding_id", ondelete="CASCADE"), nullable=False),
    Column("at", _TIME, nullable=False),
    Column("before", Text),  # the state; NULL where it began
    Column("after", Text, nullable=False),
    Column("actor", Text),  # NULL: judging
    Column("reason", Text),
    Column("evidence", Text, nullable=False),
    Column("scan_id", BigInteger),
    Column("planned", Boolean, nullable=False, server_default=false()),  # alerts were made of it, or none was due
    Index("finding_event_by_finding", "finding_id", "event_id"),
    Index("finding_event_unplanned", "event_id", postgresql_where=text("NOT planned")),
)

judging = Table(
    "judging",
    METADATA,
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("rule", Text, nullable=False),
    Column("kind", Text, nullable=False),  # judged kind by kind; empty for rules about changes
    Column("change_id", BigInteger, nullable=False),  # judged up to here
    Column("looked_at", _TIME),  # when it was judged after complete looks at all it needs; NULL: not yet
    Column("epoch", Integer),  # under which normalisation: what another one shows first is inherited
    Column("severity", Text),  # of its findings, as they were written
    Column("error", Text),  # why it could not be asked the last time; NULL: it could
    Column("failed_since", _TIME),
    PrimaryKeyConstraint("workspace_id", "rule", "kind"),
)
