"""The engine, and the database's clock carried forward by a monotonic one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import psycopg
from psycopg.types.string import BytesBinaryDumper
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout

#: How often the clock is read before the quickest answer is believed: on a busy machine a round trip may take long.
_CLOCK_SAMPLES = 5


def make_engine(url: str | URL, *, password: Callable[[], str] | None = None, pool: int = 5) -> Engine:
    """Return an engine for psycopg 3. `password` is asked at every connect, so that short-lived tokens work."""
    engine = create_engine(
        url,
        pool_size=pool,
        max_overflow=pool * 4,
        pool_pre_ping=True,
        pool_use_lifo=True,  # a connection keeps its part, and what it has read of the catalogue and planned for it
        connect_args={
            "application_name": "stocktake",
            "connect_timeout": 10,
            # A scan holds an advisory lock: the server must notice within a minute that its holder's machine is gone.
            "options": "-c timezone=UTC -c jit=off -c plan_cache_mode=force_custom_plan"
            " -c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
        },
    )
    if password is not None:

        @event.listens_for(engine, "do_connect")
        def _fill_in(_dialect: object, _record: object, _args: object, params: dict[str, object]) -> None:
            params["password"] = password()

    return engine


def driver(connection: Connection) -> psycopg.Connection[Any]:
    """Return the psycopg connection under a SQLAlchemy one: COPY and server-side cursors live there."""
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def copy_rows(
    raw: psycopg.Connection[Any], table: str, columns: Sequence[tuple[str, str]], rows: Iterable[tuple[Any, ...]]
) -> None:
    """Write rows by binary COPY: cheaper than INSERT, in time and in WAL. `columns` are names and types."""
    names = ", ".join(name for name, _ in columns)
    with raw.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
        # Else bytes are dumped by a class of the DB-API's wrapper `Binary`, which alone of all is written in Python.
        cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
        copy.set_types([kind for _, kind in columns])
        write = copy.write_row
        for row in rows:
            write(row)


def trouble(exc: BaseException) -> str | None:
    """Say what is wrong with the database and what to do, if that is what an error is about.

    Some statements go through the driver itself (COPY, cursors), so its errors come bare as well as in SQLAlchemy's.
    """
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    if not isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError | SQLAlchemyTimeout):
        return None
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")
    if isinstance(cause, psycopg.errors.DiskFull):
        return (
            f"The disk of the database is full: {reason}. Free some space where its data lie. What was published"
            " stands, and the next scan goes on from there."
        )
    return f"The database went away: {reason}. `stocktake doctor` says more."


class DatabaseClock:
    """The database's time, read at the start and carried forward: one order for every worker, whatever its own clock.

    It never runs ahead of the database: what a scan observes must not look newer than what the next one does. It lags
    by less than the quickest of a few round trips.
    """

    def __init__(self, connection: Connection, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        samples = []
        for _ in range(_CLOCK_SAMPLES):
            before = monotonic()
            at: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            after = monotonic()
            samples.append((after - before, at, after))
        connection.rollback()
        _, self._base, self._at = min(samples)

    def __call__(self) -> datetime:
        return self._base + timedelta(seconds=self._monotonic() - self._at)
