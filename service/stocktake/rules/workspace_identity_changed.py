"""A workspace acts under another identity than before: what it may read and write is decided elsewhere now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, edited, in_parts

_IDENTITY = ("identity.", "identity[", "properties.primaryUserAssignedIdentity")


def _matters(field: Mapping[str, Any]) -> bool:
    return str(field["path"]).startswith(_IDENTITY)


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """The type, the principals, and which of several is the first."""
    return edited(in_parts(change), held, _matters)


RULE = ChangeRule(
    id="workspace-identity-changed",
    severity=Severity.WARNING,
    kinds=(Kind.WORKSPACE,),
    types=(ChangeType.UPDATED,),
    check=check,
    words=Words(
        title="A workspace acts under another identity",
        why="The workspace reaches its storage, key vault, registry and network under this identity. Another one has"
        " other rights: jobs and deployments may fail, or may reach what they should not. Rights that were given to"
        " the old principal are not taken back by this.",
        cli="stocktake changes --kind workspace; stocktake history workspace workspace;"
        " az ml workspace show -n WORKSPACE -g GROUP --query identity; az role assignment list --assignee PRINCIPAL"
        " --all",
        rest="GET .../workspaces/WORKSPACE?api-version=2024-10-01-preview (identity,"
        " properties.primaryUserAssignedIdentity). Who wrote it, in Log Analytics: `AzureActivity | where _ResourceId"
        ' endswith "/workspaces/WORKSPACE" and OperationNameValue endswith "WORKSPACES/WRITE" | project'
        " TimeGenerated, Caller, ActivityStatusValue`",
        portal="Azure portal: the workspace, Settings, Identity; then Azure role assignments of the identity.",
        fix="Ask whoever is named as the actor whether it was meant. If it was, give the new principal the rights that"
        " it needs and take those of the old one away.",
        rollback="Attach the identity under `before` again: az ml workspace update -n WORKSPACE -g GROUP with the"
        " identity in its file. A system-assigned principal that was dropped never comes back: a new one gets another"
        " id, and needs its roles anew.",
        signal="It resolves when type and principals are again as they were at first.",
    ),
)
