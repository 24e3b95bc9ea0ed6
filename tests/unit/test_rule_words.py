"""The words of a rule, once they are about one finding, can be pasted as they stand."""

from __future__ import annotations

import re
import shlex

import pytest

from stocktake.core.rules import about
from stocktake.rules import RULES


@pytest.mark.parametrize("key", ["online-000", "it's; rm -rf ~", "$(reboot) KIND", "a b&c=d"])
def test_no_room_is_left_and_a_shell_takes_the_key_as_one_word(key: str) -> None:
    for rule in RULES:
        words = about(rule.words, "run", key, "prod")
        for before, after in ((rule.words.cli, words.cli), (rule.words.fix, words.fix)):
            assert after.count(shlex.quote(key)) >= before.count("KEY")
        assert "=KEY" not in words.rest


def test_an_address_holds_the_key_as_an_address_does() -> None:
    rule = next(one for one in RULES if one.id == "model-alias-moved")
    assert "?name=a%20b%26c%3Dd" in about(rule.words, "registered_model", "a b&c=d", "prod").rest


def test_production_is_asked_as_the_command_takes_it() -> None:
    rule = next(one for one in RULES if one.id == "production-model-changed")
    words = about(rule.words, "online_endpoint", "online-000", "my KEY")
    assert "stocktake lineage -w 'my KEY' online_endpoint online-000" in words.cli
    assert words.cli.endswith("stocktake production -w 'my KEY'")  # its argument is a model, never a day


def test_every_command_of_ours_that_is_to_be_pasted_is_about_the_workspace_of_the_finding() -> None:
    for rule in RULES:
        words = about(rule.words, "run", "k", "prod")
        for text in (words.cli, words.fix, words.rollback):
            found = re.findall(
                r"stocktake (?:show|history|changes|lineage|list|production|status)\b((?: -w \w+)?)", text
            )
            assert set(found) <= {" -w prod", " -w k"}, (rule.id, text)
            assert not re.search(r"-w \S+ -w |-w WORKSPACE", text), (rule.id, text)
