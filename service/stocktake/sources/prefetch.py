"""Reading one page ahead: the next page is fetched while the caller digests this one, and never more than that."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

T = TypeVar("T")

_END = object()


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield what `items` yields, in order, its exceptions in their place.

    Nothing is fetched before the first item is asked for. When the caller stops early, the fetch under way is left
    to end by itself (closing the client ends it sooner), its result is dropped, and `items` is closed after it.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="stocktake-prefetch")
    ahead: Future[object] | None = None
    try:
        ahead = executor.submit(next, items, _END)
        while (item := ahead.result()) is not _END:
            ahead = executor.submit(next, items, _END)
            yield cast("T", item)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            executor.submit(close)
        executor.shutdown(wait=False)
