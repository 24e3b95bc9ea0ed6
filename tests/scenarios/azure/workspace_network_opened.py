"""Public network access was allowed, the isolation loosened, or the storage account lets in whom it kept out. Not: what
was shut further, single addresses, anything else."""

from __future__ import annotations

from typing import Any

from stocktake.demo.azure.workspace import Workspace
from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "workspace-network-opened"
_SHUT: dict[str, Any] = {"publicNetworkAccess": "Disabled",
                         "managedNetwork": {"isolationMode": "AllowOnlyApprovedOutbound"}}  # fmt: skip
_OPEN: tuple[dict[str, Any], ...] = (
    {"publicNetworkAccess": "Enabled"},
    {"managedNetwork": {"isolationMode": "AllowInternetOutbound"}},
    {"managedNetwork": {"isolationMode": "Disabled"}},
)


def _shut(world: AzureWorld) -> Workspace:
    made = world.workspace(properties=_SHUT)
    made.edit_storage(publicNetworkAccess="Disabled", networkAcls={"defaultAction": "Deny"})
    return made


def _account(workspace: Workspace) -> str:
    return str(workspace.storage()["name"])


def opened_and_sometimes_shut_again(world: AzureWorld, plot: Plot) -> Plays:
    own = _shut(world)
    yield None
    own.edit_workspace(properties=world.choose.choice(_OPEN))
    plot.fault(RULE, "workspace", own.name)
    yield None
    if world.choose.random() < 0.6:
        own.edit_workspace(properties=_SHUT)
        plot.over(RULE, "workspace", own.name)
        yield None


def opened_a_little_further(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace(properties={"managedNetwork": {"isolationMode": "AllowInternetOutbound"}})
    yield None
    own.edit_workspace(properties={"managedNetwork": {"isolationMode": "Disabled"}})
    plot.fault(RULE, "workspace", own.name)
    yield None
    if world.choose.random() < 0.5:  # shut further than it was
        own.edit_workspace(properties={"managedNetwork": {"isolationMode": "AllowOnlyApprovedOutbound"}})
        plot.over(RULE, "workspace", own.name)
        yield None


def the_storage_account_is_opened(world: AzureWorld, plot: Plot) -> Plays:
    own = _shut(world)
    yield None
    patch = world.choose.choice(
        (
            {"publicNetworkAccess": "Enabled"},
            {"publicNetworkAccess": None},
            {"networkAcls": {"defaultAction": "Allow"}},
            {"allowBlobPublicAccess": True},
        )
    )
    own.edit_storage(**patch)
    plot.fault(RULE, "storage_account", _account(own))
    plot.near_miss(RULE, "workspace", own.name)
    yield None


def shut(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    plot.near_miss(RULE, "workspace", own.name)
    plot.near_miss(RULE, "storage_account", _account(own))
    yield None
    own.edit_workspace(properties=_SHUT)
    own.edit_storage(publicNetworkAccess="Disabled", networkAcls={"defaultAction": "Deny", "ipRules": [{"value": "a"}]})
    yield None


def open_from_the_first_look_on(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    plot.near_miss(RULE, "workspace", own.name)
    yield None
    own.edit_workspace(tags={"team": "risk"}, properties={"description": "open"})
    yield None


def opened_and_shut_before_anybody_looked(world: AzureWorld, plot: Plot) -> Plays:
    own = _shut(world)
    plot.near_miss(RULE, "workspace", own.name)
    yield None
    own.edit_workspace(properties={"publicNetworkAccess": "Enabled"})
    own.edit_workspace(properties=_SHUT)
    yield None


FAULTS = (opened_and_sometimes_shut_again, opened_a_little_further, the_storage_account_is_opened)
NEAR_MISSES = (shut, open_from_the_first_look_on, opened_and_shut_before_anybody_looked)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
