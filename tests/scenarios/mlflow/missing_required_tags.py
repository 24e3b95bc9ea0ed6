"""Experiments of a certain name, or their runs of late, lack tags that the configuration asks for."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "missing-required-tags"
_RUN_TAGS = {"purpose": "a better model", "git_sha": "c0ffee"}


def _set(world: MlflowWorld, experiment: str, name: str, value: str) -> None:
    world.post("experiments/set-experiment-tag", {"experiment_id": experiment, "key": name, "value": value})


def an_experiment_without_its_tag(world: MlflowWorld, plot: Plot) -> Plays:
    empty = {"cost-centre": ""} if world.choose.random() < 0.3 else {}
    experiment = world.experiment(world.name("prod-"), **empty)
    plot.fault(RULE, "experiment", experiment)
    yield None
    if world.choose.random() < 0.6:
        _set(world, experiment, "cost-centre", "4711")
        plot.over(RULE, "experiment", experiment)
        yield None


def a_run_without_its_tags(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment(world.name("prod-eu"), **{"cost-centre": "1"})
    world.run(experiment, tags=_RUN_TAGS)
    yield None
    run = world.run(experiment, status="RUNNING", tags={"purpose": "x"})
    plot.fault(RULE, "experiment", experiment)
    yield None
    if world.choose.random() < 0.6:
        world.tag(run, "git_sha", "c0ffee")
        plot.over(RULE, "experiment", experiment)
        yield None
    world.end(run)


def a_renaming_that_brings_it_under_the_rule(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment(world.name("try-"))
    yield None
    world.post("experiments/update", {"experiment_id": experiment, "new_name": world.name("prod-")})
    plot.fault("experiment-renamed", "experiment", experiment)
    plot.fault(RULE, "experiment", experiment)
    yield None


def all_of_them_are_there(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment(world.name("prod-us"), **{"cost-centre": "1"})
    plot.near_miss(RULE, "experiment", experiment)
    for _ in range(2):
        world.run(experiment, tags=_RUN_TAGS)
    yield None


def another_name(world: MlflowWorld, plot: Plot) -> Plays:
    for name in ("production", "my prod-", "PROD-eu"):
        experiment = world.experiment(world.name(name))
        plot.near_miss(RULE, "experiment", experiment)
        world.run(experiment)
    yield None


def runs_of_long_ago(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment(world.name("prod-eu"), **{"cost-centre": "1"})
    plot.near_miss(RULE, "experiment", experiment)
    world.run(experiment, ago=timedelta(days=31))
    yield None


def a_deleted_run(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment(world.name("prod-eu"), **{"cost-centre": "1"})
    plot.near_miss(RULE, "experiment", experiment)
    world.delete(world.run(experiment))
    yield None


FAULTS = (an_experiment_without_its_tag, a_run_without_its_tags, a_renaming_that_brings_it_under_the_rule)
NEAR_MISSES = (all_of_them_are_there, another_name, runs_of_long_ago, a_deleted_run)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
