"""A job that was sent to a compute was seen not started or queued an hour or more after it was made."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "queue-time-high"
_HOUR = timedelta(hours=1)


def jobs_wait(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    yield None
    jobs = [world.job(world.choose.choice(("NotStarted", "Queued")), compute=name) for _ in range(2)]
    plot.fault(RULE, "compute", name, after=_HOUR, looks=2)
    yield timedelta(minutes=world.choose.randint(65, 180))
    yield None
    if world.choose.random() < 0.6:
        for job in jobs:
            world.main.move_job(job, "Running")
        plot.over(RULE, "compute", name)
        yield None


def steps_of_a_pipeline_wait(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    world.nodes(name, 1, running=1)
    job = world.job("Running", kind="Pipeline", compute=name)
    yield None
    world.catch_up()
    world.main.spawn_children(job, 2, "Queued")
    plot.fault(RULE, "compute", name, after=_HOUR, looks=2)
    yield timedelta(minutes=80)
    yield None


def they_begin_within_the_hour(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    plot.near_miss(RULE, "compute", name)
    job = world.job("Queued", compute=name)
    yield timedelta(minutes=world.choose.randint(5, 50))
    world.main.move_job(job, "Running")
    world.nodes(name, 1, running=1)
    yield timedelta(hours=3)
    world.main.move_job(job, "Completed")
    yield None


def they_run_for_long(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    plot.near_miss(RULE, "compute", name)
    job = world.job(world.choose.choice(("Running", "Preparing", "Finalizing")), compute=name)
    yield timedelta(hours=world.choose.randint(2, 20))
    world.main.move_job(job, "Completed")
    yield None


def they_wait_for_no_compute_of_ours(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    plot.near_miss(RULE, "compute", name)
    plot.near_miss(RULE, "compute", "cpu-cluster")
    world.job("Queued", compute=None)
    yield timedelta(hours=3)


def one_after_the_other_waits_a_little(world: AzureWorld, plot: Plot) -> Plays:
    name = world.cluster()
    plot.near_miss(RULE, "compute", name)
    for _ in range(3):
        job = world.job("Queued", compute=name)
        yield timedelta(minutes=world.choose.randint(20, 45))
        world.main.move_job(job, "Completed")
    yield None


FAULTS = (jobs_wait, steps_of_a_pipeline_wait)
NEAR_MISSES = (they_begin_within_the_hour, they_run_for_long, they_wait_for_no_compute_of_ours,
               one_after_the_other_waits_a_little)  # fmt: skip
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
