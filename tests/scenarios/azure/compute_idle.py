"""Three looks in a row saw idle nodes and nothing running, unchanged for an hour and twice the time after which nodes
are given back."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "compute-idle"
_HOUR = timedelta(hours=1)


def nodes_are_not_given_back(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    count = world.choose.randint(1, 4)
    world.nodes(name, count, running=count)
    yield None
    world.nodes(name, count)
    plot.fault(RULE, "compute", name, after=_HOUR, looks=4)
    yield timedelta(minutes=70)
    yield None
    yield None
    yield None
    if world.choose.random() < 0.6:
        world.nodes(name, 0)
        plot.over(RULE, "compute", name)
        yield None


def kept_by_the_least_number(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster(scaleSettings={"minNodeCount": 2})
    world.nodes(name, 2)
    plot.fault(RULE, "compute", name, after=_HOUR, looks=4)
    yield timedelta(minutes=70)
    yield None
    yield None


def long_after_the_time_it_says(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster(scaleSettings={"nodeIdleTimeBeforeScaleDown": "PT1H15M"})
    world.nodes(name, 1)
    plot.fault(RULE, "compute", name, after=timedelta(minutes=150), looks=4)
    yield timedelta(minutes=100)
    yield timedelta(minutes=60)
    yield None
    yield None


def something_runs(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    world.nodes(name, 3, running=1)
    plot.near_miss(RULE, "compute", name)
    yield timedelta(hours=3)
    yield None
    yield None


def a_job_is_known_to_run_on_it(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    world.nodes(name, 1)
    world.job("Running", compute=name)
    plot.near_miss(RULE, "compute", name)
    yield timedelta(hours=3)
    yield None
    yield None


def given_back_within_the_hour(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    world.nodes(name, 2)
    plot.near_miss(RULE, "compute", name)
    yield timedelta(minutes=world.choose.randint(10, 50))
    world.nodes(name, 0)
    yield timedelta(hours=2)


def within_twice_the_time_it_says(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster(scaleSettings={"nodeIdleTimeBeforeScaleDown": "PT1H30M"})
    world.nodes(name, 2)
    plot.near_miss(RULE, "compute", name)
    yield timedelta(minutes=100)
    yield timedelta(minutes=40)
    world.nodes(name, 0)
    yield timedelta(hours=2)


def now_and_then_something_runs(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    plot.near_miss(RULE, "compute", name)
    for _ in range(3):
        world.nodes(name, 2)
        yield timedelta(minutes=world.choose.randint(20, 45))
        world.nodes(name, 2, running=1)
        yield timedelta(minutes=world.choose.randint(5, 45))
    world.nodes(name, 0)
    yield None


def an_instance_that_is_on(world: AzureWorld, plot: Plot) -> Plays:
    plot.near_miss(RULE, "compute", world.instance("Running"))
    yield timedelta(hours=world.choose.randint(3, 30))
    yield None
    yield None


FAULTS = (nodes_are_not_given_back, kept_by_the_least_number, long_after_the_time_it_says)
NEAR_MISSES = (something_runs, a_job_is_known_to_run_on_it, given_back_within_the_hour, within_twice_the_time_it_says,
               now_and_then_something_runs, an_instance_that_is_on)  # fmt: skip
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
