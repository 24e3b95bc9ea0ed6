"""A clock that tests move: what Postgres takes for the time is ahead of it by as much as they say.

Functions of this name in the schema `sim` are found before those of Postgres, by everything that is migrated, stored
and asked in such a database: a day goes by without anybody waiting, and no code under test knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, make_url, text

from stocktake.store import migrate
from stocktake.store.engine import make_engine
from tests.conftest import clone

_CLOCK = """
CREATE SCHEMA sim;
CREATE TABLE sim.ahead (by interval NOT NULL);
INSERT INTO sim.ahead VALUES ('0');
CREATE FUNCTION sim.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT pg_catalog.clock_timestamp() + by FROM sim.ahead';
CREATE FUNCTION sim.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT pg_catalog.now() + by FROM sim.ahead';
"""


@dataclass(slots=True)
class Clock:
    """The simulated time."""

    engine: Engine
    ahead: timedelta = field(default=timedelta(0))

    def now(self) -> datetime:
        """What time it is there."""
        return datetime.now(UTC) + self.ahead

    def forward(self, by: timedelta) -> None:
        """Let time go by."""
        self.ahead += by
        with self.engine.begin() as connection:
            connection.execute(text("UPDATE sim.ahead SET by = :by"), {"by": self.ahead})


@contextmanager
def simulated(pg_server: str) -> Iterator[Clock]:
    """A migrated, empty database of one's own with such a clock."""
    with clone(pg_server, "template0") as url:
        bare = make_engine(url)
        with bare.begin() as connection:
            for statement in _CLOCK.split(";\n"):
                if statement.strip():
                    connection.execute(text(statement))
            name = make_url(url).database
            connection.execute(text(f'ALTER DATABASE "{name}" SET search_path = public, sim, pg_catalog'))
        bare.dispose()
        engine = make_engine(url)
        try:
            migrate.upgrade(engine)
            yield Clock(engine)
        finally:
            engine.dispose()
