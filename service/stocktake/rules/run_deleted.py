"""A run was deleted or purged, and not because its experiment was: that is one finding, of the experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, facts


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """Deleted or purged on its own; a restored run is an end of it."""
    if change.type == ChangeType.RESTORED:
        return Verdict(holds=False, evidence=facts(change)) if held is not None else None
    if change.part_of is not None and held is None:
        return None
    return Verdict(holds=True, evidence=facts(change) | {"what": str(change.type), "state_before": change.state_before})


RULE = ChangeRule(
    id="run-deleted",
    severity=Severity.WARNING,
    kinds=(Kind.RUN,),
    types=(ChangeType.DELETED, ChangeType.PURGED, ChangeType.RESTORED),
    check=check,
    words=Words(
        title="A run was deleted",
        why="With a run go its parameters, metrics and the way to its artifacts. A deleted run can be restored until"
        " somebody collects the garbage; a purged one (`what`: purged) is gone.",
        cli="stocktake show run KEY; stocktake lineage run KEY",
        rest="GET /api/2.0/mlflow/runs/get?run_id=KEY (lifecycle_stage), or 404 where it was purged.",
        portal="MLflow: the experiment's page, filter State: Deleted. Azure ML studio: Jobs, archived ones included.",
        fix="Ask the owner of the experiment. `stocktake lineage run KEY` says which models came from it.",
        rollback="POST /api/2.0/mlflow/runs/restore with the run_id, or `mlflow runs restore --run-id KEY`, before"
        " `mlflow gc` runs. Of a purged run stocktake keeps the documents: `stocktake history run KEY`.",
        signal="It resolves when a scan sees the run restored.",
    ),
)
