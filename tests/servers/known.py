"""What an inventory knows, as plain values: the store's side of a source's contract, for tests without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stocktake.core.assets import Kind


@dataclass(slots=True, kw_only=True)
class PlainKnown:
    """Answers from what the test wrote down."""

    sizes: Mapping[Kind, Mapping[str, int]] = field(default_factory=dict)
    changes: Mapping[Kind, frozenset[str]] = field(default_factory=dict)
    looks: Mapping[Kind, datetime] = field(default_factory=dict)
    documents: Mapping[tuple[Kind, str], Mapping[str, Any]] = field(default_factory=dict)
    states: Mapping[Kind, Mapping[str, str]] = field(default_factory=dict)  # published assets: key -> state
    cuts: Mapping[Kind, str] = field(default_factory=dict)  # where listings were cut
    due: Sequence[str] = ()  # jobs whose children are to be asked for
    published_aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def partition_sizes(self, kind: Kind) -> Mapping[str, int]:
        return self.sizes.get(kind, {})

    def changed(self, kind: Kind) -> frozenset[str]:
        return self.changes.get(kind, frozenset())

    def last_look(self, kind: Kind) -> datetime | None:
        return self.looks.get(kind)

    def document(self, kind: Kind, key: str) -> Mapping[str, Any] | None:
        return self.documents.get((kind, key))

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        return self.published_aliases

    def among(self, kind: Kind, keys: Sequence[str]) -> frozenset[str]:
        return frozenset(key for key in keys if key in self.states.get(kind, {}))

    def unfinished(self, kind: Kind, ended: frozenset[str]) -> Sequence[str]:
        return [key for key, state in self.states.get(kind, {}).items() if state not in ended]

    def cut(self, kind: Kind) -> str | None:
        return self.cuts.get(kind)

    def parents_due(self, ended: frozenset[str], childless: frozenset[str], since: datetime | None) -> Sequence[str]:
        return self.due
