"""A workspace, or a part of it, cannot be looked at: two scans in a row. One that is deleted is no such."""

from __future__ import annotations

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "access-lost"


def a_part_of_it_is_refused(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    yield None
    action = world.choose.choice(("*/computes/read", "*/models/*", "*/roleAssignments/read", "*/jobs/read"))
    world.estate.deny(own.scope, action)
    plot.fault(RULE, "workspace", own.name, looks=2, blind=True)
    yield None
    yield None
    if world.choose.random() < 0.6:
        world.estate.allow(own.scope, action)
        plot.over(RULE, "workspace", own.name)
        yield None


def a_part_of_it_was_refused_when_it_was_deleted(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    yield None
    world.estate.deny(own.scope, "*/computes/read")
    plot.fault(RULE, "workspace", own.name, looks=2, blind=True)
    yield None
    yield None
    own.soft_delete()
    plot.over(RULE, "workspace", own.name)
    plot.fault("workspace-deleted", "workspace", own.name)
    yield None
    yield None


def it_is_deleted(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    plot.near_miss(RULE, "workspace", own.name)
    yield None
    own.soft_delete()
    plot.fault("workspace-deleted", "workspace", own.name)
    yield None
    yield None
    yield None


SCENARIOS = Scenario.of(RULE, (a_part_of_it_is_refused, a_part_of_it_was_refused_when_it_was_deleted), (it_is_deleted,))
