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
from stocktake.core.chain import salt_key
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
_LEAST_CORE = 4
_WORD = re.compile(r"[^\W_]+")
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")  # the same in ASCII, at half the cost
_CACHED = 50_000
_CACHED_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Text:
    """One remembered text, by keyed digests. Its core reaches from its first letter or digit to its last."""

    mac: bytes  # of all of it
    core: bytes
    lead: int  # characters before the core
    length: int  # of the core
    trail: int  # characters behind it
    cuts: tuple[tuple[int, int], ...]  # the parts of the whole that are the value
    fingerprint: str


class Remembered:
    """Replaces remembered texts, wherever they come from: a page of a server, or the inventory itself."""

    def __init__(self, key: bytes, texts: Iterable[Text] = ()) -> None:
        self._installation = key
        self._key = canonical.raw_digest(b"remembered texts", key)
        #: The key of the salts of what is rewritten when a value is removed.
        self.salts = salt_key(key)
        self._texts = {one.mac: one for one in texts}
        self._cores: dict[bytes, list[Text]] = {}
        for one in self._texts.values():
            self._cores.setdefault(one.core, []).append(one)
        self._lengths = sorted({one.length for one in self._texts.values()})
        self._known: dict[str, list[Text]] = {}  # by word; many words and short texts are met again and again
        self._clean: set[str] = set()

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
        if not self._lengths or len(value) < self._lengths[0] or value in self._clean:
            return value
        if "[redacted:" not in value:
            return self._part(value)
        clean = "".join(part if n % 2 else self._part(part) for n, part in enumerate(MARKER.split(value)))
        return value if clean == value else clean

    def document(self, value: Any) -> Any:
        """Replace it in every text of a JSON value, names included; the same object comes back where there is none."""
        return self._value(value) if self._texts else value

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            clean = {name: (self.text(name), self._value(item)) for name, item in value.items()}
            if all(name == new and item is value[name] for name, (new, item) in clean.items()):
                return value
            return dict(clean[name] for name in sorted(clean))
        if isinstance(value, list | tuple):
            items = [self._value(item) for item in value]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        return value

    def _part(self, value: str) -> str:
        """Look at every stretch of a remembered length from the beginning of a word to the end of one."""
        words = _words(value)
        ends = {end for _, end in words}
        cuts: list[tuple[int, int, str]] = []
        for start, _ in words:
            for length in self._lengths:
                end = start + length
                if end in ends:
                    for text in self._core(value[start:end]):
                        cuts += self._cuts(text, value, start - text.lead, end + text.trail)
        if not cuts:
            if len(value) <= _CACHED_LENGTH:
                if len(self._clean) >= _CACHED:
                    self._clean.clear()
                self._clean.add(value)
            return value
        made, at = list[str](), 0
        for start, behind, fingerprint in sorted(cuts):  # the longer of two that begin at one place comes first
            if start >= at:
                made += [value[at:start], mark(fingerprint)]
                at = -behind
        return "".join((*made, value[at:]))

    def _core(self, word: str) -> list[Text]:
        known = self._known.get(word)
        if known is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            known = self._known[word] = self._cores.get(self.mac(word), [])
        return known

    def _cuts(self, text: Text, value: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        if start >= 0 and end <= len(value) and self.mac(value[start:end]) == text.mac:
            for a, b in text.cuts:
                yield start + a, -(start + b), text.fingerprint


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
        start, end = _core(text)
        return Text(
            mac=self._remembered.mac(text),
            core=self._remembered.mac(text[start:end]),
            lead=start,
            length=end - start,
            trail=len(text) - end,
            cuts=cuts,
            fingerprint=self.fingerprint,
        )


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
    start, end = _core(value)
    if end - start < _LEAST_CORE:
        return f"The value has hardly any letters or digits; {_LEAST_CORE} are needed to recognise it by."
    if len(set(value)) < 3:
        return "The value is one character or two, again and again: that stands in other texts by chance."
    if MARKER.search(value) or value in "[redacted:manual:":
        return "The value is the mark of an earlier redaction, or a part of one: there is nothing to remove."
    if value.lower() in _OURS:
        return "The value is a word that documents are made of (the name of a field, a kind, a state), and no secret."
    return None


def _words(text: str) -> list[tuple[int, int]]:
    return [hit.span() for hit in (_ASCII_WORD if text.isascii() else _WORD).finditer(text)]


def _core(text: str) -> tuple[int, int]:
    """From the first letter or digit to the last."""
    words = _words(text)
    return (words[0][0], words[-1][1]) if words else (0, 0)


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
