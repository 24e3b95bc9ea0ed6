"""Requests that went to one deployment of an endpoint go to another one: other answers for the same callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, edited, in_parts

_SHARE = "properties.traffic"
_DEFAULT = "properties.defaults.deploymentName"


def _share(path: str) -> bool:
    return path.startswith(_SHARE) and path[len(_SHARE) :][:1] in (".", "[")


def _differs(path: str, first: Any, now: Any) -> bool:
    """A deployment that is not named has no share."""
    return bool((first or 0) != (now or 0)) if _share(path) else bool(first != now)


def _fell(field: Mapping[str, Any]) -> bool:
    """Whether somebody's requests went elsewhere: where nobody had any, the first share takes from nobody."""
    before, after = field.get("before"), field.get("after")
    if not _share(field["path"]):
        return field["path"] == _DEFAULT and before is not None and after != before
    return isinstance(before, int | float) and (after or 0) < before


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """All shares that differ from what they were at first, once one of them fell."""
    change = in_parts(change)
    if held is None and not any(map(_fell, change.fields)):
        return None
    return edited(
        change,
        held,
        lambda field: (
            (_share(field["path"]) or field["path"] == _DEFAULT)
            and _differs(field["path"], field.get("before"), field.get("after"))
        ),
        _differs,
    )


RULE = ChangeRule(
    id="traffic-shifted",
    severity=Severity.WARNING,
    kinds=(Kind.ONLINE_ENDPOINT, Kind.BATCH_ENDPOINT),
    types=(ChangeType.UPDATED,),
    check=check,
    words=Words(
        title="An endpoint's traffic was shifted",
        why="Requests that one deployment answered are answered by another: by another model, often another version."
        " Of a batch endpoint it is the default deployment that was exchanged. The first share of an endpoint that"
        " had none, and a deployment that is added with no share, take requests from nobody and are not meant.",
        cli="stocktake changes --key KEY; stocktake history KIND KEY; stocktake lineage KIND KEY;"
        " az ml online-endpoint show -n KEY -g GROUP -w WORKSPACE --query traffic",
        rest="GET .../workspaces/WORKSPACE/onlineEndpoints/KEY?api-version=2022-02-01-preview (properties.traffic),"
        " of batch: .../batchEndpoints/KEY?api-version=2023-10-01 (properties.defaults). Who wrote it, in Log"
        ' Analytics: `AzureActivity | where _ResourceId endswith "endpoints/KEY" and OperationNameValue endswith'
        ' "ENDPOINTS/WRITE" | project TimeGenerated, Caller, ActivityStatusValue`. What was answered by whom, where'
        ' traffic is logged: `AmlOnlineEndpointTrafficLog | where EndpointName == "KEY" | summarize count() by'
        " DeploymentName, bin(TimeGenerated, 1h)`",
        portal="Azure ML studio: Endpoints, the endpoint, Deployment traffic allocation. Azure portal: the endpoint,"
        " Metrics, Requests per minute, split by deployment.",
        fix="Ask whoever is named as the actor, or else the owner, whether this step of a release was meant, and"
        " acknowledge with the ticket.",
        rollback="Give the shares under `before` back: az ml online-endpoint update -n KEY -g GROUP -w WORKSPACE"
        ' --traffic "blue=100 green=0"; of batch: az ml batch-endpoint update -n KEY --set'
        " defaults.deployment_name=OLD. The deployment must still be there: see endpoint-config-changed.",
        signal="It resolves when every share, or the default, is again as it was at first. It opens again with the next"
        " shift, acknowledged or not.",
    ),
)
