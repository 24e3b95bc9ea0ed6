"""An experiment was deleted or purged: one finding, with the number of runs and models that went with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, facts


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """A restored experiment is an end of it."""
    if change.type == ChangeType.RESTORED:
        return Verdict(holds=False, evidence=facts(change)) if held is not None else None
    return Verdict(holds=True, evidence=facts(change) | {"what": str(change.type), "with_it": change.parts})


RULE = ChangeRule(
    id="experiment-deleted",
    severity=Severity.WARNING,
    kinds=(Kind.EXPERIMENT,),
    types=(ChangeType.DELETED, ChangeType.PURGED, ChangeType.RESTORED),
    check=check,
    words=Words(
        title="An experiment was deleted",
        why="Its runs and logged models are deleted with it (`with_it` counts those that the scan saw go). `mlflow gc`"
        " removes them for good, artifacts included.",
        cli="stocktake show experiment KEY; stocktake list run --where partition=KEY",
        rest="GET /api/2.0/mlflow/experiments/get?experiment_id=KEY (lifecycle_stage).",
        portal="MLflow: the list of experiments, deleted ones shown. Azure ML studio: Jobs, All experiments.",
        fix="Ask its owner. `stocktake lineage run RUN` says which models came from a run of it.",
        rollback="POST /api/2.0/mlflow/experiments/restore with the experiment_id, or"
        " `mlflow experiments restore --experiment-id KEY`, before `mlflow gc` runs. It restores the runs as well.",
        signal="It resolves when a scan sees the experiment restored.",
    ),
)
