"""A finished run was edited: its parameters, metrics, tags, inputs or times; names and descriptions are no evidence."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "run-edited-after-finish"
_ENDS = ("FINISHED", "FAILED", "KILLED")


def _ended(world: MlflowWorld) -> str:
    return world.run(status=world.choose.choice(_ENDS), tags={"review": "pending"})


def a_tag(world: MlflowWorld, plot: Plot) -> Plays:
    run = _ended(world)
    yield None
    world.tag(run, "review", "approved")
    plot.fault(RULE, "run", run)
    yield None
    if world.choose.random() < 0.5:
        world.tag(run, "review", "pending")  # as it was
        plot.over(RULE, "run", run)
        yield None
        world.tag(run, "review", "denied")
        plot.fault(RULE, "run", run)
        yield None


def a_tag_taken_away(world: MlflowWorld, plot: Plot) -> Plays:
    run = _ended(world)
    yield None
    world.untag(run, "review")
    plot.fault(RULE, "run", run)
    yield None


def a_parameter(world: MlflowWorld, plot: Plot) -> Plays:
    run = _ended(world)
    yield None
    world.log(run, params={world.choose.choice(["depth", "ünits", "a b/c"]): "3"})
    plot.fault(RULE, "run", run)
    yield None


def a_metric(world: MlflowWorld, plot: Plot) -> Plays:
    run = _ended(world)
    yield timedelta(hours=world.choose.randint(0, 40))
    world.log(run, metrics={world.choose.choice(["loss", "auc"]): 2.0})
    plot.fault(RULE, "run", run)
    yield None


def another_end(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run(status="FAILED")
    yield None
    world.end(run, "FINISHED")
    plot.fault(RULE, "run", run)
    yield None


def a_name_or_a_description(world: MlflowWorld, plot: Plot) -> Plays:
    run = _ended(world)
    plot.near_miss(RULE, "run", run)
    yield None
    if world.choose.random() < 0.5:
        world.tag(run, "mlflow.note.content", "words")
    else:
        world.post("runs/update", {"run_id": run, "run_name": world.name("renamed")})
    yield None


def while_it_runs(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run(status="RUNNING")
    plot.near_miss(RULE, "run", run)
    yield None
    world.tag(run, "review", "early")
    world.log(run, params={"late": "1"}, metrics={"loss": 0.5})
    yield None
    world.log(run, metrics={"loss": 0.25})
    world.end(run)
    yield None


def before_anybody_saw_it_end(world: MlflowWorld, plot: Plot) -> Plays:
    run = _ended(world)
    plot.near_miss(RULE, "run", run)
    world.tag(run, "review", "approved")
    yield None


def deleted_and_back(world: MlflowWorld, plot: Plot) -> Plays:
    run = _ended(world)
    plot.near_miss(RULE, "run", run)
    yield None
    world.delete(run)
    plot.fault("run-deleted", "run", run)
    yield None
    world.restore(run)
    plot.over("run-deleted", "run", run)
    yield None


FAULTS = (a_tag, a_tag_taken_away, a_parameter, a_metric, another_end)
NEAR_MISSES = (a_name_or_a_description, while_it_runs, before_anybody_saw_it_end, deleted_and_back)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
