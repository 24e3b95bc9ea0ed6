"""The run behind a model version that is production is deleted or gone."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow.model_version_lost_its_run import bereave, give_back
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "production-run-deleted"


def of_a_champion(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run, {world.choose.choice(["champion", "production"]): "1"})
    yield None
    gone = world.choose.random() < 0.4
    bereave(world, plot, run, model, gone=gone)
    plot.fault(RULE, "model_version", f"{model}/1")
    yield None
    if not gone:
        give_back(world, plot, run, model)
        plot.over(RULE, "model_version", f"{model}/1")
        yield None


def of_one_in_production_by_stage(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    body = {"name": model, "version": "1", "stage": "Production", "archive_existing_versions": False}
    world.post("model-versions/transition-stage", body)
    yield None
    bereave(world, plot, run, model)
    plot.fault(RULE, "model_version", f"{model}/1")
    yield None


def of_one_that_became_production_afterwards(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    yield None
    bereave(world, plot, run, model)
    yield None
    world.alias(model, "champion", "1")
    plot.fault(RULE, "model_version", f"{model}/1")
    yield None


def of_one_that_is_not_production(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run, {"candidate": "1"})
    plot.near_miss(RULE, "model_version", f"{model}/1")
    yield None
    bereave(world, plot, run, model)
    yield None


def of_the_version_before(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run()
    model = world.model(run)
    world.version(model, world.run())
    world.alias(model, "champion", "2")
    plot.near_miss(RULE, "model_version", f"{model}/2")
    plot.near_miss(RULE, "model_version", f"{model}/1")
    yield None
    bereave(world, plot, run, model)
    yield None


FAULTS = (of_a_champion, of_one_in_production_by_stage, of_one_that_became_production_afterwards)
NEAR_MISSES = (of_one_that_is_not_production, of_the_version_before)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
