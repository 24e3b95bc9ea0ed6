"""Jobs and their MLflow runs side by side, as the history has them now. Reads only; core judges what they mean."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.reconcile import Side, Verdict
from stocktake.store.history import stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A job and the run of its name; one of the two may be missing."""

    workspace: str
    job_kind: str | None
    key: str
    job: Side | None
    run: Side | None
    other_listed: datetime | None
    expected_run_state: str | None
    queue_seconds: float | None
    startup_seconds: float | None
    duration_seconds: float | None
    job_valid_from: datetime | None
    run_valid_from: datetime | None


def pairs(
    connection: Connection, *, workspaces: Sequence[str], verdicts: Collection[Verdict] | None = None
) -> Iterator[Pair]:
    """Yield jobs with their runs, and what has no counterpart: all, or those of which the view says one of these, for
    the grace period that it has. Streams."""
    statement = (
        "SELECT * FROM inventory.job_run_of(:workspaces)"
        + (" WHERE verdict = ANY(:verdicts)" if verdicts is not None else "")
        + " ORDER BY workspace, job_since, job, run"
    )
    given = {"workspaces": list(workspaces)} | ({"verdicts": sorted(verdicts)} if verdicts is not None else {})
    for row in stream(connection, statement, given):
        yield Pair(
            workspace=row.workspace,
            job_kind=row.job_kind,
            key=canonical.unescape(row.job if row.job is not None else row.run),
            job=Side(state=row.job_state, since=row.job_since, seen=row.job_seen) if row.job is not None else None,
            run=Side(state=row.run_state, since=row.run_since, seen=row.run_seen) if row.run is not None else None,
            other_listed=row.other_listed,
            expected_run_state=row.expected_run_state,
            queue_seconds=row.queue_seconds,
            startup_seconds=row.startup_seconds,
            duration_seconds=row.duration_seconds,
            job_valid_from=row.job_valid_from,
            run_valid_from=row.run_valid_from,
        )


def with_jobs(connection: Connection, workspaces: Sequence[str] | None) -> list[str]:
    """Return the workspaces that have jobs at all: Azure Machine Learning's."""
    return list(
        connection.execute(
            text(
                "SELECT name FROM workspace w WHERE (CAST(:workspaces AS text[]) IS NULL OR name = ANY(:workspaces))"
                " AND EXISTS (SELECT 1 FROM scope s WHERE s.workspace_id = w.workspace_id AND s.kind = 'job'"
                " AND s.state <> 'unsupported') ORDER BY name"
            ),
            {"workspaces": list(workspaces) if workspaces is not None else None},
        ).scalars()
    )
