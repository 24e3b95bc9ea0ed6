"""A parameter, tag or property holds what looks like a credential: everybody who may read may take it."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

_KINDS = (
    Kind.RUN,
    Kind.EXPERIMENT,
    Kind.REGISTERED_MODEL,
    Kind.MODEL_VERSION,
    Kind.LOGGED_MODEL,
    Kind.JOB,
    Kind.CHILD_JOB,
    Kind.SCHEDULE,
    Kind.COMPONENT_VERSION,
    Kind.ONLINE_DEPLOYMENT,
    Kind.BATCH_DEPLOYMENT,
)

# The view has an index of its own: of documents without a mark none is read.
RULE = StateRule(
    id="sensitive-parameter",
    severity=Severity.WARNING,
    group=Group.HYGIENE,
    kinds=_KINDS,
    statement=f"""
        SELECT r.workspace, r.kind, r.key, jsonb_build_object('places', found.places) AS evidence
        FROM inventory.redacted r CROSS JOIN LATERAL (
            WITH RECURSIVE walk AS (
                SELECT '' AS path, r.document AS value
                UNION ALL
                SELECT CASE WHEN w.path = '' THEN one.name ELSE w.path || '.' || one.name END, one.value
                FROM walk w CROSS JOIN LATERAL (
                    SELECT o.key AS name, o.value FROM jsonb_each(inventory.json_map(w.value)) AS o
                    UNION ALL
                    SELECT CAST(e.number - 1 AS text), e.value FROM jsonb_array_elements(
                        CASE WHEN jsonb_typeof(w.value) = 'array' THEN w.value ELSE '[]' END)
                        WITH ORDINALITY AS e (value, number)
                ) AS one
                WHERE strpos(one.name || CAST(one.value AS text), '[redacted:') > 0
            )
            SELECT jsonb_agg(DISTINCT jsonb_build_object('path', path, 'looks_like', mark[1])) AS places
            FROM walk CROSS JOIN LATERAL regexp_matches(path || ' ' || CASE WHEN jsonb_typeof(value) = 'string'
                THEN value #>> '{{}}' ELSE '' END, '\\[redacted:([a-z-]+):[0-9a-f]{{12}}\\]', 'g') AS mark
        ) AS found
        WHERE found.places IS NOT NULL AND r.kind IN ({", ".join(f"'{kind}'" for kind in _KINDS)})
    """,
    words=Words(
        title="A credential stands where everybody can read it",
        why="Parameters, tags and the variables of a job are shown to everybody who may read the workspace, are"
        " exported and copied, and stay for ever. stocktake stores a fingerprint in place of the value; MLflow stores"
        " the value.",
        cli="stocktake show KIND KEY",
        rest="GET /api/2.0/mlflow/runs/get?run_id=KEY: what stands under `places`. Do not paste it anywhere.",
        portal="MLflow: the run's page, Parameters and Tags. Azure ML studio: Jobs, the job, Overview.",
        fix="Take the credential for lost: revoke or renew it first. Then remove it: a tag can be deleted"
        " (runs/delete-tag); a parameter cannot, so delete the run and have it purged. Hand secrets to code by a key"
        " vault or the environment, and log their names at most. If it is no secret, name it under `redaction.allow`.",
        rollback="Nothing to go back to: a credential that was seen stays seen.",
        signal="It resolves when a complete scan sees the place without it, or the asset purged. `looks_like` is the"
        " rule that knew it: `manual` where somebody had it removed by `stocktake redact`.",
    ),
)
