"""A server that moves while its pages are read: what the proof of movement (tests/soak) broke once, each on its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from stocktake.core.assets import Kind, Mode, ScanState
from stocktake.store import difference, history
from tests.servers.moving_mlflow import PLAY_ALONG, MovingMlflow, Served, served
from tests.soak import witness


@pytest.fixture
def place() -> Iterator[Served]:
    with served() as place:
        place.world.add_experiment("1")
        for number in range(6):
            place.world.add_run(f"run{number}", "1")
        yield place


def _at(world: MovingMlflow, path: str, number: int, act: object) -> None:
    """Act when a path is asked for the so-manieth time, after the request was sent and before it is answered."""
    asked = 0

    def interfere(asked_path: str, _: int) -> object:
        nonlocal asked
        asked += path in asked_path
        if path in asked_path and asked == number:
            assert callable(act)
            act()
        return PLAY_ALONG

    world.interfere = interfere


def _only_change(engine: Engine) -> history.ChangeRow:
    with engine.connect() as connection:
        (change,) = witness.reported(connection, "w")
    return change


@pytest.mark.parametrize("act", ["edit", "create"])
def test_what_happens_while_a_page_is_under_way_lies_between_the_looks(engine: Engine, place: Served, act: str) -> None:
    world = place.world
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w")
    acts = {
        "edit": lambda: world.edit(Kind.RUN, "run3", "tags.note", "late"),
        "create": lambda: world.add_run("run9", "1"),
    }
    _at(world, "runs/search", 1, acts[act])
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w")
    change = _only_change(engine)
    at = world.truth[Kind.RUN, change.key].states[-1][0]
    assert change.not_before is not None
    assert change.not_before <= at <= change.not_after + witness.LAG


def test_a_run_purged_while_it_is_asked_for_by_id_lies_between_the_looks(engine: Engine, place: Served) -> None:
    world = place.world
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w")
    world.hidden.add("run3")  # not on the list, and gone only when it is asked for
    _at(world, "runs/get", 1, lambda: world.purge(Kind.RUN, "run3"))
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w")
    change = _only_change(engine)
    at = world.truth[Kind.RUN, "run3"].states[-1][0]
    assert (change.type, change.key) == ("purged", "run3")
    assert change.not_before is not None
    assert change.not_before <= at <= change.not_after + witness.LAG


@pytest.mark.parametrize("removed", [["run5"], ["run5", "run4"], ["run4"]])
@pytest.mark.parametrize("page", [2, 3])
def test_a_row_removed_before_a_page_makes_none_be_skipped(
    engine: Engine, place: Served, removed: list[str], page: int
) -> None:
    world = place.world  # runs are listed from run5 down to run0

    def remove() -> None:
        for key in removed:
            world.purge(Kind.RUN, key)

    _at(world, "runs/search", 2, remove)
    report = witness.scan(engine, place.uri, Mode.SWEEP, workspace="w", page=page)
    assert report.state == ScanState.COMPLETE
    with engine.connect() as connection:
        assert witness.inventory(connection, "w", Kind.RUN).keys() >= {"run0", "run1", "run2", "run3"}


def test_rows_added_and_removed_at_once_make_none_be_skipped(engine: Engine, place: Served) -> None:
    world = place.world

    def turn_over() -> None:
        for key in ("run5", "run4", "run3"):
            world.purge(Kind.RUN, key)
        world.add_run("new", "1")

    _at(world, "runs/search", 3, turn_over)
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w", page=2)
    with engine.connect() as connection:
        assert witness.inventory(connection, "w", Kind.RUN).keys() >= {"run0", "run1", "run2"}
    assert witness.scan(engine, place.uri, Mode.SWEEP, workspace="w", page=2).state == ScanState.COMPLETE
    with engine.connect() as connection:
        witness.equal_to_server(connection, "w", world)
        _, false = witness.false_changes(connection, "w", world)
    assert not false


def test_what_a_filter_hid_was_not_created_after_the_filtered_look(engine: Engine, place: Served) -> None:
    world = place.world
    world.hidden = {"run3", "1"}
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w", filtered=True)
    world.hidden = set()
    world.add_experiment("2")
    world.add_run("run9", "2")
    world.hidden = {"run9"}
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w", filtered=True)
    world.hidden = set()
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w")
    with engine.connect() as connection:
        held, false = witness.false_changes(connection, "w", world)
    assert held["created"] >= 2
    assert not false, "\n".join(false)


def test_the_difference_of_two_times_creates_nothing_that_was_first_seen_deleted(engine: Engine, place: Served) -> None:
    world = place.world
    world.mark(Kind.RUN, "run3", "deleted")
    before = datetime.now(UTC)
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w")
    world.mark(Kind.RUN, "run3", "active")
    witness.scan(engine, place.uri, Mode.SWEEP, workspace="w")
    assert _only_change(engine).type == "restored"
    with engine.connect() as connection:
        assert list(difference.difference(connection, start=before, end=datetime.now(UTC))) == []
