"""Pages that overlap by a row: the arithmetic of tokens, and when a page joins the one before."""

from __future__ import annotations

import base64
import json

import pytest

from stocktake.sources.mlflow_overlap import Overlap, step_back
from stocktake.sources.protocol import Item


def token(**held: object) -> str:
    return base64.b64encode(json.dumps(held).encode()).decode()


def items(*keys: str) -> list[Item]:
    return [Item(key, b"{}") for key in keys]


def test_an_offset_is_stepped_back_and_what_stands_beside_it_is_kept() -> None:
    assert step_back(token(offset=5, experiment_ids=["1"]), 2) == token(offset=3, experiment_ids=["1"])


def test_the_beginning_has_no_token() -> None:
    assert step_back(token(offset=2), 2) == ""
    assert step_back(token(offset=2), 9) == ""


@pytest.mark.parametrize("other", ["", "opaque", token(offset="5"), token(offset=True), token(next=1), "MTI=", "é"])
def test_a_token_that_is_no_offset_is_left_as_it_is(other: str) -> None:
    assert step_back(other, 1) == other


def test_a_page_joins_where_it_begins_with_a_row_that_was_seen() -> None:
    overlap = Overlap()
    assert [item.key for item in overlap.take(items("a", "b"))] == ["a", "b"]
    assert overlap.joins(items("b", "c"))
    assert [item.key for item in overlap.take(items("b", "c"))] == ["c"]
    assert overlap.joins(items("a", "x")), "rows came before: ours moved back, none was skipped"
    assert not overlap.joins(items("d", "e"))
    assert not overlap.joins([])


def test_a_page_that_does_not_join_is_asked_for_from_further_back_and_not_for_ever() -> None:
    overlap, asked = Overlap(), []
    while overlap.wider(10):
        asked.append(overlap.token(token(offset=1_000)))
    assert asked[:3] == [token(offset=990), token(offset=980), token(offset=960)]
    assert asked[-1] == ""
    assert len(asked) == 12
