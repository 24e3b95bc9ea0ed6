"""Movement: a server whose content moves while its pages are read. Nothing is reported that did not happen, and a
clean sweep of the quiet server makes the inventory equal to it."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import Engine

from stocktake.core.assets import Mode, ScanState
from stocktake.core.guard import Guard
from tests.servers.mlflow_server import mlflow_server
from tests.servers.moving_mlflow import PLAY_ALONG, MovingMlflow, Served, served
from tests.soak import witness
from tests.soak.real_mover import RealMover


@dataclass(slots=True)
class _Tally:
    episodes: int = 0
    acts: int = 0
    during: int = 0  # acts between the request of a page and its answer
    passes: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    requests: int = 0

    def line(self, seed: int, seconds: float) -> str:
        types = ", ".join(f"{number:,} {name}" for name, number in sorted(self.changes.items()))
        return (
            f"movement: seeds {seed}..{seed + self.episodes - 1}, {self.acts:,} acts ({self.during:,} while a page was"
            f" under way), {self.passes.total():,} passes ({self.passes['nested']:,} hot ones inside a sweep,"
            f" {self.requests:,} requests), {self.changes.total():,} changes held against the truth ({types}), 0 false,"
            f" {self.episodes} of {self.episodes} inventories equal to the server; {seconds:.0f} s"
        )


def _episode(engine: Engine, place: Served, seed: int, tally: _Tally, *, passes: int) -> None:
    """Some passes over one world that moves, then one clean sweep."""
    choose = random.Random(seed)
    world = place.world = MovingMlflow()
    mover = witness.Mover(world, choose)
    mover.begin()
    workspace, page = f"w{seed}", choose.choice([2, 3, 5, 8, 20])
    guard = Guard() if seed % 3 == 0 else witness.OPEN_GUARD
    inside = threading.Lock()  # held by the one hot pass that may run while a page of a sweep is under way
    hot_ones: list[Mode] = []
    most_acts = 0

    def moves(path: str, number: int) -> object:
        before = world.acts
        if choose.random() < 0.5 and world.acts < most_acts:
            mover.acts(3)
        tally.during += world.acts - before
        if choose.random() < 0.1 and "runs/search" in path and hot_ones and inside.acquire(blocking=False):
            try:
                one_pass(hot_ones.pop(), "nested")
            finally:
                inside.release()
        return PLAY_ALONG

    def one_pass(mode: Mode, name: str) -> None:
        witness.scan(engine, place.uri, mode, workspace=workspace, page=page, guard=guard)
        tally.passes[name] += 1

    for _ in range(passes):
        mover.acts(6)
        world.interfere = moves
        mode = choose.choice([Mode.SWEEP, Mode.SWEEP, Mode.HOT])
        most_acts = world.acts + 40  # every act makes pages, and every page acts: there must be an end
        hot_ones[:] = [Mode.HOT] * choose.randint(0, 2) if mode == Mode.SWEEP else []
        one_pass(mode, mode)
        world.interfere = None
    report = witness.scan(engine, place.uri, Mode.SWEEP, workspace=workspace, page=page, guard=guard)
    assert report.state == ScanState.COMPLETE
    if report.counts.get("withheld"):  # the guard delays, it never locks
        report = witness.scan(engine, place.uri, Mode.SWEEP, workspace=workspace, page=page, guard=guard)
    with engine.connect() as connection:
        witness.equal_to_server(connection, workspace, world)
        held, false = witness.false_changes(connection, workspace, world)
    assert not false, f"seed {seed}: {len(false)} of {held.total()} changes are false:\n" + "\n".join(false[:10])
    tally.episodes += 1
    tally.acts += world.acts
    tally.requests += world.requests
    tally.passes["clean"] += 1
    tally.changes += held


def _prove(engine: Engine, seed: int, *, seconds: float, passes: int) -> None:
    tally, deadline = _Tally(), witness.Deadline(seconds)
    witness.say(f"movement: seed {seed}")
    with served() as place:
        while tally.episodes == 0 or not deadline.passed():
            _episode(engine, place, seed + tally.episodes, tally, passes=passes)
    witness.say(tally.line(seed, deadline.taken()))


def test_no_change_is_reported_that_did_not_happen(engine: Engine) -> None:
    _prove(engine, 20261127, seconds=8, passes=12)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_movement_of_a_real_server(engine: Engine, tmp_path: Path) -> None:
    """The same on `mlflow server`, moved by a thread of its own: nothing about paging is ours here."""
    seed, passes, ended = witness.seed(), Counter[str](), threading.Event()
    witness.say(f"movement of a real server: seed {seed}")
    with mlflow_server(tmp_path) as server, RealMover(server, random.Random(seed)) as mover:
        mover.begin()
        deadline = witness.Deadline(witness.budget() / 4)
        thread = threading.Thread(target=mover.move_until, args=[ended])
        thread.start()
        choose = random.Random(seed)
        try:
            while not deadline.passed():
                mode = choose.choice([Mode.SWEEP, Mode.SWEEP, Mode.HOT])
                witness.scan(engine, server.uri, mode, workspace="real", page=choose.choice([2, 5, 20]))
                passes[mode] += 1
        finally:
            ended.set()
            thread.join()
        assert mover.failure is None, mover.failure
        assert witness.scan(engine, server.uri, Mode.SWEEP, workspace="real", page=5).state == ScanState.COMPLETE
    with engine.connect() as connection:
        witness.equal_to_server(connection, "real", mover.world)
        torn: list[str] = []
        held, false = witness.false_changes(connection, "real", mover.world, torn=torn)
    assert not false, f"{len(false)} of {held.total()} changes are false:\n" + "\n".join(false[:10])
    types = ", ".join(f"{number:,} {name}" for name, number in sorted(held.items()))
    witness.say(
        f"movement of a real server: seed {seed}, MLflow {version('mlflow')}, {mover.world.acts:,} acts,"
        f" {passes.total()} passes, {held.total():,} changes held against the truth ({types}), 0 false,"
        f" {len(torn)} torn by the server, inventory equal to the server; {deadline.taken():.0f} s"
    )


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_movement_at_length(engine: Engine) -> None:
    _prove(engine, witness.seed(), seconds=witness.budget(), passes=30)
