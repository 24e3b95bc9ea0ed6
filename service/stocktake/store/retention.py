"""Retention: closed history goes by policy, in small steps; what auditors need stays.

Never dropped: any current state, the registry (registered models, versions, aliases), endpoints and deployments, the
runs and logged models behind all of these, experiments, findings that are not resolved, the ledger and its chain.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, text

from stocktake.core.chain import Sort
from stocktake.store import chain
from stocktake.store.engine import driver

_STEP = 5_000
#: How a source or a document names a job, whose run has the same name (core/references.py).
_JOB = r'(?:azureml://jobs/|runs:/|/jobs/)([^/?"]+)'
#: What the chain of the ledger names one by one when it is dropped.
_CHAINED = ("version", "change")

# Closed versions of high-volume kinds, older than the horizon and not behind any registered model version.
# Which run is behind something: a version of a model names it, or its source does, or the logged model that is its
# source; or a deployment serves what a job left, without any registered model.
_VERSIONS = """
WITH behind AS MATERIALIZED (
    SELECT m.workspace_id, coalesce(m.run, substring(m.artifact_uri from :job)) AS key FROM version m
    WHERE m.kind = 'model_version'
    UNION SELECT l.workspace_id, l.run FROM version m JOIN asset a ON a.workspace_id = m.workspace_id
        AND a.kind = 'logged_model' AND a.key = substring(m.artifact_uri from '^models:/([^/?]+)')
        JOIN version l ON l.asset_id = a.asset_id WHERE m.kind = 'model_version'
    UNION SELECT d.workspace_id, named[1] FROM workspace w JOIN asset a ON a.workspace_id = w.workspace_id
        AND a.kind IN ('online_deployment', 'batch_deployment') JOIN version d ON d.asset_id = a.asset_id
        CROSS JOIN LATERAL regexp_matches(d.document, :job, 'g') AS named),
gone AS (
    DELETE FROM version v USING (
        SELECT o.asset_id, o.valid_from FROM version o JOIN asset a USING (asset_id)
        WHERE o.valid_to < clock_timestamp() - :keep
          AND o.kind IN ('run', 'logged_model', 'trace', 'webhook', 'workspace')
          AND NOT EXISTS (SELECT 1 FROM behind b WHERE b.workspace_id = a.workspace_id AND b.key = a.key)
          AND NOT EXISTS (SELECT 1 FROM version m WHERE m.workspace_id = a.workspace_id AND m.kind = 'model_version'
                          AND o.kind = 'logged_model' AND m.artifact_uri = 'models:/' || a.key)
          AND NOT EXISTS (SELECT 1 FROM version l JOIN version m ON m.workspace_id = l.workspace_id
                          AND m.kind = 'model_version' AND m.run = l.run WHERE l.asset_id = o.asset_id
                          AND l.kind = 'logged_model' AND l.run IS NOT NULL)
        ORDER BY o.valid_to LIMIT :step
    ) old WHERE v.asset_id = old.asset_id AND v.valid_from = old.valid_from
    RETURNING v.workspace_id, v.kind, v.asset_id, v.valid_from, v.valid_to),
remembered AS (
    -- What is left of a time before the last end of a dropped state is a remnant: questions must know.
    INSERT INTO horizon AS h (workspace_id, kind, dropped_before)
    SELECT workspace_id, kind, max(valid_to) FROM gone GROUP BY workspace_id, kind
    ON CONFLICT (workspace_id, kind) DO UPDATE
        SET dropped_before = greatest(h.dropped_before, excluded.dropped_before))
SELECT workspace_id, 'd', asset_id, valid_from FROM gone
"""

# Changes whose asset keeps no version from then or before: their evidence is gone. Each of them happened before the
# end of a state that was dropped, or at that end, so the horizon holds for them too.
_CHANGES = """
WITH gone AS (DELETE FROM change WHERE change_id IN (
    SELECT c.change_id FROM change c
    WHERE c.at < clock_timestamp() - :keep AND c.kind IN ('run', 'logged_model', 'trace', 'webhook', 'workspace')
      AND NOT EXISTS (SELECT 1 FROM version v WHERE v.asset_id = c.asset_id AND v.valid_from <= c.at)
    ORDER BY c.change_id LIMIT :step) RETURNING workspace_id, asset_id, at)
SELECT workspace_id, 'k', asset_id, at FROM gone
"""

# Purged assets with nothing left of them.
_ASSETS = """
WITH gone AS (DELETE FROM asset WHERE asset_id IN (
    SELECT a.asset_id FROM asset a WHERE a.gone_at < clock_timestamp() - :keep
      AND NOT EXISTS (SELECT 1 FROM version v WHERE v.asset_id = a.asset_id)
      AND NOT EXISTS (SELECT 1 FROM change c WHERE c.asset_id = a.asset_id)
    LIMIT :step) RETURNING 1)
SELECT count(*) FROM gone
"""

# Acts: the changes that they named an actor of keep the name.
_ACTS = """
WITH gone AS (DELETE FROM act WHERE act_id IN (
    SELECT act_id FROM act WHERE ended_at < clock_timestamp() - :keep ORDER BY ended_at LIMIT :step) RETURNING 1)
SELECT count(*) FROM gone
"""

# Findings that were resolved long ago, with their history. One that is open, acknowledged or waived stays.
_FINDINGS = """
WITH gone AS (DELETE FROM finding WHERE finding_id IN (
    SELECT finding_id FROM finding WHERE state = 'resolved' AND resolved_at < clock_timestamp() - :keep
    ORDER BY resolved_at LIMIT :step) RETURNING 1)
SELECT count(*) FROM gone
"""


def prune(engine: Engine, *, keep: timedelta) -> dict[str, int]:
    """Drop closed history older than `keep`, a few thousand rows a transaction. Returns rows dropped by table."""
    dropped = {}
    for table, statement in (
        ("version", _VERSIONS),
        ("change", _CHANGES),
        ("asset", _ASSETS),
        ("act", _ACTS),
        ("finding", _FINDINGS),
    ):
        dropped[table] = 0
        while True:
            with engine.begin() as connection:
                # Nobody publishes meanwhile: an asset that comes back must not lose the row that its version names.
                connection.execute(text("SELECT 1 FROM workspace ORDER BY workspace_id FOR NO KEY UPDATE"))
                rows = connection.execute(text(statement), {"keep": keep, "step": _STEP, "job": _JOB}).all()
                if table in _CHAINED:
                    chain.dropped(driver(connection), ((wid, Sort(sort), one, at) for wid, sort, one, at in rows))
                    gone = len(rows)
                else:
                    gone = int(rows[0][0])
            dropped[table] += gone
            if gone < _STEP:
                break
    return dropped
