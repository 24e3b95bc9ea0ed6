"""Reading one page ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stocktake.sources.prefetch import prefetch


def test_items_come_in_order_and_an_exception_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("page 3")

    ahead = prefetch(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(LookupError, match="page 3"):
        next(ahead)
    assert list(ahead) == []


def test_one_item_is_read_ahead_and_never_two() -> None:
    begun = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    ahead = prefetch(items())
    assert not begun[0].is_set()
    assert next(ahead) == 0
    assert begun[1].wait(10)
    assert not begun[2].wait(0.05)
    assert list(ahead) == [1, 2, 3]


def test_stopping_early_closes_what_is_read() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.set()

    ahead = prefetch(items())
    next(ahead)
    ahead.close()  # type: ignore[attr-defined]
    assert closed.wait(10)


def test_nothing_is_nothing() -> None:
    assert list(prefetch(iter(()))) == []
