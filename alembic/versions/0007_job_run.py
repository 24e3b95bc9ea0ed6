"""Jobs and their MLflow runs side by side, as a view: what the two tell, since when, and whether they disagree.

The verdict is decided in core/reconcile.py; this says the same in SQL for the usual grace period, and a test holds the
two together. New objects only: older code does not notice them.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STATES = """
CREATE FUNCTION inventory.mlflow_states(job_state text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE job_state
    WHEN 'NotStarted' THEN ARRAY['SCHEDULED'] WHEN 'Queued' THEN ARRAY['SCHEDULED']
    WHEN 'Preparing' THEN ARRAY['SCHEDULED'] WHEN 'Provisioning' THEN ARRAY['SCHEDULED']
    WHEN 'Running' THEN ARRAY['RUNNING'] WHEN 'Starting' THEN ARRAY['SCHEDULED', 'RUNNING']
    WHEN 'Finalizing' THEN ARRAY['RUNNING', 'FINISHED', 'FAILED']
    WHEN 'CancelRequested' THEN ARRAY['RUNNING', 'SCHEDULED', 'KILLED']
    WHEN 'Completed' THEN ARRAY['FINISHED'] WHEN 'Failed' THEN ARRAY['FAILED']
    WHEN 'Canceled' THEN ARRAY['KILLED'] END
$$
"""

# `since`: when the state that a side tells was first seen. A look at a job or a run that found nothing new leaves no
# trace on it: the last complete listing of its scope is the last look.
_SINCE = """(SELECT coalesce(max(p.valid_to) FILTER (WHERE p.state IS DISTINCT FROM v.state), min(p.valid_from))
        FROM public.version p WHERE p.asset_id = v.asset_id)"""

# Joined by hash, not looked up row by row: a workspace has a hundred thousand jobs, and each document is decoded once.
_VIEW = f"""
CREATE VIEW inventory.job_run AS
WITH listed AS (
    SELECT workspace_id, kind, partition, last_complete_at FROM public.scope WHERE last_complete_at IS NOT NULL),
place AS (
    SELECT DISTINCT workspace_id FROM public.asset WHERE kind IN ('job', 'child_job')
    UNION SELECT workspace_id FROM public.scope WHERE kind = 'job' AND state <> 'unsupported'),
experiment AS MATERIALIZED (
    SELECT v.workspace_id, v.name, min(a.key) AS key FROM public.version v JOIN public.asset a USING (asset_id)
    WHERE v.kind = 'experiment' AND v.valid_to IS NULL GROUP BY v.workspace_id, v.name),
job AS MATERIALIZED (
    SELECT v.workspace_id, v.kind, a.key, v.asset_id, v.state, v.valid_from, v.created_at, v.started_at, v.ended_at,
        d.experiment_id, d.experiment_name, {_SINCE} AS since, greatest(v.valid_from, l.last_complete_at) AS seen
    FROM public.version v JOIN public.asset a USING (asset_id)
    CROSS JOIN LATERAL (
        SELECT o.j ->> 'experimentId' AS experiment_id,
            nullif(o.j #>> '{{properties,experimentName}}', '') AS experiment_name
        FROM (SELECT v.document::jsonb AS j OFFSET 0) AS o) AS d
    LEFT JOIN listed l ON l.workspace_id = v.workspace_id AND l.kind = v.kind AND l.partition = ''
    WHERE v.kind IN ('job', 'child_job') AND v.valid_to IS NULL),
run AS MATERIALIZED (
    SELECT v.workspace_id, a.key, v.asset_id, v.state, v.valid_from, v.parent, v.started_at, v.ended_at,
        {_SINCE} AS since, greatest(v.valid_from, l.last_complete_at) AS seen
    FROM public.version v JOIN public.asset a USING (asset_id) JOIN place p ON p.workspace_id = v.workspace_id
    LEFT JOIN listed l ON l.workspace_id = v.workspace_id AND l.kind = 'run' AND l.partition = v.partition
    WHERE v.kind = 'run' AND v.valid_to IS NULL),
both_sides AS (
    SELECT workspace_id, j.kind AS job_kind, j.key AS job, r.key AS run,
        j.state AS job_state, r.state AS run_state, j.since AS job_since, r.since AS run_since, j.seen AS job_seen,
        r.seen AS run_seen, j.valid_from AS job_valid_from, r.valid_from AS run_valid_from, j.created_at,
        j.started_at AS job_started_at, r.started_at AS run_started_at, r.parent,
        coalesce(r.ended_at, j.ended_at) AS ended_at, j.asset_id AS job_asset_id, r.asset_id AS run_asset_id,
        j.experiment_id, j.experiment_name
    FROM job j FULL JOIN run r USING (workspace_id, key)),
pair AS (
    SELECT b.*, CASE
        -- A run with a parent may be that of a child job, and no list is one of all of those: nothing is claimed of it.
        WHEN b.job IS NULL THEN CASE WHEN b.parent IS NULL THEN jobs.last_complete_at END
        -- The runs of the job's experiment; where no experiment has that name, the list of experiments.
        WHEN b.run IS NULL AND coalesce(b.experiment_id, e.key) IS NOT NULL THEN runs.last_complete_at
        WHEN b.run IS NULL AND b.experiment_name IS NOT NULL THEN experiments.last_complete_at END AS other_listed
    FROM both_sides b
    LEFT JOIN experiment e ON e.workspace_id = b.workspace_id AND e.name = b.experiment_name AND b.run IS NULL
    LEFT JOIN listed jobs ON jobs.workspace_id = b.workspace_id AND jobs.kind = 'job' AND jobs.partition = ''
    LEFT JOIN listed experiments ON experiments.workspace_id = b.workspace_id AND experiments.kind = 'experiment'
        AND experiments.partition = ''
    LEFT JOIN listed runs ON runs.workspace_id = b.workspace_id AND runs.kind = 'run'
        AND runs.partition = coalesce(b.experiment_id, e.key))
SELECT w.name AS workspace, p.job_kind, p.job, p.run, p.job_state, p.run_state,
    (inventory.mlflow_states(p.job_state))[1] AS expected_run_state,
    CASE
        WHEN p.job IS NOT NULL AND p.run IS NOT NULL THEN CASE
            WHEN inventory.mlflow_states(p.job_state) IS NULL THEN 'undetermined'
            WHEN p.run_state = ANY(inventory.mlflow_states(p.job_state)) THEN 'agree'
            WHEN least(p.job_seen, p.run_seen) >= greatest(p.job_since, p.run_since) + interval '1 hour' THEN 'disagree'
            ELSE 'pending' END
        WHEN p.job_state IN ('NotStarted', 'Queued', 'Preparing', 'Provisioning') THEN 'pending'
        WHEN p.other_listed IS NULL THEN 'undetermined'
        WHEN p.other_listed < coalesce(p.job_since, p.run_since) + interval '1 hour' THEN 'pending'
        WHEN p.job IS NOT NULL THEN 'job without run'
        ELSE 'run without job' END AS verdict,
    p.job_since, p.run_since, p.job_seen, p.run_seen, p.other_listed,
    p.created_at, p.job_started_at, p.run_started_at, p.ended_at,
    CASE WHEN coalesce(p.job_started_at, p.run_started_at) >= p.created_at
        THEN extract(epoch FROM coalesce(p.job_started_at, p.run_started_at) - p.created_at)::float8 END
        AS queue_seconds,
    CASE WHEN p.run_started_at >= p.job_started_at
        THEN extract(epoch FROM p.run_started_at - p.job_started_at)::float8 END AS startup_seconds,
    CASE WHEN p.ended_at >= coalesce(p.run_started_at, p.job_started_at)
        THEN extract(epoch FROM p.ended_at - coalesce(p.run_started_at, p.job_started_at))::float8 END
        AS duration_seconds,
    p.job_valid_from, p.run_valid_from, p.job_asset_id, p.run_asset_id
FROM pair p JOIN public.workspace w USING (workspace_id)
"""


def upgrade() -> None:
    for statement in (_STATES, _VIEW):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.execute("DROP VIEW inventory.job_run")
    op.execute("DROP FUNCTION inventory.mlflow_states(text)")
