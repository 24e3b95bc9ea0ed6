"""A model version whose run is deleted or gone: how it was made can no longer be shown."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "model-version-lost-its-run"


def its_run_was_deleted(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    yield None
    world.delete(run)
    plot.fault(RULE, "model_version", f"{model}/1")
    plot.fault("run-deleted", "run", run)
    yield None
    if world.choose.random() < 0.5:
        world.restore(run)
        plot.over(RULE, "model_version", f"{model}/1")
        plot.over("run-deleted", "run", run)
        yield None


def its_run_is_gone(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    yield None
    world.purge(run)
    plot.fault(RULE, "model_version", f"{model}/1")
    plot.fault("run-deleted", "run", run)
    yield None


def the_version_was_withdrawn(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    plot.near_miss(RULE, "model_version", f"{model}/1")
    yield None
    world.post("model-versions/delete", {"name": model, "version": "1"}, "DELETE")
    world.delete(run)
    plot.fault("run-deleted", "run", run)
    yield None


def a_neighbour_of_its_run(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    run, other = world.run(experiment), world.run(experiment)
    model = world.model(run)
    plot.near_miss(RULE, "model_version", f"{model}/1")
    yield None
    world.delete(other)
    plot.fault("run-deleted", "run", other)
    yield None


FAULTS = (its_run_was_deleted, its_run_is_gone)
NEAR_MISSES = (the_version_was_withdrawn, a_neighbour_of_its_run)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
