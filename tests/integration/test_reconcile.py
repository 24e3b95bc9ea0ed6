"""Jobs and their runs over a history: what disagrees after the grace period, and what is never claimed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.cli import rows
from stocktake.core.assets import Kind, ScanState
from stocktake.core.reconcile import MLFLOW_STATES, Side, Verdict, judge
from tests.integration.auditing import age, scan_server
from tests.integration.stated import Stock, scan
from tests.integration.test_cli import Cli, configured
from tests.servers.shared import filled_server

HOURS = timedelta(hours=3)
START = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    return configured(tmp_path, f'database: "{database_url}"\n')


def job(world: Stock, key: str, state: str, kind: Kind = Kind.JOB, **lifted: Any) -> None:
    world.put(kind, key, {"properties": {"status": state, "experimentName": "exp 7"}}, state=state, **lifted)


def run(world: Stock, key: str, state: str, **lifted: Any) -> None:
    world.put(Kind.RUN, key, {"status": state}, state=state, partition="7", **lifted)


def told(cli: Cli, *more: str, code: int = 0) -> dict[str, str]:
    answer = cli("reconcile", *more, "-o", "json")
    assert answer.code == code, answer.err
    return {one["key"]: one["verdict"] for one in answer.json()}


@pytest.fixture
def world() -> Stock:
    made = Stock(kinds={Kind.JOB, Kind.RUN})
    job(made, "good", "Completed")
    run(made, "good", "FINISHED")
    job(made, "stuck", "Completed")
    run(made, "stuck", "RUNNING")
    job(made, "silent", "Completed")
    job(made, "waiting", "Queued")
    run(made, "local", "FINISHED")
    run(made, "step", "FINISHED", parent="good")
    return made


def test_what_differs_is_a_disagreement_once_both_were_looked_at_again(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, world)
    assert told(cli) == {}
    age(engine, HOURS)
    assert told(cli) == {}, "time alone proves nothing: nobody has looked since"
    scan(engine, world)
    assert told(cli) == {"stuck": "disagree", "silent": "job without run", "local": "run without job"}
    every = told(cli, "--all")
    assert (every["good"], every["waiting"], every["step"]) == ("agree", "pending", "undetermined")
    assert told(cli, "--grace", "5h") == {}


def test_a_shorter_grace_period_finds_more_than_the_view_tells(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, world)
    age(engine, timedelta(minutes=30))
    scan(engine, world)
    assert told(cli) == {}
    assert told(cli, "--grace", "10m") == {
        "stuck": "disagree", "silent": "job without run", "local": "run without job"
    }  # fmt: skip


def test_a_run_that_has_a_parent_is_never_called_without_a_job(engine: Engine, cli: Cli, world: Stock) -> None:
    world.kinds = {*(world.kinds or ()), Kind.CHILD_JOB}
    job(world, "another step", "Completed", kind=Kind.CHILD_JOB, parent="good")
    scan(engine, world)
    age(engine, HOURS)
    scan(engine, world)
    assert told(cli, "--all")["step"] == "undetermined"


def test_a_run_is_not_called_without_a_job_while_the_list_of_jobs_is_not_complete(
    engine: Engine, cli: Cli, world: Stock
) -> None:
    scan(engine, world)
    age(engine, HOURS)
    world.failing = {Kind.JOB}
    assert scan(engine, world).state == ScanState.PARTIAL
    verdicts = told(cli, "--all")
    assert verdicts["local"] == "pending"
    assert verdicts["stuck"] == "pending"
    world.failing = {Kind.RUN}
    scan(engine, world)
    verdicts = told(cli, "--all")
    assert (verdicts["local"], verdicts["silent"]) == ("run without job", "job without run")


def test_a_disagreement_ends_when_the_run_ends(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, world)
    age(engine, HOURS)
    scan(engine, world)
    assert told(cli)["stuck"] == "disagree"
    run(world, "stuck", "FINISHED")
    run(world, "silent", "FINISHED")
    scan(engine, world)
    assert told(cli).keys() == {"local"}


def test_an_edit_does_not_begin_the_grace_period_anew(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, world)
    age(engine, HOURS)
    world.change(Kind.JOB, "stuck", {"properties": {"status": "Completed", "tags": {"late": "edit"}}})
    scan(engine, world)
    assert told(cli)["stuck"] == "disagree"


def test_times_are_derived_where_both_ends_are_known(engine: Engine, cli: Cli) -> None:
    world = Stock()
    minute = timedelta(minutes=1)
    job(world, "a", "Completed", created_at=START)
    run(world, "a", "FINISHED", started_at=START + 5 * minute, ended_at=START + 15 * minute)
    job(world, "b", "Completed", kind=Kind.CHILD_JOB, created_at=START, started_at=START + minute, parent="a")
    run(world, "b", "FINISHED", started_at=START + 2 * minute, parent="a")
    job(world, "c", "Running", created_at=START + 9 * minute)
    run(world, "c", "RUNNING", started_at=START)  # the clocks contradict each other
    scan(engine, world)
    found = {one["key"]: one for one in cli("reconcile", "--all", "-o", "json").json()}
    assert {tuple(one) for one in found.values()} == {rows.JOB_RUN}
    times = {key: (one["queue_seconds"], one["startup_seconds"], one["duration_seconds"]) for key, one in found.items()}
    assert times == {"a": (300, None, 600), "b": (60, 60, None), "c": (None, None, None)}


def test_a_server_that_has_no_jobs_is_not_asked_for_any(engine: Engine, cli: Cli, world: Stock) -> None:
    scan_server(engine, filled_server().server.uri)
    assert cli("reconcile").code == 5
    scan(engine, world)
    age(engine, HOURS)
    scan(engine, world)
    assert {one["workspace"] for one in cli("reconcile", "-o", "json").json()} == {"ml"}
    with engine.connect() as connection:
        assert connection.execute(text("SELECT DISTINCT workspace FROM inventory.job_run")).scalars().all() == ["ml"]


def test_the_table_shows_both_sides(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, world)
    age(engine, HOURS)
    scan(engine, world)
    answer = cli("reconcile")
    lines = {line.split()[0]: line for line in answer.out.splitlines()}
    assert "Completed; since 3 h ago" in lines["stuck"]
    assert "RUNNING; since 3 h ago" in lines["stuck"]
    assert "none" in lines["silent"]
    assert cli("reconcile", "--grace", "soon").code == 2


def test_the_view_judges_as_the_core_does(engine: Engine) -> None:
    world = Stock(kinds={Kind.JOB, Kind.RUN})
    for number, state in enumerate([*MLFLOW_STATES, "Teleporting", None]):
        for mlflow in ("SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED", None):
            world.put(Kind.JOB, f"{number}-{mlflow}", {}, state=state)
            run(world, f"{number}-{mlflow}", mlflow or "", **({} if mlflow else {"name": "none"}))
        job(world, f"{number}-alone", state or "")
        run(world, f"alone-{number}", "RUNNING", parent="x" if number % 2 else None)
    for step in range(3):
        if step:
            age(engine, timedelta(minutes=45))
        for number in range(step, len(MLFLOW_STATES), 3):  # some change their state in between
            world.change(Kind.JOB, f"{number}-RUNNING", state="Failed")
        world.failing = {Kind.JOB} if step == 1 else set()
        scan(engine, world)
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT * FROM inventory.job_run")).all()
        assert len(rows) > 90
        for row in rows:
            sides = [
                Side(state=state, since=since, seen=seen) if key is not None else None
                for key, state, since, seen in (
                    (row.job, row.job_state, row.job_since, row.job_seen),
                    (row.run, row.run_state, row.run_since, row.run_seen),
                )
            ]
            assert row.verdict == judge(*sides, other_listed=row.other_listed), row
    assert {row.verdict for row in rows} == set(Verdict)


_SCOPES = """
INSERT INTO scope (workspace_id, kind, partition, state, last_complete_at, last_scan)
SELECT workspace_id, 'run', 'e' || number, 'complete', clock_timestamp(), 1
FROM workspace, generate_series(1, :experiments) AS number WHERE name LIKE :like
"""
_RUNS = """
WITH made AS (
    INSERT INTO asset (workspace_id, kind, key, partition, digest, raw_digest, epoch, observed_at, first_seen,
        lifecycle, baseline)
    SELECT workspace_id, 'run', 'r' || number, 'e' || number % :experiments, '', '', 1, now(), now(), 'active', true
    FROM workspace, generate_series(1, :runs) AS number WHERE name LIKE :like RETURNING *)
