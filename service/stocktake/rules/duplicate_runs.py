"""A run that repeats an earlier one: the same code, data and parameters, and the compute was spent twice. Heuristic."""

from __future__ import annotations

from datetime import timedelta

from stocktake.core.assets import Kind
from stocktake.core.canonical import params_digest
from stocktake.core.rules import Asks, Group, Severity, StateRule, Words

# By lifted columns alone, one experiment after the other by the index of when runs began: no document is read.
_ASKS = Asks(
    template=f"""
    WITH lately AS (
        SELECT e.workspace, r.key, r.start_time, r.end_time, r.code_version, r.data_version, r.params_digest
        FROM inventory.experiment e CROSS JOIN LATERAL (
            SELECT * FROM inventory.run r WHERE r.workspace = e.workspace AND r.experiment_id = e.key
                AND r.start_time >= CAST(:now AS timestamptz) - CAST(:lookback AS interval)
        ) r
        WHERE r.lifecycle = 'active' AND r.state = 'FINISHED' AND r.data_version <> ''
            AND r.params_digest <> '{params_digest({})}'
            AND (strpos(r.code_version, '@') > 0
                OR length(r.code_version) >= 7 AND translate(r.code_version, '0123456789abcdef', '') = '')
    ), ranked AS (
        SELECT workspace, key, start_time, end_time, row_number() OVER same AS place,
            first_value(key) OVER same AS first
        FROM lately WINDOW same AS (PARTITION BY workspace, code_version, data_version, params_digest
            ORDER BY start_time, key)
    )
    SELECT workspace, 'run' AS kind, key, jsonb_build_object('repeats', first,
        'seconds', date_part('epoch', end_time - start_time)) AS evidence
    FROM ranked WHERE place > 1
""",
    parameters={"lookback": timedelta(days=30)},
)

RULE = StateRule(
    id="duplicate-runs",
    severity=Severity.INFO,
    group=Group.HYGIENE,
    kinds=(Kind.RUN,),
    needs=(Kind.EXPERIMENT,),
    statement=_ASKS.statement(),
    asks=_ASKS,
    words=Words(
        title="A run repeats an earlier one",
        why="It finished with the same commit, the same data and the same parameters as the run under `repeats`: what"
        " it took (`seconds`) was probably spent for nothing. A guess: uncommitted code, a seed that is not logged or"
        " data that is not versioned make two runs look equal that are not. Runs that log no parameters, no data or no"
        " commit are not compared.",
        cli="stocktake show run KEY; stocktake lineage run KEY",
        rest="GET /api/2.0/mlflow/runs/get?run_id=KEY, and the same of the run under `repeats`.",
        portal="MLflow: the experiment's page, mark both runs, Compare.",
        fix="Look up what was run before you train (search runs by parameters and the tag mlflow.source.git.commit), or"
        " let the pipeline reuse steps. Log the seed, if repeating is what is wanted.",
        rollback="Nothing to go back to.",
        signal="Of runs that began within `hygiene.lookback` (30 days) the later one is found. It resolves when either"
        " is deleted, or edited, or old. It never pages.",
    ),
)
