"""What `stocktake redact` removed: who, when, why, how much, and by what it is recognised at intake. Never a value."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE redaction (
            redaction_id BIGINT GENERATED ALWAYS AS IDENTITY,
            began_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            finished_at TIMESTAMP WITH TIME ZONE,
            actor TEXT NOT NULL,
            reason TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            assets BIGINT DEFAULT 0 NOT NULL,
            versions BIGINT DEFAULT 0 NOT NULL,
            changes BIGINT DEFAULT 0 NOT NULL,
            others BIGINT DEFAULT 0 NOT NULL,
            PRIMARY KEY (redaction_id)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE redacted_text (
            mac BYTEA NOT NULL,
            core BYTEA NOT NULL,
            lead INTEGER NOT NULL,
            length INTEGER NOT NULL,
            trail INTEGER NOT NULL,
            cuts INTEGER[] NOT NULL,
            fingerprint TEXT NOT NULL,
            PRIMARY KEY (mac)
        )
        """
    )
    # For dashboards, beside the other views of the ledger.
    op.execute(
        "CREATE VIEW inventory.redaction AS SELECT redaction_id AS id, began_at, finished_at, actor, reason,"
        " fingerprint, assets, versions, changes, others FROM public.redaction"
    )


def downgrade() -> None:
    op.execute("DROP VIEW inventory.redaction")
    op.drop_table("redacted_text")
    op.drop_table("redaction")
