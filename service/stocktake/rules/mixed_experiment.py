"""One experiment that holds unrelated projects: other code, no data and no kind of model in common. Heuristic."""

from __future__ import annotations

from datetime import timedelta

from stocktake.core.assets import Kind
from stocktake.core.rules import Asks, Group, Severity, StateRule, Words

# The latest thirty runs of an experiment tell: documents are read of no more, and only where more than one data set is.
_ASKS = Asks(
    template="""
    WITH lately AS (
        SELECT e.workspace, e.key, r.asset_id
        FROM inventory.experiment e CROSS JOIN LATERAL (
            SELECT asset_id, count(*) OVER () AS runs,
                min(data_version) OVER () <> max(data_version) OVER () AS several
            FROM (
                SELECT r.asset_id, r.data_version FROM inventory.run r
                WHERE r.workspace = e.workspace AND r.experiment_id = e.key
                    AND r.start_time >= CAST(:now AS timestamptz) - CAST(:lookback AS interval)
                    AND r.lifecycle = 'active' AND r.data_version <> ''
                ORDER BY r.start_time DESC LIMIT 30
            ) latest
        ) r
        WHERE e.lifecycle = 'active' AND e.name <> 'Default' AND r.several AND r.runs >= 6
    ), decoded AS (
        SELECT l.workspace, l.key, d.run, d.data_version, inventory.json_map(d.document -> 'tags') AS tags,
            inventory.json_map(d.document -> 'params') AS params
        FROM lately l CROSS JOIN LATERAL (
            SELECT r.key AS run, r.data_version, r.document FROM inventory.run r WHERE r.asset_id = l.asset_id OFFSET 0
        ) d
    ), told AS (
        SELECT workspace, key, run, lower(regexp_replace(coalesce(nullif(tags ->> 'mlflow.source.git.repoURL', ''),
                nullif(tags ->> 'azureml.git.repository_uri', ''), nullif(tags ->> 'mlflow.source.name', '')),
                '(\\.git)?/*$', '')) AS code,
            (SELECT array_agg(DISTINCT 'data ' || regexp_replace(one, '@[^@]*$', ''))
                FROM unnest(string_to_array(data_version, ', ')) AS one)
            || array_remove(ARRAY['model ' || coalesce(nullif(tags ->> 'estimator_name', ''),
                nullif(tags ->> 'model_type', ''), nullif(params ->> 'model_type', ''))], NULL) AS traits
        FROM decoded
    ), project AS (
        SELECT workspace, key, code, count(*) AS runs, min(run) AS example FROM told WHERE code <> ''
        GROUP BY workspace, key, code HAVING count(*) >= 3
    ), trait AS (
        SELECT DISTINCT t.workspace, t.key, t.code, one FROM told t CROSS JOIN LATERAL unnest(t.traits) AS one
    ), apart AS (
        SELECT a.workspace, a.key, a.code FROM project a
        WHERE EXISTS (SELECT 1 FROM project b WHERE b.workspace = a.workspace AND b.key = a.key AND b.code <> a.code
            AND NOT EXISTS (SELECT 1 FROM trait x JOIN trait y
                ON y.workspace = x.workspace AND y.key = x.key AND y.one = x.one
                WHERE x.workspace = a.workspace AND x.key = a.key AND x.code = a.code AND y.code = b.code))
    )
    SELECT p.workspace, 'experiment' AS kind, p.key, jsonb_build_object('projects', jsonb_agg(jsonb_build_object(
        'code', p.code, 'runs', p.runs, 'such_as', p.example) ORDER BY p.code)) AS evidence
    FROM project p JOIN apart a USING (workspace, key, code) GROUP BY p.workspace, p.key
""",
    parameters={"lookback": timedelta(days=30)},
)

RULE = StateRule(
    id="mixed-experiment",
    severity=Severity.INFO,
    group=Group.HYGIENE,
    for_teams=True,
    kinds=(Kind.EXPERIMENT,),
    needs=(Kind.RUN,),
    statement=_ASKS.statement(),
    asks=_ASKS,
    words=Words(
        title="An experiment holds unrelated projects",
        why="Its runs come from different code, and these read no data set and make no kind of model in common. Owner,"
        " required tags, cost and comparisons mean nothing where projects are mixed. A guess: it goes by the"
        " repository (or, without one, the script) and the names of the data sets that runs log, and where they say it"
        " by the type of model (`estimator_name`, `model_type`).",
        cli="stocktake list run --where partition=KEY",
        rest="POST /api/2.0/mlflow/runs/search with experiment_ids [KEY] (tags mlflow.source.git.repoURL, inputs).",
        portal="MLflow: the experiment's page, columns Source and Dataset.",
        fix="Give each project an experiment of its own, and name it in its code. Runs cannot be moved: what matters is"
        " logged again.",
        rollback="Nothing to go back to.",
        signal="Of the latest thirty runs of `hygiene.lookback` (30 days) that log data, each project must have three."
        " It resolves when the younger runs are of one project. It never pages.",
    ),
)
