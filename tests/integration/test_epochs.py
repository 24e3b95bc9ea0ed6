"""What is read in another way than before is no change; and what changed meanwhile is one all the same."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Asset, Kind, Mode
from stocktake.core.redact import Redactor
from stocktake.store import history
from tests.integration.scripted import KEY, Scripted, World, changes, scan, twelve_runs


@pytest.fixture
def world() -> World:
    made = twelve_runs()
    made.runs["run01"]["tags"]["badge"] = "badge-12345678"
    return made


def stricter() -> Redactor:
    """Another policy than the first scan had."""
    return Redactor(KEY, values=["badge-[0-9]+"])


def test_another_redaction_policy_is_a_new_epoch_and_reports_nothing(engine: Engine, world: World) -> None:
    scan(engine, world)
    scan(engine, world, redactor=stricter())
    assert changes(engine) == []
    with engine.connect() as connection:
        (row,) = history.find_asset(connection, Kind.RUN, "run01")
    assert "12345678" not in str(row.document)


def test_a_deletion_that_comes_with_a_new_epoch_is_told(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.runs["run02"]["info"]["lifecycle_stage"] = "deleted"
    scan(engine, world, redactor=stricter())
    assert [(one.key, one.type) for one in changes(engine)] == [("run02", "deleted")]


def test_every_state_names_a_scan_that_is_in_the_ledger_though_equal_passes_are_folded(
    engine: Engine, world: World
) -> None:
    scan(engine, world)
    scan(engine, world, Mode.HOT)
    scan(engine, world, Mode.HOT, redactor=stricter())
    world.runs["run01"]["info"]["status"] = "RUNNING"
    scan(engine, world, Mode.HOT, redactor=stricter())
    dangling = "SELECT 1 FROM version v WHERE NOT EXISTS (SELECT 1 FROM scan s WHERE s.scan_id = v.scan_id)"
    with engine.connect() as connection:
        assert connection.execute(text(dangling)).all() == []


def test_bytes_that_came_in_another_order_are_decoded_once(engine: Engine, world: World) -> None:
    decoded: list[str] = []

    class Counting(Scripted):
        def parse(self, kind: Kind, raw: bytes) -> Asset:
            asset = super().parse(kind, raw)
            decoded.append(asset.key)
            return asset

    scan(engine, world)
    for key, run in world.runs.items():
        world.runs[key] = dict(reversed(list(run.items())))
    scan(engine, world, source=Counting)
    assert set(decoded) >= set(world.runs)
    decoded.clear()
    scan(engine, world, source=Counting)
    assert decoded == []
    assert changes(engine) == []
