"""Who is called the actor of a change, by what a log says of acts: only whom nothing else could have been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.core.actors import AZURE, CLOCKS, Act, Happened, Named, can_change, named
from stocktake.core.assets import ChangeType

BEFORE = datetime(2026, 5, 1, 10, tzinfo=UTC)
AFTER = BEFORE + timedelta(minutes=10)
WITHIN = BEFORE + timedelta(minutes=5)
ML = "Microsoft.MachineLearningServices/workspaces"
ADA, BO = "ada@team.example", "bo@team.example"


def act(operation: str = "schedules/write", caller: str = ADA, at: datetime = WITHIN, lasts: float = 0) -> Act:
    return Act(
        operation=f"{ML}/{operation}", caller=caller, began_at=at, ended_at=at + timedelta(minutes=lasts)
    )  # fmt: skip


def change(type_: ChangeType = ChangeType.UPDATED, fields: Sequence[Any] = (), **one: Any) -> Happened:
    named_fields = [{"path": path.replace("__", "."), "before": None, "after": after} for path, after in one.items()]
    return Happened(type=type_, not_before=BEFORE, not_after=AFTER, fields=[*fields, *named_fields])


DISABLED = change(properties__isEnabled=False)


def test_the_one_who_wrote_between_the_two_looks_is_the_actor() -> None:
    assert named(DISABLED, [act()]) == Named(ADA, AZURE)
    assert named(DISABLED, [act(), act(at=WITHIN + timedelta(minutes=1))]) == Named(ADA, AZURE)


def test_whoever_is_written_in_other_letters_is_the_same_person() -> None:
    assert named(DISABLED, [act(), act(caller=ADA.upper())]) == Named(ADA, AZURE)


def test_without_an_act_nobody_is() -> None:
    assert named(DISABLED, []) is None


def test_of_several_none_is_the_actor_and_all_are_told() -> None:
    assert named(DISABLED, [act(), act(caller=BO)]) == Named(None, f"{AZURE}: one of {ADA}, {BO}")


@pytest.mark.parametrize("doubtful", [act("schedules/reimage/action", BO), replace(act(caller=BO), failed=True)])
def test_an_action_that_nobody_knows_or_that_failed_names_nobody_and_leaves_doubt(doubtful: Act) -> None:
    assert named(DISABLED, [doubtful]) is None
    assert named(DISABLED, [act(), doubtful]) == Named(None, f"{AZURE}: one of {ADA}, {BO}")
    assert named(DISABLED, [act(), replace(doubtful, caller=ADA)]) == Named(ADA, AZURE)


def test_of_many_some_are_told_and_the_others_counted() -> None:
    told = named(DISABLED, [act(caller=f"{letter}@x") for letter in "gfedcba"])
    assert told == Named(None, f"{AZURE}: one of a@x, b@x, c@x, d@x, e@x and 2 more")


def test_an_act_of_somebody_whom_the_log_does_not_name_leaves_doubt() -> None:
    assert named(DISABLED, [act(caller="")]) is None
    told = named(DISABLED, [act(), act(caller="")])
    assert told is not None
    assert (told.actor, told.source) == (None, f"{AZURE}: one of {ADA}, or somebody whom it does not name")


@pytest.mark.parametrize("at", [BEFORE - timedelta(seconds=30), AFTER + timedelta(seconds=30)])
def test_an_act_near_a_look_may_be_on_its_other_side(at: datetime) -> None:
    assert named(DISABLED, [act(at=at)]) is None  # it alone names nobody
    told = named(DISABLED, [act(caller=BO), act(at=at)])
    assert told is not None
    assert told.actor is None  # and another is not sure beside it
    assert named(DISABLED, [act(), act(at=at)]) == Named(ADA, AZURE)  # but for the same person's


@pytest.mark.parametrize("at", [BEFORE - CLOCKS, AFTER + CLOCKS + timedelta(microseconds=1)])
def test_an_act_outside_of_the_looks_and_the_margin_is_of_no_matter(at: datetime) -> None:
    assert named(DISABLED, [act(at=at)]) is None
    assert named(DISABLED, [act(caller=BO), act(at=at)]) == Named(BO, AZURE)


def test_a_long_operation_may_have_its_effect_before_it_ends() -> None:
    assert named(DISABLED, [act(at=BEFORE + timedelta(minutes=9), lasts=30)]) == Named(ADA, AZURE)
    assert named(DISABLED, [act(at=BEFORE - timedelta(hours=1), lasts=65)]) == Named(ADA, AZURE)


@pytest.mark.parametrize(
    ("happened", "operation", "explained"),
    [
        (ChangeType.CREATED, "jobs/write", True),
        (ChangeType.CREATED, "jobs/cancel/action", False),
        (ChangeType.CREATED, "models/write", False),  # it is there as soon as anybody registers a version in it
        (ChangeType.RESTORED, "environments/write", False),
        (ChangeType.CREATED, "models/versions/write", True),
        (ChangeType.DELETED, "models/write", True),  # archived
        (ChangeType.DELETED, "delete", True),  # the workspace itself
        (ChangeType.RESTORED, "write", True),
        (ChangeType.RESTORED, "delete", False),
        (ChangeType.PURGED, "models/delete", True),
        (ChangeType.PURGED, "models/write", False),
    ],
)
def test_what_happened_and_what_was_done_must_fit(happened: ChangeType, operation: str, explained: bool) -> None:
    assert (named(change(happened), [act(operation)]) is not None) is explained


@pytest.mark.parametrize(
    ("fields", "operation", "explained"),
    [
        # what people decide
        ({"properties__traffic__blue": 10}, "onlineEndpoints/write", True),
        ({"properties__model": "m/2"}, "onlineEndpoints/deployments/write", True),
        ({"properties__tags__owner": "x"}, "jobs/write", True),
        ({"properties__properties__scaleSettings__maxNodeCount": 8}, "computes/write", True),
        ({"properties__properties__vmSize": "b"}, "computes/resize/action", True),
        ({"properties__properties__schedules__computeStartStop": []}, "computes/updateSchedules/action", True),
        ({"properties__tags__status": "x"}, "jobs/write", True),
        ({"properties__isArchived": True}, "models/versions/write", True),
        ({"properties__privateLinkServiceConnectionState__status": "Approved"}, "privateEndpoint/write", True),
        # what moves by itself, whoever edited something beside it
        ({"properties__status": "Completed"}, "jobs/write", False),
        ({"properties__status": "Completed", "properties__displayName": "x"}, "jobs/write", False),
        ({"properties__latestVersion": "2"}, "models/write", False),
        ({"properties__latestVersion": "2", "properties__description": "x"}, "models/write", False),
        ({"properties__properties__nodeStateCounts__idleNodeCount": 3}, "computes/write", False),
        ({"properties__provisioningState": "Succeeded"}, "onlineEndpoints/write", False),
        ({"properties__currentValue": 3}, "computes/write", False),
        # acts that lead to a state lead to that one
        ({"properties__properties__state": "Running"}, "computes/start/action", True),
        ({"properties__properties__state": "Stopped"}, "computes/start/action", False),
        ({"properties__properties__state": "Stopped"}, "computes/stop/action", True),
        ({"properties__properties__lastOperation__operationName": "Restart"}, "computes/restart/action", True),
        ({"properties__status": "CancelRequested"}, "jobs/cancel/action", True),
        ({"properties__status": "Failed"}, "jobs/cancel/action", False),
        ({"properties__tags__owner": "x"}, "jobs/cancel/action", False),
        # nothing that deletes updates, and nothing that reads
        ({"properties__model": "m/2"}, "onlineEndpoints/delete", False),
        ({"properties__model": "m/2"}, "onlineEndpoints/listKeys/action", False),
    ],
)  # fmt: skip
def test_an_act_explains_what_it_can_have_caused(fields: dict[str, Any], operation: str, explained: bool) -> None:
    assert (named(change(**fields), [act(operation)]) is not None) is explained


@pytest.mark.parametrize("trigger", ["Schedule", "IdleShutdown"])
def test_a_compute_that_was_stopped_by_its_schedule_was_stopped_by_nobody(trigger: str) -> None:
    state = {"path": "properties.properties.state", "before": "Running", "after": "Stopped"}
    last = "properties.properties.lastOperation"
    for field in (
        {"path": f"{last}.operationTrigger", "before": "User", "after": trigger},
        {"path": last, "before": None, "after": {"operationName": "Stop", "operationTrigger": trigger}},
    ):
        assert named(change(fields=[state, field]), [act("computes/stop/action")]) is None
    by_a_person = {"path": f"{last}.operationTrigger", "before": trigger, "after": "User"}
    assert named(change(fields=[state, by_a_person]), [act("computes/stop/action")]) == Named(ADA, AZURE)


@pytest.mark.parametrize(
    ("operation", "able"),
    [
        (f"{ML}/jobs/write", True),
        (f"{ML.upper()}/COMPUTES/START/ACTION", True),
        (f"{ML}/delete", True),
        (f"{ML}/listKeys/action", False),
        (f"{ML}/onlineEndpoints/token/action", False),
        (f"{ML}/computes/read", False),
        ("action", False),
        ("", False),
    ],
)
def test_what_can_change_nothing_is_not_kept(operation: str, able: bool) -> None:
    assert can_change(operation) is able


moments = st.integers(-200, 800).map(lambda seconds: BEFORE + timedelta(seconds=seconds))
acts = st.builds(
    act,
    st.sampled_from(("jobs/write", "jobs/delete", "jobs/cancel/action", "listKeys/action")),
    st.sampled_from((ADA, BO, "eve@team.example", "")),
    moments,
    st.sampled_from((0.0, 1.0, 30.0)),
)
changes = st.builds(
    lambda kind, paths: change(kind, [{"path": path, "before": 1, "after": after} for path, after in paths]),
    st.sampled_from(ChangeType),
    st.lists(st.sampled_from((("properties.status", "Canceled"), ("properties.tags.a", "b"))), max_size=2),
)


@given(changes, st.lists(acts, max_size=5), st.randoms())
def test_whoever_is_named_did_something_between_the_looks_and_nobody_else_did(
    happened: Happened, done: list[Act], random: Any
) -> None:
    told = named(happened, done)
    shuffled = random.sample(done, len(done))
    assert named(happened, shuffled) == told
    apart = {one.caller: [other for other in done if other.caller == one.caller] for one in done}
    alone = {caller for caller, theirs in apart.items() if named(happened, theirs) is not None}
    if told is None:
        assert alone <= {""}
        return
    if told.actor is not None:
        assert alone == {told.actor}
        assert any(one.began_at <= AFTER and one.ended_at > BEFORE for one in apart[told.actor])
    # One more act of another in the middle of it, and nobody is the actor any more.
    other = Act(operation=done[0].operation, caller="mallory@x", began_at=WITHIN, ended_at=WITHIN)
    if named(happened, [other]) is not None:
        doubted = named(happened, [*done, other])
        assert doubted is not None
        assert doubted.actor is None
        assert "mallory@x" in doubted.source
