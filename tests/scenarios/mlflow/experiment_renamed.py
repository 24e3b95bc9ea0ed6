"""An experiment was renamed; it is over when it bears its old name again."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "experiment-renamed"


def _rename(world: MlflowWorld, experiment: str, name: str) -> None:
    world.post("experiments/update", {"experiment_id": experiment, "new_name": name})


def renamed(world: MlflowWorld, plot: Plot) -> Plays:
    name = world.name("churn")
    experiment = world.experiment(name)
    yield None
    _rename(world, experiment, world.name("churn"))
    plot.fault(RULE, "experiment", experiment)
    yield None
    if world.choose.random() < 0.5:
        _rename(world, experiment, name)
        plot.over(RULE, "experiment", experiment)
        yield None


def back_before_anybody_looked(world: MlflowWorld, plot: Plot) -> Plays:
    name = world.name("churn")
    experiment = world.experiment(name)
    plot.near_miss(RULE, "experiment", experiment)
    yield None
    _rename(world, experiment, world.name("churn"))
    _rename(world, experiment, name)
    yield None


def another_description(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    plot.near_miss(RULE, "experiment", experiment)
    yield None
    for key in ("mlflow.note.content", "name"):
        tag = {"experiment_id": experiment, "key": key, "value": world.name("churn")}
        world.post("experiments/set-experiment-tag", tag)
    yield None


SCENARIOS = Scenario.of(RULE, (renamed,), (back_before_anybody_looked, another_description))
