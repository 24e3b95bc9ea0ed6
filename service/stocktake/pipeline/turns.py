"""Who is scanned next when more is due than may be scanned at once: what costs least, so that a workspace of fifty
thousand jobs never stands before four hundred tiny ones; but nobody is passed over for longer than `patience`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE = 900.0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    cost: int
    number: int  # in the order of arrival
    since: float


class Turns:
    """So many at once. Shared by threads."""

    def __init__(
        self, many: int, *, patience: float = PATIENCE, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._free = many
        self._patience = patience
        self._monotonic = monotonic
        self._waiting: list[_Waiting] = []
        self._arrived = 0
        self._turn = threading.Condition()

    def acquire(self, cost: int, stop: Callable[[], bool]) -> bool:
        """Wait for a place; `cost` is what the last scan took, 0 if none is known. False as soon as `stop` says so."""
        with self._turn:
            self._arrived += 1
            mine = _Waiting(cost, self._arrived, self._monotonic())
            self._waiting.append(mine)
            try:
                while not stop():
                    if self._free and self._next() is mine:
                        self._free -= 1
                        return True
                    self._turn.wait(0.5)
                return False
            finally:
                self._waiting.remove(mine)
                self._turn.notify_all()

    def release(self) -> None:
        """Give the place back."""
        with self._turn:
            self._free += 1
            self._turn.notify_all()

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._turn:
            return len(self._waiting)

    def _next(self) -> _Waiting:
        now = self._monotonic()
        patient = [one for one in self._waiting if now - one.since >= self._patience]
        if patient:
            return min(patient, key=lambda one: one.number)
        return min(self._waiting, key=lambda one: (one.cost, one.number))
