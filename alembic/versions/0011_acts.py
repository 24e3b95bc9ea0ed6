"""Who did what, as the log of a cloud tells it: acts on assets of ours, and how far each workspace's log was read.

New objects only: older code does not notice them.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE act (
            act_id BIGINT GENERATED ALWAYS AS IDENTITY,
            workspace_id INTEGER NOT NULL,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            operation TEXT NOT NULL,
            operation_id TEXT NOT NULL,
            caller TEXT NOT NULL,
            event_id TEXT NOT NULL,
            accepted BOOLEAN NOT NULL,
            failed BOOLEAN NOT NULL,
            began_at TIMESTAMP WITH TIME ZONE NOT NULL,
            ended_at TIMESTAMP WITH TIME ZONE NOT NULL,
            seen_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            PRIMARY KEY (act_id),
            CONSTRAINT act_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspace (workspace_id),
            CONSTRAINT act_key UNIQUE (workspace_id, operation_id, operation, kind, key, caller)
        )
        """
    )
    op.execute("CREATE INDEX act_by_asset ON act (workspace_id, kind, lower(key), ended_at)")
    op.execute("CREATE INDEX act_by_time ON act (ended_at)")
    op.execute(
        """
        CREATE TABLE act_log (
            workspace_id INTEGER NOT NULL,
            read_from TIMESTAMP WITH TIME ZONE,
            read_to TIMESTAMP WITH TIME ZONE,
            asked_at TIMESTAMP WITH TIME ZONE NOT NULL,
            trouble TEXT,
            error TEXT,
            next_step TEXT,
            PRIMARY KEY (workspace_id),
            CONSTRAINT act_log_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspace (workspace_id)
        )
        """
    )
    op.execute(
        "CREATE VIEW inventory.act AS SELECT e.act_id AS id, w.name AS workspace, e.kind, e.key, e.operation, e.caller,"
        " e.began_at, e.ended_at, e.accepted, e.failed, e.operation_id, e.event_id, e.seen_at"
        " FROM public.act e JOIN public.workspace w USING (workspace_id)"
    )
    op.execute(
        "CREATE VIEW inventory.act_log AS SELECT w.name AS workspace, l.read_from, l.read_to, l.asked_at, l.trouble,"
        " l.error, l.next_step FROM public.act_log l JOIN public.workspace w USING (workspace_id)"
    )


def downgrade() -> None:
    op.execute("DROP VIEW inventory.act_log")
    op.execute("DROP VIEW inventory.act")
    op.drop_table("act_log")
    op.drop_table("act")
