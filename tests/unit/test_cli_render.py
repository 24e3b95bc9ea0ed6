"""What is written for programs can be read back; what a watched server wrote never acts on a terminal."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.cli import words
from stocktake.cli.exits import ExitCode, of_scans
from stocktake.cli.render import dumps, plain, shorten, write_json, write_table, write_tsv
from stocktake.core.assets import ScanState

HOSTILE = "a\x1b[31mred\x9b0m\tb\nc\u202ed\u2028e"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_json_is_read_back_as_it_was(value: Any) -> None:
    text = dumps({"value": value})
    assert json.loads(text)["value"] == value
    assert "\n" not in text
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in text)


def test_json_streams_one_object_a_line_and_none_is_an_empty_list() -> None:
    out = io.StringIO()
    assert write_json(({"n": n} for n in range(3)), file=out) == 3
    assert json.loads(out.getvalue()) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert out.getvalue().splitlines()[1:-1] == ['{"n": 0},', '{"n": 1},', '{"n": 2}']
    out = io.StringIO()
    assert write_json(iter(()), file=out) == 0
    assert json.loads(out.getvalue()) == []


def test_values_that_json_lacks_are_written_as_words() -> None:
    moment = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)
    assert plain({"a": float("nan"), "b": float("-inf"), "c": moment, "d": b"\x01\xff", "e": {1: (2,)}}) == {
        "a": "NaN", "b": "-Infinity", "c": "2026-11-24T02:30:00Z", "d": "01ff", "e": {"1": [2]},
    }  # fmt: skip


@given(st.lists(st.lists(st.none() | st.text(), min_size=2, max_size=2), max_size=4))
def test_a_tsv_line_is_one_row_whatever_the_values_hold(rows: list[list[str | None]]) -> None:
    out = io.StringIO()
    write_tsv(("a", "b"), ({"a": one, "b": other} for one, other in rows), file=out)
    lines = out.getvalue().split("\n")
    assert lines[0] == "a\tb"
    assert lines[-1] == ""
    assert len(lines) == len(rows) + 2
    assert all(line.count("\t") == 1 for line in lines[:-1])
    assert not any(character < " " and character not in "\t\n" for character in out.getvalue())


def test_tsv_is_read_by_a_csv_reader_and_unescaped() -> None:
    out = io.StringIO()
    write_tsv(("name", "fields"), [{"name": "a\\b\tc\nd", "fields": [{"path": "x"}]}], file=out)
    (row,) = csv.DictReader(io.StringIO(out.getvalue()), delimiter="\t", quoting=csv.QUOTE_NONE)
    assert row["name"].replace("\\t", "\t").replace("\\n", "\n").replace("\\\\", "\\") == "a\\b\tc\nd"
    assert json.loads(row["fields"]) == [{"path": "x"}]


def test_nothing_of_a_watched_server_acts_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(["WHAT", "CHANGED"], [[HOSTILE, "[bold]not markup[/bold] :smile:"]])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert "\u202e" not in out
    assert "\\x1b[31mred" in out
    assert "[bold]not markup[/bold] :smile:" in out


def test_a_table_that_nobody_looks_at_is_one_plain_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    key = "k" * 400
    write_table(["KEY", "WORDS"], [[key, "one\ntwo"], ["b", ""]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == f"{key}  one; two"
    assert lines[2] == "b"


def test_an_absent_side_of_a_change_is_told_in_words() -> None:
    assert words.field({"path": "tags.a", "before": None, "after": "x"}) == "tags.a: set to x"
    assert words.field({"path": "tags.a", "before": "x", "after": None}) == "tags.a: removed (was x)"
    long = "/subscriptions/44eb70d4-583c-492c-8cd3-3d9895d13e6c/resourceGroups/risk/workspaces/w/models/"
    moved = {"path": "properties.model", "before": f"{long}fraud/versions/1", "after": f"{long}fraud/versions/12"}
    assert words.field(moved) == (
        "properties.model: …risk/workspaces/w/models/fraud/versions/1 -> …risk/workspaces/w/models/fraud/versions/12"
    )
    tails = {"path": "uri", "before": "a" * 99 + "b" * 99, "after": "a" * 99 + "c" * 99}
    assert words.field(tails) == f"uri: …{'a' * 24}{'b' * 22}… -> …{'a' * 24}{'c' * 22}…"
    assert words.field({"path": "aliases.champion", "before": "3", "after": "4"}) == "aliases.champion: 3 -> 4"
    metric = {"value": 0.5, "step": 3, "timestamp": 1}
    assert words.field({"path": "metrics.acc", "before": None, "after": metric}) == "metrics.acc: set to 0.5"
    assert words.field({"path": "tags.empty", "before": "", "after": " "}) == 'tags.empty: "" -> " "'
    assert len(words.field({"path": "p", "before": "x" * 9999, "after": "y" * 9999})) < 120


def test_a_metric_that_moved_is_one_line_and_times_are_readable() -> None:
    moved = [
        {"path": "metrics['val loss'].step", "before": 7, "after": 11},
        {"path": "metrics['val loss'].timestamp", "before": 1795434356853, "after": 1795485802205},
        {"path": "metrics['val loss'].value", "before": 0.17, "after": 0.1},
        {"path": "metrics.later.step", "before": 1, "after": 2},
    ]
    assert words.fields({"fields": moved}) == "metrics['val loss']: 0.17 -> 0.1\nmetrics.later.step: 1 -> 2"
    ended = {"path": "info.end_time", "before": None, "after": 1795485802264}
    assert words.field(ended, zone=UTC) == "info.end_time: set to 2026-11-24 02:03:22 UTC"
    assert words.field({"path": "params.time", "before": None, "after": "17"}) == "params.time: set to 17"


def test_a_story_says_what_was_folded_into_it_and_by_whom() -> None:
    change = {
        "kind": "experiment", "type": "deleted", "key": "12", "name": "churn", "workspace": "research",
        "actor": "unknown", "actor_source": None, "includes": {"run": 500, "logged_model": 1},
    }  # fmt: skip
    assert words.what(change, several=False) == "experiment deleted by unknown\nchurn\n12\nand 500 runs, 1 logged model"
    named = change | {"actor": "eve", "actor_source": "activity log"}
    assert words.what(named, several=True).startswith("experiment deleted by eve (activity log)\n")
    assert words.what(named, several=True).endswith("\nin research")
    doubted = change | {"actor_source": "activity log: one of ada, bo"}
    assert words.what(doubted, several=False).startswith(
        "experiment deleted by unknown (activity log: one of ada, bo)\n"
    )


def test_long_values_are_cut_visibly() -> None:
    assert shorten("x" * 100, 10) == "x" * 9 + "…"
    assert shorten({"a": [1, 2]}) == '{"a": [1, 2]}'


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["complete", "complete"], ExitCode.COMPLETE),
        (["complete", "partial"], ExitCode.PARTIAL),
        (["complete", "failed"], ExitCode.PARTIAL),
        (["failed", "abandoned"], ExitCode.FAILED),
        (["failed"], ExitCode.FAILED),
    ],
)
def test_the_exit_code_of_several_scans_never_claims_too_much(states: list[str], code: ExitCode) -> None:
    assert of_scans(ScanState(state) for state in states) == code
