"""No run has the job's id an hour after it came into its state. Not: a job that is not started, queued or prepared, a
labelling project, one whose run comes within the hour."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "job-without-run"
_HOUR = timedelta(hours=1)


def it_ended_and_there_is_none(world: AzureWorld, plot: Plot) -> Plays:
    yield None
    job = world.job(world.choose.choice(("Completed", "Failed", "Canceled")), run=False)
    plot.fault(RULE, "job", job, after=_HOUR, looks=2)
    yield timedelta(minutes=70)
    yield None
    if world.choose.random() < 0.6:
        world.main.edit_job(job, run=True)
        plot.over(RULE, "job", job)
        yield None


def its_run_is_gone(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job("Completed")
    yield timedelta(hours=2)
    world.main.edit_job(job, run=False)
    plot.fault(RULE, "job", job, looks=2)
    plot.fault("run-deleted", "run", job)
    yield None


def it_runs_and_there_is_none(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job("Running", run=False, compute=None)
    plot.fault(RULE, "job", job, after=_HOUR, looks=2)
    yield timedelta(minutes=80)
    yield None


def it_waits_for_hours(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job(world.choose.choice(("NotStarted", "Queued", "Preparing")), run=False, compute=None)
    plot.near_miss(RULE, "job", job)
    yield timedelta(hours=world.choose.randint(2, 30))
    world.main.edit_job(job, run=True)
    world.main.move_job(job, "Running")
    yield None


def its_run_comes_within_the_hour(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job("Running", run=False, compute=None)
    plot.near_miss(RULE, "job", job)
    yield timedelta(minutes=world.choose.randint(20, 50))
    world.main.edit_job(job, run=True)
    yield timedelta(hours=2)


def it_is_a_labelling_project(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job("Running", run=False, kind="Labeling", compute=None)
    plot.near_miss(RULE, "job", job)
    yield timedelta(hours=3)


def it_is_archived(world: AzureWorld, plot: Plot) -> Plays:
    job = world.job("Completed")
    plot.near_miss(RULE, "job", job)
    yield None
    world.main.archive_job(job, by=world.person())
    plot.fault("run-deleted", "run", job)
    yield timedelta(hours=2)


FAULTS = (it_ended_and_there_is_none, its_run_is_gone, it_runs_and_there_is_none)
NEAR_MISSES = (it_waits_for_hours, its_run_comes_within_the_hour, it_is_a_labelling_project, it_is_archived)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
