"""JSON as MLflow servers and databases write it, turned into plain values: numbers, names, times, lists of pairs.

Pure. Lenient where only one meaning is possible (a number in quotes, a bare NaN), strict where there are two.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from stocktake.core.errors import SourceError, Trouble

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_FINITE = {"nan": "NaN", "infinity": "Infinity", "inf": "Infinity", "-infinity": "-Infinity", "-inf": "-Infinity"}


def shape_error(what: str) -> SourceError:
    """Something that was answered is not what MLflow documents. `what` names fields, never values."""
    return SourceError(
        Trouble.SHAPE,
        what,
        next_step="Report this with the server's version: stocktake does not understand its answer.",
    )


def decode(raw: bytes) -> Any:
    """Decode JSON: quickly where it is plain; else with bare NaN, huge numbers and lone surrogates carried.

    NaN and infinities become the strings that proto3 JSON uses; lone surrogates stay in the text, where the canonical
    form escapes them.
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(raw, parse_constant=str, parse_float=_parse_float)
    except (ValueError, RecursionError) as exc:
        raise shape_error(f"an item of {len(raw):,} bytes is not JSON") from exc


def _parse_float(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def as_object(value: Any, what: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise shape_error(f"{what} is not a JSON object")
    return value


def child(document: Mapping[str, Any], name: str, what: str) -> dict[str, Any]:
    """A nested object that may be left out."""
    value = document.get(name)
    return {} if value is None else as_object(value, f"{what}.{name}")


def text(value: Any) -> str | None:
    """A string; a number or a boolean is taken by its JSON text. None, and nothing else, is None."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def required_text(document: Mapping[str, Any], name: str, what: str) -> str:
    """A string or number that must be there and not be empty."""
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise shape_error(f"{what} without {name}")
    return str(value)


def integer(value: Any, what: str) -> int | None:
    """A whole number, also in quotes (proto3 writes int64 so) or as 5.0; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise shape_error(f"{what} is not a whole number")
    try:
        if isinstance(value, float) and not value.is_integer():
            raise ValueError
        return int(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise shape_error(f"{what} is not a whole number") from exc


def number(value: Any, what: str) -> float | str:
    """A metric's value: a float, or "NaN", "Infinity", "-Infinity"."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise shape_error(f"{what} is not a number")
    if isinstance(value, str) and (special := _NOT_FINITE.get(value.strip().lower().removeprefix("+"))) is not None:
        return special
    try:
        result = float(value)
    except OverflowError:
        return "Infinity" if isinstance(value, int) and value > 0 else "-Infinity"
    except ValueError as exc:
        raise shape_error(f"{what} is not a number") from exc
    if math.isnan(result):
        return "NaN"
    if math.isinf(result):
        return "Infinity" if result > 0 else "-Infinity"
    return result


def pairs(value: Any, what: str) -> dict[str, str]:
    """Tags or params: a list of {key, value} (or a map) as a map. An omitted value is an empty string, as in proto."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return {str(key): text(item) or "" for key, item in value.items()}
    if not isinstance(value, list):
        raise shape_error(f"{what} is neither a list nor a map")
    result: dict[str, str] = {}
    for item in value:
        pair = as_object(item, f"{what}[]")
        key = pair.get("key")
        if not isinstance(key, str):
            raise shape_error(f"{what}[] without key")
        result[key] = text(pair.get("value")) or ""
    return result


def instant(milliseconds: int | None) -> datetime | None:
    """Milliseconds since 1970 as a time; None for what no calendar holds."""
    if milliseconds is None:
        return None
    try:
        return _EPOCH + timedelta(0, milliseconds // 1000, milliseconds % 1000 * 1000)
    except OverflowError:
        return None


def milliseconds(value: Any, what: str) -> int | None:
    """A time of proto3 JSON ("2026-11-24T00:21:58.187Z"), or already milliseconds, as milliseconds since 1970."""
    if isinstance(value, str) and "T" in value:
        try:
            moment = datetime.fromisoformat(_micros(value))
        except ValueError as exc:
            raise shape_error(f"{what} is not a time") from exc
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    return integer(value, what)


def _micros(value: str) -> str:
    """proto3 JSON may carry nanoseconds; fromisoformat reads six digits."""
    head, dot, tail = value.partition(".")
    if not dot:
        return value
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return f"{head}.{tail[: min(digits, 6)]}{tail[digits:]}"


def duration(value: Any, what: str) -> int | None:
    """A duration of proto3 JSON ("0.379s"), or already milliseconds, as milliseconds."""
    if isinstance(value, str) and value.endswith("s"):
        try:
            return round(float(value[:-1]) * 1000)
        except (ValueError, OverflowError) as exc:
            raise shape_error(f"{what} is not a duration") from exc
    return integer(value, what)


def digest(value: Any) -> str:
    """SHA-256 (hex) of a value's canonical JSON."""
    canonical = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "backslashreplace")).hexdigest()


def first(values: Iterable[str | None]) -> str | None:
    """The first that is neither missing nor empty."""
    return next((value for value in values if value), None)


def without(document: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Everything but some fields: what we do not know is kept as it came."""
    return {name: value for name, value in document.items() if name not in names}
