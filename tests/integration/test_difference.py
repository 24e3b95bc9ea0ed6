"""The difference between two times claims no creation that nobody saw."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind
from stocktake.pipeline import ScanReport
from stocktake.store import retention
from stocktake.store.difference import difference
from stocktake.store.observation import observed
from tests.integration.scripted import World, scan, twelve_runs


@pytest.fixture
def world() -> World:
    return twelve_runs()


def between(engine: Engine, first: ScanReport, last: ScanReport) -> set[tuple[str, str]]:
    with engine.connect() as connection:
        return {(row.key, row.type) for row in difference(connection, start=first.finished_at, end=last.finished_at)}


def test_what_a_new_right_showed_was_not_created(engine: Engine, world: World) -> None:
    world.filtered, world.hidden = True, {"run01"}
    first = scan(engine, world)
    world.hidden = set()
    scan(engine, world)
    world.runs["run01"]["tags"]["x"] = "1"
    last = scan(engine, world)
    assert ("run01", "created") not in between(engine, first, last)


def test_what_retention_dropped_was_not_created_since(engine: Engine, world: World) -> None:
    first = scan(engine, world)
    world.runs["run01"]["tags"]["x"] = "1"
    middle = scan(engine, world)
    world.runs["run01"]["tags"]["x"] = "2"
    last = scan(engine, world)
    with engine.connect() as connection:
        now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    retention.prune(engine, keep=now - middle.finished_at)
    assert ("run01", "created") not in between(engine, first, last)
    with engine.connect() as connection:
        (seen,) = observed(connection, Kind.RUN, at=first.finished_at)
    assert seen.dropped_before is not None
    assert first.finished_at < seen.dropped_before < middle.finished_at
