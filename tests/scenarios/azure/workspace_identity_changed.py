"""The workspace acts under another identity: another type, another principal, another first one of several."""

from __future__ import annotations

from typing import Any

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "workspace-identity-changed"
_USER = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/jobs"


def another_principal_and_sometimes_the_old_one_again(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    was = own.body()["identity"]["principalId"]
    yield None
    own.edit_workspace(identity={"principalId": "11111111-0000-4000-8000-000000000001"})
    plot.fault(RULE, "workspace", own.name)
    yield None
    if world.choose.random() < 0.6:
        own.edit_workspace(identity={"principalId": was})
        plot.over(RULE, "workspace", own.name)
        yield None


def one_is_attached(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    yield None
    attached: dict[str, Any] = {_USER: {"principalId": "p", "clientId": "c"}}
    own.edit_workspace(identity={"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": attached})
    plot.fault(RULE, "workspace", own.name)
    yield None


def another_of_several_comes_first(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace(properties={"primaryUserAssignedIdentity": _USER})
    yield None
    own.edit_workspace(properties={"primaryUserAssignedIdentity": _USER + "-2"})
    plot.fault(RULE, "workspace", own.name)
    yield None


def something_else_changes(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    plot.near_miss(RULE, "workspace", own.name)
    yield None
    own.edit_workspace(tags={"identity": "ours"}, properties={"description": "identity"}, sku={"name": "Standard"})
    yield None


def it_is_changed_and_back_before_anybody_looked(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    plot.near_miss(RULE, "workspace", own.name)
    was = own.body()["identity"]["principalId"]
    yield None
    own.edit_workspace(identity={"principalId": "other"})
    own.edit_workspace(identity={"principalId": was})
    yield None


FAULTS = (another_principal_and_sometimes_the_old_one_again, one_is_attached, another_of_several_comes_first)
NEAR_MISSES = (something_else_changes, it_is_changed_and_back_before_anybody_looked)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
