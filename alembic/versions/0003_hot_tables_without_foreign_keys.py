"""No foreign keys on the tables that every scan fills.

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


def downgrade() -> None:
    op.execute(
        "ALTER TABLE asset ADD CONSTRAINT asset_workspace_id_fkey FOREIGN KEY (workspace_id)"
        " REFERENCES workspace (workspace_id)"
    )
    op.execute(
        "ALTER TABLE version ADD CONSTRAINT version_asset_id_fkey FOREIGN KEY (asset_id) REFERENCES asset (asset_id)"
    )
