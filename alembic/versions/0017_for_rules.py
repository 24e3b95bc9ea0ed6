"""What rules ask: the runs of an experiment by when they began, and which documents hold what was taken out.

New objects only: older code does not notice them.
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One experiment after the other, the runs of late alone.
    op.execute(
        "CREATE INDEX version_run_began ON version (workspace_id, partition, started_at)"
        " WHERE kind = 'run' AND valid_to IS NULL"
    )
    # Of millions of documents those few that held a secret: nobody reads the others to find them.
    op.execute(
        "CREATE INDEX version_redacted ON version (workspace_id, kind)"
        " WHERE valid_to IS NULL AND strpos(document, '[redacted:') > 0"
    )
    op.execute(
        "CREATE VIEW inventory.redacted AS SELECT w.name AS workspace, v.kind, a.key, v.name, v.owner, v.lifecycle,"
        " a.first_seen, v.valid_from, v.document::jsonb AS document, a.asset_id"
        " FROM public.version v JOIN public.asset a USING (asset_id)"
        " JOIN public.workspace w ON w.workspace_id = v.workspace_id"
        " WHERE v.valid_to IS NULL AND strpos(v.document, '[redacted:') > 0"
    )
    # Runs that declare that they are compared: the same.
    op.execute(
        "CREATE INDEX version_compared ON version (workspace_id)"
        " WHERE kind = 'run' AND valid_to IS NULL AND strpos(document, '\"stocktake.comparison\":') > 0"
    )
    op.execute(
        "CREATE VIEW inventory.compared_run AS SELECT w.name AS workspace, a.key, v.name, v.lifecycle, v.state,"
        " v.partition AS experiment_id, v.started_at AS start_time,"
        " v.document::jsonb -> 'tags' ->> 'stocktake.comparison' AS comparison,"
        " v.document::jsonb -> 'tags' ->> 'stocktake.comparison.match' AS match,"
        " v.document::jsonb -> 'params' AS params, a.asset_id"
        " FROM public.version v JOIN public.asset a USING (asset_id)"
        " JOIN public.workspace w ON w.workspace_id = v.workspace_id"
        " WHERE v.kind = 'run' AND v.valid_to IS NULL AND strpos(v.document, '\"stocktake.comparison\":') > 0"
    )


def downgrade() -> None:
    op.execute("DROP VIEW inventory.compared_run")
    op.execute("DROP INDEX version_compared")
    op.execute("DROP VIEW inventory.redacted")
    op.execute("DROP INDEX version_redacted")
    op.execute("DROP INDEX version_run_began")
