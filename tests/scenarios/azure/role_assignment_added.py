"""Somebody has a role whom nobody had given one at the first look: at the workspace, its group, its subscription."""

from __future__ import annotations

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "role-assignment-added"
_PLACES = ("workspace", "group", "subscription")


def given_and_sometimes_taken_away(world: AzureWorld, plot: Plot) -> Plays:
    yield None  # what is there at the first look was there
    role = world.role(world.main, at=world.choose.choice(_PLACES))
    plot.fault(RULE, "role_assignment", role)
    yield None
    if world.choose.random() < 0.6:
        world.shelf("roleAssignments").remove(role)
        plot.over(RULE, "role_assignment", role)
        yield None


def several_at_once(world: AzureWorld, plot: Plot) -> Plays:
    yield None
    for _ in range(world.choose.randint(2, 4)):
        plot.fault(RULE, "role_assignment", world.role(world.main, at=world.choose.choice(_PLACES)))
    yield None


def taken_away_and_given_again(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    role = world.role(own)
    shelf = own.shelf("roleAssignments")
    assert shelf is not None
    yield None
    shelf.remove(role)
    yield None
    shelf.bring_back(role)
    plot.fault(RULE, "role_assignment", role)
    yield None


def there_at_the_first_look(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    plot.near_miss(RULE, "role_assignment", world.role(own, at=world.choose.choice(_PLACES)))
    yield None
    yield None


def taken_away(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    role = world.role(own)
    plot.near_miss(RULE, "role_assignment", role)
    yield None
    shelf = own.shelf("roleAssignments")
    assert shelf is not None
    shelf.remove(role)
    yield None


def a_condition_is_put_on_an_old_one(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    role = world.role(own)
    plot.near_miss(RULE, "role_assignment", role)
    yield None
    own.edit("roleAssignments", role, properties={"condition": "@Resource[x] StringEquals 'y'"})
    yield None


def given_and_taken_away_before_anybody_looked(world: AzureWorld, plot: Plot) -> Plays:
    yield None
    role = world.role(world.main)
    plot.near_miss(RULE, "role_assignment", role)
    world.shelf("roleAssignments").remove(role)
    yield None


FAULTS = (given_and_sometimes_taken_away, several_at_once, taken_away_and_given_again)
NEAR_MISSES = (there_at_the_first_look, taken_away, a_condition_is_put_on_an_old_one,
               given_and_taken_away_before_anybody_looked)  # fmt: skip
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
