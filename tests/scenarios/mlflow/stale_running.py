"""A run that says RUNNING, and nothing of it changed for 24 hours of looking."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "stale-running"
_DAY = timedelta(hours=24)


def silent(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run(status="RUNNING", ago=timedelta(0))
    yield None  # it counts from the first look that saw it, which an outage may put off
    plot.fault(RULE, "run", run, after=_DAY, grace=timedelta(hours=2))
    yield timedelta(hours=world.choose.randint(27, 60))
    if world.choose.random() < 0.6:
        if world.choose.random() < 0.5:
            world.log(run, metrics={"loss": 0.1})  # it lives after all
            plot.over(RULE, "run", run)
            yield timedelta(hours=3)
        else:
            plot.over(RULE, "run", run)
        world.end(run, "KILLED")
        yield None


def it_logs_now_and_then(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run(status="RUNNING", ago=timedelta(0))
    plot.near_miss(RULE, "run", run)
    for step in range(4):
        yield timedelta(hours=world.choose.randint(15, 22))
        world.log(run, metrics={"loss": 1 / (step + 1)})
    world.end(run)
    yield None


def it_ends_within_the_day(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run(status="RUNNING", ago=timedelta(0))
    plot.near_miss(RULE, "run", run)
    yield timedelta(hours=23)
    world.end(run)
    yield timedelta(hours=30)


def it_is_deleted(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run(status="RUNNING", ago=timedelta(0))
    plot.near_miss(RULE, "run", run)
    yield None
    world.delete(run)
    plot.fault("run-deleted", "run", run)
    yield timedelta(hours=30)


NEAR_MISSES = (it_logs_now_and_then, it_ends_within_the_day, it_is_deleted)
SCENARIOS = Scenario.of(RULE, (silent,), NEAR_MISSES)
