"""The outbox: alerts that open and close while their receiver fails at random and workers are killed at random. Each
arrives at least once, in the order of its states, under one key; none is lost.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.store.engine import make_engine
from tests.integration.alerting import desk, move, plant
from tests.servers.hooks import Hooks, Posted, Says, hooks
from tests.soak import witness

#: So much faster goes the clock of alerts: a back-off of minutes is over in a moment.
SPEED = 600

# Every worker is forked from a process that has imported everything.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.soak.test_outbox"])

WORDS = """
receivers: [{{name: hook, webhook: {{url: "{0}"}}}}]
receiver: none
give_up_after: 3650d
routes: [{{receiver: hook, group_by: [finding], pace: {{wait: 10s, interval: 10s, repeat: forever}}}}]
flapping: {{moves: 16, within: 1s, settle: 1s}}
"""


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock that every process reads alike."""

    base: datetime
    began: float

    def now(self) -> datetime:
        return self.base + timedelta(seconds=(time.time() - self.began) * SPEED)


def work(url: str, hook: str, clock: Clock) -> None:
    """What a worker's process does until it is killed."""
    engine = make_engine(url)
    made = desk(engine, WORDS.format(hook))
    logging.getLogger("stocktake").setLevel(logging.CRITICAL)
    while True:
        made.alerting.plan(clock.now())
        for _ in range(20):
            if not made.alerting.send("hook", stop=lambda: False, now=clock.now()):
                time.sleep(0.005)  # nothing is due


@dataclass(slots=True)
class Arrived:
    """What the receiver took, by finding, in the order it came: the id of the delivery, and what it said."""

    chance: random.Random
    failing: float
    taken: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    keys: dict[int, set[str]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)

    def __call__(self, posted: Posted) -> Says:
        """Answer: well, or in one of the ways that receivers fail. Called by one thread at a time."""
        says, took = Says(), True
        if self.chance.random() < self.failing:
            says, took = self.chance.choice(
                [
                    (Says(status=500), False),
                    (Says(status=429, headers={"Retry-After": str(self.chance.choice([1, 60]))}), False),
                    (Says(status=503, body=b"<html>bad gateway</html>"), False),
                    (Says(status=200, body=b"<html>sign in</html>", headers={"Content-Type": "text/html"}), False),
                    (Says(drop=True), False),
                    (Says(drop=True), True),  # it took it, and nobody heard
                ]
            )
        self.answers[f"{says.status}{' dropped' if says.drop else ''}"] += 1
        event = posted.json()
        (item,) = event["data"]["items"]
        self.keys.setdefault(item["finding"], set()).add(event["subject"])
        if took:
            self.taken.setdefault(item["finding"], []).append((event["id"], item["status"]))
        return says


def _kills(
    begin: Callable[[], BaseProcess],
    chance: random.Random,
    lives: tuple[float, float],
    done: threading.Event,
    killed: list[int],
) -> None:
    """Keep two workers at work, and kill one again and again."""
    workers: list[BaseProcess] = []
    try:
        while not done.is_set():
            while len(workers) < 2:
                workers.append(begin())
            done.wait(chance.uniform(*lives))
            victim = workers.pop(chance.randrange(2))
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            victim.join()
            killed.append(victim.pid)
    finally:
        for left in workers:
            left.kill()
            left.join()


@contextmanager
def killed_workers(
    url: str, hook: Hooks, clock: Clock, chance: random.Random, lives: tuple[float, float]
) -> Iterator[list[int]]:
    """Workers of which one is killed after so many seconds, and another one begun; yields who was killed."""

    def begin() -> BaseProcess:
        worker = _processes.Process(target=work, args=(url, hook.url, clock))
        worker.start()
        return worker

    done, killed = threading.Event(), list[int]()
    thread = threading.Thread(target=_kills, args=(begin, chance, lives, done, killed))
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join(60)


def _waiting(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(
            connection.execute(
                text(
                    "SELECT (SELECT count(*) FROM finding_event WHERE NOT planned)"
                    " + (SELECT count(*) FROM alert WHERE due_at IS NOT NULL)"
                    " + (SELECT count(*) FROM delivery WHERE state IN ('queued', 'failed'))"
                )
            ).scalar_one()
        )


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.soak)])
def test_no_alert_is_lost_and_none_is_out_of_order(engine: Engine, database_url: str, count: int) -> None:
    seed = witness.seed()
    chance = random.Random(seed)
    clock = Clock(base=datetime.now(UTC), began=time.time())
    gc.collect()
    with hooks() as hook:
        arrived = Arrived(chance=random.Random(seed + 1), failing=0.3)
        hook.answer = arrived
        numbers = plant(engine, count)
        lives = (0.3, 1.5) if count < 100 else (0.5, 5.0)  # a worker takes a while to begin
        with killed_workers(database_url, hook, clock, chance, lives) as killed:
            for _ in range(5):  # open and close them, in blocks, while they are told
                time.sleep(count / 100)
                for start in range(0, count, 20):
                    block = numbers[start : start + 20]
                    state = chance.choice(["resolved", "open", "acknowledged"])
                    move(engine, [one for one in block if chance.random() < 0.8], state)
            ends = time.monotonic() + 600
            while _waiting(engine):
                assert time.monotonic() < ends, f"seed {seed}: {_waiting(engine)} still wait"
                time.sleep(0.1)
        with engine.connect() as connection:
            stands: dict[int, str] = dict(connection.execute(text("SELECT finding_id, state FROM finding")).all())
            states: Any = connection.execute(text("SELECT state, count(*) FROM delivery GROUP BY state")).all()
    witness.say(
        f"outbox: seed {seed}, {count:,} alerts, {sum(arrived.answers.values()):,} requests, {len(killed)} kills,"
        f" answers {dict(arrived.answers)}"
    )
    assert [state for state, _ in states] == ["sent"], states
    assert killed
    assert set(arrived.taken) == set(numbers), "an alert was lost"
    assert all(len(keys) == 1 for keys in arrived.keys.values())
    assert len({next(iter(keys)) for keys in arrived.keys.values()}) == count
    for number, row in arrived.taken.items():
        first: dict[str, str] = {}
        for name, status in row:
            assert name not in first or name == next(reversed(first)), f"seed {seed}: one came after a later one"
            first.setdefault(name, status)
        told = list(first.values())
        assert told[0] == "firing", f"seed {seed}: {told}"
        assert all(one != other for one, other in pairwise(told)), f"seed {seed}: {told}"
        assert told[-1] == ("resolved" if stands[number] == "resolved" else "firing")
