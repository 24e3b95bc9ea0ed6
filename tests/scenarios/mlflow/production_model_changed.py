"""What is production has changed or is lost; a new alias, or one that does not mean production, is no change."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "production-model-changed"
_ALIAS = ("champion", "production")


def its_alias_moved(world: MlflowWorld, plot: Plot) -> Plays:
    alias = world.choose.choice(_ALIAS)
    model = world.model(aliases={alias: "1"}, versions=2)
    yield None
    world.alias(model, alias, "2")
    for rule in (RULE, "model-alias-moved"):
        plot.fault(rule, "registered_model", model)
    yield None
    if world.choose.random() < 0.5:
        world.alias(model, alias, "1")
        for rule in (RULE, "model-alias-moved"):
            plot.over(rule, "registered_model", model)
        yield None


def its_alias_was_taken_away(world: MlflowWorld, plot: Plot) -> Plays:
    alias = world.choose.choice(_ALIAS)
    model = world.model(aliases={alias: "1"})
    yield None
    world.unalias(model, alias)
    for rule in (RULE, "model-alias-moved"):
        plot.fault(rule, "registered_model", model)
    yield None


def the_version_that_bore_it_was_deleted(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(aliases={"champion": "1"}, versions=2)
    yield None
    world.post("model-versions/delete", {"name": model, "version": "1"}, "DELETE")
    for rule in (RULE, "model-alias-moved"):
        plot.fault(rule, "registered_model", model)
    yield None


def the_whole_model_was_deleted(world: MlflowWorld, plot: Plot) -> Plays:
    alias = world.choose.choice(_ALIAS)
    model = world.model(aliases={alias: "1"})
    yield None
    world.post("registered-models/delete", {"name": model}, "DELETE")
    plot.fault(RULE, "registered_model", model)
    yield None
    if world.choose.random() < 0.6:
        world.model(name=model)  # somebody makes it again
        if world.choose.random() < 0.5:
            world.alias(model, alias, "1")
            plot.over(RULE, "registered_model", model)
        yield None


def _stage(world: MlflowWorld, model: str, version: str, stage: str) -> None:
    body = {"name": model, "version": version, "stage": stage, "archive_existing_versions": False}
    world.post("model-versions/transition-stage", body)


def it_left_its_stage(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model()
    _stage(world, model, "1", "Production")
    yield None
    _stage(world, model, "1", "Archived")
    plot.fault(RULE, "model_version", f"{model}/1")
    yield None
    if world.choose.random() < 0.5:
        _stage(world, model, "1", "Production")
        plot.over(RULE, "model_version", f"{model}/1")
        yield None


def another_entered_the_stage(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(versions=2)
    _stage(world, model, "1", "Production")
    yield None
    _stage(world, model, "2", "Production")
    plot.fault(RULE, "model_version", f"{model}/2")
    yield None


def a_first_release_by_alias(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model()
    plot.near_miss(RULE, "registered_model", model)
    plot.near_miss(RULE, "model_version", f"{model}/1")
    yield None
    world.alias(model, "champion", "1")
    yield None


def another_alias_moved(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(aliases={"champion": "1", "candidate": "1"}, versions=2)
    plot.near_miss(RULE, "registered_model", model)
    yield None
    world.alias(model, "candidate", "2")
    plot.fault("model-alias-moved", "registered_model", model)
    yield None


def another_stage(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model()
    plot.near_miss(RULE, "model_version", f"{model}/1")
    yield None
    _stage(world, model, "1", "Staging")
    yield None
    _stage(world, model, "1", "Archived")
    yield None


def a_model_without_production_was_deleted(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(aliases={"candidate": "1"})
    plot.near_miss(RULE, "registered_model", model)
    yield None
    world.post("registered-models/delete", {"name": model}, "DELETE")
    yield None


FAULTS = (
    its_alias_moved,
    its_alias_was_taken_away,
    the_version_that_bore_it_was_deleted,
    the_whole_model_was_deleted,
    it_left_its_stage,
    another_entered_the_stage,
)
NEAR_MISSES = (
    a_first_release_by_alias,
    another_alias_moved,
    another_stage,
    a_model_without_production_was_deleted,
)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
