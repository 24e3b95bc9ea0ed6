"""A source that lists assets as a test states them, of any kind: what a reader of Azure Machine Learning would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Engine

from stocktake import pipeline
from stocktake.core.assets import PARTITIONED, Asset, Kind, Mode, Scope, ScopeState
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.sources.protocol import Acts, Identity, Item, KindFacts, Known, Listing, Page, Traffic
from tests.integration.scripted import KEY, broken


@dataclass(slots=True)
class Stock:
    """What is there, by kind and key. A test changes it between scans."""

    assets: dict[Kind, dict[str, Asset]] = field(default_factory=dict)
    failing: set[Kind] = field(default_factory=set)  # listed, and cut off after what came
    kinds: set[Kind] = field(default_factory=set)  # listed though there are none
    log: Acts | None = None  # of who did what

    def put(self, kind: Kind, key: str, document: Mapping[str, Any] | None = None, **lifted: Any) -> None:
        """Add an asset, or replace it."""
        experiment = lifted.get("partition")
        if experiment is not None:
            self.assets.setdefault(Kind.EXPERIMENT, {})[experiment] = Asset(
                kind=Kind.EXPERIMENT, key=experiment, document={"name": f"exp {experiment}"}, name=f"exp {experiment}"
            )
        self.assets.setdefault(kind, {})[key] = Asset(kind=kind, key=key, document=document or {}, **lifted)

    def change(self, kind: Kind, key: str, document: Mapping[str, Any] | None = None, **lifted: Any) -> None:
        """Replace some of an asset."""
        asset = self.assets[kind][key]
        changed = {"document": document} if document is not None else {}
        self.assets[kind][key] = msgspec.structs.replace(asset, **(changed | lifted))

    def remove(self, kind: Kind, key: str) -> None:
        """Take an asset away."""
        del self.assets[kind][key]


class StatedSource:
    """Lists a Stock."""

    name = "stated"
    kinds: Mapping[Kind, KindFacts] = {
        kind: KindFacts(sees_deleted=True, partitioned=kind in PARTITIONED) for kind in Kind
    }

    def __init__(self, stock: Stock, now: Callable[[], datetime]) -> None:
        self.traffic = Traffic()
        self._stock = stock
        self._now = now

    @property
    def acts(self) -> Acts | None:
        return self._stock.log

    def identify(self) -> Identity:
        return Identity(name="tester", filtered=False)

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        del mode
        stock = self._stock
        for kind in [kind for kind in Kind if kind in stock.assets or kind in stock.kinds or kind in stock.failing]:
            there = stock.assets.get(kind, {})
            partitions = [""]
            if kind in PARTITIONED:
                partitions = sorted({*stock.assets.get(Kind.EXPERIMENT, {}), *known.partition_sizes(kind)})
            for partition in partitions:
                yield Listing(
                    scope=Scope(kind=kind, partition=partition, covers=(partition,)),
                    pages=self._pages(kind, {k: a for k, a in there.items() if a.partition == partition}),
                    promise=ScopeState.COMPLETE,
                )

    def _pages(self, kind: Kind, there: Mapping[str, Asset]) -> Iterator[Page]:
        at = self._now()
        yield Page(items=[_item(asset) for asset in there.values()], requested_at=at)
        if kind in self._stock.failing:
            raise broken()

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        del kind
        return msgspec.json.decode(raw, type=Asset)

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        there = self._stock.assets.get(kind, {})
        return {key: _item(there[key]) if key in there else None for key in keys}

    def close(self) -> None:
        pass


def _item(asset: Asset) -> Item:
    return Item(asset.key, msgspec.json.encode(asset))


def scan(
    engine: Engine, stock: Stock, *, workspace: str = "ml", mode: Mode = Mode.SWEEP, **options: Any
) -> pipeline.ScanReport:
    """Scan what is stated."""
    return pipeline.scan(
        engine,
        lambda now: StatedSource(stock, now),
        workspace=workspace,
        source_name="stated",
        uri="stated://" + workspace,
        mode=mode,
        redactor=Redactor(KEY),
        key=KEY,
        guard=Guard(),
        **options,
    )
