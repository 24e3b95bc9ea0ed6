"""Removals that are too many to believe at once: withheld, judged again, accepted, or forgotten."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, Mode
from stocktake.core.guard import Guard
from stocktake.store import ledger
from tests.integration.scripted import World, changes, live, scan, twelve_runs


@pytest.fixture
def world() -> World:
    return twelve_runs()


def test_too_many_removals_wait_for_a_second_sweep(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.runs.clear()
    first = scan(engine, world)
    assert first.counts["withheld"] == 12
    assert len(live(engine)) == 12
    assert changes(engine) == []
    hot = scan(engine, world, Mode.HOT)
    assert hot.counts.get("purged", 0) == 0
    second = scan(engine, world)
    assert second.counts["purged"] == 12
    assert live(engine) == set()
    looks = {c.not_before for c in changes(engine)}
    assert all(look is not None and look < first.began_at for look in looks)


def test_withheld_runs_that_come_back_leave_no_trace(engine: Engine, world: World) -> None:
    scan(engine, world)
    kept, world.runs = world.runs, {}
    scan(engine, world)
    world.runs = kept
    scan(engine, world)
    world.runs = {}
    again = scan(engine, world)
    assert again.counts["withheld"] == 12
    assert changes(engine) == []


def test_an_operator_can_accept_withheld_removals(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.runs.clear()
    scan(engine, world)
    with engine.begin() as connection:
        assert ledger.accept_removals(connection, "w", Kind.RUN, None, actor="ada") == 12
    assert scan(engine, world).counts["purged"] == 12


def test_many_small_scopes_that_empty_at_once_are_withheld_too(engine: Engine) -> None:
    world = World()
    for number in range(60):
        world.add_run(f"run{number:02d}", experiment=str(number // 3))
    scan(engine, world)
    world.runs.clear()
    report = scan(engine, world)
    assert report.counts["purged"] <= 12  # ten of sixty, and the scope in which the guard woke
    assert report.counts["withheld"] >= 48


def test_withheld_runs_that_are_found_by_id_are_withheld_no_more(engine: Engine, world: World) -> None:
    scan(engine, world)
    kept, world.runs = world.runs, {}
    assert scan(engine, world).counts["withheld"] == 12
    world.runs, world.hidden = kept, set(kept)  # no list shows them, and each answers when it is asked for
    scan(engine, world)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM withheld")).scalar_one() == 0
    world.runs = {}
    assert scan(engine, world).counts.get("purged", 0) == 0, "the first sweep that confirms it, not the second"


def test_what_is_marked_deleted_does_not_make_a_large_share_small(engine: Engine) -> None:
    world = World(page=500)
    for number in range(300):
        experiment = str(number // 5)
        world.experiments.setdefault(experiment, {"name": experiment, "lifecycle_stage": "active"})
        world.models[f"m-{number:03d}"] = {"experiment_id": experiment, "name": f"n{number}"}
    scan(engine, world)
    for number in range(300):
        if number % 5:
            del world.models[f"m-{number:03d}"]
    scan(engine, world, guard=Guard(share=1.1, assets=10**6))  # 240 went over time
    for key in list(world.models)[:45]:
        del world.models[key]
    assert scan(engine, world).counts["withheld"] > 0, "45 of the 60 that were left"
