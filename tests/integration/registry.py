"""A scripted source with a registry, and what the rules found in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from stocktake.core.assets import Asset, Kind, Mode, Scope, ScopeState
from stocktake.rules import RULES
from stocktake.sources.protocol import Item, KindFacts, Known, Listing
from stocktake.store import finding_list
from stocktake.store.finding_list import FindingRow
from tests.integration.scripted import Scripted, World, scan


@dataclass(slots=True)
class Registry(World):
    """A World with a registry."""

    registered: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)


class WithRegistry(Scripted):
    """Lists a Registry; owners are in a tag."""

    kinds: Mapping[Kind, KindFacts] = {
        **Scripted.kinds,
        Kind.REGISTERED_MODEL: KindFacts(sees_deleted=True),
        Kind.MODEL_VERSION: KindFacts(sees_deleted=True),
    }

    def __init__(self, world: World, now: Callable[[], datetime]) -> None:
        super().__init__(world, now)
        assert isinstance(world, Registry)
        self._registry = world

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        yield from super().listings(mode, known)
        for kind, table in (
            (Kind.REGISTERED_MODEL, self._registry.registered),
            (Kind.MODEL_VERSION, self._registry.versions),
        ):
            yield Listing(scope=Scope(kind=kind), pages=self._pages(kind, table), promise=ScopeState.COMPLETE)

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        if kind not in (Kind.REGISTERED_MODEL, Kind.MODEL_VERSION):
            asset = super().parse(kind, raw)
            owner = asset.document.get("owner")
            return asset if owner is None else type(asset)(**{**_fields(asset), "owner": owner})
        document = json.loads(raw)
        key = document.pop("_key")
        return Asset(
            kind=kind,
            key=key,
            document=document,
            name=document.get("name", key),
            owner=document.get("owner"),
            run=document.get("run_id"),
        )

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        tables = {Kind.REGISTERED_MODEL: self._registry.registered, Kind.MODEL_VERSION: self._registry.versions}
        if kind not in tables:
            return super().confirm(kind, keys)
        return {key: self._item(key, tables[kind][key]) if key in tables[kind] else None for key in keys}


def _fields(asset: Asset) -> dict[str, Any]:
    return {name: getattr(asset, name) for name in asset.__struct_fields__}


#: What the runs of this world say is too little to make anything again: that is tried in tests/scenarios.
JUDGED = tuple(rule for rule in RULES if rule.id != "not-reproducible")


def look(engine: Engine, world: World, mode: Mode = Mode.SWEEP, **options: Any) -> Any:
    if "judged_by" not in options:
        options.setdefault("rules", JUDGED)
    options.setdefault("source", WithRegistry if isinstance(world, Registry) else Scripted)
    return scan(engine, world, mode, **options)


def found(engine: Engine, *rules: str, states: Sequence[str] | None = None) -> list[FindingRow]:
    with engine.connect() as connection:
        return list(finding_list.listed(connection, rules=rules or None, states=states))


def stands(engine: Engine, rule: str) -> dict[str, str]:
    """The state of every finding of a rule, resolved ones included, by key."""
    everything = ["pending", "open", "acknowledged", "resolved", "waived", "stale"]
    return {one.key: one.state for one in found(engine, rule, states=everything)}


def history(engine: Engine, finding: FindingRow) -> list[tuple[str | None, str]]:
    with engine.connect() as connection:
        shown = finding_list.shown(connection, finding.id)
    assert shown is not None
    return [(one.before, one.after) for one in shown.history]
