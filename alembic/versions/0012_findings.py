"""Findings, their history, and how far each rule has judged a workspace."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX change_by_workspace ON change (workspace_id, change_id)")
    # What runs, of millions of runs that have ended (rule stale-running).
    op.execute(
        "CREATE INDEX version_running ON version (workspace_id)"
        " WHERE kind = 'run' AND valid_to IS NULL AND state = 'RUNNING'"
    )
    op.execute(
        """
        CREATE TABLE finding (
            finding_id BIGINT GENERATED ALWAYS AS IDENTITY,
            fingerprint BYTEA NOT NULL,
            workspace_id INTEGER NOT NULL,
            rule TEXT NOT NULL,
            severity TEXT NOT NULL,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            name TEXT,
            owner TEXT,
            state TEXT NOT NULL,
            since TIMESTAMP WITH TIME ZONE NOT NULL,
            inherited BOOLEAN NOT NULL,
            first_seen TIMESTAMP WITH TIME ZONE NOT NULL,
            last_seen TIMESTAMP WITH TIME ZONE NOT NULL,
            opened_at TIMESTAMP WITH TIME ZONE,
            resolved_at TIMESTAMP WITH TIME ZONE,
            acknowledged_at TIMESTAMP WITH TIME ZONE,
            waived_until TIMESTAMP WITH TIME ZONE,
            held INTEGER NOT NULL,
            clear INTEGER NOT NULL,
            evidence TEXT NOT NULL,
            change_id BIGINT,
            scan_id BIGINT NOT NULL,
            PRIMARY KEY (finding_id),
            CONSTRAINT finding_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspace (workspace_id)
        )
        """
    )
    op.execute("CREATE UNIQUE INDEX finding_live ON finding (fingerprint) WHERE state <> 'resolved'")
    op.execute("CREATE INDEX finding_by_fingerprint ON finding (fingerprint)")
    op.execute("CREATE INDEX finding_by_rule ON finding (workspace_id, rule, kind)")
    op.execute("CREATE INDEX finding_resolved ON finding (resolved_at) WHERE state = 'resolved'")
    op.execute(
        """
        CREATE TABLE finding_event (
            event_id BIGINT GENERATED ALWAYS AS IDENTITY,
            finding_id BIGINT NOT NULL,
            at TIMESTAMP WITH TIME ZONE NOT NULL,
            before TEXT,
            after TEXT NOT NULL,
            actor TEXT,
            reason TEXT,
            evidence TEXT NOT NULL,
            scan_id BIGINT,
            PRIMARY KEY (event_id),
            CONSTRAINT finding_event_finding_id_fkey FOREIGN KEY (finding_id) REFERENCES finding (finding_id)
                ON DELETE CASCADE
        )
        """
    )
    op.execute("CREATE INDEX finding_event_by_finding ON finding_event (finding_id, event_id)")
    op.execute(
        """
        CREATE TABLE judging (
            workspace_id INTEGER NOT NULL,
            rule TEXT NOT NULL,
            kind TEXT NOT NULL,
            change_id BIGINT NOT NULL,
            looked_at TIMESTAMP WITH TIME ZONE,
            epoch INTEGER,
            PRIMARY KEY (workspace_id, rule, kind),
            CONSTRAINT judging_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspace (workspace_id)
        )
        """
    )
    op.execute(
        "CREATE VIEW inventory.finding AS SELECT f.finding_id AS id, encode(f.fingerprint, 'hex') AS fingerprint,"
        " w.name AS workspace, f.rule, f.severity, f.kind, f.key, f.name, f.owner, f.state, f.since, f.inherited,"
        " f.first_seen, CASE WHEN f.state IN ('resolved', 'stale') OR f.clear > 0 THEN f.last_seen"
        " ELSE greatest(f.last_seen, j.looked_at) END AS last_seen, f.opened_at, f.resolved_at, f.acknowledged_at,"
        " f.waived_until, f.evidence::jsonb AS evidence, f.change_id AS change,"
        " CASE WHEN f.change_id IS NOT NULL THEN coalesce(c.actor, 'unknown') END AS actor, c.actor_source,"
        " f.scan_id AS scan"
        " FROM public.finding f JOIN public.workspace w USING (workspace_id)"
        " LEFT JOIN public.change c ON c.change_id = f.change_id"
        " LEFT JOIN public.judging j ON j.workspace_id = f.workspace_id AND j.rule = f.rule AND j.kind = f.kind"
    )
    op.execute(
        "CREATE VIEW inventory.finding_event AS SELECT e.event_id AS id, e.finding_id AS finding, e.at, e.before,"
        " e.after, e.actor, e.reason, e.evidence::jsonb AS evidence, e.scan_id AS scan FROM public.finding_event e"
    )
    op.execute(
        "CREATE VIEW inventory.judging AS SELECT w.name AS workspace, j.rule, j.kind, j.looked_at"
        " FROM public.judging j JOIN public.workspace w USING (workspace_id) WHERE j.kind <> ''"
    )


def downgrade() -> None:
    op.execute("DROP VIEW inventory.judging")
    op.execute("DROP VIEW inventory.finding_event")
    op.execute("DROP VIEW inventory.finding")
    op.drop_table("judging")
    op.drop_table("finding_event")
    op.drop_table("finding")
    op.execute("DROP INDEX change_by_workspace")
    op.execute("DROP INDEX version_running")
