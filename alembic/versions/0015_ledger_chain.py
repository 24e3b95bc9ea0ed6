"""The chain of the ledger. What was there before has no part in it: a workspace's first link says up to which scan."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE ledger_link (
            workspace_id INTEGER NOT NULL,
            seq BIGINT NOT NULL,
            at TIMESTAMP WITH TIME ZONE NOT NULL,
            what TEXT NOT NULL,
            scan_id BIGINT,
            nonce BYTEA NOT NULL,
            count INTEGER NOT NULL,
            members BYTEA NOT NULL,
            root BYTEA NOT NULL,
            before BYTEA NOT NULL,
            digest BYTEA NOT NULL,
            CONSTRAINT ledger_link_pkey PRIMARY KEY (workspace_id, seq),
            CONSTRAINT ledger_link_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspace (workspace_id)
        )
        """
    )
    op.execute("ALTER TABLE ledger_link ALTER COLUMN members SET STORAGE EXTERNAL")  # digests do not compress
    # 0: not in the chain, 1: without what equal passes may still add, 2: all of it. What is there already stays out,
    # and so does what an older worker writes meanwhile.
    op.execute("ALTER TABLE scan ADD COLUMN chained SMALLINT NOT NULL DEFAULT 2")
    op.execute("ALTER TABLE scan ALTER COLUMN chained SET DEFAULT 0")
    op.execute("CREATE INDEX scan_unchained ON scan (workspace_id) WHERE chained < 2")
    op.execute(
        "CREATE VIEW inventory.ledger_link AS SELECT w.name AS workspace, l.seq, l.at, l.what, l.scan_id AS scan,"
        " l.count, encode(l.root, 'hex') AS root, encode(l.before, 'hex') AS before, encode(l.digest, 'hex') AS digest"
        " FROM public.ledger_link l JOIN public.workspace w USING (workspace_id)"
    )


def downgrade() -> None:
    op.execute("DROP VIEW inventory.ledger_link")
    op.drop_table("ledger_link")
    op.execute("DROP INDEX scan_unchained")
    op.execute("ALTER TABLE scan DROP COLUMN chained")
