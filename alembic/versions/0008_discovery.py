"""What discovery found: the workspaces with their names, which scopes were looked at, and what happened to each."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE discovered (
            key TEXT NOT NULL,
            name TEXT NOT NULL,
            entry TEXT NOT NULL,
            subscription TEXT NOT NULL,
            resource_group TEXT NOT NULL,
            workspace TEXT NOT NULL,
            region TEXT NOT NULL,
            tags TEXT NOT NULL,
            guid TEXT,
            how TEXT NOT NULL,
            standing TEXT NOT NULL,
            since TIMESTAMP WITH TIME ZONE NOT NULL,
            first_seen TIMESTAMP WITH TIME ZONE NOT NULL,
            last_seen TIMESTAMP WITH TIME ZONE NOT NULL,
            judged_at TIMESTAMP WITH TIME ZONE NOT NULL,
            why TEXT NOT NULL,
            next_step TEXT NOT NULL,
            PRIMARY KEY (key),
            CONSTRAINT discovered_name_key UNIQUE (name)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE discovery_scope (
            entry TEXT NOT NULL,
            path TEXT NOT NULL,
            asked_at TIMESTAMP WITH TIME ZONE NOT NULL,
            first_looked_at TIMESTAMP WITH TIME ZONE,
            last_looked_at TIMESTAMP WITH TIME ZONE,
            looked BOOLEAN NOT NULL,
            trouble TEXT NOT NULL,
            why TEXT NOT NULL,
            next_step TEXT NOT NULL,
            PRIMARY KEY (entry, path)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE discovery_event (
            event_id BIGINT GENERATED ALWAYS AS IDENTITY,
            key TEXT NOT NULL,
            name TEXT NOT NULL,
            entry TEXT NOT NULL,
            at TIMESTAMP WITH TIME ZONE NOT NULL,
            not_before TIMESTAMP WITH TIME ZONE,
            event TEXT NOT NULL,
            before TEXT,
            after TEXT NOT NULL,
            why TEXT NOT NULL,
            PRIMARY KEY (event_id)
        )
        """
    )
    op.execute("CREATE INDEX discovery_event_by_time ON discovery_event (at)")
    op.execute(
        "CREATE VIEW inventory.discovered AS SELECT name AS workspace, entry, subscription, resource_group, workspace"
        " AS azure_workspace, region, tags::jsonb AS tags, how, standing, since, first_seen, last_seen, why, next_step"
        " FROM public.discovered"
    )
    op.execute(
        "CREATE VIEW inventory.discovery_event AS SELECT event_id AS id, at, not_before, name AS workspace, key, entry,"
        " event, before, after, why FROM public.discovery_event"
    )
    op.execute(
        "CREATE VIEW inventory.discovery_scope AS SELECT entry, path, asked_at, first_looked_at, last_looked_at,"
        " looked, trouble, why, next_step FROM public.discovery_scope"
    )


def downgrade() -> None:
    op.execute("DROP VIEW inventory.discovery_scope")
    op.execute("DROP VIEW inventory.discovery_event")
    op.execute("DROP VIEW inventory.discovered")
    op.drop_table("discovery_event")
    op.drop_table("discovery_scope")
    op.drop_table("discovered")
