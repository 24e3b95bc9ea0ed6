"""An alias was moved to another version, or taken away; one that is new was nobody's to load by."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "model-alias-moved"
_ALIASES = ("candidate", "shadow", "v-next")


def moved(world: MlflowWorld, plot: Plot) -> Plays:
    alias = world.choose.choice(_ALIASES)
    model = world.model(aliases={alias: "1"}, versions=2)
    yield None
    world.alias(model, alias, "2")
    plot.fault(RULE, "registered_model", model)
    yield None
    if world.choose.random() < 0.5:
        world.alias(model, alias, "1")
        plot.over(RULE, "registered_model", model)
        yield None
        world.alias(model, alias, "2")
        plot.fault(RULE, "registered_model", model)
        yield None


def taken_away(world: MlflowWorld, plot: Plot) -> Plays:
    alias = world.choose.choice(_ALIASES)
    model = world.model(aliases={alias: "1"})
    yield None
    world.unalias(model, alias)
    plot.fault(RULE, "registered_model", model)
    yield None


def a_new_alias(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(aliases={"shadow": "1"}, versions=2)
    plot.near_miss(RULE, "registered_model", model)
    yield None
    world.alias(model, "candidate", world.choose.choice("12"))
    yield None


def a_new_version(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(aliases={"shadow": "1"})
    plot.near_miss(RULE, "registered_model", model)
    yield None
    world.version(model, world.run())
    world.post("registered-models/set-tag", {"name": model, "key": "stage", "value": "late"})
    yield None


def moved_and_back_before_anybody_looked(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(aliases={"shadow": "1"}, versions=2)
    plot.near_miss(RULE, "registered_model", model)
    yield None
    world.alias(model, "shadow", "2")
    world.alias(model, "shadow", "1")
    yield None


FAULTS = (moved, taken_away)
NEAR_MISSES = (a_new_alias, a_new_version, moved_and_back_before_anybody_looked)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
