"""A job and its MLflow run say different things of how it went: one of the two is believed, and is wrong."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# The view counts a pair as in disagreement when both were seen an hour after the younger of their states began.
RULE = StateRule(
    id="run-job-disagree",
    severity=Severity.WARNING,
    group=Group.HYGIENE,
    kinds=(Kind.JOB,),
    needs=(Kind.RUN, Kind.EXPERIMENT),
    statement="""
        SELECT s.workspace, p.job_kind AS kind, p.job AS key,
            jsonb_build_object('job_state', p.job_state, 'run_state', p.run_state, 'expected', p.expected_run_state,
                'job_since', p.job_since, 'run_since', p.run_since) AS evidence
        FROM inventory.scope s CROSS JOIN LATERAL inventory.job_run_of(ARRAY[s.workspace]) p
        WHERE s.kind = 'job' AND s.partition = '' AND p.verdict = 'disagree' AND p.job_kind = 'job'
    """,
    words=Words(
        title="A job and its run disagree",
        why="The job says that it failed while its run is finished, or the other way round; or one of them still runs."
        " Dashboards read the one, gates the other: a release may rest on a job that failed, and a run that never ends"
        " is taken for work that goes on.",
        cli="stocktake reconcile -w WORKSPACE; stocktake history job KEY; stocktake history run KEY;"
        " az ml job show -n KEY -g GROUP -w WORKSPACE --query status",
        rest="GET .../workspaces/WORKSPACE/jobs/KEY?api-version=2024-01-01-preview (properties.status), and at the"
        " tracking URI GET .../api/2.0/mlflow/runs/get?run_id=KEY (status). SELECT * FROM"
        " inventory.job_run_of(ARRAY['WORKSPACE']) WHERE verdict = 'disagree'",
        portal="Azure ML studio: Jobs, the job, Overview (Status) and Outputs + logs.",
        fix="Believe the job, unless its logs say otherwise: the resource manager ran it. Then end the run with what is"
        " true: POST .../api/2.0/mlflow/runs/update with the run_id and the status under `expected`. A job that hangs"
        " while its run has ended is cancelled: az ml job cancel -n KEY.",
        rollback="POST .../api/2.0/mlflow/runs/update with the status under `run_state`.",
        signal="It opens when both were seen in states that do not go together for an hour after the later of the two"
        " began. It resolves when a complete look shows states that do. Steps and trials are compared by"
        " `stocktake reconcile` alone.",
    ),
)
