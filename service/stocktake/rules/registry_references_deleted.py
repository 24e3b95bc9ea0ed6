"""The registry refers to what is deleted and can still be restored, or an alias to a version that is not there."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# That a run or a logged model is marked deleted is seen on itself: of logged models, which many servers do not have,
# no list need be complete.
RULE = StateRule(
    id="registry-references-deleted",
    severity=Severity.WARNING,
    group=Group.INTEGRITY,
    kinds=(Kind.REGISTERED_MODEL,),
    needs=(Kind.MODEL_VERSION, Kind.RUN, Kind.EXPERIMENT),
    statement="""
        WITH refers AS (
            SELECT m.workspace, m.registered_model AS model, m.key AS version, 'run' AS kind, r.key AS key
            FROM inventory.model_version m JOIN inventory.run r
                ON r.workspace = m.workspace AND r.key = (regexp_match(m.source, '^runs:/+([^/?]+)'))[1]
            WHERE m.lifecycle = 'active' AND r.lifecycle = 'deleted'
            UNION ALL
            SELECT m.workspace, m.registered_model, m.key, 'logged_model', l.key
            FROM inventory.model_version m JOIN inventory.logged_model l
                ON l.workspace = m.workspace AND l.key = (regexp_match(m.source, '^models:/+(m-[0-9a-f]{32})'))[1]
            WHERE m.lifecycle = 'active' AND l.lifecycle = 'deleted'
            UNION ALL
            SELECT g.workspace, g.key, g.key || '@' || a.key, 'model_version', g.key || '/' || a.value
            FROM inventory.registered_model g
                CROSS JOIN LATERAL jsonb_each_text(inventory.json_map(g.aliases)) AS a
                LEFT JOIN inventory.model_version m
                ON m.workspace = g.workspace AND m.key = g.key || '/' || a.value AND m.lifecycle = 'active'
            WHERE g.lifecycle = 'active' AND m.key IS NULL
        )
        SELECT workspace, 'registered_model' AS kind, model AS key,
            jsonb_build_object('references', jsonb_agg(jsonb_build_object('from', version, 'kind', kind, 'key', key)
                ORDER BY version, kind, key)) AS evidence
        FROM refers GROUP BY workspace, model
    """,
    words=Words(
        title="The registry refers to what is deleted",
        why="`mlflow gc` removes deleted runs and logged models with their artifacts, and does not ask the registry"
        " first: after it the versions under `references` cannot be loaded. An alias of a version that is not there"
        " fails for whoever loads by it.",
        cli="stocktake show registered_model KEY; stocktake lineage registered_model KEY",
        rest="GET /api/2.0/mlflow/registered-models/get?name=KEY, then runs/get or logged-models/MODEL_ID for what"
        " `references` names.",
        portal="MLflow: Models, the model's page, its versions and their source runs.",
        fix="Restore what is still needed before anybody collects the garbage, or withdraw the versions that are not;"
        " point the alias to a version that is there.",
        rollback="POST /api/2.0/mlflow/runs/restore with the run_id. MLflow restores no logged model: copy the"
        " version's artifacts away while they are there.",
        signal="It resolves when a complete scan sees all of them active, or the versions and aliases no longer.",
    ),
)
