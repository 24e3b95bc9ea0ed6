"""Lineage as a view: the edges that documents state, with an as-of-time function beside it.

What an edge is, is decided in core/lineage.py; this says the same in SQL, for dashboards, and a test holds the two to
the same edges. New objects only: older code does not notice them.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MAP = """
CREATE FUNCTION inventory.json_map(value jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN jsonb_typeof(value) = 'object' THEN value ELSE '{}'::jsonb END $$
"""

# Where an asset is, in an address; where a workspace is, by the ARM id in its document; how the two are compared.
_PLACE = (
    "(?:azureml:/?)?(/locations/[^/]+/workspaces/[^/]+|/registries/[^/]+"
    "|/subscriptions/[^/]+/resourcegroups/[^/]+(?:/providers/[^/]+)?/(?:workspaces|registries)/[^/]+)"
)
_LONG = f"^{_PLACE}/(models|data|environments|components)/([^/?]+)(?:/versions/([^/?]+))?/?$"
_HOME = """
CREATE FUNCTION inventory.azureml_home(document jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT lower(regexp_replace((regexp_match(
        CASE WHEN jsonb_typeof(document -> 'id') = 'string' THEN document ->> 'id' END,
        '^/subscriptions/[^/]+/resourcegroups/[^/]+/providers/[^/]+/workspaces/[^/]+', 'i'))[1],
    '/providers/[^/]+', '', 'i'))
$$
"""
_HERE = """
CREATE FUNCTION inventory.azureml_here(place text, home text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT starts_with(lower(place), '/locations/')
    OR coalesce(lower(regexp_replace(place, '/providers/[^/]+', '', 'i')) = home, false)
$$
"""

# The key (NAME/VERSION) that an ARM id or azureml:NAME:VERSION names; NULL where it names no versioned asset. What
# leads out of the workspace, to a registry or another workspace, is kept as it is written.
_KEY = f"""
CREATE FUNCTION inventory.azureml_key(reference text, home text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE
    WHEN long IS NOT NULL AND NOT inventory.azureml_here(long[1], home) THEN reference
    WHEN long IS NOT NULL THEN long[3] || coalesce('/' || long[4], '')
    WHEN short IS NOT NULL THEN short[1] || coalesce('/' || short[2], '@' || short[3]) END
FROM (SELECT regexp_match(reference, '{_LONG}', 'i') AS long,
    regexp_match(reference, '^azureml:([^:/@]+)(?::([^:/@]+)|@([^:/@]+))$') AS short) AS parts
$$
"""
_KIND = f"""
CREATE FUNCTION inventory.azureml_kind(reference text, expected text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT coalesce(CASE lower((regexp_match(reference, '{_LONG}', 'i'))[2])
    WHEN 'models' THEN 'model_version' WHEN 'data' THEN 'data_version'
    WHEN 'environments' THEN 'environment_version' WHEN 'components' THEN 'component_version' END, expected)
$$
"""
_JOB = f"""
CREATE FUNCTION inventory.azureml_job(reference text, home text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN found[1] IS NULL OR inventory.azureml_here(found[1], home) THEN found[2] END
FROM (SELECT regexp_match(reference, '^(?:azureml://jobs/|runs:/|{_PLACE}/jobs/)([^/?]+)', 'i') AS found) AS part
$$
"""

_MODEL = """
CREATE FUNCTION inventory.azureml_model(document jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE jsonb_typeof(model)
    WHEN 'string' THEN model #>> '{}'
    WHEN 'object' THEN coalesce(nullif(model ->> 'assetId', ''),
        CASE WHEN strpos(model ->> 'jobId', '/') = 0 THEN 'runs:/' END || nullif(model ->> 'jobId', ''),
        nullif(model ->> 'jobId', ''),
        model ->> 'path') END
FROM (SELECT document #> '{properties,model}' AS model) AS stated
$$
"""

_EDGES = """
CREATE FUNCTION inventory.lineage_of(kind text, key text, parent text, run text, artifact_uri text, data_version text,
    document jsonb, home text)
RETURNS TABLE (from_kind text, from_key text, relation text, to_kind text, to_key text, detail text)
LANGUAGE sql IMMUTABLE AS $$
SELECT 'run', parent, 'started', 'run', key, NULL::text WHERE kind = 'run' AND parent <> ''
UNION SELECT 'dataset', named, 'read by', 'run', key, NULL FROM unnest(string_to_array(data_version, ', ')) AS named
    WHERE kind = 'run' AND named <> ''
UNION SELECT 'logged_model', id, 'read by', 'run', key, NULL
    FROM jsonb_object_keys(inventory.json_map(document #> '{inputs,models}')) AS id WHERE kind = 'run'
UNION SELECT 'run', key, 'logged', 'logged_model', id, NULL
    FROM jsonb_object_keys(inventory.json_map(document #> '{outputs,models}')) AS id WHERE kind = 'run'
UNION SELECT 'run', run, 'logged', 'logged_model', key, NULL WHERE kind = 'logged_model' AND run <> ''
UNION SELECT 'run', run, 'registered', 'model_version', key, NULL WHERE kind = 'model_version' AND run <> ''
UNION SELECT CASE WHEN logged IS NULL THEN 'model_version' ELSE 'logged_model' END,
        coalesce(logged, substr(artifact_uri, 9)), CASE WHEN logged IS NULL THEN 'copied' ELSE 'registered' END,
        'model_version', key, NULL
    FROM (SELECT coalesce(nullif(document ->> 'model_id', ''),
                          (regexp_match(artifact_uri, '^models:/(m-[^/?]+)'))[1]) AS logged) AS made
    WHERE kind = 'model_version' AND (logged IS NOT NULL OR starts_with(artifact_uri, 'models:/'))
UNION SELECT 'model_version', key, 'version of', 'registered_model', parent, NULL
    WHERE kind = 'model_version' AND parent <> ''
UNION SELECT 'model_version', key, 'named', 'alias', parent || '@' || alias, NULL
    FROM jsonb_array_elements_text(CASE WHEN jsonb_typeof(document -> 'aliases') = 'array'
        THEN document -> 'aliases' ELSE '[]'::jsonb END) AS alias
    WHERE kind = 'model_version' AND parent <> ''
UNION SELECT kind, key, 'is', 'run', key, NULL WHERE kind IN ('job', 'child_job')
UNION SELECT 'job', parent, 'started', kind, key, NULL
    WHERE kind IN ('job', 'child_job') AND parent <> '' AND parent <> key
UNION SELECT inventory.azureml_kind(named, expected), inventory.azureml_key(named, home), made, kind, key, NULL
    FROM (VALUES (document #>> '{properties,environmentId}', 'environment_version', 'environment of'),
        (document #>> '{properties,componentId}', 'component_version', 'component of'),
        (document #>> '{properties,trial,environmentId}', 'environment_version', 'environment of'),
        (document #>> '{properties,trial,componentId}', 'component_version', 'component of'))
        AS uses (named, expected, made)
    WHERE kind IN ('job', 'child_job') AND inventory.azureml_key(named, home) IS NOT NULL
UNION SELECT inventory.azureml_kind(stated ->> 'uri',
        CASE WHEN right(stated ->> 'jobInputType', 6) = '_model' THEN 'model_version' ELSE 'data_version' END),
        inventory.azureml_key(stated ->> 'uri', home), 'read by', kind, key, NULL
    FROM jsonb_each(inventory.json_map(document #> '{properties,inputs}')) AS input (name, stated)
    WHERE kind IN ('job', 'child_job') AND inventory.azureml_key(stated ->> 'uri', home) IS NOT NULL
UNION SELECT inventory.azureml_kind(stated ->> 'uri', 'data_version'), inventory.azureml_key(stated ->> 'uri', home),
        'read by', kind, key, NULL
    FROM (VALUES (document #> '{properties,taskDetails,trainingData}'),
        (document #> '{properties,taskDetails,validationData}'), (document #> '{properties,taskDetails,testData}'))
        AS data (stated)
    WHERE kind IN ('job', 'child_job') AND inventory.azureml_key(stated ->> 'uri', home) IS NOT NULL
UNION SELECT inventory.azureml_kind(stated ->> 'assetId', 'data_version'),
        inventory.azureml_key(stated ->> 'assetId', home), 'read by', kind, key, NULL
    FROM jsonb_each(inventory.json_map(document -> 'inputs')) AS input (name, stated)
    WHERE kind IN ('job', 'child_job') AND inventory.azureml_key(stated ->> 'assetId', home) IS NOT NULL
UNION SELECT kind, key, 'wrote', inventory.azureml_kind(stated ->> 'assetId', 'data_version'),
        inventory.azureml_key(stated ->> 'assetId', home), NULL
    FROM jsonb_each(inventory.json_map(document -> 'outputs')) AS output (name, stated)
    WHERE kind IN ('job', 'child_job') AND inventory.azureml_key(stated ->> 'assetId', home) IS NOT NULL
UNION SELECT kind, key, 'wrote',
        CASE WHEN right(stated ->> 'jobOutputType', 6) = '_model' THEN 'model_version' ELSE 'data_version' END,
        (stated ->> 'assetName') || '/' || (stated ->> 'assetVersion'), NULL
    FROM jsonb_each(inventory.json_map(document #> '{properties,outputs}')) AS output (name, stated)
    WHERE kind IN ('job', 'child_job') AND stated ->> 'assetName' <> '' AND stated ->> 'assetVersion' <> ''
UNION SELECT 'job', inventory.azureml_job(artifact_uri, home), 'wrote', 'data_version', key, NULL
    WHERE kind = 'data_version' AND inventory.azureml_job(artifact_uri, home) IS NOT NULL
UNION SELECT CASE WHEN served IS NULL THEN 'job' ELSE inventory.azureml_kind(model, 'model_version') END,
        coalesce(served, inventory.azureml_job(model, home)), 'deployed', kind, key, NULL
    FROM (SELECT model, inventory.azureml_key(model, home) AS served
          FROM (SELECT inventory.azureml_model(document) AS model) AS stated) AS serving
    WHERE kind IN ('online_deployment', 'batch_deployment')
      AND coalesce(served, inventory.azureml_job(model, home)) IS NOT NULL
UNION SELECT inventory.azureml_kind(named, expected), inventory.azureml_key(named, home), made, kind, key, NULL
    FROM (VALUES (document #>> '{properties,environmentId}', 'environment_version', 'environment of'),
        (document #>> '{properties,componentId}', 'component_version', 'component of'),
        (document #>> '{properties,properties,ComponentDeployment.ComponentId}', 'component_version', 'component of'))
        AS uses (named, expected, made)
    WHERE kind IN ('online_deployment', 'batch_deployment') AND inventory.azureml_key(named, home) IS NOT NULL
UNION SELECT kind, key, 'deployed to', replace(kind, 'deployment', 'endpoint'), split_part(key, '/', 1), NULL
    WHERE kind IN ('online_deployment', 'batch_deployment') AND strpos(key, '/') > 0
UNION SELECT 'online_deployment', key || '/' || name, 'traffic', kind, key, trim_scale((share #>> '{}')::numeric)::text
    FROM jsonb_each(inventory.json_map(document #> '{properties,traffic}')) AS sent (name, share)
    WHERE kind = 'online_endpoint'
      AND CASE WHEN jsonb_typeof(share) = 'number' THEN (share #>> '{}')::numeric > 0 ELSE false END
UNION SELECT 'batch_deployment', key || '/' || (document #>> '{properties,defaults,deploymentName}'), 'default', kind,
        key, NULL
    WHERE kind = 'batch_endpoint' AND document #>> '{properties,defaults,deploymentName}' <> ''
$$
"""

_COLUMNS = """
SELECT w.name AS workspace, e.from_kind, e.from_key, e.relation, e.to_kind, e.to_key, e.detail,
    v.kind AS stated_by, a.key AS stated_key, v.valid_from AS valid_from, v.valid_to AS valid_to, v.asset_id AS asset_id
FROM public.version v JOIN public.asset a USING (asset_id) JOIN public.workspace w ON w.workspace_id = v.workspace_id
LEFT JOIN (SELECT DISTINCT ON (h.workspace_id) h.workspace_id, inventory.azureml_home(h.document::jsonb) AS home
    FROM public.version h WHERE h.kind = 'workspace' AND inventory.azureml_home(h.document::jsonb) IS NOT NULL
    ORDER BY h.workspace_id, h.valid_from DESC) AS place ON place.workspace_id = v.workspace_id
CROSS JOIN LATERAL inventory.lineage_of(v.kind, a.key, v.parent, v.run, v.artifact_uri, v.data_version,
    v.document::jsonb, place.home) AS e
WHERE v.kind IN ('run', 'logged_model', 'model_version', 'job', 'child_job', 'data_version', 'online_deployment',
    'batch_deployment', 'online_endpoint', 'batch_endpoint')
"""
_NOT_DROPPED = """
 AND NOT EXISTS (SELECT 1 FROM public.horizon h
    WHERE h.workspace_id = v.workspace_id AND h.kind = v.kind AND h.dropped_before > moment)"""


def upgrade() -> None:
    for statement in (_MAP, _HOME, _HERE, _KEY, _KIND, _JOB, _MODEL, _EDGES):
        op.get_bind().exec_driver_sql(statement)
    op.get_bind().exec_driver_sql(f"CREATE VIEW inventory.lineage AS {_COLUMNS} AND v.valid_to IS NULL")
    op.get_bind().exec_driver_sql(
        "CREATE FUNCTION inventory.lineage_at(moment timestamptz) RETURNS SETOF inventory.lineage LANGUAGE sql STABLE"
        f" AS $$ {_COLUMNS} AND v.valid_from <= moment AND (v.valid_to IS NULL OR v.valid_to > moment){_NOT_DROPPED} $$"
    )


def downgrade() -> None:
    op.execute("DROP FUNCTION inventory.lineage_at(timestamptz)")
    op.execute("DROP VIEW inventory.lineage")
    op.execute("DROP FUNCTION inventory.lineage_of(text, text, text, text, text, text, jsonb, text)")
    for name in (
        "model(jsonb)",
        "job(text, text)",
        "kind(text, text)",
        "key(text, text)",
        "here(text, text)",
        "home(jsonb)",
    ):
        op.execute(f"DROP FUNCTION inventory.azureml_{name}")
    op.execute("DROP FUNCTION inventory.json_map(jsonb)")
