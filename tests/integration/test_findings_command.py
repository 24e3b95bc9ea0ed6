"""`stocktake finding` and `stocktake rules`: what people and programs read, and what is kept of an acknowledgement."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from stocktake.cli import rows
from stocktake.rules import RULES
from tests.integration.registry import Registry, look
from tests.integration.test_cli import Cli, configured


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    return configured(tmp_path, f'database: "{database_url}"\n')


@pytest.fixture
def world(engine: Engine) -> Registry:
    """A run that was edited after its end, and a model that nobody owns."""
    made = Registry()
    made.add_run("run0", run_name="odd \x1b[31m name")
    made.experiments["1"]["owner"] = "ada"
    made.registered["m"] = {"name": "m", "aliases": {}}
    made.versions["m/1"] = {"run_id": "run0"}
    look(engine, made)
    made.runs["run0"]["params"]["lr"] = "\x1b[31m1\t2"
    look(engine, made)
    return made


def number(cli: Cli, rule: str) -> str:
    (one,) = cli("finding", "list", "--rule", rule, "-o", "json").json()
    return str(one["id"])


def test_findings_are_listed_the_worst_first(cli: Cli, world: Registry) -> None:
    answer = cli("finding", "list", "-o", "json")
    assert (answer.code, answer.err) == (0, "")
    found = answer.json()
    assert [(one["rule"], one["severity"], one["inherited"]) for one in found] == [
        ("run-edited-after-finish", "warning", False),
        ("missing-owner", "info", True),
    ]
    assert all(tuple(one) == rows.FINDING for one in found)
    assert [one["actor"] for one in found] == ["unknown", None]
    table = cli("finding", "list")
    assert "\x1b" not in table.out
    assert "A finished run was edited" in table.out
    assert "owner: unknown" in table.out


def test_what_is_asked_for_is_what_is_listed(cli: Cli, world: Registry) -> None:
    assert len(cli("finding", "list", "--severity", "info", "-o", "json").json()) == 1
    assert cli("finding", "list", "--state", "resolved", "-o", "json").json() == []
    assert len(cli("finding", "list", "-n", "1", "-o", "json").json()) == 1
    lines = cli("finding", "list", "-o", "tsv").out.splitlines()
    assert lines[0].split("\t") == list(rows.FINDING_TSV)
    assert len(lines) == 3
    assert cli("finding", "list", "-w", "nowhere").code == 7
    assert cli("finding", "list", "--rule", "missing-owners").code == 7
    assert "missing-owner" in cli("finding", "list", "--rule", "missing-owners").err
    assert cli("finding", "list", "--severity", "bad").code == 2


def test_what_was_never_completely_seen_is_no_all_clear(cli: Cli, engine: Engine) -> None:
    assert cli("finding", "list").code == 5
    world = Registry(filtered=True)
    world.add_run("run0")
    look(engine, world)
    answer = cli("finding", "list", "-o", "json")
    assert (answer.code, answer.json()) == (3, [])
    assert "missing-owner says nothing of experiment yet" in answer.err


def test_a_finding_is_shown_with_its_evidence_its_history_and_its_words(cli: Cli, world: Registry) -> None:
    which = number(cli, "run-edited-after-finish")
    (one,) = cli("finding", "show", which, "-o", "json").json()
    assert tuple(one) == rows.FINDING_SHOWN
    assert [tuple(event) for event in one["history"]] == [rows.FINDING_EVENT]
    assert tuple(one["words"]) == rows.RULE
    table = cli("finding", "show", which).out
    assert "\x1b" not in table
    for words in ("params.lr", "(absent) -> ", "Why it matters", "new -> open"):
        assert words in table
    assert cli("finding", "show", "999").code == 7


def test_a_finding_is_taken_on_with_who_and_why(cli: Cli, world: Registry) -> None:
    which = number(cli, "missing-owner")
    assert cli("finding", "ack", which).code == 2
    assert cli("finding", "ack", which, "--reason", " ").code == 2
    assert cli("finding", "ack", "999", "--reason", "why").code == 7
    answer = cli("finding", "ack", which, "--reason", "ticket 7, token ghp_" + "a1B2" * 9, "-o", "json")
    assert answer.code == 0, answer.err
    (one,) = answer.json()
    assert one["state"] == "acknowledged"
    last = one["history"][-1]
    assert "@" in last["actor"]
    assert last["reason"].startswith("ticket 7, token [redacted")
    assert "acknowledged" in cli("finding", "list").out
    again = cli("finding", "ack", which, "--reason", "me too", "-o", "json").json()[0]
    assert [event["reason"] for event in again["history"]][-1] == "me too"
    assert again["acknowledged_at"] == one["acknowledged_at"]


def test_there_is_nothing_to_take_on_of_one_that_is_over(cli: Cli, engine: Engine, world: Registry) -> None:
    which = number(cli, "missing-owner")
    world.registered["m"]["owner"] = "ada"
    look(engine, world)
    answer = cli("finding", "ack", which, "--reason", "why")
    assert (answer.code, answer.out) == (8, "")
    assert "is resolved" in answer.err


def test_the_rules_are_listed_and_shown_without_a_database(tmp_path: Path) -> None:
    cli = configured(tmp_path, "database: postgresql://nobody@127.0.0.1:1/none\n")
    made = cli("rules", "list", "-o", "json").json()
    assert [one["id"] for one in made] == [rule.id for rule in RULES]
    assert all(tuple(one) == rows.RULE for one in made)
    assert cli("rules", "list", "-o", "tsv").out.count("\n") == len(RULES) + 1
    assert "stale-running" in cli("rules", "list").out
    for rule in RULES:
        assert rule.words.fix in cli("rules", "show", rule.id).out
    assert cli("rules", "show", "stale-running", "-o", "tsv").code == 0
    assert cli("rules", "show", "nonsense").code == 7
