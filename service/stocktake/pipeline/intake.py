"""Intake: a raw item becomes a staged asset: parsed, redacted, in canonical form. No I/O; secrets end here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from stocktake.core import canonical
from stocktake.core.assets import Asset, Kind
from stocktake.core.redact import Redactor
from stocktake.sources.protocol import Source
from stocktake.store.publish import Staged, staged


def epoch(redactor: Redactor) -> int:
    """Number the way we normalise: another canonical form or another redaction policy is another epoch."""
    name = f"{canonical.NORMALISATION}/{redactor.policy}".encode()
    return int.from_bytes(canonical.digest(name)[:4], "big") >> 1


@dataclass(slots=True)
class Intake:
    """Makes items ready. `key` is the installation's; `owner` is that of assets that name none themselves."""

    source: Source
    redactor: Redactor
    key: bytes
    owner: str | None
    redactions: Counter[Kind] = field(default_factory=Counter)
    _raw_key: bytes = b""

    def __post_init__(self) -> None:
        self._raw_key = canonical.raw_digest(b"raw digests of epoch %d" % epoch(self.redactor), self.key)

    def digest(self, raw: bytes) -> bytes:
        """The keyed digest of an item's raw bytes: the same as published means that nothing needs to be done."""
        return canonical.raw_digest(raw, self._raw_key)

    def stage(self, kind: Kind, raw: bytes, digest: bytes, at: datetime, answered_at: datetime | None = None) -> Staged:
        """Make an item ready: asked for at one time, answered by another.

        Raises SourceError(SHAPE) when it is not understood.
        """
        asset = self.source.parse(kind, raw)
        document = canonical.encode(asset.document)
        aside = canonical.encode(asset.aside) if asset.aside else None
        clean, found = self.redactor.redact(asset.document, document)
        beside, more = self.redactor.redact(asset.aside, aside) if aside else (asset.aside, ())
        if found or more:
            self.redactions[kind] += len(found) + len(more)
            asset = _clean(replace(asset, document=clean, aside=beside), self.redactor)
            document = canonical.encode(clean)
            aside = canonical.encode(beside) if beside else None
        if asset.owner is None and self.owner is not None:
            asset = replace(asset, owner=self.owner)
        return staged(asset, document, aside, digest, at, answered_at)


def _clean(asset: Asset, redactor: Redactor) -> Asset:
    """Redact the fields that were lifted out of a document in which a secret was found.

    An owner that the redacted document no longer holds was one of the secrets, whatever it looks like. The
    digest of the parameters is made anew: over a weak secret it could be guessed.
    """
    left = set(_strings(asset.document))

    def verbatim(value: str | None) -> str | None:
        return value if value is None or value in left else f"[redacted:lifted:{redactor.fingerprint(value)}]"

    def text(value: str | None) -> str | None:
        return redactor.text(value) if value else value

    params = asset.document.get("params")
    return replace(
        asset,
        name=text(asset.name),
        owner=verbatim(text(asset.owner)),
        artifact_uri=text(asset.artifact_uri),
        code_version=text(asset.code_version),
        data_version=text(asset.data_version),
        params_digest=canonical.params_digest(params) if asset.params_digest and params else None,
    )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
