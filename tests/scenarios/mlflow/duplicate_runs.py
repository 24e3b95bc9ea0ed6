"""A run that repeats an earlier one: it finished with the same commit, the same data and the same parameters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "duplicate-runs"


def _recipe(world: MlflowWorld) -> dict[str, Any]:
    return {
        "params": {"lr": str(world.choose.random()), "depth": "3"},
        "tags": {"mlflow.source.git.commit": f"{world.choose.getrandbits(160):040x}"},
        "data": ("claims", f"{world.choose.getrandbits(32):08x}"),
    }


def _later(world: MlflowWorld) -> timedelta:
    return timedelta(minutes=world.choose.randint(1, 50))


def the_same_again(world: MlflowWorld, plot: Plot) -> Plays:
    recipe, elsewhere = _recipe(world), world.choose.random() < 0.3
    experiment = world.experiment()
    world.run(experiment, ago=timedelta(days=world.choose.randint(1, 20)), **recipe)
    yield None
    run = world.run(world.experiment() if elsewhere else experiment, ago=_later(world), **recipe)
    plot.fault(RULE, "run", run)
    yield None
    if world.choose.random() < 0.4:
        world.delete(run)
        plot.over(RULE, "run", run)
        plot.fault("run-deleted", "run", run)
        yield None


def three_times(world: MlflowWorld, plot: Plot) -> Plays:
    recipe, experiment = _recipe(world), world.experiment()
    first, *others = (world.run(experiment, ago=timedelta(hours=hours), **recipe) for hours in (30, 20, 10))
    plot.near_miss(RULE, "run", first)
    for run in others:
        plot.fault(RULE, "run", run)
    yield None


def _but(world: MlflowWorld, plot: Plot, **other: Any) -> Plays:
    recipe, experiment = _recipe(world), world.experiment()
    plot.near_miss(RULE, "run", world.run(experiment, ago=timedelta(hours=9), **recipe))
    changed = recipe | {name: recipe[name] | value if name != "data" else value for name, value in other.items()}
    plot.near_miss(RULE, "run", world.run(experiment, ago=_later(world), **changed))
    yield None


def another_parameter(world: MlflowWorld, plot: Plot) -> Plays:
    yield from _but(world, plot, params={"seed": "8"})


def another_commit(world: MlflowWorld, plot: Plot) -> Plays:
    yield from _but(world, plot, tags={"mlflow.source.git.commit": f"{world.choose.getrandbits(160):040x}"})


def other_data(world: MlflowWorld, plot: Plot) -> Plays:
    yield from _but(world, plot, data=("claims", "another"))


def the_first_failed(world: MlflowWorld, plot: Plot) -> Plays:
    recipe, experiment = _recipe(world), world.experiment()
    ended = world.choose.choice(["FAILED", "KILLED"])
    plot.near_miss(RULE, "run", world.run(experiment, status=ended, ago=timedelta(hours=9), **recipe))
    plot.near_miss(RULE, "run", world.run(experiment, ago=_later(world), **recipe))
    yield None


def they_log_no_parameters(world: MlflowWorld, plot: Plot) -> Plays:
    recipe, experiment = _recipe(world) | {"params": {}}, world.experiment()
    for hours in (9, 8):
        plot.near_miss(RULE, "run", world.run(experiment, ago=timedelta(hours=hours), **recipe))
    yield None


def they_log_no_data(world: MlflowWorld, plot: Plot) -> Plays:
    recipe, experiment = _recipe(world) | {"data": None}, world.experiment()
    for hours in (9, 8):
        plot.near_miss(RULE, "run", world.run(experiment, ago=timedelta(hours=hours), **recipe))
    yield None


def they_say_a_script_and_no_commit(world: MlflowWorld, plot: Plot) -> Plays:
    recipe, experiment = _recipe(world), world.experiment()
    recipe["tags"] = {"mlflow.source.git.commit": "", "mlflow.source.name": "train.py"}
    for hours in (9, 8):
        plot.near_miss(RULE, "run", world.run(experiment, ago=timedelta(hours=hours), **recipe))
    yield None


FAULTS = (the_same_again, three_times)
NEAR_MISSES = (
    another_parameter,
    another_commit,
    other_data,
    the_first_failed,
    they_log_no_parameters,
    they_log_no_data,
    they_say_a_script_and_no_commit,
)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
