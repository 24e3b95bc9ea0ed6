"""A run that says RUNNING and shows no sign of life: nothing of it changed for long, a day by default."""

from __future__ import annotations

from datetime import timedelta

from stocktake.core.assets import Kind
from stocktake.core.rules import Asks, Group, Severity, StateRule, Words

_ASKS = Asks(
    template="""
    SELECT workspace, 'run' AS kind, key,
        jsonb_build_object('unchanged_since', valid_from, 'start_time', start_time) AS evidence
    FROM inventory.run
    WHERE state = 'RUNNING' AND lifecycle = 'active'
        AND greatest(valid_from, start_time) < CAST(:now AS timestamptz) - CAST(:silent_after AS interval)
""",
    parameters={"silent_after": timedelta(hours=24)},
)

RULE = StateRule(
    id="stale-running",
    severity=Severity.INFO,
    group=Group.HYGIENE,
    kinds=(Kind.RUN,),
    needs=(Kind.EXPERIMENT,),
    statement=_ASKS.statement(),
    asks=_ASKS,
    words=Words(
        title="A run seems to run for ever",
        why="Its client was probably killed. The run never ends, its metrics never become final, and if a machine is"
        " kept for it, it is paid for.",
        cli="stocktake show run KEY; of Azure ML: stocktake reconcile",
        rest="GET /api/2.0/mlflow/runs/get?run_id=KEY (status, metrics).",
        portal="MLflow: the run's page, status. Azure ML studio: Jobs, the job.",
        fix="Look whether its process still lives. If not, end the run: POST /api/2.0/mlflow/runs/update with status"
        " KILLED. Azure ML: cancel the job.",
        rollback="POST /api/2.0/mlflow/runs/update with status RUNNING, if it lives after all.",
        signal="It opens when no parameter, metric or tag changed for 24 hours of looking (`hygiene.silent_after`), and"
        " resolves when one does, or the run ends.",
    ),
)
