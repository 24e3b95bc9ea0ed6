"""A model version whose source is gone: the run, the logged model or the version that its artifacts came from."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# What is younger than the list it is missing from is not gone: as in model-version-lost-its-run. Many servers have no
# logged models, so the rule cannot need them listed; it asks itself whether they were, in every experiment that is old
# enough to hold the source. What was completely listed once stays so: no list that fails ends a finding.
RULE = StateRule(
    id="version-source-missing",
    severity=Severity.WARNING,
    group=Group.INTEGRITY,
    kinds=(Kind.MODEL_VERSION,),
    needs=(Kind.RUN, Kind.EXPERIMENT),
    statement="""
        WITH named AS (
            SELECT m.workspace, m.key, m.source, m.aliases,
                least(m.first_seen, m.created_at + interval '1 hour') AS made,
                (regexp_match(m.source, '^runs:/+([^/?]+)'))[1] AS run,
                (regexp_match(m.source, '^models:/+(m-[0-9a-f]{32})(?:[/?]|$)'))[1] AS logged,
                (regexp_match(m.source, '^models:/+([^/?]+/[0-9]+)$'))[1] AS copied
            FROM inventory.model_version m WHERE m.lifecycle = 'active' AND m.source <> ''
        ), listed AS (
            SELECT workspace, min(last_complete_at) AS oldest FROM inventory.scope WHERE kind = 'logged_model'
            GROUP BY workspace
        ), unlisted AS (
            SELECT s.workspace, min(least(e.first_seen, e.created_at)) AS oldest
            FROM inventory.scope s JOIN inventory.experiment e ON e.workspace = s.workspace AND e.key = s.partition
            WHERE s.kind = 'logged_model' AND s.last_complete_at IS NULL GROUP BY s.workspace
        )
        SELECT n.workspace, 'model_version' AS kind, n.key,
            jsonb_build_object('source', n.source, 'gone', CASE WHEN n.run IS NOT NULL THEN 'run'
                WHEN n.logged IS NOT NULL THEN 'logged_model' ELSE 'model_version' END,
                'aliases', n.aliases) AS evidence
        FROM named n
        LEFT JOIN inventory.run r ON r.workspace = n.workspace AND r.key = n.run
        LEFT JOIN inventory.logged_model l ON l.workspace = n.workspace AND l.key = n.logged
        LEFT JOIN inventory.model_version o ON o.workspace = n.workspace AND o.key = n.copied
        LEFT JOIN inventory.coverage cr ON cr.workspace = n.workspace AND cr.kind = 'run'
        LEFT JOIN listed cl ON cl.workspace = n.workspace
        LEFT JOIN unlisted ul ON ul.workspace = n.workspace
        WHERE n.run IS NOT NULL AND r.key IS NULL AND n.made < cr.oldest_complete
            OR n.logged IS NOT NULL AND l.key IS NULL AND n.made < cl.oldest
                AND (ul.oldest IS NULL OR n.made < ul.oldest)
            OR n.copied IS NOT NULL AND (o.key IS NULL OR o.lifecycle = 'deleted')
    """,
    words=Words(
        title="The source of a model version is gone",
        why="The version names a run, a logged model or another version that is not there any more. Where its artifacts"
        " lay there, it cannot be loaded: the next deployment or restart fails.",
        cli="stocktake show model_version KEY; stocktake lineage model_version KEY",
        rest="GET /api/2.0/mlflow/model-versions/get-download-uri?name=NAME&version=VERSION, then list what is there"
        " with the storage's own tools.",
        portal="MLflow: Models, the version's page: its source, and whether its artifacts can be listed.",
        fix="Try to download the version's artifacts. If they are gone, withdraw the version, or register the model"
        " anew from a run that is there. `mlflow gc` does not ask the registry before it removes a run.",
        rollback="Restore the artifacts from a backup of the storage; MLflow itself brings nothing back after `mlflow"
        " gc`.",
        signal="It resolves when a complete scan sees the source again, or the version no longer.",
    ),
)
