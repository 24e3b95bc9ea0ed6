"""What differs between two states, and which story a change is a part of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from stocktake.core.assets import Category, ChangeType, Difference, FieldChange, Kind, Lifecycle
from stocktake.core.diff import Story, author, category, difference, field_changes, story, torn
from stocktake.core.guard import Guard
from tests.unit.test_canonical import DOCUMENTS


@given(DOCUMENTS)
def test_equal_documents_differ_in_nothing(document: dict[str, Any]) -> None:
    assert difference(document, document) is None or any(value != value for value in _leaves(document))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]


@given(DOCUMENTS, DOCUMENTS)
def test_a_difference_turned_round_is_the_difference_of_the_turned(one: dict[str, Any], two: dict[str, Any]) -> None:
    forth = [(c.path, repr(c.before), repr(c.after)) for c in field_changes(one, two)]
    back = [(c.path, repr(c.after), repr(c.before)) for c in field_changes(two, one)]
    assert forth == back


@given(DOCUMENTS, DOCUMENTS)
def test_paths_name_one_place_each(one: dict[str, Any], two: dict[str, Any]) -> None:
    paths = [c.path for c in field_changes(one, two)]
    assert len(paths) == len(set(paths))


def test_paths_are_jsonpath_and_quote_what_needs_it() -> None:
    before = {"tags": {"mlflow.user": "a", "team": "x"}, "metrics": {"train/loss": {"value": 1.0}}}
    after = {"tags": {"mlflow.user": "b", "it's": "y"}, "metrics": {"train/loss": {"value": 2.0}}}
    assert [c.path for c in field_changes(before, after)] == [
        "metrics['train/loss'].value",
        "tags['it\\'s']",
        "tags['mlflow.user']",
        "tags.team",
    ]


def test_one_and_one_point_nought_and_true_are_told_apart() -> None:
    assert list(field_changes({"a": 1}, {"a": True})) == [FieldChange(path="a", before=1, after=True)]
    assert list(field_changes({"a": 1}, {"a": 1.0})) == [FieldChange(path="a", before=1, after=1.0)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("info.run_name", Category.IDENTITY),
        ("info.status", Category.STATE),
        ("info.lifecycle_stage", Category.STATE),
        ("params.lr", Category.CONFIG),
        ("tags['mlflow.note.content']", Category.CONFIG),
        ("metrics['val/loss'].value", Category.TELEMETRY),
        ("aliases.champion", Category.CONFIG),
        ("name", Category.IDENTITY),
    ],
)
def test_a_path_has_a_category(path: str, expected: Category) -> None:
    assert category(path) == expected


def test_the_weightiest_field_gives_the_category() -> None:
    found = difference({"metrics": {"a": 1}, "name": "x"}, {"metrics": {"a": 2}, "name": "y"})
    assert found is not None
    assert found.category == Category.IDENTITY
    assert found.type == ChangeType.UPDATED


def test_lifecycle_makes_deleted_and_restored() -> None:
    live, dead = {"lifecycle_stage": "active"}, {"lifecycle_stage": "deleted"}
    gone = difference(live, dead, now=Lifecycle.DELETED)
    back = difference(dead, live, was=Lifecycle.DELETED)
    assert gone is not None
    assert gone.type == ChangeType.DELETED
    assert back is not None
    assert back.type == ChangeType.RESTORED
    created, purged = difference(None, live), difference(live, None)
    assert created is not None
    assert created.type == ChangeType.CREATED
    assert purged is not None
    assert purged.type == ChangeType.PURGED


def _updated(*paths: str, type_: ChangeType = ChangeType.UPDATED) -> Difference:
    fields = tuple(FieldChange(path=p, before=1, after=2) for p in paths)
    return Difference(type=type_, category=Category.CONFIG, fields=fields)


def test_a_run_that_fell_with_its_experiment_is_part_of_that_story() -> None:
    fell = _updated("info.lifecycle_stage", type_=ChangeType.DELETED)
    assert story(Kind.RUN, fell, partition="7", parent=None) == Story(
        kind=Kind.EXPERIMENT, key="7", type=ChangeType.DELETED
    )


def test_a_run_that_also_changed_otherwise_has_a_story_of_its_own() -> None:
    edited = _updated("info.lifecycle_stage", "tags.late", type_=ChangeType.DELETED)
    assert story(Kind.RUN, edited, partition="7", parent=None) is None


def test_versions_that_only_changed_aliases_belong_to_their_model() -> None:
    moved = _updated("aliases")
    assert story(Kind.MODEL_VERSION, moved, partition="", parent="fraud") == Story(
        kind=Kind.REGISTERED_MODEL, key="fraud", type=ChangeType.UPDATED
    )
    assert story(Kind.MODEL_VERSION, _updated("aliases", "description"), partition="", parent="fraud") is None


def test_the_author_is_read_from_where_the_kind_has_it() -> None:
    assert author({"info": {"user_id": "ada"}}) == "ada"
    assert author({"user_id": "ada"}) == "ada"
    assert author({"info": {"user_id": ""}}) is None
    assert author({"info": {"user_id": "unknown"}}) is None  # as MLflow's client says where it does not know


@pytest.mark.parametrize(
    ("removals", "known", "withheld"),
    [
        (0, 0, False),
        (10, 10, False),  # up to ten a confirmation by id is enough
        (11, 11, True),  # all of it
        (11, 0, True),  # a count of nought is no excuse
        (11, 1000, False),
        (201, 1000, True),
        (200, 1000, False),
    ],
)
def test_the_guard_believes_few_and_withholds_many(removals: int, known: int, withheld: bool) -> None:
    assert Guard().withholds(removals, known) is withheld


def test_a_run_never_loses_params_metrics_or_its_name_in_an_edit() -> None:
    whole: dict[str, Any] = {
        "params": {"a": "1"},
        "metrics": {"m": {"value": 1.0}},
        "tags": {"mlflow.runName": "x", "note": "y"},
    }
    losses: list[dict[str, Any]] = [{"params": {}}, {"metrics": {}}, {"tags": {"note": "y"}}]
    for lost in losses:
        found = difference(whole, whole | lost)
        assert found is not None
        assert torn(Kind.RUN, found)
        assert not torn(Kind.EXPERIMENT, found)
    for edited in ({"params": {"a": "1", "b": "2"}}, {"tags": {"mlflow.runName": "z"}}, {"params": {"a": "2"}}):
        found = difference(whole, whole | edited)
        assert found is not None
        assert not torn(Kind.RUN, found)
