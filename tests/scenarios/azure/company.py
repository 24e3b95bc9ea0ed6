"""What happens in a workspace on any day, and is nobody's fault."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import COMPANY as RULE
from tests.scenarios.frame import Plays, Plot, Scenario


def somebody_trains_and_registers(world: AzureWorld, plot: Plot) -> Plays:
    del plot
    job = world.job("NotStarted", compute=None)
    for status in ("Preparing", "Running", "Completed"):
        yield timedelta(minutes=world.choose.randint(1, 40))
        world.main.move_job(job, status)
    world.main.register_model(f"model-{world.number()}", job=job, by=world.person())
    yield None


def a_cluster_breathes(world: AzureWorld, plot: Plot) -> Plays:
    del plot
    name = world.cluster()
    for running in (1, 3, 2, 0):
        world.nodes(name, running, running=running)
        yield timedelta(minutes=world.choose.randint(5, 90))
    world.main.resize_cluster(name, 8, by=world.person())
    yield None


def a_schedule_is_switched(world: AzureWorld, plot: Plot) -> Plays:
    del plot
    world.main.disable_schedule("schedule-000", enabled=world.choose.random() < 0.5, by=world.person())
    yield None


def a_new_workspace_with_all_that_is_in_it(world: AzureWorld, plot: Plot) -> Plays:
    del plot
    own = world.workspace()
    yield None
    own.edit_workspace(tags={"team": "risk"})
    own.archive_model("model-000")
    yield None


COMPANY = Scenario.of(
    RULE,
    (),
    (somebody_trains_and_registers, a_cluster_breathes, a_schedule_is_switched, a_new_workspace_with_all_that_is_in_it),
)
