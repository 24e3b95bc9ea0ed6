"""The source `mlflow_files`: takes stock of an `mlruns` folder as it lies, without MLflow and without writing.

MLflow's own FileStore creates folders when it is opened, and newer versions refuse it. Here nothing is opened for
writing and no link is followed. Where a folder and MLflow disagree:

| what lies there | what is said |
|---|---|
| an experiment in .trash that says it is active (old MLflow only moved it) | deleted; a note |
| an id live and in .trash, a run in two experiments | the first that fits its place counts; a note |
| meta.yaml missing, empty or malformed; an id or experiment that is not its folder's; a link | a problem |
| a metric line that is not understood; a folder of artifacts without a run | left out; a note |

A problem makes its scope partial: absence is then not judged. What still lies anywhere is never confirmed as gone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from stocktake.core.assets import Asset, Kind, Mode, Scope, ScopeState
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources import mlflow_files_items as items
from stocktake.sources.mlflow_documents import parse
from stocktake.sources.mlflow_files_asking import ask
from stocktake.sources.mlflow_files_finding import Inside, experiments, registry
from stocktake.sources.mlflow_files_layout import Home, Layout
from stocktake.sources.mlflow_files_reading import Remarks
from stocktake.sources.mlflow_pages import encode
from stocktake.sources.mlflow_plan import groups
from stocktake.sources.protocol import Identity, Item, KindFacts, Known, Listing, Page, Traffic

log = logging.getLogger(__name__)

_PAGE_ITEMS = 500
_PAGE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowFilesConfig:
    """One folder."""

    folder: Path
    owner_tags: Sequence[str] = ()
    run_overlap: timedelta = timedelta(hours=1)  # the file server's clock is not ours


class MlflowFiles:
    """A watched folder. Made for one scan."""

    name = "mlflow_files"
    acts = None  # MLflow keeps no log of who did what
    kinds: Mapping[Kind, KindFacts] = {
        Kind.WORKSPACE: KindFacts(sees_deleted=False),
        Kind.EXPERIMENT: KindFacts(sees_deleted=True),
        Kind.REGISTERED_MODEL: KindFacts(sees_deleted=True),
        Kind.MODEL_VERSION: KindFacts(sees_deleted=True),
        Kind.RUN: KindFacts(sees_deleted=True, partitioned=True),
        Kind.LOGGED_MODEL: KindFacts(sees_deleted=True, partitioned=True),
        Kind.TRACE: KindFacts(sees_deleted=True, partitioned=True),
    }

    def __init__(self, config: MlflowFilesConfig, now: Callable[[], datetime]) -> None:
        self.traffic = Traffic()
        #: What was odd in this pass and understood all the same: what it is, and where.
        self.on_note: Callable[[Kind, str, str], object] | None = None
        self._config = config
        self._now = now
        self._layout = Layout(config.folder)
        self._notes: Counter[str] | None = None  # of experiments: what the workspace's own document tells
        self._aborted = False
        self._reader = threading.get_ident()

    def close(self) -> None:
        """Release the folder. Called from another thread, it asks the scan that is under way to end at its page."""
        self._aborted = True
        if threading.get_ident() == self._reader:
            self._layout.close()

    def identify(self) -> Identity:
        """Say who reads. Raises SourceError when the folder is missing, not readable, or no store."""
        self._layout.check()
        return Identity(name=f"uid {os.geteuid()}", note="a folder shows everything that this user may read")

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        """Yield the scopes of a pass: experiments and the registry, then what lies in the experiments."""
        self._reader = threading.get_ident()
        self._layout.check()
        yield Listing(scope=Scope(kind=Kind.EXPERIMENT), pages=self._guarded(self._experiments()))
        yield Listing(scope=Scope(kind=Kind.WORKSPACE), pages=self._guarded(self._workspace()))
        yield Listing(scope=Scope(kind=Kind.REGISTERED_MODEL), pages=self._guarded(self._registry(versions=False)))
        yield Listing(scope=Scope(kind=Kind.MODEL_VERSION), pages=self._guarded(self._registry(versions=True)))
        for kind in items.IN_EXPERIMENT:
            if mode is Mode.HOT and (since := known.last_look(kind)) is not None:
                yield from self._fresh(kind, since - self._config.run_overlap, known)
            else:
                yield from self._complete(kind, list(dict.fromkeys(h.id for h in self._layout.homes())), known)

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        """Turn one raw item into an asset."""
        raw, aside = items.split_aside(raw)
        asset = parse(kind, raw, owner_tags=self._config.owner_tags)
        return structs.replace(asset, aside={**asset.aside, **aside}) if aside else asset

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        """Look for assets by id, wherever in the folder they may lie.

        None only where nothing of that id is there and the folder still is; what lies there but is not understood is
        left out of the answer.
        """
        try:
            if kind is Kind.WORKSPACE:
                return {key: self._server() if key == "server" else None for key in keys}
            return ask(self._layout, kind, frozenset(keys))
        except (OSError, SourceError):
            return {}

    def _experiments(self) -> Iterator[Page]:
        notes = Counter[str]()
        yield from self._pages(Kind.EXPERIMENT, partial(experiments, self._layout), notes)
        self._notes = notes

    def _registry(self, *, versions: bool) -> Iterator[Page]:
        kind = Kind.MODEL_VERSION if versions else Kind.REGISTERED_MODEL
        return self._pages(kind, partial(registry, self._layout, versions=versions))

    def _workspace(self) -> Iterator[Page]:
        requested_at = self._now()
        yield Page(items=[self._server()], requested_at=requested_at, answered_at=self._now())

    def _server(self) -> Item:
        if self._notes is None:
            for _ in self._experiments():
                pass
        facts: dict[str, Any] = {"store_type": "mlruns folder", "uri": self._config.folder.as_uri()}
        facts |= {"visibility": "complete", "notes": dict(sorted((self._notes or {}).items()))}
        return Item("server", encode(facts))

    def _complete(self, kind: Kind, listed: Sequence[str], known: Known) -> Iterator[Listing]:
        """Every experiment that is there or known: what lay in one that vanished must be judged too."""
        twice = self._layout.twice(kind)
        planned = groups(listed, known.partition_sizes(kind))
        if not planned:
            yield Listing(scope=Scope(kind=kind, covers=()), pages=iter(()))
        for group in planned:
            scope = Scope(kind=kind, partition=group.label, covers=group.ids)
            yield Listing(scope=scope, pages=self._guarded(self._of(kind, group.ids, twice)))

    def _fresh(self, kind: Kind, since: datetime, known: Known) -> Iterator[Listing]:
        """What was written lately or is moving in any experiment, then all of the experiments that changed."""
        twice = self._layout.twice(kind)
        everywhere = list(dict.fromkeys(home.id for home in self._layout.homes()))
        scope = Scope(kind=kind, partition="moving", covers=())
        pages = self._guarded(self._of(kind, everywhere, twice, since.timestamp()))
        yield Listing(scope=scope, pages=pages, promise=ScopeState.INCREMENTAL)
        if changed := [one for one in everywhere if one in known.changed(Kind.EXPERIMENT)]:
            for group in groups(changed, {}):
                scope = Scope(kind=kind, partition=group.label, covers=group.ids)
                yield Listing(scope=scope, pages=self._guarded(self._of(kind, group.ids, twice)))

    def _of(
        self, kind: Kind, experiments: Sequence[str], twice: Mapping[str, Home], since: float | None = None
    ) -> Iterator[Page]:
        return self._pages(kind, partial(Inside(self._layout, kind, twice, since).of, experiments))

    def _pages(
        self, kind: Kind, read: Callable[[Remarks], Iterator[Item]], notes: Counter[str] | None = None
    ) -> Iterator[Page]:
        """Cut a stream of items into pages; each carries the time at which its reading began, and what was odd."""
        remarks, counted = Remarks(), Counter[str]() if notes is None else notes
        stream, more = read(remarks), True
        while more:
            requested_at, page, size = self._now(), list[Item](), 0
            more = False
            for item in stream:
                page.append(item)
                size += len(item.raw)
                if len(page) == _PAGE_ITEMS or size >= _PAGE_BYTES:
                    more = True
                    break
            self.traffic.bytes += size
            for what, where in remarks.notes:
                counted[what] += 1
                if self.on_note is not None:
                    self.on_note(kind, what, where)
            problems = list(remarks.problems)
            remarks.notes.clear()
            remarks.problems.clear()
            if self._aborted:
                raise SourceError(Trouble.UNREACHABLE, "the scan was stopped", next_step="The next scan reads on.")
            yield Page(items=page, requested_at=requested_at, answered_at=self._now(), problems=problems)
        if counted:
            told = {"action": "folder_notes", "kind": str(kind), "notes": dict(counted)}
            log.info("the folder holds what MLflow does not expect", extra=told)

    def _guarded(self, pages: Iterator[Page]) -> Iterator[Page]:
        """Pages, unless the folder goes away under them: what was not found then was not looked at."""
        try:
            yield from pages
        except OSError as exc:
            raise SourceError(
                Trouble.UNREACHABLE,
                f"{self._config.folder} cannot be read ({exc.strerror})",
                next_step="Check that the volume is mounted; the next scan tries again.",
            ) from exc
