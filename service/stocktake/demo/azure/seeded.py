"""Values that look like Azure's and follow from a seed: nothing is drawn, so that the same index is the same item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Body = dict[str, Any]

PEOPLE = ("Ada Okafor", "Bo Lindqvist", "Chiara Neri", "Dmitri Sokolov", "Esi Mensah", "Farid Haddad")
TENANT = "7d0c1f2e-0000-4000-8000-00000000a2ad"
_ADJECTIVES = ("amber", "brave", "calm", "dreamy", "gentle", "khaki", "lucid", "plucky", "quiet", "sleepy", "witty")
_NOUNS = (
    "apple",
    "beet",
    "carrot",
    "drum",
    "engine",
    "fig",
    "garlic",
    "hook",
    "kettle",
    "lemon",
    "nest",
    "pig",
    "tent",
)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """A number of 64 bits that looks random and depends on nothing but its arguments (splitmix64)."""
    value = 0
    for part in parts:
        value = (value + part + 0x9E3779B97F4A7C15) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        value ^= value >> 31
    return value


def pick(things: Sequence[str], number: int) -> str:
    """One of the things."""
    return things[number % len(things)]


def guid(*parts: int) -> str:
    """An identifier of the usual form."""
    high, low = mix(*parts), mix(*parts, 1)
    text = f"{high:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"


def stamp(at: datetime | None) -> str | None:
    """A time as Azure writes most of them: seven digits and an offset."""
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}0+00:00"


def millis(at: datetime | None) -> int | None:
    """A time as MLflow writes it."""
    return None if at is None else int(at.timestamp() * 1000)


def code_name(seed: int, index: int) -> str:
    """A name like `quiet_fig_4k`: the last part is the index, the rest follows from it."""
    number, digits = mix(seed, index, 77), ""
    rest = index
    while rest or not digits:
        rest, digit = divmod(rest, 36)
        digits = _DIGITS[digit] + digits
    return f"{pick(_ADJECTIVES, number)}_{pick(_NOUNS, number >> 8)}_{digits}"


def code_index(seed: int, name: str) -> int | None:
    """The index behind a name of `code_name`, or None."""
    digits = name.rsplit("_", 1)[-1]
    if not digits or len(digits) > 8 or any(one not in _DIGITS for one in digits):
        return None
    index = int(digits, 36)
    return index if code_name(seed, index) == name else None


def system_data(by: str, created: datetime, changed: datetime | None = None, *, full: bool = True) -> Body:
    """Who made a thing and when, as ARM tells it; jobs tell less than assets."""
    data = {"createdAt": stamp(created), "createdBy": by, "createdByType": "User"}
    if full:
        data |= {"lastModifiedAt": stamp(changed or created), "lastModifiedBy": by, "lastModifiedByType": "User"}
    return data


def merged(body: Body, patch: Mapping[str, Any]) -> Body:
    """The body with a patch laid over it: objects are joined, everything else is replaced."""
    result = dict(body)
    for name, value in patch.items():
        there = result.get(name)
        result[name] = merged(there, value) if isinstance(value, dict) and isinstance(there, dict) else value
    return result
