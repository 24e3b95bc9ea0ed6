"""ARM's limit on reads: a bucket for each subscription and principal, on a clock that a test may hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stocktake.demo.azure.wire import service_error

CAPACITY, RATE = 250, 25.0


class Throttle:
    """Takes a token for each request. Empty, it answers 429 as was recorded: no Retry-After, and 11999 still left.

    `forbidding` is how many refusals in a row are told as 429; the next is a 403, as Azure does under load.
    """

    def __init__(
        self, *, capacity: float = CAPACITY, rate: float = RATE, clock: Callable[[], float] = time.monotonic,
        forbidding: int | None = None, honest: bool = False,
    ) -> None:  # fmt: skip
        self.capacity, self.rate, self.clock = capacity, rate, clock
        self.forbidding, self.honest = forbidding, honest
        self.refused = 0
        self._levels: dict[tuple[str, str], tuple[float, float]] = {}
        self._row = 0
        self._lock = threading.Lock()

    def take(self, subscription: str, principal: str) -> str:
        """Take a token and return what the header says of the rest; raise Refused when there is none."""
        with self._lock:
            now, key = self.clock(), (subscription, principal)
            level, at = self._levels.get(key, (self.capacity, now))
            level = min(self.capacity, level + (now - at) * self.rate)
            if level < 1:
                self._levels[key] = (level, now)
                self.refused += 1
                self._row += 1
                if self.forbidding is not None and self._row > self.forbidding:
                    self._row = 0
                    raise service_error(403, "The request is forbidden.", "Auth", "Authorization", code="Forbidden")
                raise service_error(
                    429, "Received too many requests in a short amount of time. Retry again after 20 seconds.",
                    "QuotaExceeded", "TooManyRequests",
                )  # fmt: skip
            self._row = 0
            self._levels[key] = (level - 1, now)
            return str(int(level - 1)) if self.honest else "11999"
