"""The database's clock, as a scan reads it."""

from __future__ import annotations

import itertools
from datetime import timedelta

from sqlalchemy import Engine, text

from stocktake.store.engine import DatabaseClock


def test_a_slow_answer_never_makes_the_clock_run_ahead(engine: Engine) -> None:
    # The readings lie 0, 10, 10, 12, 12, ... seconds apart, as on a machine that was busy at the first question.
    moments = itertools.chain([0.0, 10.0, 10.0, 12.0], itertools.repeat(12.0))
    with engine.connect() as connection:
        before = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        clock = DatabaseClock(connection, monotonic=lambda: next(moments))
        told = clock()
        after = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert before <= told <= after
    assert after - told < timedelta(seconds=1)
