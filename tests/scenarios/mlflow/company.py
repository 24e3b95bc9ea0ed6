"""What happens on any day: nothing of it is a fault."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.frame import COMPANY, Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld


def training(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    for _ in range(world.choose.randint(1, 3)):
        run = world.run(experiment, status="RUNNING", ago=timedelta(0))
        yield None
        world.log(run, metrics={"loss": 0.3, "auc": 0.8})
        yield None
        world.end(run, world.choose.choice(["FINISHED", "FAILED", "KILLED"]))
    yield None


def registering(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model()
    yield None
    world.version(model, world.run())
    world.alias(model, "candidate", "2")
    yield None


def housekeeping(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    yield None
    tag = {"experiment_id": experiment, "key": "purpose", "value": "a better model"}
    world.post("experiments/set-experiment-tag", tag)
    yield None


SCENARIOS = Scenario.of(COMPANY, (training, registering, housekeeping), ())
