"""A model version whose run is deleted or gone: how it was made can no longer be shown."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# A run that began after the runs were listed is not gone: the version must be older than that list, by the source's own
# clock with an hour's margin, or else by ours. What becomes of the version later does not make it younger.
RULE = StateRule(
    id="model-version-lost-its-run",
    severity=Severity.WARNING,
    group=Group.INTEGRITY,
    kinds=(Kind.MODEL_VERSION,),
    needs=(Kind.RUN, Kind.EXPERIMENT),  # absence of a run is known where all of them were listed
    statement="""
        SELECT m.workspace, 'model_version' AS kind, m.key,
            jsonb_build_object('run', m.run_id, 'run_is', CASE WHEN r.key IS NULL THEN 'gone' ELSE 'deleted' END,
                'aliases', m.aliases) AS evidence
        FROM inventory.model_version m LEFT JOIN inventory.run r ON r.workspace = m.workspace AND r.key = m.run_id
            LEFT JOIN inventory.coverage c ON c.workspace = m.workspace AND c.kind = 'run'
        WHERE m.run_id <> '' AND m.lifecycle = 'active' AND (r.lifecycle = 'deleted' OR r.key IS NULL
            AND least(m.first_seen, m.created_at + interval '1 hour') < c.oldest_complete)
    """,
    words=Words(
        title="A model version lost its run",
        why="The run holds the parameters, the data and the code that the model came from. Without it the version"
        " cannot be reproduced or audited, and if its artifacts lie in the run, `mlflow gc` takes them as well.",
        cli="stocktake show model_version KEY; stocktake lineage model_version KEY",
        rest="GET /api/2.0/mlflow/model-versions/get?name=NAME&version=VERSION (run_id), then"
        " GET /api/2.0/mlflow/runs/get?run_id=RUN.",
        portal="MLflow: Models, the version's page, Source run. Azure ML studio: Models, the version, Details.",
        fix="Where the run is deleted, restore it. Where it is gone, register the model anew from a run that is there.",
        rollback="POST /api/2.0/mlflow/runs/restore with the run under `run`, while `run_is` is deleted.",
        signal="It resolves when a complete scan sees the run again, or the version no longer.",
    ),
)
