"""The engine, and the database's clock carried forward by a monotonic one."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL


def make_engine(url: str | URL, *, password: Callable[[], str] | None = None, pool: int = 5) -> Engine:
    """Return an engine for psycopg 3. `password` is asked at every connect, so that short-lived tokens work."""
    engine = create_engine(
        url,
        pool_size=pool,
        max_overflow=pool * 4,
        pool_pre_ping=True,
        connect_args={
            "application_name": "stocktake",
            "connect_timeout": 10,
            # A scan holds an advisory lock: the server must notice within a minute that its holder's machine is gone.
            "options": "-c timezone=UTC -c jit=off -c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10"
            " -c tcp_keepalives_count=3",
        },
    )
    if password is not None:

        @event.listens_for(engine, "do_connect")
        def _fill_in(_dialect: object, _record: object, _args: object, params: dict[str, object]) -> None:
            params["password"] = password()

    return engine


class DatabaseClock:
    """The database's time, read once and carried forward: one order for every worker, whatever its own clock says."""

    def __init__(self, connection: Connection) -> None:
        before = time.monotonic()
        self._base: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        connection.rollback()
        # The answer was made between the two readings: the earlier one keeps us from running ahead of the database.
        self._at = before + (time.monotonic() - before) / 2

    def __call__(self) -> datetime:
        return self._base + timedelta(seconds=time.monotonic() - self._at)
