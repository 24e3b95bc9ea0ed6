"""It has been between two states for an hour without anything moving, failed, or has nodes that cannot be used."""

from __future__ import annotations

from datetime import timedelta

from stocktake.demo.azure import serving
from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "compute-stuck"
_HOUR = timedelta(hours=1)


def a_cluster_that_is_resized_and_nothing_moves(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    yield None
    world.nodes(name, 1, running=1, wanted=4)
    world.inner(name, allocationState="Resizing")
    plot.fault(RULE, "compute", name, after=_HOUR, looks=3)
    yield timedelta(minutes=70)
    yield None
    yield None
    if world.choose.random() < 0.6:
        world.nodes(name, 4, running=4)
        world.inner(name, allocationState="Steady")
        plot.over(RULE, "compute", name)
        yield None


def it_does_not_get_the_nodes_it_wants(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    world.nodes(name, 0, wanted=2)
    world.inner(name, errors=[{"error": {"code": "ClusterCoreQuotaReached", "message": "quota"}}])
    plot.fault(RULE, "compute", name, after=_HOUR, looks=3)
    yield timedelta(minutes=70)
    yield None
    yield None


def an_instance_that_never_arrives(world: AzureWorld, plot: Plot) -> Plays:
    name = world.instance("Stopped")
    yield None
    world.inner(name, state=world.choose.choice(("Starting", "Stopping", "Restarting", "SettingUp")))
    plot.fault(RULE, "compute", name, after=_HOUR, looks=3)
    yield timedelta(minutes=70)
    yield None
    yield None
    if world.choose.random() < 0.6:
        world.inner(name, state="Running")
        plot.over(RULE, "compute", name)
        yield None


def it_failed(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    yield None
    world.main.edit("computes", name, properties={"provisioningState": "Failed"})
    plot.fault(RULE, "compute", name, after=_HOUR, looks=3)
    yield timedelta(minutes=70)
    yield None
    yield None


def nodes_that_cannot_be_used(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    counts = serving.node_counts(unusable=1, running=1)
    world.inner(name, currentNodeCount=2, targetNodeCount=2, nodeStateCounts=counts)
    plot.fault(RULE, "compute", name, after=_HOUR, looks=3)
    yield timedelta(minutes=70)
    yield None
    yield None


def nodes_come_one_by_one(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    plot.near_miss(RULE, "compute", name)
    world.inner(name, allocationState="Resizing")
    for count in range(4):
        world.nodes(name, count, running=count, wanted=4)
        yield timedelta(minutes=world.choose.randint(10, 45))
    world.nodes(name, 4, running=4)
    world.inner(name, allocationState="Steady")
    yield timedelta(hours=2)


def it_starts_and_is_there(world: AzureWorld, plot: Plot) -> Plays:
    name = world.instance("Stopped")
    plot.near_miss(RULE, "compute", name)
    yield None
    world.inner(name, state="Starting")
    yield timedelta(minutes=world.choose.randint(3, 45))
    world.inner(name, state="Running")
    yield timedelta(hours=3)


def it_is_switched_off(world: AzureWorld, plot: Plot) -> Plays:
    plot.near_miss(RULE, "compute", world.instance(world.choose.choice(("Stopped", "Running", "JobRunning"))))
    plot.near_miss(RULE, "compute", world.cluster())
    yield timedelta(hours=world.choose.randint(3, 30))
    yield None


FAULTS = (a_cluster_that_is_resized_and_nothing_moves, it_does_not_get_the_nodes_it_wants,
          an_instance_that_never_arrives, it_failed, nodes_that_cannot_be_used)  # fmt: skip
NEAR_MISSES = (nodes_come_one_by_one, it_starts_and_is_there, it_is_switched_off)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
