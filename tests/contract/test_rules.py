"""Every rule of the list: it has words for everything, a page of the runbook, and asks what the views can answer."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import Engine, text

from stocktake.cli import app
from stocktake.cli.runbook import pages
from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Rule, Severity, StateRule, Words
from stocktake.core.statements import at_time
from stocktake.rules import RULES
from stocktake.store import rule_check
from stocktake.store.past import NoPast, past

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbook"
STATE_RULES = [rule for rule in RULES if isinstance(rule, StateRule)]


def test_ids_are_unique_and_both_sorts_are_there() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert 0 < len(STATE_RULES) < len(RULES)


def test_every_file_of_the_room_is_in_the_list() -> None:
    files = {path.stem for path in (ROOT / "service" / "stocktake" / "rules").glob("*.py")} - {"__init__"}
    assert files == {rule.id.replace("-", "_") for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_has_words_for_everything(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.id)
    for name in Words.__slots__:
        words = getattr(rule.words, name)
        assert words == words.strip(), name
        assert len(words) > 8, name
    assert rule.opens_after >= 1
    assert rule.resolves_after >= 1
    assert rule.group in set(Group)
    assert rule.origin is None


def _commands(rule: Rule) -> list[list[str]]:
    """The commands of ours that a rule tells people to type."""
    words = [getattr(rule.words, name) for name in Words.__slots__]
    told = [part.partition("stocktake ")[2] for part in rule.words.cli.split(";") if "stocktake " in part]
    return [
        one.split() for one in [*told, *(hit for text in words for hit in re.findall(r"`stocktake ([^`]+)`", text))]
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_command_that_a_rule_names_can_be_typed(rule: Rule) -> None:
    assert _commands(rule)
    for tokens in _commands(rule):
        command: Any = typer.main.get_command(app)
        rest = list(tokens)
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, tokens
            command = command.commands[rest.pop(0)]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = {opt: one for one in command.params if one.param_type_name == "option" for opt in one.opts}
        while rest:
            token = rest.pop(0)
            if token.startswith("-"):
                assert token in options, tokens
                value = rest.pop(0)
                of_kind = options[token].metavar == "KIND"
            else:
                value, of_kind = token, arguments.pop(0).metavar == "KIND"
            if of_kind and value not in ("KIND", "alias"):
                assert value in set(Kind), tokens
        assert not any(one.required for one in arguments), tokens


def test_the_runbook_is_what_the_rules_say() -> None:
    written = {path.name: path.read_text() for path in RUNBOOK.glob("*.md")}
    assert written == pages(), "python -m stocktake.cli.runbook docs/runbook"


@pytest.mark.parametrize("rule", STATE_RULES, ids=lambda rule: rule.id)
def test_a_statement_is_held_to_what_those_of_operators_are_held_to(rule: StateRule, engine: Engine) -> None:
    assert rule_check.flaw(engine, rule) is None


@pytest.mark.parametrize("rule", STATE_RULES, ids=lambda rule: rule.id)
def test_a_statement_yields_the_four_columns_and_reads_the_public_views_alone(rule: StateRule, engine: Engine) -> None:
    read = set(re.findall(r"(?:FROM|JOIN)\s+(?!LATERAL)([a-z_.]+)\b(?!\s*\()", rule.statement))
    assert {name for name in read if "." in name}
    named = set(re.findall(r"(\w+) AS (?:MATERIALIZED )?\(", rule.statement))
    assert {name for name in read if not name.startswith("inventory.")} <= named
    with engine.connect() as connection:
        given = {"now": None} if ":now" in rule.statement else {}
        columns = list(connection.execute(text(rule.statement), given).keys())
    assert columns == ["workspace", "kind", "key", "evidence"]
    assert not rule.of_ledger or not rule.needs
    assert set(rule.kinds) <= set(Kind)


#: Of what is withheld only the present is kept.
#: They read what is withheld now, what discovery finds now, or a function that joins how jobs and runs stand now.
WITHOUT_PAST = {"mass-removal-withheld", "access-lost", "workspace-deleted", "job-without-run", "run-job-disagree"}


@pytest.mark.parametrize("rule", STATE_RULES, ids=lambda rule: rule.id)
def test_a_statement_can_be_asked_of_the_past_unless_it_reads_what_has_none(rule: StateRule, engine: Engine) -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    with contextlib.ExitStack() as stack:
        if rule.id in WITHOUT_PAST:
            stack.enter_context(pytest.raises(NoPast))
        then = stack.enter_context(past(engine, rule, timedelta(seconds=30)))
        then.at(1, at)
        assert then.connection.exec_driver_sql(at_time(then.statement, f"TIMESTAMPTZ '{at}'")).all() == []


def test_a_rule_that_guesses_says_so_and_does_not_page() -> None:
    guessing = [rule for rule in RULES if "A guess" in rule.words.why]
    assert {rule.id for rule in guessing} == {"duplicate-runs", "mixed-experiment", "parameter-mismatch"}
    for rule in guessing:
        assert rule.severity == Severity.INFO
        assert "It never pages" in rule.words.signal
