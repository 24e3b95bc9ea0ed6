"""What discovery decides: names, selection, and how a workspace stands after a look."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.core.discovery import (
    Confirmation,
    Event,
    Known,
    Look,
    Place,
    Scope,
    Standing,
    Word,
    doubted,
    judge,
    named,
    names,
    selected,
)
from stocktake.core.errors import ConfigError
from stocktake.settings import Settings, WorkspaceSettings
from stocktake.settings.loading import load_settings

AT = datetime(2026, 5, 1, tzinfo=UTC)
SUBSCRIPTION = "0a1b2c3d-0000-4000-8000-000000000001"
HERE = Scope(path=f"/subscriptions/{SUBSCRIPTION}", looked=True)


def make_place(workspace: str = "fraud", group: str = "ml", subscription: str = SUBSCRIPTION, **more: Any) -> Place:
    key = f"{subscription}/{group}/{workspace}".casefold()
    return Place(key=key, subscription=subscription, resource_group=group, workspace=workspace, **more)


def make_look(*places: Place, scopes: tuple[Scope, ...] = (HERE,), whole: bool = True) -> Look:
    shown = {place.key: place for place in places}
    return Look(began_at=AT, finished_at=AT, places=shown, how=dict.fromkeys(shown, "list"), scopes=scopes, whole=whole)


def make_known(place: Place | None = None, standing: Standing = Standing.WATCHED) -> Known:
    return Known(name="fraud", entry="platform", place=place or make_place(), standing=standing)


def refused(trouble: str) -> Scope:
    return Scope(path=HERE.path, looked=False, trouble=trouble)


# ---- names


@pytest.mark.parametrize(
    ("pattern", "place", "name"),
    [
        ("{workspace}", make_place("Fraud_Prod (EU)"), "fraud-prod-eu"),
        ("{subscription}-{workspace}", make_place("x"), "0a1b2c3d-x"),
        ("{region}-{resource_group}-{workspace}", make_place("w", "RG.1", region="westeurope"), "westeurope-rg-1-w"),
        ("{workspace}", make_place("w" * 62 + "_x"), "w" * 62),
        ("{workspace}", make_place("___"), "workspace"),
    ],
)
def test_a_name_is_made_of_what_names_may_hold(pattern: str, place: Place, name: str) -> None:
    assert named(pattern, place) == name


@given(st.lists(st.tuples(st.text(min_size=1, max_size=80), st.sampled_from("abc")), max_size=12, unique=True))
def test_names_are_valid_unique_and_the_same_in_whatever_order_workspaces_come(
    given_names: list[tuple[str, str]],
) -> None:
    places = list({place.key: place for place in (make_place(name, group) for name, group in given_names)}.values())
    first = names("{workspace}", places, {"fraud"})
    assert set(first) == {place.key for place in places}
    assert len(set(first.values()) | {"fraud"}) == len(places) + 1
    for name in first.values():
        WorkspaceSettings.model_validate({"name": name, "mlflow": {"uri": "http://x"}})
    random.Random(1).shuffle(places)
    assert names("{workspace}", places, {"fraud"}) == first


def test_of_two_new_ones_that_want_the_same_name_neither_is_favoured() -> None:
    one, other = names("{workspace}", [make_place(group="a"), make_place(group="b")], set()).values()
    assert one != other
    assert one.startswith("fraud-")
    assert other.startswith("fraud-")


def test_one_that_wants_a_given_name_gets_a_mark_and_the_other_keeps_it() -> None:
    (name,) = names("{workspace}", [make_place(group="b")], {"fraud"}).values()
    assert name != "fraud"
    assert name.startswith("fraud-")


# ---- selection


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ([], True),
        ([("env", "prod")], True),
        ([("ENV", "prod")], True),
        ([("env", "Prod")], False),
        ([("env", None)], True),
        ([("env", "prod"), ("team", "a")], False),
    ],
)
def test_tags_select_as_azure_compares_them(wanted: list[tuple[str, str | None]], chosen: bool) -> None:
    assert selected({"Env": "prod"}, wanted) is chosen


# ---- who is asked about


def test_what_was_shown_or_has_ended_is_not_asked_about() -> None:
    shown, ended, missing = make_place("a"), make_place("b"), make_place("c")
    known = [make_known(shown), make_known(ended, Standing.DELETED), make_known(missing)]
    assert [one.place for one in doubted(known, make_look(shown))] == [missing]


@pytest.mark.parametrize(
    ("trouble", "asked"),
    [("permission", True), ("not-found", True), ("throttled", False), ("server", False), ("unreachable", False)],
)
def test_in_a_scope_that_failed_nothing_is_asked_and_in_one_that_was_refused_each(trouble: str, asked: bool) -> None:
    assert bool(doubted([make_known()], make_look(scopes=(refused(trouble),)))) is asked


# ---- how it stands


@pytest.mark.parametrize("standing", [one for one in Standing if one != Standing.MOVED])
def test_what_was_not_asked_about_or_gave_no_answer_stands_as_it_stood(standing: Standing) -> None:
    one = make_known(standing=standing)
    assert judge(one, make_look(), (), None) is None
    assert judge(one, make_look(), (), Confirmation(word=Word.UNKNOWN)) is None


@pytest.mark.parametrize(
    ("word", "standing"),
    [
        (Word.DELETED, Standing.DELETED),
        (Word.SOFT_DELETED, Standing.SOFT_DELETED),
        (Word.ACCESS_LOST, Standing.ACCESS_LOST),
    ],
)
def test_what_is_missing_stands_as_its_confirmation_says_and_is_told_once(word: Word, standing: Standing) -> None:
    confirmed = Confirmation(word=word, why="because", next_step="do")
    verdict = judge(make_known(), make_look(), (), confirmed)
    assert verdict is not None
    assert (verdict.standing, verdict.event, verdict.why, verdict.next_step) == (standing, Event(word), "because", "do")
    assert judge(make_known(standing=standing), make_look(), (), confirmed) is None


def test_a_list_that_lags_takes_nothing_away() -> None:
    assert judge(make_known(), make_look(), (), Confirmation(word=Word.THERE, place=make_place())) is None


@pytest.mark.parametrize("whole", [True, False])
def test_a_place_that_is_no_longer_asked_for_is_unselected_only_where_all_that_is_asked_for_is_known(
    whole: bool,
) -> None:
    look = make_look(scopes=(Scope(path="/subscriptions/other", looked=True),), whole=whole)
    verdict = judge(make_known(), look, (), Confirmation(word=Word.THERE, place=make_place()))
    assert (verdict.standing if verdict else None) == (Standing.UNSELECTED if whole else None)


@pytest.mark.parametrize("standing", [one for one in Standing if one != Standing.WATCHED])
def test_what_is_shown_again_has_returned(standing: Standing) -> None:
    verdict = judge(make_known(standing=standing), make_look(make_place()), (), None)
    assert verdict is not None
    assert (verdict.standing, verdict.event) == (Standing.WATCHED, Event.RETURNED)
    assert verdict.why


def test_another_workspace_at_the_address_of_a_deleted_one_is_called_that() -> None:
    one = make_known(make_place(guid="a"), Standing.DELETED)
    verdict = judge(one, make_look(make_place(guid="b")), (), None)
    assert verdict is not None
    assert verdict.why == "another workspace was made at its address"


def test_a_workspace_whose_own_id_is_shown_elsewhere_has_moved() -> None:
    one = make_known(make_place(guid="a"))
    verdict = judge(one, make_look(make_place(group="new", guid="a")), (), Confirmation(word=Word.DELETED))
    assert verdict is not None
    assert (verdict.standing, verdict.event) == (Standing.MOVED, Event.MOVED)
    assert "new/fraud" in verdict.why


# ---- the configuration


def test_an_entry_is_read_and_its_schedule_filled_from_the_common_one() -> None:
    settings = Settings.model_validate(
        {
            "schedule": {"sweep": "12h"},
            "discovery": [
                {
                    "name": "platform",
                    "resource_groups": [f"{SUBSCRIPTION.upper()}/ml"],
                    "tags": ["env=prod=x", "team"],
                    "schedule": {"hot": "5m"},
                }
            ],
        }
    )
    (entry,) = settings.discovery
    assert entry.groups == ((SUBSCRIPTION, "ml"),)
    assert entry.wanted == (("env", "prod=x"), ("team", None))
    assert entry.schedule is not None
    assert str(entry.schedule.sweep) == "12:00:00"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("name: a", "needs exactly one of `subscriptions`, `resource_groups` and `management_group`"),
        ("{name: a, subscriptions: [x]}", "is not a subscription's id"),
        ("{name: a, resource_groups: [ml]}", "is not SUBSCRIPTION/GROUP"),
        ("{name: a, management_group: a/b}", "holds a character that Azure allows in no such name"),
        ("{name: a, management_group: g, naming: '{nope}-{workspace}'}", "holds {nope}. Known: {workspace}"),
        ("{name: a, management_group: g, naming: '{region}'}", "must hold {workspace}"),
        ("{name: a, management_group: g, naming: 'A-{workspace}'}", "must be small letters"),
        ("{name: a, management_group: g, naming: '{workspace'}", "is no pattern"),
        ("{name: a, management_group: g, every: 5s}", "is shorter than 1m"),
        ("{name: a, management_group: g, tags: ['=x']}", "names no tag"),
        ("{name: A, management_group: g}", "must be small letters, digits and hyphens"),
        ("{name: a, management_group: g, azureml: {workspace: x}}", "is not a known key"),
        ("{name: a, management_group: g}, {name: a, management_group: h}", "twice. Give each entry a name of its own"),
    ],
)
def test_a_mistake_in_an_entry_is_told_with_its_way_out(tmp_path: Any, words: str, problem: str) -> None:
    file = tmp_path / "stocktake.yaml"
    file.write_text(f"discovery: [{words if words.startswith('{') else '{' + words + '}'}]\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert problem in str(caught.value)
