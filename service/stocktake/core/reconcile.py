"""A job of Azure Machine Learning and its MLflow run are one thing, told twice: do the two tell the same? Pure.

A job's name is the id of its run. Both are looked at, but never at the same moment: what differs is a disagreement
only after both were seen to differ for longer than a grace period. What was not looked at is never called missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

#: How long the two may differ: their states travel through different services.
GRACE = timedelta(hours=1)

#: What MLflow says of a run while its job is in a state: the first is the usual one, the others are no disagreement.
#: The first five and the last three are documented by Azure. `Starting` has its machine and no code of its own runs
#: yet; in `Finalizing` the code has ended and outputs are being written, the run may have ended with it; what is asked
#: to be cancelled may be in any state until it is.
MLFLOW_STATES: Mapping[str, tuple[str, ...]] = {
    "NotStarted": ("SCHEDULED",),
    "Queued": ("SCHEDULED",),
    "Preparing": ("SCHEDULED",),
    "Provisioning": ("SCHEDULED",),
    "Running": ("RUNNING",),
    "Starting": ("SCHEDULED", "RUNNING"),
    "Finalizing": ("RUNNING", "FINISHED", "FAILED"),
    "CancelRequested": ("RUNNING", "SCHEDULED", "KILLED"),
    "Completed": ("FINISHED",),
    "Failed": ("FAILED",),
    "Canceled": ("KILLED",),
}
#: Before these a job need not have a run.
_EARLY = frozenset({"NotStarted", "Queued", "Preparing", "Provisioning"})


class Verdict(StrEnum):
    """How a job and its run stand to each other."""

    AGREE = "agree"
    DISAGREE = "disagree"  # seen to differ for longer than the grace period
    PENDING = "pending"  # they differ, or one of the two was not met, and it is too early to say more
    RUN_WITHOUT_JOB = "run without job"
    JOB_WITHOUT_RUN = "job without run"
    UNDETERMINED = "undetermined"  # the other side was not completely looked at since, or the state is unknown to us


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two, as it is known now."""

    state: str | None
    since: datetime  # when this state had surely been seen for the first time
    seen: datetime | None  # the last look that showed it; None: never completely


def judge(job: Side | None, run: Side | None, *, other_listed: datetime | None, grace: timedelta = GRACE) -> Verdict:
    """Say how a job and its run stand. `other_listed`, where one is missing: when the last complete listing began that
    would have shown it; None: there was none, as of a run that has a parent: no list is one of all child jobs."""
    if job is not None and run is not None:
        told = MLFLOW_STATES.get(job.state or "")
        if told is None:
            return Verdict.UNDETERMINED
        if run.state in told:
            return Verdict.AGREE
        if job.seen is None or run.seen is None:
            return Verdict.PENDING
        both_seen = min(job.seen, run.seen)
        return Verdict.DISAGREE if both_seen >= max(job.since, run.since) + grace else Verdict.PENDING
    there = job if job is not None else run
    assert there is not None
    if job is not None and job.state in _EARLY:
        return Verdict.PENDING
    if other_listed is None:
        return Verdict.UNDETERMINED
    if other_listed < there.since + grace:
        return Verdict.PENDING
    return Verdict.JOB_WITHOUT_RUN if job is not None else Verdict.RUN_WITHOUT_JOB
