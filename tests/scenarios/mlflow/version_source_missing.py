"""A model version whose source is gone: the run, the logged model or the version that its artifacts came from."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow.model_version_lost_its_run import bereave
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "version-source-missing"


def its_run_is_gone(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    yield None
    bereave(world, plot, run, model, gone=True)
    yield None


def it_names_a_run_that_never_was(world: MlflowWorld, plot: Plot) -> Plays:
    nobody = f"{world.choose.getrandbits(128):032x}"
    key = world.version(world.model(), nobody)
    for rule in (RULE, "model-version-lost-its-run"):
        plot.fault(rule, "model_version", key)
    yield None


def what_it_was_copied_from_was_deleted(world: MlflowWorld, plot: Plot) -> Plays:
    first, second = world.model(), world.model()
    key = world.version(second, None, source=f"models:/{first}/1")
    yield None
    world.post("model-versions/delete", {"name": first, "version": "1"}, "DELETE")
    plot.fault(RULE, "model_version", key)
    yield None
    if world.choose.random() < 0.5:
        world.post("model-versions/delete", {"name": second, "version": key.rpartition("/")[2]}, "DELETE")
        plot.over(RULE, "model_version", key)
        yield None


def its_run_can_be_restored(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    plot.near_miss(RULE, "model_version", f"{model}/1")
    yield None
    bereave(world, plot, run, model)
    yield None


def it_lies_in_a_storage_of_its_own(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model()
    for source in ("s3://models/x", "gs://models/x", "wasbs://c@acc.blob.core.windows.net/x"):
        plot.near_miss(RULE, "model_version", world.version(model, world.run(), source=source))
    yield None


def it_was_made_from_a_logged_model(world: MlflowWorld, plot: Plot) -> Plays:
    run, model = world.run(), world.model()
    logged = world.logged_model(run)
    key = world.version(model, run, source=f"models:/{logged}", model_id=logged)
    plot.near_miss(RULE, "model_version", key)
    yield None


FAULTS = (its_run_is_gone, it_names_a_run_that_never_was, what_it_was_copied_from_was_deleted)
NEAR_MISSES = (its_run_can_be_restored, it_lies_in_a_storage_of_its_own, it_was_made_from_a_logged_model)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
