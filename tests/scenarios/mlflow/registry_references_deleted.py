"""The registry refers to what is deleted and can still be restored, or an alias to a version that is not there."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow.model_version_lost_its_run import bereave, give_back
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "registry-references-deleted"


def a_deleted_run(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    yield None
    bereave(world, plot, run, model)
    yield None
    if world.choose.random() < 0.5:
        give_back(world, plot, run, model)
        yield None


def runs_of_a_deleted_experiment(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    model = world.model(world.run(experiment))
    yield None
    world.post("experiments/delete", {"experiment_id": experiment})
    plot.fault("experiment-deleted", "experiment", experiment)
    plot.fault("model-version-lost-its-run", "model_version", f"{model}/1")
    plot.fault(RULE, "registered_model", model)
    yield None


def a_deleted_logged_model(world: MlflowWorld, plot: Plot) -> Plays:
    run, model = world.run(), world.model()
    logged = world.logged_model(run)
    world.version(model, run, source=f"models:/{logged}", model_id=logged)
    yield None
    world.post(f"logged-models/{logged}", {}, "DELETE")
    plot.fault(RULE, "registered_model", model)
    yield None


def an_alias_of_a_version_that_sql_removed(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(aliases={"candidate": "2"}, versions=2)
    yield None
    world.sql("DELETE FROM model_versions WHERE name = ? AND version = 2", model)
    plot.fault(RULE, "registered_model", model)
    yield None


def a_version_that_was_withdrawn_with_its_run(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    plot.near_miss(RULE, "registered_model", model)
    yield None
    world.post("model-versions/delete", {"name": model, "version": "1"}, "DELETE")
    world.delete(run)
    plot.fault("run-deleted", "run", run)
    yield None


def a_deleted_run_whose_model_lies_elsewhere(world: MlflowWorld, plot: Plot) -> Plays:
    run, model = world.run(), world.model()
    key = world.version(model, run, source="s3://models/kept/elsewhere")
    plot.near_miss(RULE, "registered_model", model)
    yield None
    world.delete(run)
    plot.fault("run-deleted", "run", run)
    plot.fault("model-version-lost-its-run", "model_version", key)
    yield None


FAULTS = (
    a_deleted_run,
    runs_of_a_deleted_experiment,
    a_deleted_logged_model,
    an_alias_of_a_version_that_sql_removed,
)
NEAR_MISSES = (a_version_that_was_withdrawn_with_its_run, a_deleted_run_whose_model_lies_elsewhere)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
