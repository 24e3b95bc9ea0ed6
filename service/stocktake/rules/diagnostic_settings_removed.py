"""What a workspace logged is logged no more: a diagnostic setting was removed, switched off or sends nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, edited, facts

_LOGGED = ("properties.logs", "properties.metrics")
_DESTINATIONS = (
    "properties.workspaceId",
    "properties.storageAccountId",
    "properties.eventHubAuthorizationRuleId",
    "properties.marketplacePartnerId",
)


def _enabled(value: Any) -> set[str]:
    """The categories, and groups of them, that are sent."""
    rows = value if isinstance(value, list | tuple) else ()
    on = [row for row in rows if isinstance(row, Mapping) and row.get("enabled") is True]
    return {str(row.get("category") or row.get("categoryGroup")) for row in on}


def _less(path: str, first: Any, now: Any) -> bool:
    """Whether something that was sent is not sent any more. The group of all logs has every category in it."""
    if path in _DESTINATIONS:
        return bool(first) and not now
    sent = _enabled(now)
    return "allLogs" not in sent and bool(_enabled(first) - sent)


def _matters(field: Mapping[str, Any]) -> bool:
    path = str(field["path"])
    return path in (*_LOGGED, *_DESTINATIONS) and _less(path, field.get("before"), field.get("after"))


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """A setting that is gone, or that sends less than it did at first."""
    if change.type == ChangeType.RESTORED:
        return Verdict(holds=False, evidence=facts(change)) if held is not None else None
    if change.type in (ChangeType.DELETED, ChangeType.PURGED):
        fields = list((held or {}).get("fields", ()))
        return Verdict(holds=True, evidence=facts(change) | {"removed": True, "fields": fields})
    return edited(change, held, _matters, _less)


RULE = ChangeRule(
    id="diagnostic-settings-removed",
    severity=Severity.WARNING,
    kinds=(Kind.DIAGNOSTIC_SETTING,),
    types=(ChangeType.UPDATED, ChangeType.DELETED, ChangeType.PURGED, ChangeType.RESTORED),
    check=check,
    words=Words(
        title="A workspace logs less than it did",
        why="Its logs of jobs, computes, endpoints and reads of data no longer reach Log Analytics, storage or an event"
        " hub. What happens from now on cannot be shown afterwards, and alert rules over those tables fall silent"
        " without a sign. It is also what somebody does first who does not want to be seen.",
        cli="stocktake changes --kind diagnostic_setting; stocktake list diagnostic_setting;"
        " az monitor diagnostic-settings list --resource WORKSPACE_ID",
        rest="GET WORKSPACE_ID/providers/Microsoft.Insights/diagnosticSettings?api-version=2021-05-01-preview. Who"
        ' did it, in Log Analytics: `AzureActivity | where OperationNameValue has "DIAGNOSTICSETTINGS" and'
        ' _ResourceId has "/workspaces/WORKSPACE" | project TimeGenerated, Caller, OperationNameValue`. When the logs'
        " ended: `AmlComputeJobEvent | summarize max(TimeGenerated) by _ResourceId`",
        portal="Azure portal: the workspace, Monitoring, Diagnostic settings.",
        fix="Ask whoever is named as the actor. If another setting sends the same, acknowledge and name it: settings"
        " are not compared with each other.",
        rollback="az monitor diagnostic-settings create -n KEY --resource WORKSPACE_ID --workspace LOGS --logs"
        ' \'[{"categoryGroup": "allLogs", "enabled": true}]\', or what stands under `before`; the whole setting as'
        " it was is in `stocktake history diagnostic_setting KEY`. What was not logged meanwhile is lost.",
        signal="It resolves when a setting of that name is there again, or sends again all that it sent at first. A"
        " destination that is exchanged for another, and categories that are exchanged for the group of all logs, open"
        " no finding.",
    ),
)
