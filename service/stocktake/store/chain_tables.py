"""The table of the ledger's chain. Its rows are written once: nothing changes or deletes them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from stocktake.store.metadata import METADATA

_TIME = DateTime(timezone=True)

ledger_link = Table(
    "ledger_link",
    METADATA,
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("seq", BigInteger, nullable=False),  # without a gap
    Column("at", _TIME, nullable=False),
    Column("what", Text, nullable=False),
    Column("scan_id", BigInteger),  # whose it is; a pass that found what the one before found has no row any more
    Column("nonce", LargeBinary, nullable=False),  # with the installation's key it makes the salts
    Column("count", Integer, nullable=False),
    Column("members", LargeBinary, nullable=False),  # core/chain.py
    Column("root", LargeBinary, nullable=False),  # of the members
    Column("before", LargeBinary, nullable=False),  # digest of the link before
    Column("digest", LargeBinary, nullable=False),
    PrimaryKeyConstraint("workspace_id", "seq", name="ledger_link_pkey"),
)
