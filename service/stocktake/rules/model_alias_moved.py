"""An alias of a registered model was moved to another version, or taken away: whoever loads by alias loads another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, edited


def _matters(field: Mapping[str, Any]) -> bool:
    """An alias that is new was nobody's to load by; one that was there has moved, or is gone."""
    return str(field["path"]).startswith("aliases") and field.get("before") is not None


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """From, to, between which two looks, and who only where a source says so."""
    return edited(change, held, _matters)


RULE = ChangeRule(
    id="model-alias-moved",
    severity=Severity.WARNING,
    kinds=(Kind.REGISTERED_MODEL,),
    types=(ChangeType.UPDATED,),
    check=check,
    words=Words(
        title="A model's alias was moved",
        why="`models:/NAME@ALIAS` means another version now, for everybody who loads it, from the next start on.",
        cli="stocktake changes --kind registered_model --key KEY; stocktake lineage alias KEY@ALIAS",
        rest="GET /api/2.0/mlflow/registered-models/get?name=KEY (aliases).",
        portal="MLflow: Models, the model's page, column Aliases.",
        fix="Ask who is responsible for the model whether the release was meant, and acknowledge with the ticket.",
        rollback="Set the alias back to the version under `before`: POST /api/2.0/mlflow/registered-models/alias, or"
        " `MlflowClient().set_registered_model_alias(NAME, ALIAS, VERSION)`; then restart what loaded it.",
        signal="It resolves when the alias points again to where it pointed. It opens again with the next move.",
    ),
)
