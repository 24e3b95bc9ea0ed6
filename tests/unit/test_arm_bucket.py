"""The bucket of requests: never more than Azure grants, and a turn for everybody."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import pairwise
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktake.sources.arm_bucket import Bucket, Cut, Late


class Time:
    """Time that passes only when somebody sleeps or says so."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def bucket(time: Time, *, capacity: int = 250, rate: float = 25.0) -> Bucket:
    return Bucket(capacity=capacity, rate=rate, monotonic=time.monotonic, sleep=time.sleep)


_acts = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 120)),
        st.tuples(st.just("idle"), st.floats(0, 20)),
        st.tuples(st.just("left"), st.integers(0, 300)),
        st.tuples(st.just("pause"), st.floats(0, 30)),
    ),
    max_size=25,
)


@given(_acts, st.integers(1, 250), st.sampled_from([0.5, 3.0, 25.0]))
@settings(deadline=None)
def test_no_window_of_t_seconds_grants_more_than_the_bucket_holds_and_t_times_its_rate(
    acts: list[tuple[str, float]], capacity: int, rate: float
) -> None:
    time = Time()
    one, granted = bucket(time, capacity=capacity, rate=rate), list[float]()
    for act, amount in acts:
        match act:
            case "take":
                for _ in range(int(amount)):
                    one.take("w")
                    granted.append(time.at)
            case "idle":
                time.sleep(amount)
            case "left":
                one.left(int(amount))
            case _:
                one.pause(amount)
    for first, begin in enumerate(granted):
        for last in range(first, len(granted)):
            window = granted[last] - begin
            assert last - first + 1 <= capacity + rate * window + 1e-6


@given(st.floats(0.1, 60), st.integers(1, 100))
@settings(deadline=None)
def test_during_a_pause_nothing_is_granted_and_after_it_no_burst(seconds: float, wanted: int) -> None:
    time = Time()
    one = bucket(time)
    one.pause(seconds)
    began = time.at
    for number in range(1, wanted + 1):
        one.take("w")
        assert time.at - began >= seconds + number / 25 - 1e-6


def test_a_longer_pause_is_not_cut_short_by_a_shorter_one() -> None:
    time = Time()
    one = bucket(time)
    one.pause(60)
    one.pause(20)
    one.take("w")
    assert time.at - 1000.0 >= 60


def test_what_is_reported_lowers_the_level_and_never_raises_it() -> None:
    time = Time()
    one = bucket(time)
    one.left(2)
    one.left(11_999)
    for _ in range(3):
        one.take("w")
    assert time.at - 1000.0 == pytest.approx(1 / 25, abs=0.002)


def test_a_wait_that_is_known_to_be_too_long_is_refused_at_once_and_costs_nothing() -> None:
    time = Time()
    one = bucket(time)
    one.pause(60)
    with pytest.raises(Late):
        one.take("w", longest=30)
    assert (time.at, one.waiting) == (1000.0, 0)


class Crowd:
    """Threads that wait in a bucket whose time stands still until the test moves it."""

    def __init__(self, one: Bucket, time: Time) -> None:
        self.bucket, self.time, self.served = one, time, list[str]()
        self._threads = list[threading.Thread]()

    def join(self, who: str, gone: threading.Event | None = None) -> None:
        """Let one more wait, and return when it does."""
        before = self.bucket.waiting

        def wait() -> None:
            try:
                self.bucket.take(who, gone.is_set if gone else lambda: False)
            except Cut:
                return
            self.served.append(who)

        self._threads.append(threading.Thread(target=wait))
        self._threads[-1].start()
        while self.bucket.waiting == before:
            pass

    def serve(self, many: int) -> None:
        """Let time pass for one request after the other, and wait until each was served."""
        for _ in range(many):
            before = len(self.served)
            self.time.sleep(1.0)
            while len(self.served) == before:
                self.bucket.wake()

    def end(self) -> None:
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=16))
@settings(deadline=None, max_examples=25)
def test_whoever_waits_gets_a_turn_before_anybody_gets_two_more(queue: list[str]) -> None:
    time = Time()
    one = Bucket(capacity=1, rate=1.0, monotonic=time.monotonic)
    one.take("first")
    crowd = Crowd(one, time)
    for who in queue:
        crowd.join(who)
    crowd.serve(len(queue))
    crowd.end()
    assert Counter(crowd.served) == Counter(queue)
    for who in set(queue):
        turns = [place for place, name in enumerate(crowd.served) if name == who]
        for begin, end in pairwise([-1, *turns]):
            between = Counter(crowd.served[begin + 1 : end])
            assert all(count == 1 for count in between.values()), "nobody was served twice while another one waited"


def test_a_huge_workspace_does_not_starve_a_tiny_one_that_comes_late() -> None:
    time = Time()
    one = Bucket(capacity=1, rate=1.0, monotonic=time.monotonic)
    one.take("first")
    crowd = Crowd(one, time)
    for _ in range(20):
        crowd.join("huge")
    crowd.join("tiny")
    crowd.serve(21)
    crowd.end()
    assert crowd.served.index("tiny") <= 1


def test_whoever_gives_up_leaves_the_queue_and_takes_nothing() -> None:
    time = Time()
    one = Bucket(capacity=1, rate=1.0, monotonic=time.monotonic)
    one.take("first")
    crowd, gone = Crowd(one, time), threading.Event()
    crowd.join("a", gone)
    crowd.join("b")
    gone.set()
    while one.waiting == 2:
        one.wake()
    crowd.serve(1)
    crowd.end()
    assert (crowd.served, one.waiting) == (["b"], 0)


def test_in_real_time_eight_threads_are_all_served_and_not_faster_than_the_rate() -> None:
    one, began = Bucket(capacity=10, rate=200.0), threading.Barrier(9)
    at = monotonic()
    waited = list[float]()

    def ask(who: int) -> None:
        began.wait()
        for _ in range(10):
            waited.append(one.take(who))

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    began.wait()
    for thread in threads:
        thread.join(30)
    assert monotonic() - at >= 70 / 200
    assert (len(waited), one.waiting) == (80, 0)
