"""Waivers and change windows as values: what they cover, and what they make of a finding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stocktake.core.covering import About, Covering
from stocktake.core.findings import Finding, State
from stocktake.core.waivers import Waiver, covering, judged
from stocktake.core.windows import Once, Window, inside
from stocktake.settings.governance import WaiverSettings, WindowSettings

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)  # a Friday
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
IT = About(rule="missing-owner", workspace="prod-eu", kind="experiment", key="17", name="credit [old]")


def made(until: datetime = NOW + DAY, source: str = "waiver 1", **patterns: Any) -> Waiver:
    given: dict[str, Any] = {name: (value,) if isinstance(value, str) else value for name, value in patterns.items()}
    return Waiver(covering=Covering(**given), owner="ada", reason="CHG-1", until=until, source=source)


def finding(state: State = State.OPEN, **more: Any) -> Finding:
    given: dict[str, Any] = {
        "state": state,
        "since": NOW - DAY,
        "first_seen": NOW - DAY,
        "last_seen": NOW,
        "evidence": {},
    }
    return Finding(**(given | more))


@pytest.mark.parametrize(
    ("patterns", "covered"),
    [
        ({"rules": "missing-*", "workspaces": "prod-??"}, True),
        ({"assets": "17"}, True),
        ({"assets": "credit*"}, True),  # by its name
        ({"assets": "credit [old]"}, True),  # brackets are brackets
        ({"assets": "credit [lo]*"}, False),
        ({"assets": "CREDIT*"}, False),
        ({"rules": "missing-owner", "kinds": "run"}, False),
        ({"rules": "missing"}, False),
        ({"rules": ("stale-running", "missing-owner")}, True),
        ({"rules": ()}, False),
        ({"assets": ("17",), "exact": True}, True),
        ({"assets": ("1*",), "exact": True}, False),  # a key, however it is written
    ],
)
def test_a_pattern_knows_two_signs_and_nothing_else(patterns: dict[str, Any], covered: bool) -> None:
    exact = patterns.pop("exact", False)
    given = {name: (value,) if isinstance(value, str) else value for name, value in patterns.items()}
    assert Covering(**given, exact=exact).covers(IT) is covered


def test_of_several_waivers_the_one_that_lasts_longest_counts_and_none_that_is_over() -> None:
    those = [made(NOW - DAY), made(NOW + DAY), made(NOW + 3 * DAY, source="waiver 2"), made(NOW)]
    found = covering(those, IT, NOW)
    assert found is not None
    assert found.source == "waiver 2"
    assert covering([made(NOW)], IT, NOW) is None


def test_what_is_covered_is_waived_once_and_says_by_whom() -> None:
    move = judged(finding(), IT, [made()], NOW)
    assert move is not None
    assert (move.finding.state, move.finding.waived_until, move.actor) == (State.WAIVED, NOW + DAY, "ada")
    assert "CHG-1" in move.reason
    assert judged(move.finding, IT, [made()], NOW) is None


@pytest.mark.parametrize("state", [State.PENDING, State.RESOLVED])
def test_there_is_nothing_to_waive_of_what_is_not_open(state: State) -> None:
    assert judged(finding(state), IT, [made()], NOW) is None


def test_a_waiver_that_is_over_or_was_ended_opens_its_finding_again() -> None:
    over = judged(finding(State.WAIVED, waived_until=NOW), IT, [made(NOW)], NOW)
    ended = judged(finding(State.WAIVED, waived_until=NOW + DAY), IT, [], NOW)
    assert over is not None
    assert ended is not None
    assert (over.finding.state, over.ended) == (State.OPEN, False)
    assert (ended.finding.state, ended.ended, ended.finding.waived_until) == (State.OPEN, True, None)


def test_what_was_acknowledged_is_so_again_after_its_waiver() -> None:
    move = judged(finding(State.WAIVED, waived_until=NOW, acknowledged_at=NOW - DAY), IT, [], NOW)
    assert move is not None
    assert move.finding.state == State.ACKNOWLEDGED


def test_while_a_file_cannot_be_read_nothing_opens_for_want_of_its_waiver() -> None:
    waived = finding(State.WAIVED, waived_until=NOW + DAY)
    assert judged(waived, IT, [], NOW, whole=False) is None
    assert judged(waived, IT, [], NOW + 2 * DAY, whole=False) is not None  # its end was known


def test_a_waiver_shows_nobody_that_what_is_stale_was_seen() -> None:
    move = judged(finding(State.STALE), IT, [made()], NOW)
    assert move is not None
    assert move.finding.state == State.STALE
    assert judged(move.finding, IT, [made()], NOW) is None
    freed = judged(move.finding, IT, [], NOW)
    assert freed is not None
    assert (freed.finding.state, freed.finding.waived_until) == (State.STALE, None)


# ---- windows -------------------------------------------------------------------------------------------------------


def window(**more: Any) -> Window:
    given: dict[str, Any] = {
        "name": "release",
        "covering": Covering(),
        "when": Once(begins=NOW, ends=NOW + 2 * HOUR),
        "owner": "ada",
    }
    return Window(**(given | more))


@pytest.mark.parametrize(
    ("not_before", "not_after", "held"),
    [
        (HOUR, 1.5 * HOUR, True),
        (-0.5 * HOUR, 0.2 * HOUR, True),  # within the margin, and partly within the window
        (1.9 * HOUR, 3 * HOUR, True),
        (1.9 * HOUR, 3.1 * HOUR, False),  # may have happened long after it
        (-1.1 * HOUR, HOUR, False),  # or long before
        (2.1 * HOUR, 2.2 * HOUR, False),  # surely after it, margin or not
        (-0.5 * HOUR, -0.1 * HOUR, False),
        (-24 * HOUR, 24 * HOUR, False),
    ],
)
def test_both_looks_must_lie_in_the_window_give_or_take_its_margin(
    not_before: timedelta, not_after: timedelta, held: bool
) -> None:
    found = inside([window()], IT, NOW + not_before, NOW + not_after)
    assert (found is not None) is held


def test_what_nobody_looked_at_before_is_in_no_window() -> None:
    assert inside([window()], IT, None, NOW + HOUR) is None
    assert inside([window(covering=Covering(kinds=("run",)))], IT, NOW, NOW + HOUR) is None


def weekly(text: str, zone: str = "UTC") -> Window:
    return WindowSettings.model_validate({"name": "w", "weekly": text, "zone": zone, "owner": "ada"}).window()


@pytest.mark.parametrize(
    ("text", "zone", "at", "held"),
    [
        ("fri 12:00-14:00", "UTC", NOW + HOUR, True),
        ("mon-thu 12:00-14:00", "UTC", NOW + HOUR, False),
        ("thu,fri 10:00-11:30", "Europe/Berlin", NOW - 2 * HOUR, True),
        ("thu 22:00-02:00", "UTC", datetime(2026, 11, 27, 1, tzinfo=UTC), True),
        ("fri 22:00-02:00", "UTC", datetime(2026, 11, 27, 1, tzinfo=UTC), False),
        ("sat-mon 00:00-24:00", "UTC", datetime(2026, 11, 29, 23, tzinfo=UTC), True),  # a range over the week's end
        ("fri 00:00-24:00", "UTC", datetime(2026, 11, 27, 23, 30, tzinfo=UTC), True),
    ],
)
def test_a_weekly_window_is_by_the_clock_of_its_zone(text: str, zone: str, at: datetime, held: bool) -> None:
    found = inside([weekly(text, zone)], IT, at, at + timedelta(minutes=1))
    assert (found is not None) is held


def test_hours_keep_their_place_when_the_clock_changes() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for day in (23, 30):  # the clock goes back on 25 October 2026
        at = datetime(2026, 10, day, 20, 30, tzinfo=berlin).astimezone(UTC)
        assert inside([weekly("fri 20:00-21:00", "Europe/Berlin")], IT, at, at) is not None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weekly": "friday 20-23"}, "is not days and hours"),
        ({"weekly": "fri 25:00-26:00"}, "is not days and hours"),
        ({"weekly": "fri 20:00-23:00", "zone": "Berlin"}, "is no time zone"),
        ({}, "needs either"),
        ({"weekly": "fri 20:00-23:00", "from": "2026-01-01", "until": "2026-01-02"}, "needs either"),
        ({"from": "2026-01-02"}, "needs either"),
        ({"from": "2026-01-02T10:00Z", "until": "2026-01-02T09:00Z"}, "ends before it begins"),
        ({"from": "2026-01-02T10:00", "until": "2026-01-03"}, "has no offset"),
    ],
)
def test_a_window_that_is_none_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        WindowSettings.model_validate({"name": "w", "owner": "ada"} | given)


def test_a_waiver_names_something_and_ends_with_its_day() -> None:
    given = {"rule": "missing-owner", "owner": "ada", "reason": "r", "until": "2026-12-31"}
    assert WaiverSettings.model_validate(given).until == datetime(2027, 1, 1, tzinfo=UTC)
    with pytest.raises(ValidationError, match="would waive whatever is found"):
        WaiverSettings.model_validate(given | {"rule": ["*"]})
    with pytest.raises(ValidationError, match="is not a time"):
        WaiverSettings.model_validate(given | {"until": "next year"})


@given(
    state=st.sampled_from(State),
    acknowledged=st.booleans(),
    before=st.none() | st.integers(-2, 2),
    untils=st.lists(st.tuples(st.integers(-2, 2), st.booleans()), max_size=4),
    whole=st.booleans(),
)
def test_whatever_stands_and_whatever_was_agreed_on_it_is_judged_once(
    state: State, acknowledged: bool, before: int | None, untils: list[tuple[int, bool]], whole: bool
) -> None:
    """What runs and covers it waives it; what is judged again is as it is; nothing is open that is excepted."""
    one = finding(
        state,
        acknowledged_at=NOW - DAY if acknowledged else None,
        waived_until=NOW + before * DAY if before is not None else None,
    )
    agreed = [made(NOW + days * DAY, assets="17" if covers else "18") for days, covers in untils]
    runs = any(days > 0 and covers for days, covers in untils)
    move = judged(one, IT, agreed, NOW, whole=whole)
    after = move.finding if move is not None else one
    assert judged(after, IT, agreed, NOW, whole=whole) is None
    if state in (State.PENDING, State.RESOLVED):
        assert move is None
    elif runs:
        assert after.state in (State.WAIVED, State.STALE)
        assert after.waived_until is not None
        assert after.waived_until > NOW
    elif whole:
        assert after.state != State.WAIVED
        assert after.waived_until is None or after.waived_until <= NOW
