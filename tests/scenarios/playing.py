"""Deals scenarios out to worlds and plays them: the same seed plays the same."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from stocktake.rules import RULES
from tests.scenarios.clock import Clock, simulated
from tests.scenarios.episode import Episode
from tests.scenarios.frame import Scenario, World
from tests.scenarios.table import PAGE, Tally, written

#: Makes a world in a folder, by a clock, at random.
OpenWorld = Callable[[Path, Clock, random.Random], AbstractContextManager[World]]
_IN_A_WORLD = 40


def dealt(pool: Sequence[Scenario], number: int, choose: random.Random) -> list[list[Scenario]]:
    """So many scenarios, every one of the pool as often as the others, in worlds where each is the others' company."""
    those: list[Scenario] = []
    while len(those) < number:
        those += choose.sample(pool, min(len(pool), number - len(those)))
    choose.shuffle(those)
    worlds: list[list[Scenario]] = [[] for _ in range(-(-number // _IN_A_WORLD))]
    for turn, one in enumerate(those):
        for offset in range(len(worlds)):
            world = worlds[(turn + offset) % len(worlds)]
            if all(one.meets(other) for other in world):
                world.append(one)
                break
    return worlds


def play(
    open_world: OpenWorld,
    pool: Sequence[Scenario],
    company: Sequence[Scenario],
    *,
    number: int,
    seed: int,
    pg_server: str,
    folder: Path,
    seconds: float = float("inf"),
) -> Tally:
    """Play so many scenarios, as long as there is time: a world that was begun is played to its end."""
    choose = random.Random(seed)
    tally, began = Tally(), time.monotonic()
    for turn, scenarios in enumerate(dealt(pool, number, choose)):
        lot = random.Random(choose.getrandbits(64))
        if turn and (time.monotonic() - began) * (turn + 1) / turn > seconds:
            break
        with simulated(pg_server) as clock, open_world(folder / f"world{turn}", clock, lot) as world:
            episode = Episode(world=world, clock=clock, choose=lot)
            book = episode.run([*scenarios, *(lot.choice(company) for _ in range(len(scenarios) // 6))])
            tally.add(scenarios, book, episode.troubles, episode.scans)
    return tally


def proved(
    open_world: OpenWorld,
    pool: Sequence[Scenario],
    company: Sequence[Scenario],
    *,
    section: str,
    slice_of: int,
    pg_server: str,
    folder: Path,
) -> None:
    """Play as `make check-rules` asks for it by the environment, or a slice with a fixed seed; print the table, and
    hold that all that was planted was found, and nothing else. The page is written only where that is so."""
    asked = os.environ.get("STOCKTAKE_SCENARIOS")
    seed = int(os.environ.get("STOCKTAKE_SCENARIOS_SEED") or (random.randrange(10**6) if asked else 1))
    only = os.environ.get("STOCKTAKE_SCENARIOS_RULE", "").split()
    print(f"seed {seed}")
    chosen = [one for one in pool if not only or one.rule in only]
    if not chosen:
        pytest.skip(f"{section}: none of {', '.join(only)} is planted here")
    tally = play(
        open_world,
        chosen,
        company,
        number=int(asked or slice_of),
        seed=seed,
        pg_server=pg_server,
        folder=folder,
        seconds=float(os.environ.get("STOCKTAKE_SCENARIOS_SECONDS") or "inf"),
    )
    table = tally.markdown(seed)
    print(table)
    assert not tally.said, "\n".join(tally.said)
    assert tally.planted
    assert set(tally.rules()) <= {rule.id for rule in RULES}
    if os.environ.get("STOCKTAKE_SCENARIOS_WRITE"):
        PAGE.write_text(written(PAGE.read_text(), table, section))
