"""What was fetched on demand: which job or workspace, how many blobs and bytes, when, by whom we were. Never content.

New objects only: older code does not notice them.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE fetched (
            fetch_id BIGINT GENERATED ALWAYS AS IDENTITY,
            began_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            finished_at TIMESTAMP WITH TIME ZONE,
            workspace TEXT NOT NULL,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            what TEXT NOT NULL,
            state TEXT,
            place TEXT,
            blobs BIGINT DEFAULT 0 NOT NULL,
            bytes BIGINT DEFAULT 0 NOT NULL,
            identity TEXT,
            operator TEXT NOT NULL,
            error TEXT,
            PRIMARY KEY (fetch_id)
        )
        """
    )
    op.execute("CREATE INDEX fetched_by_time ON fetched (began_at)")
    op.execute(
        "CREATE VIEW inventory.fetched AS SELECT fetch_id AS id, began_at, finished_at, workspace, kind, key, what,"
        " state, place, blobs, bytes, identity, operator, error FROM public.fetched"
    )


def downgrade() -> None:
    op.execute("DROP VIEW inventory.fetched")
    op.drop_table("fetched")
