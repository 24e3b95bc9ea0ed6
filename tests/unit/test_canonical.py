"""Equal documents have equal bytes, and nothing is lost on the way to Postgres and back."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stocktake.core import canonical

TEXT = st.text(st.characters(codec=None, categories=None), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | TEXT
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
DOCUMENTS = st.dictionaries(TEXT, VALUES, max_size=5)


def _plain(value: Any) -> Any:
    """What a document means: non-finite numbers are the strings that proto3 JSON gives them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@given(DOCUMENTS)
def test_a_document_comes_back_as_it_went_in(document: dict[str, Any]) -> None:
    assert canonical.decode(canonical.encode(document)) == _plain(document)


@given(DOCUMENTS)
def test_the_order_of_names_does_not_matter(document: dict[str, Any]) -> None:
    turned = dict(reversed(document.items()))
    assert canonical.encode(turned) == canonical.encode(document)


@given(DOCUMENTS)
def test_postgres_can_hold_every_document_as_text_and_as_jsonb(document: dict[str, Any]) -> None:
    encoded = canonical.encode(document)
    text = encoded.decode("utf-8")
    assert "\x00" not in text
    assert "\\u0000" not in text
    json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    assert not any(0xD800 <= ord(c) <= 0xDFFF for c in "".join(map(str, _strings(json.loads(text)))))


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for name, item in value.items() for s in (name, *_strings(item))]
    return [s for item in value for s in _strings(item)] if isinstance(value, list) else []


@given(TEXT)
def test_escaping_is_reversible(text: str) -> None:
    assert canonical.unescape(canonical.escape(text)) == text


def test_raw_digests_are_keyed() -> None:
    assert canonical.raw_digest(b"x", b"k" * 16) != canonical.raw_digest(b"x", b"l" * 16)
    assert len(canonical.raw_digest(b"x", b"k" * 16)) == len(canonical.digest(b"x")) == 16
