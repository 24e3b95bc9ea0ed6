"""Views of what Azure Machine Learning has besides MLflow, as there are of everything else; and an index of its jobs
that have not ended, for the rules that ask about those at every pass."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_COMMON = """
    w.name AS workspace, a.key AS key, v.name AS name, v.state AS state, v.lifecycle AS lifecycle, v.owner AS owner,
    a.first_seen AS first_seen, v.valid_from AS valid_from, v.valid_to AS valid_to, v.created_at AS created_at
"""
_TAIL = "v.digest AS digest, v.document::jsonb AS document, v.aside::jsonb AS aside, a.asset_id AS asset_id"

_PROPERTIES = "v.document::jsonb -> 'properties' AS properties"
_TAGS = "v.document::jsonb -> 'tags' AS tags"
_OF_JOBS = """
    v.started_at AS start_time, v.ended_at AS end_time, v.artifact_uri AS artifact_uri, v.code_version AS code_version,
    v.data_version AS data_version, v.params_digest AS params_digest"""
_VERSION = "v.parent AS container, v.artifact_uri AS artifact_uri, v.code_version AS code_version"

_KINDS = {
    "job": _OF_JOBS,
    "child_job": f"v.parent AS parent_job, {_OF_JOBS}",
    "schedule": "",
    "compute": _TAGS,
    "online_endpoint": _TAGS,
    "online_deployment": f"v.parent AS endpoint, v.code_version AS code_version, {_TAGS}",
    "batch_endpoint": _TAGS,
    "batch_deployment": f"v.parent AS endpoint, v.code_version AS code_version, {_TAGS}",
    "datastore": "v.artifact_uri AS artifact_uri",
    "data": "",
    "data_version": _VERSION,
    "environment": "",
    "environment_version": _VERSION,
    "component": "",
    "component_version": _VERSION,
    "registry": _TAGS,
    "connection": "",
    "quota": "",
    "role_assignment": "",
    "private_endpoint": "",
    "diagnostic_setting": "",
    "storage_account": "v.artifact_uri AS artifact_uri",
}

_FROM = (
    "FROM public.version v JOIN public.asset a USING (asset_id)"
    " JOIN public.workspace w ON w.workspace_id = v.workspace_id"
)


def upgrade() -> None:
    op.execute(
        "CREATE INDEX version_job_live ON version (workspace_id) WHERE kind IN ('job', 'child_job')"
        " AND valid_to IS NULL AND state NOT IN ('Completed', 'Failed', 'Canceled')"
    )
    for kind, own in _KINDS.items():
        own_properties = "" if kind in ("child_job", "quota", "storage_account") else _PROPERTIES
        columns = ", ".join(part for part in (_COMMON, own, own_properties, _TAIL) if part)
        op.execute(
            f"CREATE VIEW inventory.{kind} AS SELECT {columns} {_FROM} WHERE v.kind = '{kind}' AND v.valid_to IS NULL"
        )
        op.execute(
            f"CREATE FUNCTION inventory.{kind}_at(moment timestamptz) RETURNS SETOF inventory.{kind}"
            f" LANGUAGE sql STABLE AS $$ SELECT {columns} {_FROM} WHERE v.kind = '{kind}'"
            " AND v.valid_from <= moment AND (v.valid_to IS NULL OR v.valid_to > moment) $$"
        )


def downgrade() -> None:
    for kind in reversed(_KINDS):
        op.execute(f"DROP FUNCTION inventory.{kind}_at(timestamptz)")
        op.execute(f"DROP VIEW inventory.{kind}")
    op.execute("DROP INDEX version_job_live")
