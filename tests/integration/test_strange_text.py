"""Text that no database would take, and numbers that no column would: carried faithfully, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, ScanState
from stocktake.sources.protocol import Page
from stocktake.store import history
from tests.integration.scripted import Scripted, World, live, scan, twelve_runs

ODD = ["m\x00x", "m\ud83dx", "m\ue000x"]  # NUL, half a pair, and the mark by which such are escaped


@pytest.fixture
def world() -> World:
    return twelve_runs()


def test_strange_text_is_carried_faithfully(engine: Engine, world: World) -> None:
    strange = "nul \x00, lone \ud83d, private \ue000, emoji \U0001f600"
    world.runs["run00"]["tags"][strange] = strange
    world.runs["run00"]["info"]["run_name"] = strange
    world.runs["run00"]["metrics"]["m"] = {"value": float("nan")}
    assert scan(engine, world).state == ScanState.COMPLETE
    with engine.connect() as connection:
        (row,) = history.find_asset(connection, Kind.RUN, "run00")
        assert row.document["tags"] == {strange: strange}
        assert row.name == strange
        assert row.document["metrics"]["m"]["value"] == "NaN"
        connection.execute(text("SELECT document, tags, metrics FROM inventory.run")).all()


@pytest.mark.parametrize("odd", ODD)
def test_a_strange_key_is_met_again_by_the_next_scan(engine: Engine, world: World, odd: str) -> None:
    world.experiments[odd] = {"name": "odd", "lifecycle_stage": "active"}
    assert scan(engine, world).state == ScanState.COMPLETE
    again = scan(engine, world)
    assert (again.state, again.counts.get("purged", 0), again.counts.get("created", 0)) == (ScanState.COMPLETE, 0, 0)
    assert live(engine, Kind.EXPERIMENT) == {"1", odd}


@pytest.mark.parametrize("odd", ODD)
def test_a_problem_is_told_though_its_words_are_strange(engine: Engine, world: World, odd: str) -> None:
    class Complaining(Scripted):
        def _pages(self, kind: Kind, items: Mapping[str, Any]) -> Iterator[Page]:
            for page in super()._pages(kind, items):
                yield replace(page, problems=[f"aliases of {odd} are odd"])

    assert scan(engine, world, source=Complaining).state == ScanState.PARTIAL


def test_a_number_that_no_column_holds_is_kept(engine: Engine, world: World) -> None:
    world.runs["run01"]["big"] = 2**70
    assert scan(engine, world).state == ScanState.COMPLETE
    with engine.connect() as connection:
        (row,) = history.find_asset(connection, Kind.RUN, "run01")
    assert row.document["big"] == 2**70
