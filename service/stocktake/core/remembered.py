"""Values that a person had removed: recognised again by keyed digests, so that they need not be kept. Pure.

A remembered text is looked for wherever a word may begin and end in a text: as the whole of it ("hunter2-hunter2"), or
between other words ("--password hunter2-hunter2 --x"). Where a value was found inside a longer word ("xhunter2y"),
that word is remembered too, and which part of it was the value. Inside a word that was never seen it is not recognised:
that takes a pattern, and a pattern of a value would be the value.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from stocktake.core import canonical, diff
from stocktake.core.assets import ChangeType, Kind, Lifecycle, Mode, ScanState, ScopeState
from stocktake.core.words import words

MARKER = re.compile(r"(\[redacted:[a-z\-]+:[0-9a-f]{12}\])")
#: Shorter values stand in other texts by chance, and whoever has the key could guess them from their digests.
SHORTEST = 6
_SHORTEST_NUMBER = 8
_ENCODER = msgspec.json.Encoder()
#: Words that documents are made of: without them nothing could be read any more.
_OURS = frozenset(
    {str(one).lower() for words_of in (Kind, Mode, Lifecycle, ChangeType, ScopeState, ScanState) for one in words_of}
    | {one.lower() for one in diff.FIELDS}
    | set(
        words(
            "params metrics tags inputs outputs datasets models aliases description lifecycle_stage params_digest"
            " schema schema_digest profile digest version last_updated_timestamp last_update_time model_type"
            " value timestamp dataset_name dataset_digest model_uri storage_location deleted_time events secret"
            " scheduled running finished failed killed pending ready unspecified failed_registration"
            " pending_registration staging production archived model_version_status source_type source_name"
        )
    )
)
#: Neither inside a word, nor where one letter follows another.
_EDGE = r"(?:(?<![^\W_])|(?![^\W_]))"


@dataclass(frozen=True, slots=True)
class Text:
    """One remembered text, by its keyed digest; `cuts` are the parts of it that are the value."""

    mac: bytes
    length: int
    cuts: tuple[tuple[int, int], ...]
    fingerprint: str


class Remembered:
    """Replaces remembered texts, wherever they come from: a page of a server, or the inventory itself."""

    def __init__(self, key: bytes, texts: Iterable[Text] = ()) -> None:
        self._installation = key
        self._key = canonical.raw_digest(b"remembered texts", key)
        self._texts = {one.mac: one for one in texts}
        lengths = sorted({one.length for one in self._texts.values()})
        self._windows = [(n, re.compile(f"{_EDGE}(?=(.{{{n}}}){_EDGE})", re.DOTALL)) for n in lengths]

    def __bool__(self) -> bool:
        return bool(self._texts)

    def with_texts(self, texts: Iterable[Text]) -> Remembered:
        """The same with some more."""
        return Remembered(self._installation, (*self._texts.values(), *texts))

    def knows(self, text: Text) -> bool:
        """Whether this one is remembered."""
        return text.mac in self._texts

    def mac(self, text: str) -> bytes:
        """The keyed digest that a text is remembered by."""
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256")[:16]

    def text(self, value: str) -> str:
        """Replace what is remembered in a text; marks of earlier redactions are not looked into."""
        if not self._windows or len(value) < self._windows[0][0]:
            return value
        if "[redacted:" not in value:
            return self._part(value)
        clean = "".join(part if n % 2 else self._part(part) for n, part in enumerate(MARKER.split(value)))
        return value if clean == value else clean

    def document(self, value: Any) -> Any:
        """Replace it in every text of a JSON value, names included; the same object comes back where there is none."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            clean = {name: (self.text(name), self.document(item)) for name, item in value.items()}
            if all(name == new and item is value[name] for name, (new, item) in clean.items()):
                return value
            return dict(clean[name] for name in sorted(clean))
        if isinstance(value, list | tuple):
            items = [self.document(item) for item in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        return value

    def _part(self, value: str) -> str:
        cuts = []
        for length, window in self._windows:
            if length > len(value):
                break
            for hit in window.finditer(value):
                known = self._texts.get(self.mac(hit[1]))
                if known is not None:
                    cuts += [(hit.start() + a, -hit.start() - b, known.fingerprint) for a, b in known.cuts]
        if not cuts:
            return value
        made, at = [], 0
        for start, end, fingerprint in sorted(cuts):  # the longer of two that begin at one place comes first
            if start >= at:
                made += [value[at:start], mark(fingerprint)]
                at = -end
        return "".join((*made, value[at:]))


def mark(fingerprint: str) -> str:
    """What stands in the place of a value."""
    return f"[redacted:manual:{fingerprint}]"


class Sought:
    """A value that is to be removed, in every form in which it may stand. It lives as long as the command does."""

    __slots__ = ("_pattern", "_remembered", "fingerprint", "needles")

    def __init__(self, value: str, fingerprint: str, remembered: Remembered) -> None:
        in_json = json.dumps(value, ensure_ascii=False)[1:-1]
        in_path = in_json.replace("'", "\\'").replace('\\"', '"')  # as diff writes names into paths
        forms = {value, in_json, json.dumps(value)[1:-1], in_path, quote(value, safe=""), quote(value)}
        self.fingerprint = fingerprint
        self._remembered = remembered
        self._pattern = re.compile("|".join(re.escape(one) for one in sorted(forms, key=len, reverse=True)))
        #: How it stands in stored bytes: as text, and inside JSON.
        stored = [canonical.escape(one) for one in forms]
        self.needles = frozenset({*(one.encode() for one in stored), *(_ENCODER.encode(one)[1:-1] for one in stored)})

    def __repr__(self) -> str:
        return f"Sought({self.fingerprint})"

    def stands_in(self, value: Any) -> bool:
        """Whether it stands in any text of a JSON value."""
        return any(True for _ in self.words(value))

    def words(self, value: Any) -> Iterator[Text]:
        """The words that it stands in, ready to be remembered: itself, or a longer one around it."""
        for text in _texts(value):
            for part in MARKER.split(text)[::2]:
                for hit in self._pattern.finditer(part):
                    yield self.remember(_word(part, *hit.span()))

    def remember(self, text: str) -> Text:
        """Make the remembered form of a text that it stands in."""
        cuts = tuple(hit.span() for hit in self._pattern.finditer(text))
        return Text(self._remembered.mac(text), len(text), cuts, self.fingerprint)


def refusal(value: str) -> str | None:
    """Say why a value cannot be removed everywhere, if so; the words never hold it."""
    if len(value) < SHORTEST:
        return (
            f"The value has {len(value)} characters; at least {SHORTEST} are needed. A shorter one stands in other"
            " texts by chance, and all of those would be changed."
        )
    if value.isdigit() and len(value) < _SHORTEST_NUMBER:
        return (
            f"The value is a number of {len(value)} digits; at least {_SHORTEST_NUMBER} are needed. A shorter one"
            " stands in other numbers and ids by chance, and all of those would be changed."
        )
    if len(set(value)) < 3:
        return "The value is one character or two, again and again: that stands in other texts by chance."
    if MARKER.search(value) or value in "[redacted:manual:":
        return "The value is the mark of an earlier redaction, or a part of one: there is nothing to remove."
    if value.lower() in _OURS:
        return "The value is a word that documents are made of (the name of a field, a kind, a state), and no secret."
    return None


def _word(text: str, start: int, end: int) -> str:
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end += 1
    return text[start:end]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
