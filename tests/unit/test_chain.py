"""What a link binds: every member, its place, its number; and that one member can be shown without the others."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.core import chain
from stocktake.core.chain import Link, Sort

KEY = chain.salt_key(b"k" * 32)
AT = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def members(count: int) -> bytes:
    rows = [(Sort.VERSION, number, number * 7, b"body %d" % number) for number in range(count)]
    return chain.packed(KEY, b"nonce", rows)


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 512, 65_536, 65_537])
def test_each_member_can_be_shown_to_belong_to_the_root(count: int) -> None:
    whole = members(count)
    root = chain.root(whole)
    for index in {0, 1 % count, count // 2, count - 1}:
        record, reached = chain.proved(chain.proof(whole, index), index, count)
        assert reached == root
        assert record == whole[index * chain.RECORD : (index + 1) * chain.RECORD]
        assert next(chain.unpacked(record)).leaf == chain.leaf(
            chain.salts(KEY, b"nonce", count)[index * 16 : index * 16 + 16], b"body %d" % index
        )


@given(count=st.integers(1, 700), data=st.data())
def test_another_place_another_number_or_another_byte_leads_elsewhere(count: int, data: st.DataObject) -> None:
    whole = members(count)
    index = data.draw(st.integers(0, count - 1))
    shown, root = chain.proof(whole, index), chain.root(whole)
    at = data.draw(st.integers(0, len(whole) - 1))
    assert chain.root(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]) != root
    assert chain.root(whole[: -chain.RECORD]) != root
    group = data.draw(st.integers(0, len(shown) - 1))
    where = data.draw(st.integers(0, len(shown[group]) - 1))
    letter = "0" if shown[group][where] != "0" else "1"
    altered = [*shown]
    altered[group] = shown[group][:where] + letter + shown[group][where + 1 :]
    with contextlib.suppress(ValueError):
        assert chain.proved(altered, index, count)[1] != root
    other = data.draw(st.integers(0, count - 1).filter(lambda one: one != index)) if count > 1 else None
    if other is not None:
        with contextlib.suppress(ValueError):
            record, _ = chain.proved(shown, other, count)
            assert record != whole[index * chain.RECORD : (index + 1) * chain.RECORD]


def test_a_proof_of_another_depth_is_refused() -> None:
    whole = members(300)
    with pytest.raises(ValueError, match="ends too early"):
        chain.proved(chain.proof(whole, 299)[:1], 299, 300)
    with pytest.raises(ValueError, match="another depth"):
        chain.proved(chain.proof(whole, 5)[:1], 5, 300)
    with pytest.raises(ValueError, match="too early"):
        chain.proved([], 0, 1)


def test_a_link_is_bound_to_what_it_says_and_to_the_one_before() -> None:
    link = Link(workspace="w", seq=2, at=AT, what="published", scan=1, count=1, root=b"r" * 32, before=b"b" * 32)
    assert link.text == (
        '{"at":"2026-05-01T12:00:00.123456Z","count":1,"root":"' + "72" * 32 + '","scan":1,"seq":2,'
        '"what":"published","workspace":"w"}'
    )
    assert link.digest == chain.link_digest(link.before, link.said)
    assert link.digest != chain.link_digest(b"c" * 32, link.said)


def test_a_time_says_the_same_whatever_offset_it_was_written_with() -> None:
    there = AT.astimezone(timezone(timedelta(hours=2)))
    assert chain.body("x", AT) == chain.body("x", there) == b'["x","2026-05-01T12:00:00.123456Z"]'
    assert chain.moment(chain.micros(there)) == AT


def test_the_head_of_all_is_the_same_in_any_order_and_differs_with_any_part() -> None:
    one = chain.head_of({"a": (1, "x"), "b": (2, "y")})
    assert one == chain.head_of({"b": (2, "y"), "a": (1, "x")})
    assert len({one, chain.head_of({"a": (1, "x")}), chain.head_of({"a": (2, "x"), "b": (2, "y")})}) == 3


def test_a_member_that_says_no_more_than_its_address_needs_no_key() -> None:
    packed = chain.packed_open([(Sort.DROPPED_VERSION, 7, 9)])
    assert list(chain.unpacked(packed)) == [(Sort.DROPPED_VERSION, 7, 9, chain.open_leaf(Sort.DROPPED_VERSION, 7, 9))]
