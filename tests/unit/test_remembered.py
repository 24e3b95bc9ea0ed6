"""A removed value is recognised by keyed digests: where a word may begin and end, and in the words it was seen in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.core import canonical
from stocktake.core.redact import Redactor
from stocktake.core.remembered import MARKER, Remembered, Sought, mark, refusal

KEY = b"k" * 32
_LETTERS = st.characters(codec="utf-8") | st.sampled_from("ab1 -_'\"\\\n\0\ue000")
_VALUES = st.text(_LETTERS, min_size=6, max_size=14).filter(lambda value: refusal(value) is None)
_AROUND = st.text(st.sampled_from("ab1 -_'\"\\{}[]:\n"), max_size=8)


def _sought(value: str) -> Sought:
    return Sought(value, "0" * 12, Remembered(KEY))


def _remembered(value: str, *seen: str) -> Remembered:
    """What is known after a value was removed that stood in some texts."""
    sought = _sought(value)
    return Remembered(KEY, [sought.remember(value), *sought.words(list(seen))])


@given(_VALUES, _AROUND, _AROUND)
def test_a_value_is_gone_from_every_text_that_it_was_seen_in(value: str, before: str, after: str) -> None:
    text = f"{before}{value}{after}{value}"
    clean = _remembered(value, text).text(text)
    assert not _sought(value).stands_in(clean)
    assert MARKER.search(clean)


@given(_VALUES, _AROUND, _AROUND)
def test_a_value_is_recognised_between_words_that_were_never_seen(value: str, before: str, after: str) -> None:
    clean = _remembered(value).text(f"{before} {value} {after}")
    assert mark("0" * 12) in clean
    assert f" {value} " not in clean


def test_inside_a_word_it_is_recognised_only_if_it_was_seen_there() -> None:
    assert _remembered("hunter2-x").text("ahunter2-xb") == "ahunter2-xb"
    assert _remembered("hunter2-x", "ahunter2-xb").text("more ahunter2-xb.") == f"more a{mark('0' * 12)}b."


def test_signs_around_the_core_of_a_value_belong_to_it() -> None:
    remembered = _remembered("$secret-7!")
    assert remembered.text("a $secret-7! b") == f"a {mark('0' * 12)} b"
    assert remembered.text("a secret-7 b $secret-7 $secret-7") == "a secret-7 b $secret-7 $secret-7"


def test_what_is_not_the_value_stays_the_very_same_object() -> None:
    document = {"params": {"a": "hunter2", "b": ["x", 1, None]}, "n": 1.5}
    assert _remembered("hunter2-x").document(document) is document
    assert Remembered(KEY).document(document) is document


def test_names_and_lists_lose_it_too_and_numbers_stay() -> None:
    clean = _remembered("12345678").document({"a 12345678": ["12345678", 12345678]})
    assert clean == {f"a {mark('0' * 12)}": [mark("0" * 12), 12345678]}


def test_a_value_in_json_in_a_text_is_gone_in_every_spelling() -> None:
    value = 'say "Ölçer"\\now'
    texts = [
        json.dumps({"x": value}),
        json.dumps({"x": value}, ensure_ascii=False),
        "say%20%22%C3%96l%C3%A7er%22%5Cnow",
    ]
    remembered = _remembered(value, *texts)
    for text in texts:
        assert "er" not in remembered.text(text)
        assert mark("0" * 12) in remembered.text(text)


def test_marks_of_earlier_redactions_are_not_looked_into() -> None:
    text = "[redacted:name:0123456789ab] 0123456789ab"
    assert _remembered("0123456789ab").text(text) == f"[redacted:name:0123456789ab] {mark('0' * 12)}"


def test_the_longer_of_two_values_that_begin_together_is_taken() -> None:
    values = {"0": "alpha-1", "1": "alpha-1 beta-2"}
    texts = [Sought(value, n * 12, Remembered(KEY)).remember(value) for n, value in values.items()]
    remembered = Remembered(KEY, texts)
    assert remembered.text("x alpha-1 beta-2 y alpha-1") == f"x {mark('1' * 12)} y {mark('0' * 12)}"


def test_another_key_recognises_nothing_and_nothing_but_digests_is_kept() -> None:
    text = _sought("hunter2-x").remember("hunter2-x")
    assert Remembered(b"other" * 6, [text]).text("hunter2-x") == "hunter2-x"
    assert "hunter2" not in repr(text) + repr(_sought("hunter2-x"))
    assert text.mac != Remembered(b"other" * 6).mac("hunter2-x")


def test_a_redactor_that_remembers_keeps_its_epoch_and_cleans_documents_and_texts() -> None:
    plain = Redactor(KEY)
    sought = Sought("hunter2-x", plain.fingerprint("hunter2-x"), plain.remembered)
    redactor = plain.remembering([sought.remember("hunter2-x")])
    document = {"tags": {"note": "it is hunter2-x"}}
    clean, found = redactor.redact(document, canonical.encode(document))
    assert clean == {"tags": {"note": f"it is [redacted:manual:{plain.fingerprint('hunter2-x')}]"}}
    assert [one.rule for one in found] == ["manual"]
    assert redactor.redact(clean, canonical.encode(clean)) == (clean, ())
    assert redactor.text("GET /hunter2-x failed").startswith("GET /[redacted:manual:")
    assert (redactor.policy, plain.text("hunter2-x")) == (plain.policy, "hunter2-x")


@pytest.mark.parametrize(
    "value", ["", "abc12", "?!?!-ab-?!?!", "1234567", "ababababab", "experiment_id", "FINISHED", "[redacted:m"]
)
def test_a_value_that_stands_everywhere_is_refused_without_being_said(value: str) -> None:
    why = refusal(value)
    assert why is not None
    assert not value or value not in why


@pytest.mark.parametrize("value", ["hunter", "12345678", "jane.doe@example.org", "Ölçer!"])
def test_a_value_that_can_be_told_apart_is_accepted(value: str) -> None:
    assert refusal(value) is None
