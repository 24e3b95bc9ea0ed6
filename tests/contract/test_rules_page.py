"""docs/rules.md tells of every rule: how often it is right, or where it is tried instead."""

from __future__ import annotations

from stocktake.rules import RULES
from tests.scenarios.mlflow import SCENARIOS
from tests.scenarios.table import PAGE, named


def test_the_page_tells_of_every_rule_and_of_no_other() -> None:
    assert named(PAGE.read_text()) == {rule.id for rule in RULES}


def test_every_rule_of_a_table_has_faults_and_near_misses() -> None:
    sorts = {(one.rule, one.fault) for one in SCENARIOS}
    rules = {rule for rule, _ in sorts}
    assert sorts == {(rule, fault) for rule in rules for fault in (True, False)}
