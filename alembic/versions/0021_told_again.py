"""A finding that was told, and to which something more happened since, is told again.

A new column with a default: older code does not notice it.
"""

from __future__ import annotations

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE alert_finding ADD COLUMN more boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    op.execute("ALTER TABLE alert_finding DROP COLUMN more")
