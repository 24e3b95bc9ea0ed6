"""The public, read-only views of the schema `inventory`, and an as-of-time function beside each.

They are the contract for dashboards and Power BI: columns are added, never renamed or removed.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Every kind has these columns; `document` is cast only where it is selected.
_COMMON = """
    w.name AS workspace, a.key AS key, v.name AS name, v.state AS state, v.lifecycle AS lifecycle, v.owner AS owner,
    a.first_seen AS first_seen, v.valid_from AS valid_from, v.valid_to AS valid_to, v.created_at AS created_at
"""
_TAIL = "v.digest AS digest, v.document::jsonb AS document, v.aside::jsonb AS aside, a.asset_id AS asset_id"

_KINDS = {
    "workspace": "",
    "experiment": "v.artifact_uri AS artifact_location, v.document::jsonb -> 'tags' AS tags",
    "run": """
        v.partition AS experiment_id, v.parent AS parent_run_id, v.started_at AS start_time, v.ended_at AS end_time,
        v.artifact_uri AS artifact_uri, v.code_version AS code_version, v.data_version AS data_version,
        v.params_digest AS params_digest, v.document::jsonb -> 'params' AS params,
        v.document::jsonb -> 'metrics' AS metrics, v.document::jsonb -> 'tags' AS tags""",
    "logged_model": """
        v.partition AS experiment_id, v.run AS source_run_id, v.artifact_uri AS artifact_uri,
        v.params_digest AS params_digest, v.document::jsonb -> 'params' AS params,
        v.document::jsonb -> 'tags' AS tags""",
    "registered_model": "v.document::jsonb -> 'aliases' AS aliases, v.document::jsonb -> 'tags' AS tags",
    "model_version": """
        v.parent AS registered_model, v.run AS run_id, v.artifact_uri AS source,
        v.document::jsonb -> 'aliases' AS aliases, v.document::jsonb -> 'tags' AS tags""",
    "trace": """
        v.partition AS experiment_id, v.run AS run_id, v.started_at AS request_time,
        v.artifact_uri AS artifact_uri, v.document::jsonb -> 'tags' AS tags""",
    "webhook": "",
}

_FROM = (
    "FROM public.version v JOIN public.asset a USING (asset_id)"
    " JOIN public.workspace w ON w.workspace_id = v.workspace_id"
)

_OTHERS = """
CREATE VIEW inventory.change AS
SELECT c.change_id AS id, c.at, c.not_before, c.not_after, c.recorded_at, coalesce(c.actor, 'unknown') AS actor,
    c.actor_source, w.name AS workspace, c.kind, a.key, c.name, c.type, c.category, c.scan_id AS scan,
    c.fields::jsonb AS fields, c.part_of, c.asset_id
FROM public.change c JOIN public.asset a USING (asset_id) JOIN public.workspace w ON w.workspace_id = c.workspace_id;

CREATE VIEW inventory.scan AS
SELECT s.scan_id AS scan, w.name AS workspace, s.mode, s.state, s.source, s.identity, s.filtered, s.began_at,
    s.finished_at, s.passes, s.last_began_at, s.last_finished_at, s.seen, s.created, s.updated, s.deleted, s.restored,
    s.purged, s.baseline, s.carried, s.withheld, s.redacted, s.requests, s.bytes_read, s.throttled, s.trouble, s.error,
    s.next_step
FROM public.scan s JOIN public.workspace w USING (workspace_id);

CREATE VIEW inventory.scope_scan AS
SELECT s.scan_id AS scan, w.name AS workspace, c.kind, c.partition, c.covers, c.state, c.reason, c.ended, c.began_at,
    c.finished_at, c.listed, c.missing, c.purged, c.carried, c.withheld
FROM public.scope_scan c JOIN public.scan s USING (scan_id) JOIN public.workspace w USING (workspace_id);

CREATE VIEW inventory.scope AS
SELECT w.name AS workspace, s.kind, s.partition, s.state, s.reason, s.first_complete_at, s.last_complete_at,
    s.last_listed_at, s.last_scan AS scan
FROM public.scope s JOIN public.workspace w USING (workspace_id);

CREATE VIEW inventory.coverage AS
SELECT w.name AS workspace, s.kind, count(*) AS scopes,
    count(*) FILTER (WHERE s.state = 'complete') AS complete,
    min(s.last_complete_at) AS oldest_complete, min(s.first_complete_at) AS first_complete
FROM public.scope s JOIN public.workspace w USING (workspace_id)
GROUP BY w.name, s.kind;

CREATE VIEW inventory.withheld AS
SELECT w.name AS workspace, h.kind, h.partition, a.key, h.since, h.confirmations, h.accepted_at, h.accepted_by
FROM public.withheld h JOIN public.asset a USING (asset_id) JOIN public.workspace w ON w.workspace_id = h.workspace_id;
"""


def upgrade() -> None:
    op.execute("CREATE SCHEMA IF NOT EXISTS inventory")
    for kind, own in _KINDS.items():
        columns = ", ".join(part for part in (_COMMON, own, _TAIL) if part)
        op.execute(
            f"CREATE VIEW inventory.{kind} AS SELECT {columns} {_FROM} WHERE v.kind = '{kind}' AND v.valid_to IS NULL"
        )
        op.execute(
            f"CREATE FUNCTION inventory.{kind}_at(moment timestamptz) RETURNS SETOF inventory.{kind}"
            f" LANGUAGE sql STABLE AS $$ SELECT {columns} {_FROM} WHERE v.kind = '{kind}'"
            " AND v.valid_from <= moment AND (v.valid_to IS NULL OR v.valid_to > moment) $$"
        )
    for statement in _OTHERS.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP SCHEMA inventory CASCADE")
