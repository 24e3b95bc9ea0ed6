"""Pages split without decoding their items, experiments packed into requests, aliases put together."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.http import Answer
from stocktake.sources.mlflow_aliases import Aliases
from stocktake.sources.mlflow_pages import split
from stocktake.sources.mlflow_plan import ALONE, GROUP_EXPERIMENTS, GROUP_ITEMS, groups
from stocktake.sources.protocol import Item, Page

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def answer(body: bytes) -> Answer:
    return Answer(what="GET /x", status=200, body=body, content_type="application/json", requested_at=NOW)


def test_items_are_the_bytes_that_came() -> None:
    page = split(
        Kind.EXPERIMENT, answer(b'{"experiments": [{"experiment_id": "1",  "x": 1e5}], "next_page_token": "t"}')
    )
    assert page.items == [Item("1", b'{"experiment_id": "1",  "x": 1e5}')]
    assert (page.token, page.problems) == ("t", [])


def test_nothing_at_all_is_an_empty_page() -> None:
    assert split(Kind.RUN, answer(b"{}")).items == []
    assert split(Kind.RUN, answer(b'{"runs": null}')).items == []  # servers written in Go


@pytest.mark.parametrize("token", ["NaN", "Infinity", "1e999", '"\\ud800"'])
def test_a_page_that_is_not_strict_json_is_split_all_the_same(token: str) -> None:
    body = '{"runs": [{"info": {"run_id": "r1"}, "v": @}, {"info": {"run_uuid": "r2"}}]}'.replace("@", token)
    assert [item.key for item in split(Kind.RUN, answer(body.encode())).items] == ["r1", "r2"]


def test_an_item_without_an_id_is_a_problem_and_the_others_stay() -> None:
    body = b'{"runs": [{"info": {"run_id": "r1"}}, {"info": {}}, 5, {"info": {"run_id": ["x"]}}]}'
    page = split(Kind.RUN, answer(body))
    assert [item.key for item in page.items] == ["r1"]
    assert page.problems == ["GET /x: an item (run) without an id"] * 3


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"x"',
        b'{"rows": []}',
        b'{"error": "no"}',
        b'{"runs": {}}',
        b'{"runs": [], "next_page_token": 7}',
        b'{"runs": [{"info": {"run_id": "r"}}',
        b"",
        b"<html>",
        b"\xff",
    ],
)
def test_another_shape_is_never_an_empty_page(body: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        split(Kind.RUN, answer(body))
    assert caught.value.trouble is Trouble.SHAPE


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,truns0 ', max_size=60).map(str.encode))
def test_a_page_of_anything_is_split_or_refused(body: bytes) -> None:
    with suppress(SourceError):
        split(Kind.RUN, answer(body))


_IDS = st.lists(st.integers(0, 5000).map(str), unique=True, max_size=600)


@settings(deadline=None)
@given(listed=_IDS, sizes=st.dictionaries(st.integers(0, 5000).map(str), st.integers(0, 5000), max_size=300))
def test_every_experiment_is_in_one_group_and_big_ones_are_alone(listed: list[str], sizes: dict[str, int]) -> None:
    planned = groups(listed, sizes)
    flat = [experiment for group in planned for experiment in group.ids]
    assert sorted(flat) == sorted(set(listed) | sizes.keys())
    for group in planned:
        assert len(group.ids) <= GROUP_EXPERIMENTS
        if len(group.ids) > 1:
            assert all(sizes.get(experiment, 0) <= ALONE for experiment in group.ids)
            assert sum(sizes.get(experiment, 0) for experiment in group.ids) <= GROUP_ITEMS
        assert len({experiment in listed for experiment in group.ids}) == 1


def test_ten_thousand_small_experiments_are_fifty_requests() -> None:
    assert len(groups([str(n) for n in range(10_000)], {})) == 50


def model(name: str, **aliases: str) -> dict[str, Any]:
    listed = [{"alias": alias, "version": version} for alias, version in aliases.items()]
    return {"name": name} | ({"aliases": listed} if listed else {})


def item(key: str, document: dict[str, Any]) -> Item:
    return Item(key, json.dumps(document).encode())


def of_models(aliases: Aliases, *models: dict[str, Any]) -> tuple[list[dict[str, str]], list[str]]:
    """The aliases of each model as put together, and the problems."""
    (page,) = aliases.models([Page(items=[item(m["name"], m) for m in models], requested_at=NOW)])
    seen = [json.loads(i.raw).get("aliases", []) for i in page.items]
    return [{a["alias"]: a["version"] for a in one} for one in seen], list(page.problems)


def of_version(put_together: Aliases, key: str, **more: Any) -> tuple[list[str], list[str]]:
    name, _, version = key.rpartition("/")
    (page,) = put_together.versions(
        [Page(items=[item(key, {"name": name, "version": version, **more})], requested_at=NOW)]
    )
    return json.loads(page.items[0].raw).get("aliases", []), list(page.problems)


def getter(*models: dict[str, Any]) -> Any:
    by_name = {m["name"]: item(m["name"], m) for m in models}
    return by_name.get


def test_an_alias_that_get_still_shows_is_kept_and_reported() -> None:
    aliases = Aliases(getter(model("m", a="1", b="2")), {"m": {"a": "1", "b": "2"}})
    shown, problems = of_models(aliases, model("m", a="1"))
    assert shown == [{"a": "1", "b": "2"}]
    assert problems == ["aliases of m are shown by registered-models/get but not by search: 1"]
    assert of_version(aliases, "m/2") == (["b"], [])


def test_an_alias_that_both_lack_is_removed() -> None:
    aliases = Aliases(getter(model("m")), {"m": {"a": "1"}})
    assert of_models(aliases, model("m")) == ([{}], [])
    assert of_version(aliases, "m/1") == ([], [])


def test_a_moved_alias_is_no_disagreement() -> None:
    aliases = Aliases(getter(), {"m": {"a": "1"}})
    assert of_models(aliases, model("m", a="2")) == ([{"a": "2"}], [])
    assert of_version(aliases, "m/1", aliases=["a"]) == ([], [])
    assert of_version(aliases, "m/2") == (["a"], [])


def test_a_search_that_leaves_all_aliases_out_is_found_out_at_first_sight() -> None:
    full = [model(f"m{n}", a=str(n)) for n in range(6)]
    aliases = Aliases(getter(*full), {})
    shown, problems = of_models(aliases, *(model(f"m{n}") for n in range(6)))
    assert shown == [{"a": str(n)} for n in range(6)]
    assert len(problems) == 6


def test_an_alias_is_not_removed_because_get_failed() -> None:
    def fail(name: str) -> Item | None:
        raise SourceError(Trouble.SERVER, "GET /get answered with status 500", next_step="Wait.")

    aliases = Aliases(fail, {"m": {"a": "1"}})
    shown, problems = of_models(aliases, model("m"))
    assert shown == [{"a": "1"}]
    assert "could not be asked for" in problems[0]


def test_versions_of_a_model_that_was_not_read_keep_their_aliases() -> None:
    aliases = Aliases(getter(), {"m": {"a": "1"}})
    assert of_version(aliases, "m/1") == (
        ["a"],
        ["aliases of m/1 are carried forward: its registered model was not read"],
    )
    assert of_version(aliases, "other/1") == ([], [])


def test_an_alias_that_only_the_version_shows_is_kept_and_reported() -> None:
    aliases = Aliases(getter(model("m")), {})
    of_models(aliases, model("m"))
    assert of_version(aliases, "m/1", aliases=["a"]) == (
        ["a"],
        ["aliases of m/1 are shown by its version but not by its model: 1"],
    )
