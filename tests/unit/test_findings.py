"""The life of a finding: whatever is said of it, in whatever order, it opens and resolves on complete looks alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.core.findings import (
    Finding,
    Patience,
    Policy,
    Said,
    State,
    acknowledge,
    close,
    comes_back,
    fingerprint,
    quiet,
    step,
    waive,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ONCE = Patience()
HOLDS = Said(complete=True, holds=True, evidence={"n": 1})
OVER = Said(complete=True)
BLIND = Said(complete=False)


def opened(**changes: object) -> Finding:
    """An open finding."""
    made = step(None, HOLDS, T0, ONCE)
    assert made is not None
    return replace(made, **changes)  # type: ignore[arg-type]


_saids = st.sampled_from(["holds", "other", "again", "over", "blind", "ack", "waive"])
_steps = st.lists(st.tuples(_saids, st.integers(min_value=1, max_value=100)), max_size=40)


def _next(finding: Finding | None, what: str, now: datetime, patience: Patience) -> Finding | None:
    if what == "ack":
        return (acknowledge(finding, now) or finding) if finding is not None else None
    if what == "waive":
        return (waive(finding, now + 30 * HOUR, now) or finding) if finding is not None else None
    said = {
        "holds": HOLDS,
        "other": replace(HOLDS, evidence={"n": 2}),
        "again": Said(complete=True, holds=True, evidence={"at": now.isoformat()}, again=True),
        "over": OVER,
        "blind": BLIND,
    }[what]
    return step(finding, said, now, patience)


@given(steps=_steps, opens=st.integers(1, 3), resolves=st.integers(1, 3))
def test_it_opens_and_resolves_only_after_as_many_complete_looks_as_its_rule_asks(
    steps: list[tuple[str, int]], opens: int, resolves: int
) -> None:
    now, held, clear = T0, 0, 0
    finding: Finding | None = None
    for what, hours in steps:
        now += hours * HOUR
        before, finding = finding, _next(finding, what, now, Patience(opens_after=opens, resolves_after=resolves))
        if what in ("holds", "other", "again"):
            held, clear = held + 1, 0
        elif what == "over":
            held, clear = 0, clear + 1
        was = before.state if before is not None else None
        state = finding.state if finding is not None else None
        if state in (State.OPEN, State.ACKNOWLEDGED, State.WAIVED) and was in (None, State.PENDING, State.RESOLVED):
            assert held >= opens
        if state == State.RESOLVED and was not in (State.RESOLVED, State.PENDING):
            assert what == "over"
            assert clear >= resolves
        if what == "blind":
            assert state == was or (was, state) in _WITHOUT_A_LOOK


#: What may happen where nobody could look: it becomes stale, or a waiver ends.
_WITHOUT_A_LOOK: set[tuple[State | None, State | None]] = {
    (State.OPEN, State.STALE),
    (State.ACKNOWLEDGED, State.STALE),
    (State.WAIVED, State.STALE),
    (State.WAIVED, State.OPEN),
    (State.WAIVED, State.ACKNOWLEDGED),
}


@given(steps=_steps)
def test_what_is_said_twice_changes_nothing_the_second_time(steps: list[tuple[str, int]]) -> None:
    now: datetime = T0
    finding: Finding | None = None
    for what, hours in steps:
        now += hours * HOUR
        finding = _next(finding, what, now, ONCE)
        assert _next(finding, what, now, ONCE) == finding


@given(steps=_steps)
def test_times_never_contradict_the_state(steps: list[tuple[str, int]]) -> None:
    now: datetime = T0
    finding: Finding | None = None
    for what, hours in steps:
        now += hours * HOUR
        finding = _next(finding, what, now, Patience(opens_after=2, resolves_after=2))
        if finding is None:
            continue
        assert finding.first_seen <= finding.last_seen <= now
        assert finding.since <= now
        assert (finding.resolved_at is not None) == (finding.state == State.RESOLVED)
        assert finding.opened_at is not None or finding.state == State.PENDING


def test_one_that_never_opened_leaves_nothing() -> None:
    pending = step(None, HOLDS, T0, Patience(opens_after=2))
    assert pending is not None
    assert pending.state == State.PENDING
    assert step(pending, OVER, T0 + HOUR, Patience(opens_after=2)) is None


def test_without_a_complete_look_nothing_begins_and_nothing_ends() -> None:
    assert step(None, BLIND, T0, ONCE) is None
    finding = opened()
    assert step(finding, BLIND, T0 + HOUR, ONCE) is finding
    assert step(finding, replace(BLIND, looked_at=T0 + 50 * HOUR), T0 + 60 * HOUR, ONCE) is finding


def test_no_data_is_stale_and_never_resolved() -> None:
    late = T0 + Policy().stale_after + HOUR
    stale = step(opened(), BLIND, late, ONCE)
    assert stale is not None
    assert stale.state == State.STALE
    assert step(stale, BLIND, late + 1000 * HOUR, ONCE) is stale
    seen = step(stale, HOLDS, late + HOUR, ONCE)
    assert seen is not None
    assert seen.state == State.OPEN


def test_a_stale_one_that_was_acknowledged_comes_back_as_acknowledged() -> None:
    taken = acknowledge(opened(), T0 + HOUR)
    stale = step(taken, BLIND, T0 + 100 * HOUR, ONCE)
    seen = step(stale, HOLDS, T0 + 101 * HOUR, ONCE)
    assert seen is not None
    assert seen.state == State.ACKNOWLEDGED


def test_what_happens_anew_opens_an_acknowledged_one_and_how_things_stand_does_not() -> None:
    taken = acknowledge(opened(), T0 + HOUR)
    other = replace(HOLDS, evidence={"n": 2})
    still = step(taken, other, T0 + 2 * HOUR, ONCE)
    anew = step(taken, replace(other, again=True), T0 + 2 * HOUR, ONCE)
    assert still is not None
    assert anew is not None
    assert (still.state, anew.state) == (State.ACKNOWLEDGED, State.OPEN)


def test_an_expired_waiver_reopens() -> None:
    excepted = waive(opened(), T0 + 10 * HOUR, T0 + HOUR)
    assert excepted is not None
    assert excepted.state == State.WAIVED
    assert step(excepted, HOLDS, T0 + 9 * HOUR, ONCE) is excepted
    reopened = step(excepted, HOLDS, T0 + 10 * HOUR, ONCE)
    assert reopened is not None
    assert reopened.state == State.OPEN


def test_what_was_found_at_the_first_look_is_inherited_until_it_comes_back() -> None:
    inherited = step(None, replace(HOLDS, first=True), T0, ONCE)
    resolved = step(inherited, OVER, T0 + HOUR, ONCE)
    back = step(resolved, HOLDS, T0 + 2 * HOUR, ONCE)
    assert inherited is not None
    assert inherited.inherited
    assert back is not None
    assert not back.inherited
    assert back.opened_at == inherited.opened_at


def test_a_resolved_one_comes_back_only_within_its_time() -> None:
    resolved = step(opened(), OVER, T0, ONCE)
    assert resolved is not None
    assert comes_back(resolved, T0 + Policy().reopen_within)
    assert not comes_back(resolved, T0 + Policy().reopen_within + HOUR)


@pytest.mark.parametrize("state", [State.PENDING, State.RESOLVED])
def test_there_is_nothing_to_take_on_where_nothing_is_open(state: State) -> None:
    assert acknowledge(opened(state=state), T0) is None
    assert waive(opened(state=state), T0 + HOUR, T0) is None


def test_a_fingerprint_is_of_the_key_alone_and_tells_apart_what_differs() -> None:
    one = fingerprint("r", "w", "run", "k", secret=b"s")
    assert one == fingerprint("r", "w", "run", "k", secret=b"s")
    others = {fingerprint(*words, secret=b"s") for words in (("r", "w", "run", "x"), ("q", "w", "run", "k"))}
    assert one not in others | {fingerprint("r", "w", "run", "k", secret=b"t")}


@given(
    st.sampled_from(State),
    st.booleans(),
    st.sampled_from([None, T0 - HOUR, T0 + HOUR]),
    st.integers(min_value=0, max_value=2),
    st.booleans(),
    st.integers(min_value=1, max_value=3),
)
def test_what_is_quiet_is_what_a_look_that_shows_it_again_does_not_touch(
    state: State, acknowledged: bool, waived: datetime | None, clear: int, same: bool, after: int
) -> None:
    one = opened(state=state, acknowledged_at=T0 if acknowledged else None, waived_until=waived, clear=clear)
    said = replace(HOLDS, evidence=HOLDS.evidence if same else {"n": 2})
    assert said.evidence is not None
    unmoved = step(one, said, T0, Patience(opens_after=after, resolves_after=3)) is one
    assert quiet(one, said.evidence, T0) == unmoved


def test_one_whose_rule_is_asked_no_more_ends_and_may_come_back_as_inherited() -> None:
    ended = close(opened(clear=1), T0 + HOUR)
    assert (ended.state, ended.resolved_at, ended.clear) == (State.RESOLVED, T0 + HOUR, 0)
    again = step(ended, replace(HOLDS, first=True), T0 + 2 * HOUR, ONCE)
    assert again is not None
    assert (again.state, again.inherited) == (State.OPEN, True)
