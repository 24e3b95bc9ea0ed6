"""Splits a page of MLflow into raw items without decoding them: only the id of each is read.

Pages that the fast decoder refuses (bare NaN, lone surrogates) are decoded slowly and written again item by item.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError
from stocktake.sources.http import Answer
from stocktake.sources.mlflow_values import decode, shape_error
from stocktake.sources.protocol import Item

Id = str | int


class _Flat(msgspec.Struct):
    experiment_id: Id = ""
    name: Id = ""
    version: Id = ""
    webhook_id: Id = ""
    trace_id: Id = ""
    request_id: Id = ""


class _Info(msgspec.Struct):
    run_id: Id = ""
    run_uuid: Id = ""
    model_id: Id = ""


class _Nested(msgspec.Struct):
    info: _Info


#: A page in one pass: its items stay as they came. Anything but a list of items and a token is looked at slowly.
_page = msgspec.json.Decoder(dict[str, list[msgspec.Raw] | str | None])


class Shape:
    """Where the items of a kind are in a page, what one is called when it is got alone, and how to read its id."""

    def __init__(self, many: str, one: str, struct: type[Any], key: Callable[[Any], Id]) -> None:
        self.many = many
        self.one = one
        self._struct = struct
        self._key = key
        self._decode = msgspec.json.Decoder(struct).decode
        listed = list[struct]  # type: ignore[valid-type]
        self._list = msgspec.json.Decoder(msgspec.defstruct("_List", [(many, listed, [])])).decode

    def keys(self, body: bytes, raws: Sequence[msgspec.Raw]) -> Sequence[str]:
        """The ids of the items of a page; empty where one has none. In one pass, where nothing is wrong with any."""
        try:
            listed = getattr(self._list(body), self.many)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            listed = ()
        if len(listed) == len(raws):
            return [str(self._key(one)) for one in listed]
        return [self.key(one) for one in raws]

    def key(self, raw: bytes | msgspec.Raw) -> str:
        """The id of a raw item; empty where it has none."""
        try:
            return str(self._key(self._decode(raw)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        try:  # the id may be fine all the same, beside a bare NaN or half a surrogate pair
            return str(self._key(msgspec.convert(decode(bytes(raw)), self._struct)))
        except (msgspec.ValidationError, SourceError, RecursionError):
            return ""


SHAPES: Mapping[Kind, Shape] = {
    Kind.EXPERIMENT: Shape("experiments", "experiment", _Flat, lambda item: item.experiment_id),
    Kind.RUN: Shape("runs", "run", _Nested, lambda item: item.info.run_id or item.info.run_uuid),
    Kind.LOGGED_MODEL: Shape("models", "model", _Nested, lambda item: item.info.model_id),
    Kind.REGISTERED_MODEL: Shape("registered_models", "registered_model", _Flat, lambda item: item.name),
    Kind.MODEL_VERSION: Shape(
        "model_versions",
        "model_version",
        _Flat,
        lambda item: f"{item.name}/{item.version}" if item.name and item.version else "",
    ),
    Kind.TRACE: Shape("traces", "trace", _Flat, lambda item: item.trace_id or item.request_id),
    Kind.WEBHOOK: Shape("webhooks", "webhook", _Flat, lambda item: item.webhook_id),
}


@dataclass(frozen=True, slots=True)
class RawPage:
    """The items of one page, the token of the next, and what was not understood."""

    items: Sequence[Item]
    token: str
    problems: Sequence[str]


def split(kind: Kind, answer: Answer) -> RawPage:
    """Split an answer to a search. An object without the documented list is not taken for an empty page."""
    answer.require_json()
    shape = SHAPES[kind]
    try:
        page: Mapping[str, Any] = _page.decode(answer.body)
        raws, token = page.get(shape.many) or [], page.get("next_page_token")
        if isinstance(raws, str):
            raise shape_error(f"{answer.what} answered with {shape.many} that is not a list")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        page, raws, token = _split_slowly(shape, answer)
    if shape.many not in page and page.keys() - {"next_page_token"}:
        raise shape_error(f"{answer.what} answered without {shape.many}")
    if token is not None and not isinstance(token, str):
        raise shape_error(f"{answer.what} answered with a next_page_token that is not text")
    items, problems = [], []
    for key, raw in zip(shape.keys(answer.body, raws), raws, strict=True):
        if key:
            items.append(Item(key, bytes(raw)))
        else:
            problems.append(f"{answer.what}: an item ({kind}) without an id")
    return RawPage(items, token or "", problems)


def one(kind: Kind, answer: Answer) -> Item:
    """The item of an answer to a get."""
    document = answer.json()
    item = document.get(SHAPES[kind].one) if isinstance(document, dict) else None
    if kind is Kind.TRACE and isinstance(item, dict):
        item = item.get("trace_info", item)
    if kind is Kind.TRACE and item is None and isinstance(document, dict):
        item = document.get("trace_info")
    if not isinstance(item, dict):
        raise shape_error(f"{answer.what} answered without {SHAPES[kind].one}")
    raw = encode(item)
    if not (key := SHAPES[kind].key(raw)):
        raise shape_error(f"{answer.what} answered with a {kind} without an id")
    return Item(key, raw)


def encode(value: Any) -> bytes:
    """An item as JSON again, after something was added to it or its page was decoded slowly."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _split_slowly(shape: Shape, answer: Answer) -> tuple[Mapping[str, Any], list[msgspec.Raw], Any]:
    try:
        page = decode(answer.body)
    except SourceError:
        raise answer.not_json() from None
    if not isinstance(page, dict):
        raise shape_error(f"{answer.what} answered with JSON that is not an object")
    listed = page.get(shape.many)
    if listed is not None and not isinstance(listed, list):
        raise shape_error(f"{answer.what} answered with {shape.many} that is not a list")
    return page, [msgspec.Raw(encode(item)) for item in listed or ()], page.get("next_page_token")
