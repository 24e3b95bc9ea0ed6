"""How a workspace stands now, as `status` and the figures tell it: neither better nor worse than it was seen."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, Mode
from stocktake.core.errors import Trouble
from stocktake.pipeline import Stopped
from stocktake.store import figures, standing
from stocktake.telemetry.figures import WorkspaceFigures
from tests.integration.scripted import World, scan, twelve_runs

LIMITS = {Mode.HOT: 600, Mode.SWEEP: 86400}


@pytest.fixture
def world() -> World:
    return twelve_runs()


def status(engine: Engine) -> standing.WorkspaceStatus:
    with engine.connect() as connection:
        (one,) = standing.status(connection)
    return one


def measured(engine: Engine) -> WorkspaceFigures:
    with engine.connect() as connection:
        found = figures.workspace_figures(connection, "w", age_limits=LIMITS)
    assert found is not None
    return found


def test_a_scan_is_under_way_only_while_somebody_holds_its_lock(engine: Engine, world: World) -> None:
    told: list[str | None] = []
    world.during = lambda _: told.append(status(engine).scanning)
    scan(engine, world)
    assert set(told) == {"sweep"}
    with engine.begin() as connection:
        connection.execute(text("UPDATE scan SET state = 'running'"))  # as kill -9 leaves it
    assert status(engine).scanning is None


def test_a_scan_that_was_stopped_is_no_longer_under_way(engine: Engine, world: World) -> None:
    scan(engine, world)
    with pytest.raises(Stopped):
        scan(engine, world, stop=lambda: True)
    assert status(engine).scanning is None


def test_an_experiment_that_is_gone_does_not_age_the_rest(engine: Engine, world: World) -> None:
    world.add_run("gone1", experiment="2")
    scan(engine, world)
    del world.runs["gone1"]
    del world.experiments["2"]
    for _ in range(3):
        last = scan(engine, world)
    (runs,) = [one for one in measured(engine).kinds if one.kind == Kind.RUN]
    assert runs.oldest_complete is not None
    assert runs.oldest_complete >= last.began_at


def test_one_kind_that_may_not_be_read_does_not_put_the_workspace_out_of_sight(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.fail_runs_after, world.fail_with = 1, Trouble.PERMISSION
    scan(engine, world)
    assert (status(engine).state, measured(engine).observable) == ("partial", True)
