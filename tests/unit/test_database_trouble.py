"""What is wrong with the database, in words: however the error came."""

from __future__ import annotations

import psycopg
from sqlalchemy.exc import OperationalError

from stocktake.store.engine import trouble

FULL = psycopg.errors.DiskFull('could not extend file "base/1/2": No space left on device\nHINT:  Check free space.')


def test_a_full_disk_is_said_with_the_way_out_whether_the_error_comes_bare_or_wrapped() -> None:
    for exc in (FULL, OperationalError("COPY", {}, FULL)):
        words = trouble(exc)
        assert words is not None
        assert words.startswith('The disk of the database is full: could not extend file "base/1/2"')
        assert "HINT" not in words
        assert "Free some space" in words


def test_a_connection_that_was_lost_is_the_databases_trouble() -> None:
    words = trouble(psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly"))
    assert words is not None
    assert words.startswith("The database went away: consuming input failed")


def test_a_mistake_of_ours_is_not_the_databases_trouble() -> None:
    assert trouble(psycopg.errors.UndefinedColumn("column x does not exist")) is None
    assert trouble(KeyError("x")) is None
