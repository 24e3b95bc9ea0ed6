"""Waivers, the change window of a finding, and what differs from the baselines."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_COLUMN = ",\n    f.change_window"
_FROM = "   FROM "


def _finding(begin: str) -> str:
    """The view of findings as it is, with the beginning of its FROM written so."""
    definition = (
        op.get_bind().exec_driver_sql("SELECT pg_get_viewdef('inventory.finding'::regclass, true)").scalar_one()
    )
    columns, found, rest = str(definition).partition("\n" + _FROM)
    assert found, "the view inventory.finding has no FROM"
    return columns + ("" if begin.startswith(",") else "\n") + begin + rest


def upgrade() -> None:
    op.execute("ALTER TABLE finding ADD COLUMN change_window TEXT")
    op.execute(
        """
        CREATE TABLE waiver (
            waiver_id BIGINT GENERATED ALWAYS AS IDENTITY,
            rule TEXT NOT NULL,
            workspace TEXT NOT NULL,
            kind TEXT NOT NULL,
            asset TEXT NOT NULL,
            exact BOOLEAN NOT NULL,
            owner TEXT NOT NULL,
            reason TEXT NOT NULL,
            actor TEXT NOT NULL,
            began_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            until TIMESTAMP WITH TIME ZONE NOT NULL,
            ended_at TIMESTAMP WITH TIME ZONE,
            ended_by TEXT,
            end_reason TEXT,
            PRIMARY KEY (waiver_id)
        )
        """
    )
    op.execute("CREATE INDEX waiver_running ON waiver (until) WHERE ended_at IS NULL")
    op.execute(
        """
        CREATE TABLE off_baseline (
            workspace_id INTEGER NOT NULL,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            evidence TEXT NOT NULL,
            PRIMARY KEY (workspace_id, kind, key),
            CONSTRAINT off_baseline_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspace (workspace_id)
        )
        """
    )
    op.execute(
        "CREATE VIEW inventory.waiver AS SELECT waiver_id AS id, rule, workspace, kind, asset, exact, owner, reason,"
        " actor, began_at, until, ended_at, ended_by, end_reason FROM public.waiver"
    )
    op.execute(
        "CREATE VIEW inventory.off_baseline AS SELECT w.name AS workspace, o.kind, o.key, o.evidence::jsonb AS evidence"
        " FROM public.off_baseline o JOIN public.workspace w USING (workspace_id)"
    )
    # Whatever columns it has by now, this is one more.
    op.execute(f"CREATE OR REPLACE VIEW inventory.finding AS {_finding(_COLUMN + chr(10) + _FROM)}")


def downgrade() -> None:
    without = _finding(_FROM).replace(_COLUMN, "")
    op.execute("DROP VIEW inventory.finding")
    op.execute(f"CREATE VIEW inventory.finding AS {without}")
    op.execute("DROP VIEW inventory.off_baseline")
    op.execute("DROP VIEW inventory.waiver")
    op.drop_table("off_baseline")
    op.drop_table("waiver")
    op.execute("ALTER TABLE finding DROP COLUMN change_window")
