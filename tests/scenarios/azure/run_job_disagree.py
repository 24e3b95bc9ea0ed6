"""Job and run are in states that do not go together, for an hour. Not: states that do, or for less than that."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "run-job-disagree"
_HOUR = timedelta(hours=1)
_TOGETHER = (("Starting", "RUNNING"), ("Finalizing", "FINISHED"), ("CancelRequested", "KILLED"),
             ("Completed", "FINISHED"))  # fmt: skip
_APART = (("Failed", "FINISHED"), ("Completed", "RUNNING"), ("Canceled", "FINISHED"), ("Running", "FINISHED"),
          ("Completed", "KILLED"))  # fmt: skip


def they_say_different_things(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job("Running", compute=None)
    yield None
    status, run = world.choose.choice(_APART)
    world.main.move_job(job, status, run_status=run)
    plot.fault(RULE, "job", job, after=_HOUR, looks=2)
    yield timedelta(minutes=75)
    yield None
    if world.choose.random() < 0.6:
        world.main.move_job(job, "Completed")
        plot.over(RULE, "job", job)
        yield None


def for_less_than_an_hour(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job("Running", compute=None)
    plot.near_miss(RULE, "job", job)
    yield None
    world.main.move_job(job, "Completed", run_status="RUNNING")
    yield timedelta(minutes=world.choose.randint(10, 50))
    world.main.move_job(job, "Completed")
    yield timedelta(hours=2)


def states_that_go_together(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job("Running", compute=None)
    plot.near_miss(RULE, "job", job)
    yield None
    status, run = world.choose.choice(_TOGETHER)
    world.main.move_job(job, status, run_status=run)
    yield timedelta(hours=world.choose.randint(2, 9))
    world.main.move_job(job, "Completed")
    yield None


def it_goes_its_way(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job("NotStarted", compute=None)
    plot.near_miss(RULE, "job", job)
    for status in ("Queued", "Preparing", "Starting", "Running", "Finalizing"):
        yield timedelta(minutes=world.choose.randint(1, 30))
        world.main.move_job(job, status)
    yield timedelta(minutes=3)
    world.main.move_job(job, world.choose.choice(("Completed", "Failed", "Canceled")))
    yield timedelta(hours=2)


NEAR_MISSES = (for_less_than_an_hour, states_that_go_together, it_goes_its_way)
SCENARIOS = Scenario.of(RULE, (they_say_different_things,), NEAR_MISSES)
