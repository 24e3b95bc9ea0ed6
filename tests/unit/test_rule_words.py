"""The words of a rule, once they are about one finding, can be pasted as they stand."""

from __future__ import annotations

import shlex

import pytest

from stocktake.core.rules import about
from stocktake.rules import RULES


@pytest.mark.parametrize("key", ["online-000", "it's; rm -rf ~", "$(reboot) KIND", "a b&c=d"])
def test_no_room_is_left_and_a_shell_takes_the_key_as_one_word(key: str) -> None:
    for rule in RULES:
        words = about(rule.words, "run", key)
        for before, after in ((rule.words.cli, words.cli), (rule.words.fix, words.fix)):
            assert after.count(shlex.quote(key)) >= before.count("KEY")
        assert "=KEY" not in words.rest


def test_an_address_holds_the_key_as_an_address_does() -> None:
    rule = next(one for one in RULES if one.id == "model-alias-moved")
    assert "?name=a%20b%26c%3Dd" in about(rule.words, "registered_model", "a b&c=d").rest


def test_production_is_asked_as_the_command_takes_it() -> None:
    rule = next(one for one in RULES if one.id == "production-model-changed")
    words = about(rule.words, "online_endpoint", "online-000")
    assert "stocktake lineage online_endpoint online-000" in words.cli
    assert words.cli.endswith("stocktake production")  # its argument is a model, never a day
