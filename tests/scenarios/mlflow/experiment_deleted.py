"""An experiment was deleted, with the runs that went with it."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "experiment-deleted"


def _with_runs(world: MlflowWorld) -> str:
    experiment = world.experiment()
    for _ in range(world.choose.randint(0, 3)):
        world.run(experiment)
    return experiment


def deleted(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = _with_runs(world)
    yield None
    world.post("experiments/delete", {"experiment_id": experiment})
    plot.fault(RULE, "experiment", experiment)
    yield None
    if world.choose.random() < 0.5:
        world.post("experiments/restore", {"experiment_id": experiment})
        plot.over(RULE, "experiment", experiment)
        yield None


def back_before_anybody_looked(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = _with_runs(world)
    plot.near_miss(RULE, "experiment", experiment)
    yield None
    world.post("experiments/delete", {"experiment_id": experiment})
    world.post("experiments/restore", {"experiment_id": experiment})
    yield None


def all_its_runs_deleted(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    runs = [world.run(experiment) for _ in range(2)]
    plot.near_miss(RULE, "experiment", experiment)
    yield None
    for run in runs:
        world.delete(run)
        plot.fault("run-deleted", "run", run)
    yield None


SCENARIOS = Scenario.of(RULE, (deleted,), (back_before_anybody_looked, all_its_runs_deleted))
