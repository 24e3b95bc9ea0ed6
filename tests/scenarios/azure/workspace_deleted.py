"""A workspace is not there, said to somebody who may see it. Not: access that is refused."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "workspace-deleted"


def deleted_and_sometimes_recovered(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    yield None
    own.soft_delete(by=world.person())
    plot.fault(RULE, "workspace", own.name)
    plot.near_miss("access-lost", "workspace", own.name)
    yield None
    yield None
    if world.choose.random() < 0.6:
        own.recover()
        plot.over(RULE, "workspace", own.name)
        yield None


def gone_for_good(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    yield None
    own.state = "deleted"
    plot.fault(RULE, "workspace", own.name)
    plot.near_miss("access-lost", "workspace", own.name)
    yield None
    yield timedelta(hours=30)


def refused_and_then_known_to_be_deleted(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    yield None
    world.estate.deny(own.scope)
    plot.fault("access-lost", "workspace", own.name, looks=2, blind=True)
    yield None
    yield None
    world.estate.allow(own.scope)
    own.soft_delete()
    plot.over("access-lost", "workspace", own.name)
    plot.fault(RULE, "workspace", own.name)
    yield None


def it_may_not_be_seen(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    plot.near_miss(RULE, "workspace", own.name)
    yield None
    world.estate.deny(own.scope)
    plot.fault("access-lost", "workspace", own.name, looks=2, blind=True)
    yield None
    yield None
    if world.choose.random() < 0.5:
        world.estate.allow(own.scope)
        plot.over("access-lost", "workspace", own.name)
        yield None


def deleted_and_recovered_before_anybody_looked(world: AzureWorld, plot: Plot) -> Plays:
    own = world.workspace()
    plot.near_miss(RULE, "workspace", own.name)
    yield None
    own.soft_delete()
    own.recover()
    yield None


FAULTS = (deleted_and_sometimes_recovered, gone_for_good, refused_and_then_known_to_be_deleted)
NEAR_MISSES = (it_may_not_be_seen, deleted_and_recovered_before_anybody_looked)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
