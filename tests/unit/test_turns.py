"""Who is scanned next: the cheapest that waits, and nobody is passed over for ever."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from stocktake.pipeline.turns import Turns


def order(turns: Turns, costs: Sequence[int], clock: list[float], arrivals: Sequence[float]) -> list[int]:
    """Let several wait for the one place that is taken, then let them have it one after the other."""
    served: list[int] = []
    assert turns.acquire(0, lambda: False)

    def one(cost: int) -> None:
        assert turns.acquire(cost, lambda: False)
        served.append(cost)
        turns.release()

    threads = []
    for number, (cost, at) in enumerate(zip(costs, arrivals, strict=True), start=1):
        clock[0] = at
        threads.append(threading.Thread(target=one, args=(cost,)))
        threads[-1].start()
        while turns.waiting < number:
            threading.Event().wait(0.001)
    turns.release()
    for thread in threads:
        thread.join()
    return served


def test_what_costs_least_goes_first_and_equals_in_the_order_they_came() -> None:
    clock = [0.0]
    turns = Turns(1, monotonic=lambda: clock[0])
    assert order(turns, [900, 20, 300, 0, 21], clock, [0, 0, 0, 0, 0]) == [0, 20, 21, 300, 900]


def test_who_has_waited_too_long_goes_before_whatever_is_cheaper() -> None:
    clock = [0.0]
    turns = Turns(1, patience=60.0, monotonic=lambda: clock[0])
    assert order(turns, [900, 500, 20, 10], clock, [0, 1, 100, 101]) == [900, 500, 10, 20]


def test_waiting_ends_when_it_is_time_to_stop() -> None:
    turns = Turns(1)
    assert turns.acquire(0, lambda: False)
    assert not turns.acquire(0, lambda: True)
    assert turns.waiting == 0
    turns.release()
    assert turns.acquire(5, lambda: False)


def test_as_many_at_once_as_there_are_places() -> None:
    turns = Turns(3)
    assert [turns.acquire(0, lambda: False) for _ in range(3)] == [True] * 3
    asked = iter([False, False, True])
    assert not turns.acquire(0, lambda: next(asked))
