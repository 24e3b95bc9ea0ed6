"""A run that differs from the runs it is compared with in a parameter that must be the same for all of them."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "parameter-mismatch"


def _candidate(
    world: MlflowWorld, experiment: str, comparison: str, hours: int, *, status: str = "FINISHED", **params: str
) -> str:
    tags = {"stocktake.comparison": comparison}
    params = {"lr": str(world.choose.random()), "split": "2026-05", "metric": "auc"} | params
    return world.run(experiment, params=params, tags=tags, ago=timedelta(hours=hours), status=status)


def one_of_several(world: MlflowWorld, plot: Plot) -> Plays:
    experiment, name = world.experiment(), world.name("set")
    for hours in (9, 8, 7):
        _candidate(world, experiment, name, hours)
    yield None
    run = _candidate(world, experiment, name, world.choose.randint(1, 30), split="2026-06")
    plot.fault(RULE, "run", run)
    yield None
    if world.choose.random() < 0.5:
        world.untag(run, "stocktake.comparison")  # it leaves the set
        plot.over(RULE, "run", run)
        plot.fault("run-edited-after-finish", "run", run)
        yield None


def the_younger_of_two(world: MlflowWorld, plot: Plot) -> Plays:
    experiment, name = world.experiment(), world.name("set")
    plot.near_miss(RULE, "run", _candidate(world, experiment, name, 9))
    plot.fault(RULE, "run", _candidate(world, experiment, name, 3, metric="f1"))
    yield None


def in_a_parameter_that_a_run_names(world: MlflowWorld, plot: Plot) -> Plays:
    experiment, name = world.experiment(), world.name("set")
    tags = {"stocktake.comparison": name, "stocktake.comparison.match": "folds, horizon"}
    params = {"folds": "5", "horizon": "30", "split": "a", "metric": "auc"}
    for hours in (9, 8):
        world.run(experiment, params=params, tags=tags, ago=timedelta(hours=hours))
    plot.fault(RULE, "run", _candidate(world, experiment, name, 2, folds="10", horizon="30", split="a"))
    yield None


def in_a_parameter_that_may_differ(world: MlflowWorld, plot: Plot) -> Plays:
    experiment, name = world.experiment(), world.name("set")
    for hours in (9, 8, 7):
        plot.near_miss(RULE, "run", _candidate(world, experiment, name, hours, depth=str(hours)))
    yield None


def of_another_set(world: MlflowWorld, plot: Plot) -> Plays:
    experiment, name = world.experiment(), world.name("set")
    _candidate(world, experiment, name, 9)
    plot.near_miss(RULE, "run", _candidate(world, experiment, world.name("set"), 3, split="2026-06"))
    plot.near_miss(RULE, "run", _candidate(world, world.experiment(), name, 3, split="2026-06"))
    yield None


def of_no_set(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    for split in ("2026-05", "2026-06"):
        plot.near_miss(RULE, "run", world.run(experiment, params={"split": split, "metric": "auc"}))
    yield None


def a_candidate_that_failed(world: MlflowWorld, plot: Plot) -> Plays:
    experiment, name = world.experiment(), world.name("set")
    for hours in (9, 8):
        _candidate(world, experiment, name, hours)
    status = world.choose.choice(["FAILED", "KILLED"])
    plot.near_miss(RULE, "run", _candidate(world, experiment, name, 3, status=status, split="2026-06"))
    yield None


FAULTS = (one_of_several, the_younger_of_two, in_a_parameter_that_a_run_names)
NEAR_MISSES = (in_a_parameter_that_may_differ, of_another_set, of_no_set, a_candidate_that_failed)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
