"""A finished run whose parameters, metrics, tags or inputs changed afterwards: the evidence of a release has moved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, edited

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
_EVIDENCE = re.compile(r"(?:params|metrics|inputs|outputs|tags)\b|info\.(?:status|start_time|end_time)\Z")
#: Names and descriptions prove nothing about a release; nor do the notes that Azure ML makes for itself, late as well.
_WORDS = re.compile(
    r"tags\['mlflow\.(?:runName|note\.content)'\]|tags(?:\.|\[')(?:_aml_system_|_azureml\.|azureml\.(?!git\.))"
)


def _matters(field: Mapping[str, Any]) -> bool:
    return bool(_EVIDENCE.match(field["path"])) and not _WORDS.match(field["path"])


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """Only where the look before showed the run ended: what its client still wrote as it ended is no edit."""
    return edited(change, held, _matters) if change.state_before in _ENDED or held is not None else None


RULE = ChangeRule(
    id="run-edited-after-finish",
    severity=Severity.WARNING,
    kinds=(Kind.RUN,),
    types=(ChangeType.UPDATED,),
    check=check,
    words=Words(
        title="A finished run was edited",
        why="A run that has ended is evidence: of a release, a comparison, an audit. MLflow lets anybody with write"
        " access change its tags and add parameters and metrics for ever, and moves no timestamp when they do. The"
        " name, the description and the tags that Azure ML keeps for itself (_aml_system_..., azureml....) do not"
        " count.",
        cli="stocktake history run KEY; stocktake changes --kind run --key KEY",
        rest="GET /api/2.0/mlflow/runs/get?run_id=KEY shows it as it is now; what it was before is in the evidence.",
        portal="MLflow: the run's page, Overview. Azure ML studio: Jobs, the job, Overview and Metrics.",
        fix="Ask the owner whether the edit was meant. If so, say why when you acknowledge the finding.",
        rollback="Tags: set them back to the value under `before` (POST /api/2.0/mlflow/runs/set-tag), or delete those"
        " that were not there (runs/delete-tag). MLflow takes back no parameter and no metric: log a new run with the"
        " right values, and let the model point to it.",
        signal="It resolves when every field is again as it was when the run had ended. It opens again with the next"
        " edit, acknowledged or not.",
    ),
)
