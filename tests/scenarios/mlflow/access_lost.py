"""A workspace cannot be looked at: it opens after two scans in a row, and resolves with the first that can."""

from __future__ import annotations

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import WORKSPACE, MlflowWorld

RULE = "access-lost"


def for_two_scans_and_more(world: MlflowWorld, plot: Plot) -> Plays:
    yield None
    world.blind = world.choose.randint(2, 4)
    plot.fault(RULE, "workspace", WORKSPACE, looks=2, blind=True)
    while world.blind:
        yield None
    plot.over(RULE, "workspace", WORKSPACE)
    yield None


def for_a_moment(world: MlflowWorld, plot: Plot) -> Plays:
    plot.near_miss(RULE, "workspace", WORKSPACE)
    yield None
    world.blind = 1
    yield None
    yield None
    world.blind = 1
    yield None


SCENARIOS = Scenario.of(RULE, (for_two_scans_and_more,), (for_a_moment,), alone=True, blind=True)
