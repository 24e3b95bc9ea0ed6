"""An experiment whose artifacts go to a path: to the disk of whichever machine logs."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

RULE = StateRule(
    id="local-artifact-uri",
    severity=Severity.INFO,
    group=Group.HYGIENE,
    for_teams=True,
    kinds=(Kind.EXPERIMENT,),
    needs=(Kind.RUN,),
    statement="""
        SELECT e.workspace, 'experiment' AS kind, e.key,
            jsonb_build_object('artifact_location', e.artifact_location) AS evidence
        FROM inventory.experiment e CROSS JOIN LATERAL (
            SELECT FROM inventory.run r
            WHERE r.workspace = e.workspace AND r.experiment_id = e.key AND r.lifecycle = 'active' LIMIT 1
        ) AS held
        WHERE e.lifecycle = 'active' AND e.artifact_location ~* '^(file:|/|[.]|[a-z]:[/\\\\]|[^:]+$)'
    """,
    words=Words(
        title="Artifacts go to a local path",
        why="The artifact root was never set: clients write models to a path on their own disk, where the server and"
        " other people cannot read them, and where they go with the machine. The run looks complete and is not.",
        cli="stocktake show experiment KEY",
        rest="GET /api/2.0/mlflow/experiments/get?experiment_id=KEY (artifact_location).",
        portal="MLflow: the experiment's page, Artifact Location.",
        fix="Start the server with --artifacts-destination (and mlflow-artifacts: as the default root), or with"
        " --default-artifact-root on storage that everybody reaches. Both count for new experiments only: make a new"
        " one, and copy what is worth keeping. A path on a disk that all of them mount is no fault: waive it.",
        rollback="Nothing to go back to: runs that are there keep the addresses they were given.",
        signal="It opens for an experiment that holds a run, and resolves when the experiment is deleted or holds"
        " none.",
    ),
)
