"""An experiment or a registered model that names no owner."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "missing-owner"


def _nobodys_experiment(world: MlflowWorld, **tags: str) -> str:
    answer = world.post(
        "experiments/create",
        {
            "name": world.name("nobody's"),
            "artifact_location": "mlflow-artifacts:/scenarios/nobody",
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        },
    )
    return str(answer["experiment_id"])


def an_experiment(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = _nobodys_experiment(world, purpose="try")
    plot.fault(RULE, "experiment", experiment)
    yield None
    if world.choose.random() < 0.7:
        tag = {"experiment_id": experiment, "key": "team", "value": "vision"}
        world.post("experiments/set-experiment-tag", tag)
        plot.over(RULE, "experiment", experiment)
        yield None


def a_model(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.name("nobody's").replace("/", "-")
    world.post("registered-models/create", {"name": model})
    plot.fault(RULE, "registered_model", model)
    yield None


def an_owner_was_taken_away(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.name("model").replace("/", "-")
    world.post("registered-models/create", {"name": model, "tags": [{"key": "owner", "value": "ada"}]})
    yield None
    world.post("registered-models/delete-tag", {"name": model, "key": "owner"}, "DELETE")
    plot.fault(RULE, "registered_model", model)
    yield None


def another_of_the_tags(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = _nobodys_experiment(world, **{world.choose.choice(["owner", "team", "contact"]): "ada"})
    plot.near_miss(RULE, "experiment", experiment)
    yield None


def of_a_deleted_experiment_nobody_needs_one(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = _nobodys_experiment(world)
    plot.near_miss(RULE, "experiment", experiment)
    world.post("experiments/delete", {"experiment_id": experiment})
    yield None


FAULTS = (an_experiment, a_model, an_owner_was_taken_away)
NEAR_MISSES = (another_of_the_tags, of_a_deleted_experiment_nobody_needs_one)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
