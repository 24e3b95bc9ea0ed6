"""A batch is published beside the reading of the next: the inventory is that of a scan that did one after the other."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import ScanState
from stocktake.core.errors import Fenced, Stopped
from stocktake.pipeline import story
from tests.integration.scripted import World, scan


def _world(*, edited: bool = False) -> World:
    world = World(page=4)
    for number in range(60):
        world.add_run(f"run{number:02d}", experiment=str(number // 30))
    if edited:
        for key in ("run03", "run17", "run44"):
            world.runs[key]["tags"]["edited"] = "1"
        del world.runs["run21"]
        world.add_run("run99", experiment="1")
    return world


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every page of runs be a batch."""
    monkeypatch.setattr(story, "_BATCH_DOCUMENTS", 3)


def _rows(engine: Engine, workspace: str) -> list[tuple[Any, ...]]:
    """Return the states and changes of a workspace, without times and ids."""
    query = (
        "SELECT a.kind, a.key, a.partition, a.baseline, v.valid_to IS NULL, v.state, v.document, c.type, c.fields"
        " FROM asset a JOIN workspace w USING (workspace_id) JOIN version v USING (asset_id)"
        " LEFT JOIN change c ON c.asset_id = a.asset_id AND c.at = v.valid_from"
        " WHERE w.name = :name ORDER BY a.kind, a.key, v.valid_from"
    )
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query), {"name": workspace})]


def _runs(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM version WHERE kind = 'run'")).scalar_one())


def test_many_batches_give_what_one_gives(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = [scan(engine, _world(edited=edited), workspace="whole") for edited in (False, True)]
    monkeypatch.setattr(story, "_BATCH_DOCUMENTS", 3)
    for whole, edited in zip(reports, (False, True), strict=True):
        assert scan(engine, _world(edited=edited), workspace="batches").counts == whole.counts
    assert _rows(engine, "batches") == _rows(engine, "whole")
    assert {(key, change) for _, key, *_, change, _ in _rows(engine, "batches") if change} == {
        ("run03", "updated"),
        ("run17", "updated"),
        ("run44", "updated"),
        ("run99", "created"),
    }


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("filtered", [False, True])
def test_a_batch_that_ends_in_the_midst_of_a_scope_forgets_nothing_that_was_seen(
    engine: Engine, filtered: bool
) -> None:
    world = World(page=5, filtered=filtered)
    for number in range(40):
        world.add_run(f"a{number:02d}", experiment="1")
        world.add_run(f"b{number:02d}", experiment="2")
    scan(engine, world)
    for key in ("b30", "b31", "b32"):
        world.runs[key]["tags"]["x"] = "1"
    world.unconfirmable = set(world.runs)
    report = scan(engine, world)
    assert (report.counts.get("carried", 0), report.counts["updated"]) == (0, 3)
    query = text("SELECT sum(missing) FROM scope_scan WHERE scan_id = :scan AND kind = 'run'")
    with engine.connect() as connection:
        assert connection.execute(query, {"scan": report.scan_id}).scalar_one() == 0


@pytest.mark.usefixtures("_small")
def test_reading_goes_on_while_a_batch_waits_for_the_database(engine: Engine) -> None:
    world, blocker = _world(), engine.connect()
    read: list[int] = []

    def during(page: int) -> None:
        read.append(page)
        if len(read) == 1:  # the first page is a batch, and cannot be published
            blocker.execute(text("LOCK TABLE version IN EXCLUSIVE MODE"))
        if len(read) == 2:
            blocker.rollback()

    world.during = during
    unlock = threading.Timer(30, blocker.rollback)  # a scan that did not read on would wait for ever
    unlock.start()
    report = scan(engine, world)
    assert unlock.is_alive()
    unlock.cancel()
    blocker.close()
    assert report.state == ScanState.COMPLETE
    assert _runs(engine) == 60


@pytest.mark.usefixtures("_small")
def test_a_batch_beside_is_fenced_as_every_other(engine: Engine) -> None:
    world = _world()

    def take_over(page: int) -> None:
        if page == 3:
            world.during = None
            with engine.begin() as connection:
                connection.execute(text("UPDATE claim SET token = gen_random_uuid()"))

    world.during = take_over
    with pytest.raises(Fenced):
        scan(engine, world)
    assert _runs(engine) <= 12
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_small")
def test_a_batch_that_the_database_refuses_ends_the_scan_and_the_next_one_makes_it_good(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE version ADD CONSTRAINT refused CHECK (name <> 'run33') NOT VALID"))
    with pytest.raises(Exception, match="refused"):
        scan(engine, _world())
    with engine.begin() as connection:
        state, listed = connection.execute(
            text("SELECT state, (SELECT count(*) FROM scope WHERE partition = '1') FROM scan")
        ).one()
        connection.execute(text("ALTER TABLE version DROP CONSTRAINT refused"))
    assert (state, listed) == (ScanState.ABANDONED, 0)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert scan(engine, _world()).state == ScanState.COMPLETE
    assert _runs(engine) == 60


@pytest.mark.usefixtures("_small")
def test_a_scan_that_is_stopped_leaves_the_batch_it_had_begun(engine: Engine) -> None:
    world, pages = _world(), 0

    def during(_: int) -> None:
        nonlocal pages
        pages += 1

    world.during = during
    with pytest.raises(Stopped):
        scan(engine, world, stop=lambda: pages > 5)
    assert _runs(engine) == 20
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
