"""Deals scenarios out to worlds and plays them: the same seed plays the same."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.scenarios.clock import Clock, simulated
from tests.scenarios.episode import Episode
from tests.scenarios.frame import Scenario, World
from tests.scenarios.table import Tally

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
