"""Which rules could not be asked, why and since when; and the severity that findings of a rule were written with."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE judging ADD COLUMN severity TEXT")
    op.execute("ALTER TABLE judging ADD COLUMN error TEXT")
    op.execute("ALTER TABLE judging ADD COLUMN failed_since TIMESTAMP WITH TIME ZONE")
    # Rules about changes are shown as well: they can fail. `kind` is empty for them.
    op.execute(
        "CREATE OR REPLACE VIEW inventory.judging AS SELECT w.name AS workspace, j.rule, j.kind, j.looked_at, j.error,"
        " j.failed_since FROM public.judging j JOIN public.workspace w USING (workspace_id)"
        " WHERE j.kind <> '' OR j.error IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("DROP VIEW inventory.judging")
    op.execute(
        "CREATE VIEW inventory.judging AS SELECT w.name AS workspace, j.rule, j.kind, j.looked_at"
        " FROM public.judging j JOIN public.workspace w USING (workspace_id) WHERE j.kind <> ''"
    )
    for column in ("severity", "error", "failed_since"):
        op.execute(f"ALTER TABLE judging DROP COLUMN {column}")