INSERT INTO version (asset_id, valid_from, workspace_id, kind, scan_id, digest, lifecycle, partition, state, document)
SELECT asset_id, first_seen, workspace_id, kind, 1, '', lifecycle, partition, 'FINISHED', '{}' FROM made
"""


def fill(engine: Engine, like: str, *, runs: int, experiments: int) -> None:
    """Put runs that no job has into workspaces. The database learns how many there are, but not of their scopes, as
    after a first scan."""
    given = {"like": like, "experiments": experiments}
    with engine.begin() as connection:
        connection.execute(text(_SCOPES), given)
        connection.execute(text(_RUNS), given | {"runs": runs})
        connection.execute(text("ANALYZE workspace, asset, version"))


def explained(engine: Engine, query: str) -> float:
    """How many rows the busiest step of a query goes through."""
    with engine.connect() as connection:
        told = connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")).scalar_one()
    return max(visits(told[0]["Plan"]))


def visits(plan: Mapping[str, Any]) -> Iterator[float]:
    """How many rows each step of a plan went through, those that it left out as well."""
    each = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    yield each * plan["Actual Loops"]
    for below in plan.get("Plans", ()):
        yield from visits(below)


def test_the_work_grows_with_the_runs_and_not_with_runs_times_experiments(engine: Engine, world: Stock) -> None:
    scan(engine, world)
    fill(engine, "ml", runs=3_000, experiments=500)
    most = explained(engine, "SELECT * FROM inventory.job_run WHERE verdict <> 'agree'")
    assert 3_000 <= most < 4 * 3_500


def test_what_is_asked_about_one_workspace_is_the_same_and_reads_nothing_of_the_others(
    engine: Engine, world: Stock
) -> None:
    scan(engine, world)
    with engine.begin() as connection:
        others = (
            "INSERT INTO workspace (name, source) SELECT 'other' || number, 'x' FROM generate_series(1, 50) AS number"
        )
        connection.execute(text(others))
    fill(engine, "other%", runs=200, experiments=2)
    of = "SELECT * FROM inventory.job_run_of(ARRAY['ml'])"
    with engine.connect() as connection:
        alone = connection.execute(text(f"{of} ORDER BY job, run")).all()
        whole = connection.execute(text("SELECT * FROM inventory.job_run WHERE workspace = 'ml' ORDER BY job, run"))
        assert alone == whole.all()
    assert len(alone) == 6
    assert explained(engine, of) < 1_000, "of the 10,000 runs of the others"
