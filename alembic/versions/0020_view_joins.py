"""The public views say that an asset has its states' workspace and kind: what one asks for by key is found by key.

Without it Postgres looked for a key in every workspace (or read all assets), for the index of keys begins with the
workspace. The same rows and columns as before. And a view of its own for what serves, which rules ask at every pass:
the edges of all lineage are dear to plan.
"""

from __future__ import annotations

from sqlalchemy import text

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_LOOSE = "JOIN public.asset a USING (asset_id)"
_TIGHT = "JOIN public.asset a ON a.asset_id = {0}.asset_id AND a.workspace_id = {0}.workspace_id AND a.kind = {0}.kind"

# Of a kind the view and the function that answers for a time are one statement, but for its last conditions.
_AT_A_TIME = " AND v.valid_from <= moment"
_NOW = " AND v.valid_to IS NULL"

_OTHERS = """
CREATE OR REPLACE VIEW inventory.change AS
SELECT c.change_id AS id, c.at, c.not_before, c.not_after, c.recorded_at, coalesce(c.actor, 'unknown') AS actor,
    c.actor_source, w.name AS workspace, c.kind, a.key, c.name, c.type, c.category, c.scan_id AS scan,
    c.fields::jsonb AS fields, c.part_of, c.asset_id
FROM public.change c <asset of c> JOIN public.workspace w ON w.workspace_id = c.workspace_id;

CREATE OR REPLACE VIEW inventory.redacted AS
SELECT w.name AS workspace, v.kind, a.key, v.name, v.owner, v.lifecycle, a.first_seen, v.valid_from,
    v.document::jsonb AS document, a.asset_id
FROM public.version v <asset of v> JOIN public.workspace w ON w.workspace_id = v.workspace_id
WHERE v.valid_to IS NULL AND strpos(v.document, '[redacted:') > 0;

CREATE OR REPLACE VIEW inventory.compared_run AS
SELECT w.name AS workspace, a.key, v.name, v.lifecycle, v.state, v.partition AS experiment_id,
    v.started_at AS start_time, v.document::jsonb -> 'tags' ->> 'stocktake.comparison' AS comparison,
    v.document::jsonb -> 'tags' ->> 'stocktake.comparison.match' AS match,
    v.document::jsonb -> 'params' AS params, a.asset_id
FROM public.version v <asset of v> JOIN public.workspace w ON w.workspace_id = v.workspace_id
WHERE v.kind = 'run' AND v.valid_to IS NULL AND strpos(v.document, '"stocktake.comparison":') > 0
"""

# Where a workspace is, its own document says: lineage asks for that of all of them.
_PLACES = "CREATE INDEX version_place ON version (workspace_id, valid_from DESC) WHERE kind = 'workspace'"

# The edges "deployed", "traffic" and "default" of inventory.lineage_of, a row for each deployment.
_SERVING = f"""
CREATE VIEW inventory.serving AS
SELECT w.name AS workspace, v.kind, a.key, d.endpoint, d.name,
    CASE WHEN d.served IS NOT NULL THEN inventory.azureml_kind(d.model, 'model_version')
        WHEN inventory.azureml_job(d.model, d.home) IS NOT NULL THEN 'job' END AS model_kind,
    coalesce(d.served, inventory.azureml_job(d.model, d.home)) AS model_key,
    CASE WHEN v.kind = 'online_deployment' AND jsonb_typeof(e.traffic -> d.name) = 'number'
        THEN (e.traffic ->> d.name)::numeric END AS traffic,
    v.kind = 'batch_deployment' AND coalesce(e.sent_to = d.name, false) AS is_default, v.asset_id
FROM public.version v {_TIGHT.format("v")} JOIN public.workspace w ON w.workspace_id = v.workspace_id
LEFT JOIN (SELECT DISTINCT ON (h.workspace_id) h.workspace_id, inventory.azureml_home(h.document::jsonb) AS home
    FROM public.version h WHERE h.kind = 'workspace' AND inventory.azureml_home(h.document::jsonb) IS NOT NULL
    ORDER BY h.workspace_id, h.valid_from DESC) AS place ON place.workspace_id = v.workspace_id
CROSS JOIN LATERAL (SELECT place.home, split_part(a.key, '/', 1) AS endpoint,
    substr(a.key, strpos(a.key, '/') + 1) AS name, m.model, inventory.azureml_key(m.model, place.home) AS served
    FROM (SELECT inventory.azureml_model(v.document::jsonb) AS model) AS m) AS d
LEFT JOIN LATERAL (SELECT inventory.json_map(o.document::jsonb #> '{{properties,traffic}}') AS traffic,
        o.document::jsonb #>> '{{properties,defaults,deploymentName}}' AS sent_to
    FROM public.asset x JOIN public.version o ON o.asset_id = x.asset_id AND o.valid_to IS NULL
    WHERE x.workspace_id = v.workspace_id AND x.kind = replace(v.kind, 'deployment', 'endpoint')
        AND x.key = d.endpoint AND strpos(a.key, '/') > 0) AS e ON true
WHERE v.kind IN ('online_deployment', 'batch_deployment') AND v.valid_to IS NULL
"""


def upgrade() -> None:
    op.execute(_PLACES)
    _join(_LOOSE, _TIGHT.format("v"))
    _others(_TIGHT.format("c"), _TIGHT.format("v"))
    op.get_bind().exec_driver_sql(_SERVING)


def downgrade() -> None:
    op.execute("DROP VIEW inventory.serving")
    op.execute("DROP INDEX version_place")
    _join(_TIGHT.format("v"), _LOOSE)
    _others(_LOOSE, _LOOSE)


def _join(before: str, after: str) -> None:
    functions = op.get_bind().execute(
        text(
            "SELECT p.proname, p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE n.nspname = 'inventory' AND p.proname LIKE '%\\_at' ORDER BY p.proname"
        )
    )
    for name, body in functions.all():
        kind, made = name.removesuffix("_at"), body.strip().replace(before, after)
        shown, _, _ = made.partition(_AT_A_TIME)
        run = op.get_bind().exec_driver_sql
        run(f"CREATE OR REPLACE VIEW inventory.{kind} AS {shown}{_NOW}")
        run(
            f"CREATE OR REPLACE FUNCTION inventory.{kind}_at(moment timestamptz) RETURNS SETOF inventory.{kind}"
            f" LANGUAGE sql STABLE AS $$ {made} $$"
        )


def _others(of_change: str, of_version: str) -> None:
    for statement in _OTHERS.split(";"):
        made = statement.replace("<asset of c>", of_change).replace("<asset of v>", of_version)
        op.get_bind().exec_driver_sql(made.strip())
