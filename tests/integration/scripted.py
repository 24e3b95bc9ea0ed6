"""A source that says what a test tells it to: pages, failures, absences. It implements the protocol, nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from stocktake import pipeline
from stocktake.core import canonical
from stocktake.core.assets import Asset, Kind, Lifecycle, Mode, Scope, ScopeState
from stocktake.core.errors import SourceError, Trouble
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.sources.protocol import Identity, Item, KindFacts, Known, Listing, Page, Traffic
from stocktake.store import history

KEY = b"k" * 32


def broken(trouble: Trouble = Trouble.SERVER) -> SourceError:
    return SourceError(trouble, "POST /runs/search answered 500", next_step="Look at the server's log.")


@dataclass(slots=True)
class World:
    """What the watched place holds: experiments, and runs by id. A test changes it between scans."""

    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)  # logged models: the source shows no deleted ones
    fail_runs_after: int | None = None  # pages of runs that come before the failure
    fail_with: Trouble = Trouble.SERVER
    fail_identify: Trouble | None = None
    filtered: bool = False
    hidden: set[str] = field(default_factory=set)  # runs left out of lists, though they are there
    unconfirmable: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)  # experiments of whose runs only the first page can be read
    page: int = 5
    owner: str | None = None  # of every run, lifted out of a tag
    during: Callable[[int], None] | None = None  # called before each page of runs

    def add_run(self, key: str, experiment: str = "1", **info: Any) -> None:
        self.experiments.setdefault(experiment, {"name": f"exp {experiment}", "lifecycle_stage": "active"})
        document = {"experiment_id": experiment, "run_name": key, "lifecycle_stage": "active", "status": "FINISHED"}
        self.runs[key] = {"info": document | info, "params": {}, "tags": {}, "metrics": {}}


class Scripted:
    """Lists a World."""

    name = "scripted"
    acts = None
    kinds: Mapping[Kind, KindFacts] = {
        Kind.EXPERIMENT: KindFacts(sees_deleted=True),
        Kind.RUN: KindFacts(sees_deleted=True, partitioned=True),
        Kind.LOGGED_MODEL: KindFacts(sees_deleted=False, partitioned=True),
    }

    def __init__(self, world: World, now: Callable[[], datetime]) -> None:
        self.traffic = Traffic()
        self._world = world
        self._now = now

    def identify(self) -> Identity:
        if self._world.fail_identify is not None:
            raise SourceError(self._world.fail_identify, "GET / was refused", next_step="Check the token.")
        return Identity(name="tester", filtered=self._world.filtered)

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        promise = ScopeState.FILTERED if self._world.filtered else ScopeState.COMPLETE
        yield Listing(
            scope=Scope(kind=Kind.EXPERIMENT),
            pages=self._pages(Kind.EXPERIMENT, self._world.experiments),
            promise=promise,
        )
        partitions = sorted({*self._world.experiments, *known.partition_sizes(Kind.RUN)})
        if mode == Mode.HOT and known.last_look(Kind.RUN) is not None:
            partitions = sorted(known.changed(Kind.EXPERIMENT))
            yield Listing(
                scope=Scope(kind=Kind.RUN, partition="moving", covers=()),
                pages=self._pages(
                    Kind.RUN, {k: r for k, r in self._world.runs.items() if r["info"]["status"] == "RUNNING"}
                ),
                promise=ScopeState.INCREMENTAL,
            )
        for partition in partitions:
            runs = {k: r for k, r in self._world.runs.items() if r["info"]["experiment_id"] == partition}
            yield Listing(
                scope=Scope(kind=Kind.RUN, partition=partition, covers=(partition,)),
                pages=self._run_pages(runs, cut=partition in self._world.cut),
                promise=promise,
            )
            models = {k: m for k, m in self._world.models.items() if m["experiment_id"] == partition}
            yield Listing(
                scope=Scope(kind=Kind.LOGGED_MODEL, partition=partition, covers=(partition,)),
                pages=self._pages(Kind.LOGGED_MODEL, models),
                promise=promise,
            )

    def _run_pages(self, runs: Mapping[str, Any], *, cut: bool = False) -> Iterator[Page]:
        for number, page in enumerate(self._pages(Kind.RUN, runs)):
            if cut and number:
                raise broken(self._world.fail_with)
            if self._world.during is not None:
                self._world.during(number)
            if self._world.fail_runs_after is not None and number >= self._world.fail_runs_after:
                raise broken(self._world.fail_with)
            yield page
        if self._world.fail_runs_after is not None:
            raise broken(self._world.fail_with)

    def _pages(self, kind: Kind, items: Mapping[str, Any]) -> Iterator[Page]:
        keys = [key for key in items if key not in self._world.hidden]
        for start in range(0, len(keys), self._world.page):
            at = self._now()
            block = keys[start : start + self._world.page]
            self.traffic.requests += 1
            yield Page(items=[self._item(key, items[key]) for key in block], requested_at=at)

    def _item(self, key: str, value: Any) -> Item:
        return Item(key, json.dumps(value | {"_key": key}).encode())

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        document = json.loads(raw)
        key = document.pop("_key")
        if document.get("malformed"):
            raise SourceError(Trouble.SHAPE, f"{kind} {key} has no status", next_step="Report it.")
        info = document.get("info", document)
        partition = "" if kind == Kind.EXPERIMENT else info["experiment_id"]
        if kind == Kind.LOGGED_MODEL:
            document = {"lifecycle_stage": "active"} | document
        return Asset(
            kind=kind,
            key=key,
            document=document,
            partition=partition,
            name=info.get("run_name") or info.get("name"),
            state=info.get("status"),
            lifecycle=Lifecycle(info.get("lifecycle_stage", "active")),
            run=info.get("source_run_id"),
            owner=self._world.owner if kind == Kind.RUN else None,
            params_digest=canonical.params_digest(document["params"]) if "params" in document else None,
        )

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        table = {
            Kind.RUN: self._world.runs,
            Kind.EXPERIMENT: self._world.experiments,
            Kind.LOGGED_MODEL: self._world.models,
        }[kind]
        return {
            key: self._item(key, table[key]) if key in table else None
            for key in keys
            if key not in self._world.unconfirmable
        }

    def close(self) -> None:
        pass


def twelve_runs() -> World:
    """One experiment with a dozen runs: more than the guard lets go at once."""
    made = World()
    for number in range(12):
        made.add_run(f"run{number:02d}")
    return made


def changes(engine: Engine, **options: Any) -> list[history.ChangeRow]:
    """What the history tells, folded as a reader sees it."""
    with engine.connect() as connection:
        return list(history.changes(connection, **options))


def live(engine: Engine, kind: Kind = Kind.RUN) -> set[str]:
    """What is there of a kind, by key."""
    with engine.connect() as connection:
        return {row.key for row in history.list_assets(connection, kind)}


def scan(
    engine: Engine,
    world: World,
    mode: Mode = Mode.SWEEP,
    *,
    workspace: str = "w",
    source: Callable[[World, Callable[[], datetime]], Scripted] = Scripted,
    **options: Any,
) -> pipeline.ScanReport:
    if "rules" in options:
        options["judged_by"] = pipeline.RuleSet(rules=tuple(options.pop("rules")))
    return pipeline.scan(
        engine,
        lambda now: source(world, now),
        workspace=workspace,
        source_name="scripted",
        uri="scripted://" + workspace,
        mode=mode,
        redactor=options.pop("redactor", None) or Redactor(KEY),
        key=KEY,
        guard=options.pop("guard", Guard()),
        **options,
    )
