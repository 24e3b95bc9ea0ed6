"""`stocktake reconcile`: where a job of Azure Machine Learning and its MLflow run do not tell the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from stocktake.cli import rows
from stocktake.cli.observed import note, opening, refuse, view
from stocktake.cli.render import Output, write_json, write_table, write_tsv
from stocktake.cli.session import AskedOption, OutputOption, known, now, session, wide
from stocktake.cli.times import ago, span
from stocktake.core.assets import Kind
from stocktake.core.reconcile import GRACE, Verdict, judge

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stocktake.store.reconcile import Pair

Record = Mapping[str, Any]


class _Missing(NamedTuple):
    """A side that is not there."""

    state: None = None
    since: None = None
    seen: None = None


_NONE = _Missing()
_TABLE_ROWS = 200
_TOLD = frozenset({Verdict.DISAGREE, Verdict.RUN_WITHOUT_JOB, Verdict.JOB_WITHOUT_RUN})


def reconcile(
    context: typer.Context,
    workspace: AskedOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that agree, and those of which it is too early to say.")
    ] = False,
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="How long the two may differ, as 30m or 2h.")
    ] = "1h",
    output: OutputOption = Output.TABLE,
) -> int:
    """Compare jobs of Azure Machine Learning with their MLflow runs: states that disagree, and what has no counterpart.

    Only what both sides were seen to tell for longer than the grace period is a disagreement, and only what was not on
    a complete list is called missing.
    """
    from stocktake.store.history import workspace_names
    from stocktake.store.reconcile import with_jobs

    settings = session(context).settings()
    allowed = _grace(grace)
    with session(context).database(settings) as connection:
        workspaces = known(workspace, workspace_names(connection), wide(settings, connection))
        having = with_jobs(connection, workspaces)
        seen = view(connection, Kind.JOB, having or workspaces, None)
        if seen.blind or not seen.observations:  # that they agree cannot be said where there can be no jobs
            return refuse(seen, output)
        opening(seen)
        answered = seen.answerable(Kind.JOB, having)
        runs = view(connection, Kind.RUN, answered, None)
        found = _records(connection, answered, allowed, every=every)
        if output == Output.JSON:
            count = write_json(found)
        elif output == Output.TSV:
            count = write_tsv(rows.JOB_RUN, found)
        else:
            held = list(itertools.islice(found, _TABLE_ROWS + 1))
            if len(held) > _TABLE_ROWS:
                session(context).tell(f"Only the first {_TABLE_ROWS} are shown: -o tsv or json shows all.")
            if held:
                _table(held[:_TABLE_ROWS])
            count = len(held)
        if not count:
            session(context).tell("Every job and its run agree, as far as both were looked at.")
        return note(replace(seen, observations=[*seen.observations, *runs.observations]))


def _grace(text: str) -> timedelta:
    from stocktake.settings.timing import parse_duration

    try:
        return parse_duration(text) if text != "1h" else GRACE
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--grace") from exc


def _records(connection: Connection, workspaces: list[str], grace: timedelta, *, every: bool) -> Iterator[Record]:
    from stocktake.store.reconcile import pairs

    # What the view calls pending, for its grace period, is so for any that is longer.
    told = _TOLD if grace >= GRACE else _TOLD | {Verdict.PENDING}
    for pair in pairs(connection, workspaces=workspaces, verdicts=None if every else told):
        verdict = judge(pair.job, pair.run, other_listed=pair.other_listed, grace=grace)
        if every or verdict in _TOLD:
            yield _record(pair, verdict)


def _record(pair: Pair, verdict: Verdict) -> Record:
    job, run = pair.job or _NONE, pair.run or _NONE
    return {
        "workspace": pair.workspace, "key": pair.key, "verdict": str(verdict), "job_kind": pair.job_kind,
        "job_state": job.state, "run_state": run.state, "expected_run_state": pair.expected_run_state,
        "job_since": job.since, "run_since": run.since, "job_seen": job.seen, "run_seen": run.seen,
        "other_listed": pair.other_listed, "job_valid_from": pair.job_valid_from,
        "run_valid_from": pair.run_valid_from, "queue_seconds": pair.queue_seconds,
        "startup_seconds": pair.startup_seconds, "duration_seconds": pair.duration_seconds,
    }  # fmt: skip


def _table(held: list[Record]) -> None:
    at = now()
    several = len({row["workspace"] for row in held}) > 1

    def told(row: Record, name: str) -> str:
        if row[f"{name}_since"] is None:
            return "none"
        return f"{row[f'{name}_state'] or 'no state'}\nsince {ago(row[f'{name}_since'], now=at)}"

    def lasted(seconds: float | None) -> str:
        return span(seconds) if seconds is not None else ""

    write_table(
        [*(["WORKSPACE"] if several else []), "JOB AND RUN", "VERDICT", "JOB", "RUN", "QUEUED", "LASTED"],
        (
            [
                *([row["workspace"]] if several else []), row["key"], row["verdict"], told(row, "job"),
                told(row, "run"), lasted(row["queue_seconds"]), lasted(row["duration_seconds"]),
            ]
            for row in held
        ),
        whole="JOB AND RUN",
    )  # fmt: skip
