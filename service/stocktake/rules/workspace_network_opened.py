"""A workspace, or its storage account, can be reached from where it could not be, or reaches further out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, edited, in_parts

_PUBLIC = {"Disabled": 0, "SecuredByPerimeter": 1, "Enabled": 2}
#: From shut to open. A value that is in no list says nothing, nor does one that is not there, where no default is
#: documented.
_OPENNESS: Mapping[str, Mapping[Any, int]] = {
    "properties.publicNetworkAccess": _PUBLIC,
    "properties.allowPublicAccessWhenBehindVnet": {False: 0, True: 1},
    "properties.networkAcls.defaultAction": {"Deny": 0, "Allow": 1},
    "properties.managedNetwork.isolationMode": {
        "AllowOnlyApprovedOutbound": 0,
        "AllowInternetOutbound": 1,
        "Disabled": 2,
    },
    # Of storage accounts Azure documents that what is not said is open.
    "account.properties.publicNetworkAccess": _PUBLIC | {None: 2},
    "account.properties.networkAcls.defaultAction": {"Deny": 0, "Allow": 1, None: 1},
    "account.properties.allowBlobPublicAccess": {False: 0, True: 1},
}


def _openness(path: str, value: Any) -> int | None:
    return _OPENNESS.get(path, {}).get(value) if isinstance(value, str | bool | None) else None


def _opened(path: str, first: Any, now: Any) -> bool:
    """Whether it is more open than at first; where that cannot be told any more, it stays so."""
    before, after = _openness(path, first), _openness(path, now)
    return before is not None and (after is None or after > before)


def _matters(field: Mapping[str, Any]) -> bool:
    path, after = str(field["path"]), field.get("after")
    return _openness(path, after) is not None and _opened(path, field.get("before"), after)


def check(change: Seen, held: Mapping[str, Any] | None) -> Verdict | None:
    """What is more open than it was at first. What was shut further is no finding."""
    return edited(in_parts(change), held, _matters, _opened)


RULE = ChangeRule(
    id="workspace-network-opened",
    severity=Severity.WARNING,
    kinds=(Kind.WORKSPACE, Kind.STORAGE_ACCOUNT),
    types=(ChangeType.UPDATED,),
    check=check,
    words=Words(
        title="A workspace's network was opened",
        why="Public network access was allowed, the isolation of its managed network was loosened, or the storage"
        " account with its artifacts and data lets in whom it kept out. Whoever has a token or a key can now use it"
        " from there; whatever runs inside can send data out. Single addresses and outbound rules that are let through"
        " an otherwise shut network are not looked at: `stocktake changes` shows them.",
        cli="stocktake changes --kind workspace; stocktake changes --kind storage_account; az ml workspace show -n"
        ' WORKSPACE -g GROUP --query "{public: public_network_access, managed: managed_network}"; az storage account'
        ' show -n ACCOUNT --query "{public: publicNetworkAccess, acls: networkRuleSet, anonymous:'
        ' allowBlobPublicAccess}"',
        rest="GET .../workspaces/WORKSPACE?api-version=2024-10-01-preview (properties.publicNetworkAccess,"
        " properties.managedNetwork.isolationMode); GET .../storageAccounts/ACCOUNT?api-version=2023-05-01. Who wrote"
        ' it, in Log Analytics: `AzureActivity | where _ResourceId endswith "/workspaces/WORKSPACE" or _ResourceId'
        ' endswith "/storageaccounts/ACCOUNT" | where OperationNameValue endswith "/WRITE" | project TimeGenerated,'
        " Caller, ActivityStatusValue`",
        portal="Azure portal: the workspace, Settings, Networking (Public access; Workspace managed outbound access);"
        " the storage account, Security + networking, Networking.",
        fix="Ask whoever is named as the actor whether it was approved, and until when. If it was opened for a repair,"
        " agree on the hour at which it is shut.",
        rollback="az ml workspace update -n WORKSPACE -g GROUP --public-network-access Disabled; --managed-network"
        " allow_only_approved_outbound; az storage account update -n ACCOUNT --public-network-access Disabled"
        " --default-action Deny --allow-blob-public-access false: what stands under `before`. Azure does not let every"
        " isolation be set back: changeableIsolationModes of the workspace says to what.",
        signal="It resolves when nothing is more open than it was at first. What was shut further opens no finding.",
    ),
)
