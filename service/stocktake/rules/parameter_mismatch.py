"""A run that differs from the runs it is compared with in a parameter that must be the same for all. Heuristic."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Asks, Group, Severity, StateRule, Words

# The view has an index of its own: of runs that declare no comparison none is read.
_ASKS = Asks(
    template="""
    WITH member AS (
        SELECT workspace, experiment_id, comparison, key, start_time, inventory.json_map(params) AS params, match
        FROM inventory.compared_run
        WHERE lifecycle = 'active' AND state NOT IN ('FAILED', 'KILLED') AND comparison <> ''
    ), must AS (
        SELECT DISTINCT workspace, experiment_id, comparison, trim(name) AS name
        FROM member CROSS JOIN LATERAL unnest(string_to_array(coalesce(match, ''), ',')
            || CAST(:comparison_parameters AS text[])) AS name
        WHERE trim(name) <> ''
    ), stated AS (
        SELECT m.workspace, m.key, u.name, m.params ->> u.name AS value,
            count(*) OVER (PARTITION BY m.workspace, m.experiment_id, m.comparison, u.name, m.params ->> u.name)
                AS alike,
            first_value(m.start_time) OVER (PARTITION BY m.workspace, m.experiment_id, m.comparison, u.name,
                m.params ->> u.name ORDER BY m.start_time) AS since,
            m.experiment_id, m.comparison
        FROM member m JOIN must u USING (workspace, experiment_id, comparison)
    ), usual AS (
        SELECT DISTINCT ON (workspace, experiment_id, comparison, name)
            workspace, experiment_id, comparison, name, value
        FROM stated ORDER BY workspace, experiment_id, comparison, name, alike DESC, since, value
    )
    SELECT s.workspace, 'run' AS kind, s.key, jsonb_build_object('comparison', s.comparison, 'parameters',
        jsonb_object_agg(s.name, jsonb_build_object('here', s.value, 'others', u.value))) AS evidence
    FROM stated s JOIN usual u USING (workspace, experiment_id, comparison, name)
    WHERE NOT coalesce(s.value = u.value, s.value IS NULL AND u.value IS NULL)
    GROUP BY s.workspace, s.key, s.comparison
""",
    parameters={"comparison_parameters": []},
)

RULE = StateRule(
    id="parameter-mismatch",
    severity=Severity.INFO,
    group=Group.HYGIENE,
    kinds=(Kind.RUN,),
    needs=(Kind.EXPERIMENT,),
    statement=_ASKS.statement(),
    asks=_ASKS,
    words=Words(
        title="A candidate was trained otherwise than those it is compared with",
        why="The runs of a comparison (`stocktake.comparison`, a tag, names the set; within one experiment) must agree"
        " in the parameters that `stocktake.comparison.match` or the configuration (`hygiene.comparison_parameters`)"
        " names. This one does not: its metrics prove nothing against theirs. A guess as to who is right: what most of"
        " them say counts as usual, and of two the older.",
        cli="stocktake show run KEY",
        rest="POST /api/2.0/mlflow/runs/search with filter tags.`stocktake.comparison` = 'SET'.",
        portal="MLflow: the experiment's page, filter by the tag, Compare.",
        fix="Train the candidate again with the value of the others, or take it out of the set (delete the tag).",
        rollback="POST /api/2.0/mlflow/runs/set-tag with the tag that was taken away.",
        signal="It resolves when the runs of the set agree, or the run leaves it. It never pages. Runs that failed or"
        " were killed are no candidates.",
    ),
)
