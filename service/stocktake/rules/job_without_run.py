"""A job of Azure Machine Learning that MLflow knows nothing of: no parameters, no metrics, nothing to compare."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# The view gives a job an hour, and a list of runs that began after it, before it says so. Labelling projects are
# listed as jobs and have no run.
RULE = StateRule(
    id="job-without-run",
    severity=Severity.WARNING,
    group=Group.HYGIENE,
    kinds=(Kind.JOB,),
    needs=(Kind.RUN, Kind.EXPERIMENT),
    statement="""
        SELECT s.workspace, p.job_kind AS kind, p.job AS key,
            jsonb_build_object('state', p.job_state, 'since', p.job_since, 'runs_listed', p.other_listed) AS evidence
        FROM inventory.scope s CROSS JOIN LATERAL inventory.job_run_of(ARRAY[s.workspace]) p
        JOIN inventory.job j ON j.asset_id = p.job_asset_id
        WHERE s.kind = 'job' AND s.partition = '' AND p.verdict = 'job without run' AND p.job_kind = 'job'
            AND (j.properties ->> 'jobType') IS DISTINCT FROM 'Labeling'
    """,
    words=Words(
        title="A job has no MLflow run",
        why="A job's parameters, metrics and artifacts stand at its run, which has the same id. Without one nobody can"
        " show what the job did, and a model that came from it has no history. Often the run was deleted through"
        " MLflow, or the job failed before anything was logged.",
        cli="stocktake show job KEY; stocktake reconcile -w WORKSPACE; az ml job show -n KEY -g GROUP -w WORKSPACE",
        rest="GET .../workspaces/WORKSPACE/jobs/KEY?api-version=2024-01-01-preview, and at the tracking URI"
        " GET .../api/2.0/mlflow/runs/get?run_id=KEY. SELECT * FROM inventory.job_run_of(ARRAY['WORKSPACE'])"
        " WHERE verdict = 'job without run'",
        portal="Azure ML studio: Jobs, the job, Metrics and Outputs + logs.",
        fix="If a model or a decision rests on the job, run it again from its definition and log it. If not, archive it"
        " (az ml job archive -n KEY).",
        rollback="A run that is only deleted can be restored: POST .../api/2.0/mlflow/runs/restore with the run_id. One"
        " that was purged cannot.",
        signal="It opens when all runs and experiments were completely listed an hour or more after the job came into"
        " its state, and none has its id; never of a job that is not started, queued or being prepared. It resolves"
        " when a complete list shows the run, or the job no longer.",
    ),
)
