"""The run behind a model version that is production is deleted or gone."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.production import Meaning
from stocktake.core.rules import Asks, Group, Severity, StateRule, Words

_DEFAULT = Meaning()

# Whether a run is gone, and not only younger than the list of runs, is told as by model-version-lost-its-run.
_ASKS = Asks(
    template="""
    WITH sent AS (
        SELECT workspace, model_key AS model, endpoint FROM inventory.serving
        WHERE model_kind = 'model_version'
            AND (traffic > 0 AND :production_traffic OR is_default AND :production_batch_default)
    ), version AS (
        SELECT m.workspace, m.key, m.first_seen, m.created_at,
            coalesce(nullif(m.run_id, ''), l.source_run_id) AS run, (
                SELECT array_agg(why ORDER BY why) FROM (
                    SELECT 'alias ' || alias AS why FROM jsonb_array_elements_text(
                        CASE WHEN jsonb_typeof(m.aliases) = 'array' THEN m.aliases ELSE '[]' END) AS alias
                    WHERE alias = ANY(CAST(:production_aliases AS text[]))
                    UNION SELECT 'stage ' || stage FROM unnest(ARRAY[m.document ->> 'stage',
                        m.document #>> '{properties,stage}']) AS stage
                    WHERE stage = ANY(CAST(:production_stages AS text[]))
                    UNION SELECT 'tag ' || t.key || '=' || t.value FROM (
                        SELECT * FROM jsonb_each_text(inventory.json_map(m.tags)) UNION ALL
                        SELECT * FROM jsonb_each_text(inventory.json_map(m.document #> '{properties,tags}'))) AS t
                    WHERE t.key || '=' || t.value = ANY(CAST(:production_tags AS text[]))
                    UNION SELECT 'endpoint ' || s.endpoint FROM sent s
                    WHERE s.workspace = m.workspace AND s.model = m.key
                ) AS whys
            ) AS whys
        FROM inventory.model_version m LEFT JOIN inventory.logged_model l
            ON l.workspace = m.workspace AND l.key = (regexp_match(m.source, '^models:/(m-[^/?]+)'))[1]
        WHERE m.lifecycle = 'active'
    )
    SELECT v.workspace, 'model_version' AS kind, v.key,
        jsonb_build_object('run', v.run, 'run_is', CASE WHEN r.key IS NULL THEN 'gone' ELSE 'deleted' END,
            'production_by', to_jsonb(v.whys)) AS evidence
    FROM version v LEFT JOIN inventory.run r ON r.workspace = v.workspace AND r.key = v.run
        LEFT JOIN inventory.coverage c ON c.workspace = v.workspace AND c.kind = 'run'
    WHERE v.whys IS NOT NULL AND v.run <> '' AND (r.lifecycle = 'deleted' OR r.key IS NULL
        AND least(v.first_seen, v.created_at + interval '1 hour') < c.oldest_complete)
""",
    parameters={
        "production_aliases": list(_DEFAULT.aliases),
        "production_stages": list(_DEFAULT.stages),
        "production_tags": [],
        "production_traffic": True,
        "production_batch_default": True,
    },
)

RULE = StateRule(
    id="production-run-deleted",
    severity=Severity.CRITICAL,
    group=Group.INTEGRITY,
    kinds=(Kind.MODEL_VERSION,),
    needs=(Kind.RUN, Kind.EXPERIMENT),
    statement=_ASKS.statement(),
    asks=_ASKS,
    words=Words(
        title="The run behind a production model is deleted",
        why="What serves now cannot be explained, compared or built again: its parameters, data and code stand in the"
        " run. If its artifacts lie in the run as well, `mlflow gc` takes them, and the next restart of what serves"
        " may fail. What means production stands in the configuration (`production`).",
        cli="stocktake show model_version KEY; stocktake lineage model_version KEY",
        rest="GET /api/2.0/mlflow/model-versions/get?name=NAME&version=VERSION (run_id), then"
        " GET /api/2.0/mlflow/runs/get?run_id=RUN.",
        portal="MLflow: Models, the version's page, Source run. Azure ML studio: Models, the version, Details.",
        fix="Where `run_is` is deleted, restore the run at once, before anybody collects the garbage, and ask who"
        " deleted it. Where it is gone, put a version into production whose run is there: `stocktake history run RUN`"
        " still has what the run said.",
        rollback="POST /api/2.0/mlflow/runs/restore with the run under `run`, while `run_is` is deleted.",
        signal="It resolves when a complete scan sees the run again, or the version is production no longer.",
    ),
)
