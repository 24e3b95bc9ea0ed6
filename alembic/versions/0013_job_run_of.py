"""Jobs and their MLflow runs side by side, put together once, whatever the planner knows of the tables; and a function
that looks at some workspaces alone.

The columns and what they say are those of before: older code reads the view alike, so it stays on the way back.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# `since`: when the state that a side tells was first seen. A look at a job or a run that found nothing new leaves no
# trace on it: the last complete listing of its scope is the last look.
_SINCE = """(SELECT coalesce(max(p.valid_to) FILTER (WHERE p.state IS DISTINCT FROM v.state), min(p.valid_from))
        FROM public.version p WHERE p.asset_id = v.asset_id)"""


# When a scope was last listed completely, by its key. No join: until `scope` has statistics, Postgres takes it for a
# few rows, and goes through all of them anew for every run.
def _listed(kind: str, partition: str) -> str:
    return f"""(SELECT s.last_complete_at FROM public.scope s
        WHERE s.workspace_id = v.workspace_id AND s.kind = {kind} AND s.partition = {partition})"""


# Everything that is looked up is joined to one of the two sides, which are then joined by hash, once: how many they are
# together is a bad guess of the planner's, and a list that is gone through anew for each of them takes minutes.
_PAIRS = f"""
WITH place AS (
    SELECT w.workspace_id, w.name AS workspace, jobs.last_complete_at AS jobs_listed,
        experiments.last_complete_at AS experiments_listed
    FROM public.workspace w
    LEFT JOIN public.scope jobs ON jobs.workspace_id = w.workspace_id AND jobs.kind = 'job' AND jobs.partition = ''
    LEFT JOIN public.scope experiments ON experiments.workspace_id = w.workspace_id
        AND experiments.kind = 'experiment' AND experiments.partition = ''
    WHERE <which> AND (jobs.state <> 'unsupported' OR EXISTS (
        SELECT 1 FROM public.asset a WHERE a.workspace_id = w.workspace_id AND a.kind IN ('job', 'child_job')))),
experiment AS MATERIALIZED (
    SELECT v.workspace_id, v.name, min(a.key) AS key
    FROM place w JOIN public.version v ON v.workspace_id = w.workspace_id JOIN public.asset a USING (asset_id)
    WHERE v.kind = 'experiment' AND v.valid_to IS NULL GROUP BY v.workspace_id, v.name),
job AS MATERIALIZED (
    SELECT w.workspace, v.kind, a.key, v.asset_id, v.state, v.valid_from, v.created_at, v.started_at, v.ended_at,
        {_SINCE} AS since, greatest(v.valid_from, {_listed("v.kind", "''")}) AS seen,
        -- What would show its run: the runs of its experiment; where no experiment has that name, the experiments.
        CASE WHEN d.experiment_id IS NOT NULL OR e.key IS NOT NULL
            THEN {_listed("'run'", "coalesce(d.experiment_id, e.key)")}
            WHEN d.experiment_name IS NOT NULL THEN w.experiments_listed END AS other_listed
    FROM place w JOIN public.version v ON v.workspace_id = w.workspace_id JOIN public.asset a USING (asset_id)
    CROSS JOIN LATERAL (
        SELECT o.j ->> 'experimentId' AS experiment_id,
            nullif(o.j #>> '{{properties,experimentName}}', '') AS experiment_name
        FROM (SELECT v.document::jsonb AS j OFFSET 0) AS o) AS d
    LEFT JOIN experiment e ON e.workspace_id = v.workspace_id AND e.name = d.experiment_name
    WHERE v.kind IN ('job', 'child_job') AND v.valid_to IS NULL),
run AS MATERIALIZED (
    SELECT w.workspace, a.key, v.asset_id, v.state, v.valid_from, v.started_at, v.ended_at,
        {_SINCE} AS since, greatest(v.valid_from, {_listed("'run'", "v.partition")}) AS seen,
        -- A run with a parent may be that of a child job, and no list is one of all of those: nothing is claimed of it.
        CASE WHEN v.parent IS NULL THEN w.jobs_listed END AS other_listed
    FROM place w JOIN public.version v ON v.workspace_id = w.workspace_id JOIN public.asset a USING (asset_id)
    WHERE v.kind = 'run' AND v.valid_to IS NULL),
pair AS (
    SELECT workspace, j.kind AS job_kind, j.key AS job, r.key AS run,
        j.state AS job_state, r.state AS run_state, j.since AS job_since, r.since AS run_since, j.seen AS job_seen,
        r.seen AS run_seen, j.valid_from AS job_valid_from, r.valid_from AS run_valid_from, j.created_at,
        j.started_at AS job_started_at, r.started_at AS run_started_at, coalesce(r.ended_at, j.ended_at) AS ended_at,
        j.asset_id AS job_asset_id, r.asset_id AS run_asset_id,
        CASE WHEN r.key IS NULL THEN j.other_listed WHEN j.key IS NULL THEN r.other_listed END AS other_listed
    FROM job j FULL JOIN run r USING (workspace, key))
SELECT p.workspace, p.job_kind, p.job, p.run, p.job_state, p.run_state,
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
FROM pair p
"""
_VIEW = f"CREATE VIEW inventory.job_run AS {_PAIRS.replace('<which>', 'true')}"

# The same of some workspaces: a condition on the view is only seen when all of them have been put together.
_OF = f"""
CREATE FUNCTION inventory.job_run_of(workspaces text[]) RETURNS SETOF inventory.job_run LANGUAGE sql STABLE AS $$
{_PAIRS.replace("<which>", "w.name = ANY(workspaces)")}
$$
"""


def upgrade() -> None:
    op.execute("DROP FUNCTION IF EXISTS inventory.job_run_of(text[])")
    op.execute("DROP VIEW inventory.job_run")
    for statement in (_VIEW, _OF):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION inventory.job_run_of(text[])")
