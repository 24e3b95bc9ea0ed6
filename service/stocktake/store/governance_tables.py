"""The tables of what people agreed on: waivers, and how things should be by the baselines."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)

from stocktake.store.metadata import METADATA

_TIME = DateTime(timezone=True)

waiver = Table(
    "waiver",
    METADATA,
    Column("waiver_id", BigInteger, Identity(always=True), primary_key=True),
    Column("rule", Text, nullable=False),  # a pattern, as the next three
    Column("workspace", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("asset", Text, nullable=False),  # a key or a name
    Column("exact", Boolean, nullable=False),  # the asset is a key, and no pattern
    Column("owner", Text, nullable=False),  # who approved it
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),  # who entered it
    Column("began_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("until", _TIME, nullable=False),
    Column("ended_at", _TIME),  # before its time
    Column("ended_by", Text),
    Column("end_reason", Text),
    Index("waiver_running", "until", postgresql_where=text("ended_at IS NULL")),
)

off_baseline = Table(
    "off_baseline",
    METADATA,
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),  # of the asset, or the name that the baseline gives one that is not there
    Column("evidence", Text, nullable=False),  # canonical JSON: both sides, field by field
    PrimaryKeyConstraint("workspace_id", "kind", "key"),
)
