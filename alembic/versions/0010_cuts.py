"""Where a listing was cut, so that the next scan takes it up instead of beginning anew.

New objects only: older code does not notice them.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE cut_listing (
            workspace_id INTEGER NOT NULL,
            kind TEXT NOT NULL,
            place TEXT NOT NULL,
            began_at TIMESTAMP WITH TIME ZONE NOT NULL,
            saved_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            scan_id BIGINT NOT NULL,
            epoch INTEGER NOT NULL,
            listed BIGINT NOT NULL,
            problem TEXT,
            seen BYTEA NOT NULL,
            PRIMARY KEY (workspace_id, kind),
            FOREIGN KEY(workspace_id) REFERENCES workspace (workspace_id)
        )
        """
    )


def downgrade() -> None:
    op.drop_table("cut_listing")
