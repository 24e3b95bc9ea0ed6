"""No foreign keys on the tables that every scan fills; room on the pages of the one that every scan updates.

Checking them row by row was a sixth of a first scan (18 of 100 us a run), and nothing but the publishing of this
code writes there, under the lock of the workspace, which the dropping of old assets takes as well.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE version DROP CONSTRAINT version_asset_id_fkey")
    op.execute("ALTER TABLE asset DROP CONSTRAINT asset_workspace_id_fkey")
    # A row of `scope` is updated by every pass: in place of its old one, its index need not be written.
    op.execute("ALTER TABLE scope SET (fillfactor = 50)")


def downgrade() -> None:
    op.execute("ALTER TABLE scope RESET (fillfactor)")
    op.execute(
        "ALTER TABLE asset ADD CONSTRAINT asset_workspace_id_fkey FOREIGN KEY (workspace_id)"
        " REFERENCES workspace (workspace_id)"
    )
    op.execute(
        "ALTER TABLE version ADD CONSTRAINT version_asset_id_fkey FOREIGN KEY (asset_id) REFERENCES asset (asset_id)"
    )
