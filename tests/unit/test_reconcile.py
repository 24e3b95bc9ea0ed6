"""A job and its run: when they disagree, when one is missing, and when it is too early to say either."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stocktake.core.reconcile import MLFLOW_STATES, Side, Verdict, judge

T = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def side(state: str | None, since: float = 0, seen: float | None = 5) -> Side:
    return Side(state=state, since=T + since * HOUR, seen=T + seen * HOUR if seen is not None else None)


@pytest.mark.parametrize(
    ("job", "run"),
    [
        ("NotStarted", "SCHEDULED"), ("Queued", "SCHEDULED"), ("Preparing", "SCHEDULED"), ("Running", "RUNNING"),
        ("Completed", "FINISHED"), ("Failed", "FAILED"), ("Canceled", "KILLED"), ("Starting", "RUNNING"),
        ("Starting", "SCHEDULED"), ("Finalizing", "RUNNING"), ("Finalizing", "FINISHED"), ("CancelRequested", "KILLED"),
    ],
)  # fmt: skip
def test_states_that_say_the_same_agree(job: str, run: str) -> None:
    assert judge(side(job), side(run), other_listed=None) == Verdict.AGREE


def test_every_state_that_was_recorded_is_known() -> None:
    recorded = "NotStarted Queued Preparing Starting Running Finalizing CancelRequested Completed Failed Canceled"
    assert set(recorded.split()) <= MLFLOW_STATES.keys()
    assert judge(side("Teleporting"), side("RUNNING"), other_listed=None) == Verdict.UNDETERMINED
    assert judge(side(None), side("RUNNING"), other_listed=None) == Verdict.UNDETERMINED


@pytest.mark.parametrize(
    ("job", "run", "verdict"),
    [
        (side("Completed", 0, 5), side("RUNNING", 0, 5), Verdict.DISAGREE),
        (side("Completed", 0, 1), side("RUNNING", 0, 1), Verdict.DISAGREE),
        (side("Completed", 0, 0.9), side("RUNNING", 0, 5), Verdict.PENDING),  # the job was not looked at since
        (side("Completed", 0, 5), side("RUNNING", 0, 0.5), Verdict.PENDING),  # nor the run
        (side("Completed", 4.5, 5), side("RUNNING", 0, 5), Verdict.PENDING),  # the job has only just ended
        (side("Completed", 0, None), side("RUNNING", 0, 5), Verdict.PENDING),
    ],
)
def test_they_disagree_once_both_were_seen_to_for_longer_than_the_grace_period(
    job: Side, run: Side, verdict: Verdict
) -> None:
    assert judge(job, run, other_listed=None) == verdict


def test_the_grace_period_can_be_another() -> None:
    job, run = side("Completed", 0, 5), side("RUNNING", 0, 5)
    assert judge(job, run, other_listed=None, grace=6 * HOUR) == Verdict.PENDING


def test_a_run_is_without_a_job_only_when_a_complete_list_of_jobs_after_it_showed_none() -> None:
    run = side("RUNNING")
    assert judge(None, run, other_listed=None) == Verdict.UNDETERMINED
    assert judge(None, run, other_listed=T - HOUR) == Verdict.PENDING
    assert judge(None, run, other_listed=T + HOUR / 2) == Verdict.PENDING
    assert judge(None, run, other_listed=T + HOUR) == Verdict.RUN_WITHOUT_JOB


def test_a_job_is_without_a_run_only_when_it_should_have_one() -> None:
    assert judge(side("Queued"), None, other_listed=T + 9 * HOUR) == Verdict.PENDING
    assert judge(side("Completed"), None, other_listed=T + 9 * HOUR) == Verdict.JOB_WITHOUT_RUN
    assert judge(side("Completed"), None, other_listed=None) == Verdict.UNDETERMINED
