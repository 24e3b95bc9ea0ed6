"""A model that is registered or deployed, whose run does not say its code, data, environment or parameters."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# Of each model what matters: the newest version, and those that an alias, a stage or a deployment names. A run that is
# deleted or gone is another rule's.
RULE = StateRule(
    id="not-reproducible",
    severity=Severity.WARNING,
    group=Group.HYGIENE,
    kinds=(Kind.MODEL_VERSION,),
    needs=(Kind.RUN, Kind.EXPERIMENT),
    statement="""
        WITH deployed AS (
            SELECT DISTINCT workspace, model_key AS key FROM inventory.serving WHERE model_kind = 'model_version'
        ), version AS (
            SELECT m.workspace, m.key, m.run_id, m.source, row_number() OVER (PARTITION BY m.workspace,
                    m.registered_model ORDER BY m.created_at DESC NULLS LAST, length(m.key) DESC, m.key DESC) AS age,
                m.aliases NOT IN ('[]', 'null') AS named, m.state IN ('Production', 'Staging') AS staged,
                coalesce(m.tags ->> 'mlflow.prompt.is_prompt', '') = 'true' AS prompt
            FROM inventory.model_version m WHERE m.lifecycle = 'active'
        ), current AS (
            SELECT v.workspace, v.key, v.source, coalesce(nullif(v.run_id, ''), l.source_run_id, '') AS run
            FROM version v LEFT JOIN deployed d ON d.workspace = v.workspace AND d.key = v.key
                LEFT JOIN inventory.logged_model l ON l.workspace = v.workspace
                AND l.key = (regexp_match(v.source, '^models:/+(m-[0-9a-f]{32})'))[1]
            WHERE NOT v.prompt AND (v.age = 1 OR v.named OR v.staged OR d.key IS NOT NULL)
        ), lacks AS (
            SELECT c.workspace, c.key, c.run, CASE WHEN c.run = '' THEN ARRAY['run'] ELSE array_remove(ARRAY[
                CASE WHEN coalesce(r.tags ->> 'mlflow.source.git.commit', r.tags ->> 'azureml.git.commit',
                    substring(r.code_version FROM '@.'), job.code, '') = '' THEN 'code version' END,
                CASE WHEN coalesce(nullif(r.data_version, ''), job.data, '') = '' THEN 'data version' END,
                CASE WHEN coalesce(nullif(r.tags ->> 'mlflow.docker.image.uri', ''),
                    nullif(r.tags ->> 'mlflow.project.env', ''), nullif(r.tags ->> 'mlflow.log-model.history', ''),
                    job.environment, substring(c.source FROM '^models:/+m-'), '') = ''
                    AND inventory.json_map(r.document #> '{outputs,models}') = '{}' THEN 'environment' END,
                CASE WHEN inventory.json_map(r.params) = '{}' THEN 'parameters' END], NULL) END AS lacks
            FROM current c LEFT JOIN inventory.run r ON r.workspace = c.workspace AND r.key = c.run
            LEFT JOIN LATERAL (
                SELECT max(e.from_key) FILTER (WHERE e.relation = 'component of') AS code,
                    max(e.from_key) FILTER (WHERE e.relation = 'environment of') AS environment,
                    max(e.from_key) FILTER (WHERE e.relation = 'read by') AS data
                FROM inventory.lineage e
                WHERE e.workspace = c.workspace AND e.stated_by IN ('job', 'child_job') AND e.stated_key = c.run
            ) AS job ON true
            WHERE c.run = '' OR r.key IS NOT NULL
        )
        SELECT workspace, 'model_version' AS kind, key,
            jsonb_build_object('run', nullif(run, ''), 'lacks', to_jsonb(lacks)) AS evidence
        FROM lacks WHERE cardinality(lacks) > 0
    """,
    words=Words(
        title="A model cannot be made again",
        why="Its run does not say what `lacks` names. When the model must be explained, repaired or trained again,"
        " somebody has to guess. A commit is a code version, a script's name or a copy of a folder is none; a logged"
        " data set is a data version; an image, an environment, or a model logged by MLflow (its requirements lie with"
        " it) is an environment.",
        cli="stocktake lineage model_version KEY; stocktake show model_version KEY",
        rest="GET /api/2.0/mlflow/runs/get?run_id=RUN (tags, params, inputs).",
        portal="MLflow: the source run's page: Source, Datasets, Parameters. Azure ML studio: the job's Overview.",
        fix="Train from a commit (not from a notebook that nobody saved), log the data (mlflow.log_input, or inputs of"
        " the job) and the parameters (mlflow.autolog), and register that run. What is known only to people can be set"
        " as tags of the run: mlflow.source.git.commit.",
        rollback="Nothing to go back to.",
        signal="Of each registered model its newest version is judged, and those that an alias, a stage or a"
        " deployment names. It resolves when the run says all four, or another version takes its place. A run that is"
        " deleted or gone is the finding of another rule.",
    ),
)
