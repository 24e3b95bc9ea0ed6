"""The budget of requests that a subscription grants one principal, spent in turns by everybody who shares it.

Azure keeps a bucket of 250 reads that fills by 25 a second. Ours is kept alike, and a fifth smaller, so that no
request is sent that Azure would refuse, and whoever waits gets his turn in a circle: a huge workspace cannot starve a
tiny one.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

#: Less than Azure's 250: what is granted at once may arrive bunched, with what is granted a moment later. With 250 a
#: machine that was busy while it began had requests refused (bench.azure), and each refusal costs 20 seconds of all.
CAPACITY = 200
RATE = 25.0
#: Seconds that one refusal may keep everybody from asking, whatever it says.
LONGEST_PAUSE = 300.0


class Cut(Exception):
    """Whoever waited no longer wants to be served."""


class Late(Exception):
    """It would take longer than whoever asks is ready to wait."""


@dataclass(slots=True, eq=False)
class _Ticket:
    granted: bool = False


class Bucket:
    """Shared by threads. `sleep` and `monotonic` are for tests; without `sleep`, waiting ends when it is one's turn."""

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        rate: float = RATE,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._capacity = capacity
        self._rate = rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._turn = threading.Condition()
        self._level = float(capacity)
        self._at = monotonic()  # when the level was right; in the future while nothing may be sent
        #: Who waits, in the order of their turns, each with a queue of his own.
        self._waiting: OrderedDict[Hashable, deque[_Ticket]] = OrderedDict()

    def take(self, who: Hashable, gone: Callable[[], bool] = lambda: False, *, longest: float = float("inf")) -> float:
        """Wait for one request's worth, in turn with the others; return how long it took.

        Raises Cut as soon as `gone` says so (`wake` makes it ask), and Late when it is known to take too long.
        """
        ticket, began = _Ticket(), self._monotonic()
        with self._turn:
            self._waiting.setdefault(who, deque()).append(ticket)
            try:
                while True:
                    if gone():
                        raise Cut
                    self._grant()
                    if ticket.granted:
                        return self._monotonic() - began
                    due = self._due(who, ticket)
                    if self._monotonic() - began + due > longest:
                        raise Late
                    self._wait(due)
            finally:
                if not ticket.granted:
                    self._leave(who, ticket)

    def left(self, reported: int) -> None:
        """Azure says how many requests are left: believed when it is fewer than we think."""
        with self._turn:
            self._refill()
            self._level = min(self._level, float(max(0, reported)))

    def pause(self, seconds: float) -> None:
        """Azure refused a request: nothing is sent for so long, and then at the rate alone, with no burst.

        All workspaces of the subscription wait, so never longer than some minutes: then one of them asks again.
        """
        with self._turn:
            self._level = 0.0
            self._at = max(self._at, self._monotonic() + min(seconds, LONGEST_PAUSE))

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        with self._turn:
            return sum(map(len, self._waiting.values()))

    def wake(self) -> None:
        """Let everybody who waits look whether he still wants to."""
        with self._turn:
            self._turn.notify_all()

    def _refill(self) -> None:
        now = self._monotonic()
        if now > self._at:
            self._level = min(float(self._capacity), self._level + (now - self._at) * self._rate)
            self._at = now

    def _grant(self) -> None:
        """Serve as many as can be served, one of each in turn."""
        self._refill()
        others = False
        while self._waiting and self._level >= 1 and self._at <= self._monotonic():
            who, queue = self._waiting.popitem(last=False)
            queue.popleft().granted = others = True
            self._level -= 1
            if queue:
                self._waiting[who] = queue
        if others:
            self._turn.notify_all()

    def _due(self, who: Hashable, ticket: _Ticket) -> float:
        """Seconds until it can be this ticket's turn: those before it in the circle are served first."""
        depth = self._waiting[who].index(ticket)
        ahead, passed = depth, False
        for one, queue in self._waiting.items():
            if one == who:
                passed = True
            else:
                ahead += min(len(queue), depth if passed else depth + 1)
        return max(0.0, self._at - self._monotonic()) + max(0.0, ahead + 1 - self._level) / self._rate

    def _wait(self, seconds: float) -> None:
        seconds = max(seconds, 0.001)  # a float's last digit must not make us spin
        if self._sleep is None:
            self._turn.wait(seconds)
            return
        self._turn.release()
        try:
            self._sleep(seconds)
        finally:
            self._turn.acquire()

    def _leave(self, who: Hashable, ticket: _Ticket) -> None:
        queue = self._waiting[who]
        queue.remove(ticket)
        if not queue:
            del self._waiting[who]
        self._turn.notify_all()
