"""The states of Azure ML jobs as words of MLflow, and which of them are an end. Pure.

Azure documents the map for most states. Three are mapped nowhere; each is read as what the job does then: a job that
is Starting holds its nodes and runs nothing of the user's yet; one that is Finalizing or asked to be cancelled still
runs (and is paid for) until it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Job state -> MLflow run status.
RUN_STATUS: Mapping[str, str] = {
    "NotStarted": "SCHEDULED",
    "Queued": "SCHEDULED",
    "Preparing": "SCHEDULED",
    "Provisioning": "SCHEDULED",
    "Scheduled": "SCHEDULED",
    "Paused": "SCHEDULED",
    "Starting": "SCHEDULED",  # not documented
    "Running": "RUNNING",
    "NotResponding": "RUNNING",
    "Finalizing": "RUNNING",  # not documented
    "CancelRequested": "RUNNING",  # not documented
    "Completed": "FINISHED",
    "Failed": "FAILED",
    "Canceled": "KILLED",
}

#: States that a job does not leave any more.
ENDED = frozenset({"Completed", "Failed", "Canceled"})
