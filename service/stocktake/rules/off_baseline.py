"""Something is not as the baseline in source control says: it was changed by hand, or the baseline was forgotten."""

from __future__ import annotations

from stocktake.core.baseline import KINDS
from stocktake.core.rules import Severity, StateRule, Words

# What differs is reckoned before rules are asked (pipeline/governing.py), by the files as they are then.
RULE = StateRule(
    id="off-baseline",
    severity=Severity.WARNING,
    kinds=KINDS,
    statement="SELECT workspace, kind, key, evidence FROM inventory.off_baseline",
    words=Words(
        title="It is not as its baseline says",
        why="The baseline in source control is what was reviewed and approved. What differs from it was changed past"
        " the review, in the portal or by a script, or the change was approved and nobody wrote it down.",
        cli="stocktake finding show ID; stocktake baseline diff -w WORKSPACE; stocktake changes --kind KIND --key KEY",
        rest="The view inventory.off_baseline holds what differs now, both sides and the line of the file. GET the"
        " resource itself of the resource manager (endpoints, workspace, role assignments), or of MLflow"
        " (experiments/get, registered-models/get).",
        portal="Azure portal or studio: the resource, Activity log and JSON view. MLflow: the page of the experiment or"
        " the model.",
        fix="If the change was meant, write it into the file by a reviewed change: `stocktake baseline update FILE`"
        " prints the file as it would have to be. If not, set the resource back to the value under `baseline`.",
        rollback="The file is in source control: revert the commit that changed it. The resource: set the value under"
        " `actual` again.",
        signal="It resolves with the next complete scan that sees the resource as the baseline says, or that reads a"
        " baseline that says what the resource is.",
    ),
)
