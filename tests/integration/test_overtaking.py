"""A sweep and a hot pass that cross: whichever looked last is believed, and no change ends before it began."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from stocktake.core.assets import Kind, Mode
from stocktake.store import history
from tests.integration.scripted import World, changes, live, scan, twelve_runs


@pytest.fixture
def world() -> World:
    return twelve_runs()


def test_a_slow_sweep_never_rewinds_what_a_hot_pass_published(engine: Engine, world: World) -> None:
    world.runs["run00"]["info"]["status"] = "RUNNING"
    scan(engine, world)
    old = dict(world.runs["run00"], tags={"old": "1"})

    def meanwhile(page: int) -> None:
        # The sweep has read its first page of runs (with the old state) when a hot pass publishes a newer one.
        if page == 1:
            world.during = None
            fresh = World(experiments=world.experiments, runs=dict(world.runs))
            fresh.runs["run00"] = dict(world.runs["run00"], tags={"new": "1"})
            scan(engine, fresh, Mode.HOT)

    new = world.runs["run00"]
    world.runs["run00"] = old
    world.during = meanwhile
    scan(engine, world)
    world.runs["run00"] = new
    with engine.connect() as connection:
        (row,) = history.find_asset(connection, Kind.RUN, "run00")
    assert row.document["tags"] == {"new": "1"}


def beside(engine: Engine, world: World, happens: Callable[[], None]) -> None:
    """Sweep; while its runs are read something happens, and a hot pass sees it."""

    def meanwhile(page: int) -> None:
        world.during = None
        happens()
        scan(engine, world, Mode.HOT)

    world.during = meanwhile
    scan(engine, world)


def test_a_change_that_was_taken_back_during_the_sweep_does_not_stay(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.experiments["1"]["note"] = "x"  # the sweep sees it, the hot pass does not any more
    beside(engine, world, lambda: world.experiments["1"].pop("note"))
    with engine.connect() as connection:
        (row,) = history.find_asset(connection, Kind.EXPERIMENT, "1")
    assert "note" not in row.document
    assert [(one.not_before, one.not_after) for one in changes(engine)] == [], "nor does it end before it began"


def test_what_came_and_went_during_the_sweep_is_older_news_than_its_absence(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.experiments["9"] = {"name": "short lived", "lifecycle_stage": "active"}
    beside(engine, world, lambda: world.experiments.__delitem__("9"))
    assert live(engine, Kind.EXPERIMENT) == {"1"}
    assert changes(engine) == []
