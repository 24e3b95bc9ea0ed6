"""A run was deleted or purged, and not because its experiment was."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "run-deleted"


def deleted(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run(status=world.choose.choice(["FINISHED", "FAILED"]))
    yield None
    world.delete(run)
    plot.fault(RULE, "run", run)
    yield None
    if world.choose.random() < 0.5:
        world.restore(run)
        plot.over(RULE, "run", run)
        yield None


def purged(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    run = world.run(experiment)
    world.run(experiment)
    yield None
    world.purge(run)
    plot.fault(RULE, "run", run)
    yield None


def deleted_and_then_purged(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    yield None
    world.delete(run)
    plot.fault(RULE, "run", run)
    yield None
    world.purge(run)
    yield None


def restored_before_anybody_looked(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    plot.near_miss(RULE, "run", run)
    yield None
    world.delete(run)
    world.restore(run)
    yield None


def with_its_experiment(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    runs = [world.run(experiment) for _ in range(world.choose.randint(1, 4))]
    for run in runs:
        plot.near_miss(RULE, "run", run)
    yield None
    world.post("experiments/delete", {"experiment_id": experiment})
    plot.fault("experiment-deleted", "experiment", experiment)
    yield None


FAULTS = (deleted, purged, deleted_and_then_purged)
NEAR_MISSES = (restored_before_anybody_looked, with_its_experiment)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
