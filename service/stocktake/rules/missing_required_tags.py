"""An experiment, or runs of late in it, lack tags that the configuration asks of experiments of such a name."""

from __future__ import annotations

from datetime import timedelta

from stocktake.core.assets import Kind
from stocktake.core.rules import Asks, Group, Severity, StateRule, Words

# Runs are looked at by the index of when they began, and at most a thousand of an experiment.
_ASKS = Asks(
    template="""
    WITH wanted AS (
        SELECT one ->> 'pattern' AS pattern, one -> 'tags' AS tags, one -> 'run_tags' AS run_tags
        FROM jsonb_array_elements(CAST(:required_tags AS jsonb)) AS one
    ), matched AS (
        SELECT e.workspace, e.key, inventory.json_map(e.tags) AS has, w.tags, w.run_tags
        FROM inventory.experiment e JOIN wanted w ON e.name ~ w.pattern WHERE e.lifecycle = 'active'
    ), own AS (
        SELECT m.workspace, m.key, t.tag, 0 AS runs, CAST(NULL AS text) AS example
        FROM matched m CROSS JOIN LATERAL jsonb_array_elements_text(m.tags) AS t (tag)
        WHERE coalesce(m.has ->> t.tag, '') = ''
    ), of_runs AS (
        SELECT m.workspace, m.key, t.tag, CAST(count(*) AS integer) AS runs, min(r.key) AS example
        FROM matched m CROSS JOIN LATERAL (
            SELECT d.key, inventory.json_map(d.tags) AS has FROM (
                SELECT r.asset_id FROM inventory.run r
                WHERE r.workspace = m.workspace AND r.experiment_id = m.key AND r.lifecycle = 'active'
                    AND r.start_time >= CAST(:now AS timestamptz) - CAST(:lookback AS interval)
                    AND jsonb_array_length(m.run_tags) > 0
                ORDER BY r.start_time DESC LIMIT 1000
            ) latest JOIN inventory.run d USING (asset_id)
        ) r CROSS JOIN LATERAL jsonb_array_elements_text(m.run_tags) AS t (tag)
        WHERE coalesce(r.has ->> t.tag, '') = ''
        GROUP BY m.workspace, m.key, t.tag
    ), lacking AS (SELECT * FROM own UNION SELECT * FROM of_runs)
    SELECT workspace, 'experiment' AS kind, key, jsonb_build_object(
        'tags', coalesce(jsonb_agg(tag ORDER BY tag) FILTER (WHERE runs = 0), '[]'),
        'run_tags', coalesce(jsonb_object_agg(tag, jsonb_build_object('runs', runs, 'such_as', example))
            FILTER (WHERE runs > 0), '{}')) AS evidence
    FROM lacking GROUP BY workspace, key
""",
    parameters={"required_tags": "[]", "lookback": timedelta(days=30)},
)

RULE = StateRule(
    id="missing-required-tags",
    severity=Severity.INFO,
    group=Group.HYGIENE,
    kinds=(Kind.EXPERIMENT,),
    needs=(Kind.RUN,),
    statement=_ASKS.statement(),
    asks=_ASKS,
    words=Words(
        title="Required tags are missing",
        why="What is reported by tag (cost, owner, project, purpose) leaves these out, and nobody knows whom to ask."
        " Which tags which experiments and their runs must bear stands in the configuration (`hygiene.required_tags`).",
        cli="stocktake show experiment KEY; stocktake list run --where partition=KEY",
        rest="GET /api/2.0/mlflow/experiments/get?experiment_id=KEY (tags); POST /api/2.0/mlflow/runs/search.",
        portal="MLflow: the experiment's page; the table of runs with the tags as columns.",
        fix="Set the tags: POST /api/2.0/mlflow/experiments/set-experiment-tag, runs/set-tag; and set them in the code"
        " that logs (mlflow.set_tags), or each new run lacks them again. An empty value counts as none.",
        rollback="Nothing to go back to: a tag that was set wrongly is set again.",
        signal="Runs count while they are no older than `hygiene.lookback`, the latest thousand of an experiment. It"
        " resolves when none of them lacks a tag, and the experiment neither.",
    ),
)
