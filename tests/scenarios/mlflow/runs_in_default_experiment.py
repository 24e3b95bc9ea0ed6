"""Runs in the experiment Default. It is one for the whole server, and so is its finding."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "runs-in-default-experiment"


def runs_in_it(world: MlflowWorld, plot: Plot) -> Plays:
    yield None
    runs = [world.run("0") for _ in range(world.choose.randint(1, 3))]
    plot.fault(RULE, "experiment", "0")
    plot.fault("local-artifact-uri", "experiment", "0")  # this server's root is a folder
    yield None
    if world.choose.random() < 0.7:
        for run in runs:
            world.delete(run)
            plot.fault("run-deleted", "run", run)
        plot.over(RULE, "experiment", "0")
        plot.over("local-artifact-uri", "experiment", "0")
        yield None


def a_deleted_run_in_it(world: MlflowWorld, plot: Plot) -> Plays:
    plot.near_miss(RULE, "experiment", "0")
    world.delete(world.run("0"))
    yield None


def runs_in_one_that_is_called_nearly_so(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment(world.name("Default"))
    plot.near_miss(RULE, "experiment", experiment)
    plot.near_miss(RULE, "experiment", "0")
    world.run(experiment)
    yield None


NEAR_MISSES = (a_deleted_run_in_it, runs_in_one_that_is_called_nearly_so)
SCENARIOS = Scenario.of(RULE, (runs_in_it,), NEAR_MISSES, alone=True)
