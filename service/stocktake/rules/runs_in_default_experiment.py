"""Runs in the experiment Default: nobody chose it, nobody finds them again."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

RULE = StateRule(
    id="runs-in-default-experiment",
    severity=Severity.INFO,
    group=Group.HYGIENE,
    for_teams=True,
    kinds=(Kind.EXPERIMENT,),
    needs=(Kind.RUN,),
    statement="""
        SELECT e.workspace, 'experiment' AS kind, e.key,
            jsonb_build_object('runs', r.runs, 'latest_start', r.latest) AS evidence
        FROM inventory.experiment e CROSS JOIN LATERAL (
            SELECT count(*) AS runs, max(start_time) AS latest FROM inventory.run r
            WHERE r.workspace = e.workspace AND r.experiment_id = e.key AND r.lifecycle = 'active'
        ) r
        WHERE e.lifecycle = 'active' AND e.name = 'Default' AND r.runs > 0
    """,
    words=Words(
        title="Runs lie in the default experiment",
        why="They were logged without naming an experiment. They have no owner, mix all projects, and bear no rules"
        " that an experiment bears.",
        cli="stocktake list run --where partition=KEY",
        rest="POST /api/2.0/mlflow/runs/search with experiment_ids [KEY].",
        portal="MLflow: the experiment Default. Azure ML studio: Jobs, All experiments, Default.",
        fix="Name an experiment in the code that logs (mlflow.set_experiment, or MLFLOW_EXPERIMENT_NAME; Azure ML:"
        " experiment_name of the job). Delete what was a try; log what matters again, where it belongs.",
        rollback="POST /api/2.0/mlflow/runs/restore with a run_id that was deleted too much.",
        signal="It resolves when a complete scan sees no active run there.",
    ),
)
