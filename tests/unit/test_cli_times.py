"""Times as people write them: read right, or refused with words that help."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.cli.times import TimeError, ago, exact, parse_time, short, span, utc

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)  # 03:30 in Berlin


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-24T02:30:00Z"),
        ("2026-11-24", "2026-11-23T23:00:00Z"),
        ("2026-11-24T02:30", "2026-11-24T01:30:00Z"),
        ("2026-11-24 02:30:15.5", "2026-11-24T01:30:15.500000Z"),
        ("2026-11-24T02:30:00Z", "2026-11-24T02:30:00Z"),
        ("2026-11-24T02:30:00-05:00", "2026-11-24T07:30:00Z"),
        ("20261124T0230", "2026-11-24T01:30:00Z"),
        ("today", "2026-11-23T23:00:00Z"),
        ("Yesterday", "2026-11-22T23:00:00Z"),
        ("yesterday 14:00", "2026-11-23T13:00:00Z"),
        ("yesterday at 14:00:30", "2026-11-23T13:00:30Z"),
        ("03:00", "2026-11-24T02:00:00Z"),  # earlier today
        ("23:45", "2026-11-23T22:45:00Z"),  # has not come yet today: last night
        ("2 days ago", "2026-11-22T02:30:00Z"),
        ("  10   minutes ago ", "2026-11-24T02:20:00Z"),
        ("10min", "2026-11-24T02:20:00Z"),
        ("an hour ago", "2026-11-24T01:30:00Z"),
        ("1h30m ago", "2026-11-24T01:00:00Z"),
        ("1 hour and 5 minutes ago", "2026-11-24T01:25:00Z"),
        ("1.5 hours ago", "2026-11-24T01:00:00Z"),
        ("2w", "2026-11-10T02:30:00Z"),
        ("a month ago", "2026-10-24T02:30:00Z"),
        ("2 years ago", "2024-11-24T02:30:00Z"),
    ],
)
def test_a_time_is_read_as_it_is_meant(text: str, expected: str) -> None:
    assert utc(parse_time(text, now=NOW, zone=BERLIN)) == expected


NO_TIMES = [
    "", "soon", "ago", "2", "2 ago", "1732415400", "25:00", "yesterday noon", "2026-13-01", "5 parsecs ago", "-1d",
    "1.5 months ago", "2026-11-24T02:30:00+99:00", "tomorrow",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(TimeError, match="2 days ago"):
        parse_time(text, now=NOW, zone=BERLIN)


def test_a_time_further_back_than_the_calendar_is_refused_not_a_crash() -> None:
    for text in ("99999999 weeks ago", "9999 years ago", "9" * 400 + " days ago"):
        with pytest.raises(TimeError):
            parse_time(text, now=NOW)


def test_the_last_day_of_a_long_month_has_a_month_before_it() -> None:
    assert utc(parse_time("a month ago", now=datetime(2026, 3, 31, 12, tzinfo=UTC))) == "2026-02-28T12:00:00Z"


def test_days_ago_are_real_hours_over_a_change_of_the_clocks() -> None:
    after = datetime(2026, 3, 29, 10, tzinfo=BERLIN)  # the clocks went forward in the night
    assert after.astimezone(UTC) - parse_time("1 day ago", now=after, zone=BERLIN) == timedelta(hours=24)


def test_the_future_is_refused_where_the_past_is_asked_about() -> None:
    later = "2026-11-24T03:00:00Z"
    assert utc(parse_time(later, now=NOW)) == later
    with pytest.raises(TimeError, match="future"):
        parse_time(later, now=NOW, future=False)
    assert parse_time("2026-11-24T02:31:00Z", now=NOW, future=False) > NOW  # clocks differ by a little


@given(st.datetimes(timezones=st.timezones()))
def test_what_is_written_can_be_read_again(moment: datetime) -> None:
    try:
        expected = moment.astimezone(UTC)
    except OverflowError:  # the first and the last day of the calendar
        return
    assert parse_time(utc(moment), now=NOW) == expected
    assert utc(moment).endswith("Z")


@given(st.text(max_size=40))
def test_no_text_at_all_makes_it_crash(text: str) -> None:
    with contextlib.suppress(TimeError):
        assert parse_time(text, now=NOW).utcoffset() == timedelta(0)


def test_durations_read_well() -> None:
    told = {0.04: "0.0 s", 0.6: "1 s", 59: "59 s", 61: "1 min 1 s", 3605: "1 h", 7500: "2 h 5 min", 90000: "1 d 1 h"}
    assert {seconds: span(seconds) for seconds in told} == told
    assert span(3 * 365.25 * 86400) == "3.0 y"
    assert ago(NOW - timedelta(minutes=3, seconds=20), now=NOW) == "3 min ago"
    assert ago(NOW, now=NOW) == "now"
    assert ago(NOW + timedelta(hours=2), now=NOW) == "in 2 h"


def test_people_read_local_time_and_see_which() -> None:
    assert exact(NOW, zone=BERLIN) == "2026-11-24 03:30:00 +0100"
    assert exact(NOW, zone=UTC) == "2026-11-24 02:30:00 UTC"
    assert short(NOW, now=NOW, zone=BERLIN) == "03:30:00"
    assert short(NOW - timedelta(days=2), now=NOW, zone=BERLIN) == "2026-11-22 03:30"
