"""An endpoint or one of its deployments was configured otherwise, or removed: other code, machines, doors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import Category, ChangeType, Kind
from stocktake.core.diff import category
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, edited, facts

#: Shares and defaults are the rule traffic-shifted's; instances are counted by autoscaling; the rest decides nothing.
_ELSE = re.compile(
    r"properties\.traffic\b|properties\.defaults\b|sku\.capacity\Z|tags\b|properties\.description\Z"
    r"|properties\.properties\b|systemData\b"
)


def _matters(field: Mapping[str, Any]) -> bool:
    """What people decide about how requests are answered; not where it stands, nor words about it."""
    path = str(field["path"])
    return category(path) in (Category.CONFIG, Category.IDENTITY) and not _ELSE.match(path)


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """Fields that differ from what they were at first; one that was removed, unless its endpoint was."""
    fields = list((held or {}).get("fields", ()))
    if change.type == ChangeType.PURGED:
        if change.part_of is not None and held is None:
            return None
        return Verdict(holds=True, evidence=facts(change) | {"removed": True, "fields": fields})
    if change.type == ChangeType.RESTORED:
        if held is None:
            return None
        now = edited(change, held, _matters)
        return now or Verdict(holds=bool(fields), evidence=facts(change) | {"fields": fields})
    return edited(change, held, _matters)


RULE = ChangeRule(
    id="endpoint-config-changed",
    severity=Severity.WARNING,
    kinds=(Kind.ONLINE_ENDPOINT, Kind.ONLINE_DEPLOYMENT, Kind.BATCH_ENDPOINT, Kind.BATCH_DEPLOYMENT),
    types=(ChangeType.UPDATED, ChangeType.PURGED, ChangeType.RESTORED),
    check=check,
    words=Words(
        title="An endpoint or a deployment was configured otherwise, or removed",
        why="Another model, environment, code, instance type, probe, network access, identity or way to authenticate:"
        " callers may get other answers, or none, and nothing in the callers' code shows why. Shares of traffic are"
        " the rule traffic-shifted. Tags, descriptions and the number of instances are not looked at: the last is what"
        " autoscaling moves.",
        cli="stocktake history KIND KEY; stocktake lineage KIND KEY;"
        " az ml online-endpoint show -n ENDPOINT -g GROUP -w WORKSPACE;"
        " az ml online-deployment show -n NAME -e ENDPOINT -g GROUP -w WORKSPACE (of batch: az ml batch-endpoint,"
        " az ml batch-deployment)",
        rest="GET .../workspaces/WORKSPACE/onlineEndpoints/ENDPOINT/deployments/NAME?api-version=2023-04-01-preview"
        " (of batch: batchEndpoints) shows it as it is now; what it was before is in the evidence. Who wrote it, in"
        ' Log Analytics: `AzureActivity | where _ResourceId contains "endpoints/ENDPOINT" and OperationNameValue'
        ' endswith "/WRITE" | project TimeGenerated, Caller, OperationNameValue, ActivityStatusValue`',
        portal="Azure ML studio: Endpoints, the endpoint, the deployment, Details. Azure portal: the endpoint, Activity"
        " log.",
        fix="Ask whoever is named as the actor, or else the owner, whether the change was released. If it was,"
        " acknowledge with the ticket, and let the definition in source control say the same.",
        rollback="Set the fields back to what stands under `before`: `az ml online-deployment update` with the file"
        " from source control, or --set PATH=VALUE. One that was `removed` is made anew from its file"
        " (`az ml online-deployment create`); its last documents are in `stocktake history KIND KEY`.",
        signal="It resolves when every field is again as it was at first, or what was removed is there again. It opens"
        " again with the next change. A deployment that goes with its endpoint is part of the endpoint's finding.",
    ),
)
