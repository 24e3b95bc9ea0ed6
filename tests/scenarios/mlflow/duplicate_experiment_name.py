"""Two experiments of one workspace whose names differ in capitals, blanks, hyphens or underscores alone."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "duplicate-experiment-name"


def _alike(world: MlflowWorld, name: str) -> str:
    ways = [name.upper(), name.replace(" ", "_"), name.replace(" ", "-"), name.replace(" ", "  "), f"{name} "]
    return world.choose.choice([one for one in ways if one != name])


def written_in_two_ways(world: MlflowWorld, plot: Plot) -> Plays:
    name = world.name("Churn Model")
    plot.near_miss(RULE, "experiment", world.experiment(name))  # the older one
    if world.choose.random() < 0.5:
        yield None
    experiment = world.experiment(_alike(world, name))
    plot.fault(RULE, "experiment", experiment)
    yield None
    if world.choose.random() < 0.5:
        world.post("experiments/delete", {"experiment_id": experiment})
        plot.over(RULE, "experiment", experiment)
        plot.fault("experiment-deleted", "experiment", experiment)
        yield None


def names_of_a_series(world: MlflowWorld, plot: Plot) -> Plays:
    name = world.name("churn")
    for one in (name, f"{name} v2", f"{name}s", f"{name}/eu"):
        plot.near_miss(RULE, "experiment", world.experiment(one))
    yield None


def the_other_is_deleted(world: MlflowWorld, plot: Plot) -> Plays:
    name = world.name("churn model")
    first = world.experiment(name)
    world.post("experiments/delete", {"experiment_id": first})
    plot.near_miss(RULE, "experiment", world.experiment(_alike(world, name)))
    plot.near_miss(RULE, "experiment", first)
    yield None


SCENARIOS = Scenario.of(RULE, (written_in_two_ways,), (names_of_a_series, the_other_is_deleted))
