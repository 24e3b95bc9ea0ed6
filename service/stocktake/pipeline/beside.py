"""Publishing beside reading: while Postgres takes in one batch, the next pages are fetched and made ready.

A first scan of a large server would spend a third of its time waiting for the database, and the database the rest
waiting for the scan. One batch is under way at a time, so that memory stays bounded, and on a connection of its own, so
that the scan can go on reading on its. A workspace that never fills a batch has neither.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import Connection, Engine

from stocktake.store.publish import Published, Staged


class Beside:
    """Publishes batches in a thread, one after the other. `write` publishes one in a fenced transaction of its own."""

    def __init__(self, engine: Engine, write: Callable[[Connection, Sequence[Staged]], Published]) -> None:
        self._engine = engine
        self._write = write
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish")  # starts with the first batch
        self._connection: Connection | None = None
        self._under_way: Future[Published] | None = None

    def publish(self, batch: Sequence[Staged]) -> None:
        """Begin to publish a batch. The one before must have been settled."""
        assert self._under_way is None
        self._under_way = self._thread.submit(self._publish, batch)

    def settle(self) -> Published:
        """Wait for the batch that is under way, if there is one, and say what became of it.

        Raises what went wrong with it: Fenced, and SQLAlchemy's and psycopg's errors. Then nothing of it is published.
        """
        under_way, self._under_way = self._under_way, None
        return under_way.result() if under_way is not None else Published()

    def close(self) -> None:
        """Wait for what is under way, whatever becomes of it: who leaves early has an error of his own to tell."""
        self._thread.shutdown(wait=True)
        if self._connection is not None:
            # Its temporary table goes with the session: never hand it back to the pool.
            with contextlib.suppress(Exception):
                self._connection.invalidate()
            self._connection.close()

    def _publish(self, batch: Sequence[Staged]) -> Published:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._write(self._connection, batch)
