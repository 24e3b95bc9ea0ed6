"""An experiment was renamed: whoever logs to it by name makes a new one, or fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, edited


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """Its name is another; the name of before ends it."""
    return edited(change, held, lambda field: field["path"] == "name")


RULE = ChangeRule(
    id="experiment-renamed",
    severity=Severity.WARNING,
    kinds=(Kind.EXPERIMENT,),
    types=(ChangeType.UPDATED,),
    check=check,
    words=Words(
        title="An experiment was renamed",
        why="Code that logs by name (`mlflow.set_experiment(NAME)`) makes a new experiment under the old name, and from"
        " then on the runs of one project lie in two places. Dashboards and links by name point nowhere.",
        cli="stocktake changes --kind experiment --key KEY; stocktake history experiment KEY",
        rest="GET /api/2.0/mlflow/experiments/get-by-name?experiment_name=OLD: 404, or the new one that code has made.",
        portal="MLflow: the list of experiments, both names.",
        fix="Change the name in the code that logs, and move on; or go back.",
        rollback="POST /api/2.0/mlflow/experiments/update with the experiment_id and the name under `before` as"
        " new_name. If an experiment of that name was made meanwhile, rename or delete it first.",
        signal="It resolves when the experiment bears its old name again.",
    ),
)
