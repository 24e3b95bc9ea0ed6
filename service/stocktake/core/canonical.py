"""The canonical form of a document and its digests: equal documents have equal bytes, on every machine.

Postgres text cannot hold U+0000 and jsonb refuses lone surrogates and non-finite numbers. They are carried, not lost:
NUL, lone surrogates and U+E000 itself become U+E000 followed by four hex digits; NaN and the infinities become the
strings of the proto3 JSON mapping ("NaN", "Infinity", "-Infinity"), as MLflow sends them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

#: Raise it when the canonical form, a parse function or the list of volatile fields changes: it starts a new epoch.
NORMALISATION = 2

_ESCAPED = re.compile("\ue000([0-9a-f]{4})")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff\ue000]")
_ENCODER = msgspec.json.Encoder(order="sorted")
_MARK = "\ue000".encode()


def escape(text: str) -> str:
    """Write what Postgres cannot store as U+E000 and four hex digits; everything else stays as it is."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub(lambda hit: f"\ue000{ord(hit.group()):04x}", text)


def unescape(text: str) -> str:
    """Give back what `escape` wrote."""
    return _ESCAPED.sub(lambda hit: chr(int(hit.group(1), 16)), text)


def encode(document: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of a document: sorted keys, no spaces, UTF-8, storable in Postgres as text."""
    try:
        encoded = _ENCODER.encode(document)
    except (UnicodeEncodeError, msgspec.EncodeError, ValueError):
        return _ENCODER.encode(_storable(document))
    # msgspec writes NaN and infinities as null, and NUL as \u0000: only such a document takes the slow road. One byte
    # is looked for at many times the speed of several, and most documents do not have it.
    nul = b"\\" in encoded and b"\\u0000" in encoded
    if nul or b"null" in encoded or (_MARK[:1] in encoded and _MARK in encoded):
        return _ENCODER.encode(_storable(document))
    return encoded


def decode(text: str | bytes) -> Any:
    """Read a stored document back; the escapes become the characters they stand for."""
    value = json.loads(text)
    return _original(value) if "\ue000" in (text.decode() if isinstance(text, bytes) else text) else value


def digest(canonical: bytes) -> bytes:
    """Return the first 16 bytes of SHA-256 over canonical bytes: what heads compare."""
    return whole_digest(canonical)[:16]


def whole_digest(canonical: bytes) -> bytes:
    """Return SHA-256 over canonical bytes: what the chain of the ledger holds."""
    return hashlib.sha256(canonical).digest()


def params_digest(params: Mapping[str, Any]) -> str:
    """Return SHA-256, in hex, over the canonical form of parameters: equal ones are equal whatever source gave them,
    and whether or not something else in the document had to be redacted."""
    return hashlib.sha256(encode(params)).hexdigest()


def raw_digest(raw: bytes, key: bytes) -> bytes:
    """Return a keyed digest (16 bytes of HMAC-SHA-256) of bytes that may hold a weak secret."""
    return hmac.digest(key, raw, "sha256")[:16]


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {escape(str(name)): _storable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    return value


def _original(value: Any) -> Any:
    if isinstance(value, str):
        return unescape(value)
    if isinstance(value, dict):
        return {unescape(name): _original(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_original(item) for item in value]
    return value
