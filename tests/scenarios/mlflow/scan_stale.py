"""Something was not completely looked at for longer than the schedule promises: two sweeps, or six hot passes."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import HOT, SWEEP, WORKSPACE, MlflowWorld

RULE = "scan-stale"


def nobody_could_look_for_days(world: MlflowWorld, plot: Plot) -> Plays:
    yield None
    world.blind = 99
    plot.fault(RULE, "workspace", WORKSPACE, after=6 * HOT, grace=HOT, blind=True)
    plot.fault("access-lost", "workspace", WORKSPACE, looks=2, blind=True)
    yield 2 * SWEEP + timedelta(hours=1)
    world.blind = 0
    plot.over(RULE, "workspace", WORKSPACE)
    plot.over("access-lost", "workspace", WORKSPACE)
    yield None


def nobody_could_look_for_half_an_hour(world: MlflowWorld, plot: Plot) -> Plays:
    plot.near_miss(RULE, "workspace", WORKSPACE)
    yield None
    world.blind = 1
    yield timedelta(minutes=20)
    yield None


SCENARIOS = Scenario.of(
    RULE, (nobody_could_look_for_days,), (nobody_could_look_for_half_an_hour,), alone=True, blind=True
)
