"""A model version whose run is deleted or gone: how it was made can no longer be shown."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "model-version-lost-its-run"


def bereave(world: MlflowWorld, plot: Plot, run: str, model: str, *, gone: bool = False) -> None:
    """Take away the run from which the first version of a model was registered: more rules than one say so."""
    if gone:
        world.purge(run)
        plot.fault("version-source-missing", "model_version", f"{model}/1")
    else:
        world.delete(run)
        plot.fault("registry-references-deleted", "registered_model", model)
    plot.fault(RULE, "model_version", f"{model}/1")
    plot.fault("run-deleted", "run", run)


def give_back(world: MlflowWorld, plot: Plot, run: str, model: str) -> None:
    """Restore it."""
    world.restore(run)
    plot.over(RULE, "model_version", f"{model}/1")
    plot.over("run-deleted", "run", run)
    plot.over("registry-references-deleted", "registered_model", model)


def its_run_was_deleted(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    yield None
    bereave(world, plot, run, model)
    yield None
    if world.choose.random() < 0.5:
        give_back(world, plot, run, model)
        yield None


def its_run_is_gone(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    yield None
    bereave(world, plot, run, model, gone=True)
    yield None


def its_artifacts_lie_elsewhere(world: MlflowWorld, plot: Plot) -> Plays:
    run, model = world.run(), world.model()
    key = world.version(model, run, source="s3://models/kept/elsewhere")
    yield None
    world.purge(run)
    plot.fault(RULE, "model_version", key)
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


FAULTS = (its_run_was_deleted, its_run_is_gone, its_artifacts_lie_elsewhere)
NEAR_MISSES = (the_version_was_withdrawn, a_neighbour_of_its_run)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
