"""An experiment that holds runs, whose artifacts go to a path on whichever machine logs."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "local-artifact-uri"
_LOCAL = ("/home/ada/mlruns/7", "file:///home/ada/mlruns/7", "file:/tmp/x", "C:/Users/ada/mlruns", "./mlruns/7")
_REMOTE = (
    "s3://models/x",
    "wasbs://c@acc.blob.core.windows.net/x",
    "mlflow-artifacts:/7",
    "dbfs:/databricks/x",
    "gs://m",
)


def a_path(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment(location=world.choose.choice(_LOCAL))
    yield None
    run = world.run(experiment)
    plot.fault(RULE, "experiment", experiment)
    yield None
    if world.choose.random() < 0.5:
        world.delete(run)
        plot.fault("run-deleted", "run", run)
        plot.over(RULE, "experiment", experiment)
        yield None


def a_path_that_nobody_used_yet(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment(location=world.choose.choice(_LOCAL))
    plot.near_miss(RULE, "experiment", experiment)
    yield None


def a_storage(world: MlflowWorld, plot: Plot) -> Plays:
    for location in world.choose.sample(_REMOTE, 2):
        experiment = world.experiment(location=location)
        plot.near_miss(RULE, "experiment", experiment)
        world.run(experiment)
    yield None


def a_deleted_experiment(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment(location=world.choose.choice(_LOCAL))
    plot.near_miss(RULE, "experiment", experiment)
    world.run(experiment)
    world.post("experiments/delete", {"experiment_id": experiment})
    yield None


SCENARIOS = Scenario.of(RULE, (a_path,), (a_path_that_nobody_used_yet, a_storage, a_deleted_experiment))
