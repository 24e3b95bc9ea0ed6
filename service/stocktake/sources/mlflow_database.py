"""The source `mlflow_database`: takes stock of an MLflow server by its backend database, reading only.

It gives the documents that mlflow_rest gives (tests/integration/test_equal_sources.py), and sees what the API hides:
deleted logged models, tombstones of model versions, and aside when a run was deleted, which models it took, and where
a version's artifacts lie. It must never write: the database is opened so that it could not (mlflow_backends.py).

Whoever is asked for by id is looked up in a snapshot of that moment, over a connection of its own: the snapshot that
is being listed may be minutes old.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from stocktake.core.assets import Asset, Kind, Mode, Scope, ScopeState
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.mlflow_backends import Backend
from stocktake.sources.mlflow_documents import parse
from stocktake.sources.mlflow_keys import COUNTED, MOVING, TABLES, numbers
from stocktake.sources.mlflow_pages import encode
from stocktake.sources.mlflow_plan import Group, Limits, chunks, groups
from stocktake.sources.mlflow_postgres import Postgres
from stocktake.sources.mlflow_reader import Reader, TooMuch
from stocktake.sources.mlflow_rows import unwrap
from stocktake.sources.mlflow_sqlite import Sqlite
from stocktake.sources.mlflow_values import shape_error
from stocktake.sources.prefetch import prefetch
from stocktake.sources.protocol import Identity, Item, KindFacts, Known, Listing, Page, Traffic, failing

log = logging.getLogger(__name__)

#: A group is one walk along the key of a table, so it may be large; and one scope, whose heads are held in memory.
LIMITS = Limits(alone=20_000, experiments=5_000, items=50_000)
_PAGE_BYTES = 16 * 2**20
_CONFIRM_CHUNK = 500
_CONFIRM_VERSIONS = 50  # every name is looked up with every number


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowDatabaseConfig:
    """The backend database of one MLflow server, or one MLflow workspace in it."""

    url: str  # sqlite:////path or postgresql://user@host/db, without a password
    password: str | None = None
    workspace: str | None = None  # the MLflow workspace; "default" where none is named
    visibility: str = "auto"  # auto, complete, filtered
    timeout: float = 60.0  # of one question, in seconds
    page_size: int = 1000
    run_overlap: timedelta = timedelta(hours=1)  # clients write the times of runs by their own clocks
    owner_tags: Sequence[str] = ()
    read_ahead: bool = True


def open_backend(url: str, *, password: str | None, timeout: float) -> Backend:
    """Make the backend of an address. Nothing is opened yet."""
    if url.startswith("sqlite:"):
        return Sqlite(url, timeout=timeout)
    return Postgres(url, password=password, timeout=timeout)


class MlflowDatabase:
    """A watched backend database. Made for one scan; its pages are read one ahead in a thread of their own."""

    name = "mlflow_database"
    acts = None  # MLflow keeps no log of who did what
    kinds: Mapping[Kind, KindFacts] = {
        Kind.WORKSPACE: KindFacts(sees_deleted=False),
        Kind.EXPERIMENT: KindFacts(sees_deleted=True),
        Kind.REGISTERED_MODEL: KindFacts(sees_deleted=True),
        Kind.MODEL_VERSION: KindFacts(sees_deleted=True),
        Kind.WEBHOOK: KindFacts(sees_deleted=True),
        Kind.RUN: KindFacts(sees_deleted=True, partitioned=True),
        Kind.LOGGED_MODEL: KindFacts(sees_deleted=True, partitioned=True),
        Kind.TRACE: KindFacts(sees_deleted=True, partitioned=True),
    }

    def __init__(
        self,
        config: MlflowDatabaseConfig,
        now: Callable[[], datetime],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.traffic = Traffic()
        self._config = config

        def reader() -> Reader:
            return Reader(
                open_backend(config.url, password=config.password, timeout=config.timeout),
                now,
                self.traffic,
                mlflow_workspace=config.workspace or "default",
                monotonic=monotonic,
            )

        self._lister, self._asker = reader(), reader()
        self._experiments: list[str] = []  # as far as this pass has listed them
        self._whole = False  # whether that is all of them

    def close(self) -> None:
        """Release connections; a question under way fails soon."""
        self._lister.close()
        self._asker.close()

    def identify(self) -> Identity:
        """Say who we are. A database hides nothing in silence: what a role may not read is an error."""
        reader = self._lister
        _, (user, may_write) = reader.ask(lambda: (reader.backend.user(), reader.backend.may_write()))
        reader.release()
        schema = reader.schema
        assert schema is not None
        if self._config.workspace not in (None, "default") and not schema.workspaces:
            raise SourceError(
                Trouble.CONFIG,
                f"{reader.backend.place} is of an MLflow without workspaces, but `workspace` names one",
                next_step="Leave `workspace` out.",
            )
        filtered = self._config.visibility == "filtered"
        note = f"reads the backend database, schema revision {schema.revision}, in transactions that cannot write"
        if may_write:
            note += "; outside of them this role could (docs/how-to/backend-database.md makes one that could not)"
        if self._config.visibility != "auto":
            note = f"visibility is configured: {self._config.visibility}"
        return Identity(name=user, filtered=filtered, note=note)

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        """Yield the scopes of a pass: the small kinds completely, then runs, logged models and traces."""
        if self._lister.schema is None:
            self.identify()
        promise = ScopeState.FILTERED if self._config.visibility == "filtered" else ScopeState.COMPLETE
        yield self._listing(Scope(kind=Kind.WORKSPACE), self._server_pages(), ScopeState.COMPLETE)
        yield self._listing(Scope(kind=Kind.EXPERIMENT), self._experiment_pages(), promise)
        for kind in (Kind.REGISTERED_MODEL, Kind.MODEL_VERSION, Kind.WEBHOOK):
            if self._offered(kind):
                yield self._listing(Scope(kind=kind), self._pages(kind), promise)
            else:
                yield _not_offered(kind)
        for kind in (Kind.RUN, Kind.LOGGED_MODEL, Kind.TRACE):
            if not self._offered(kind):
                yield _not_offered(kind)
                continue
            if mode is Mode.HOT and (since := known.last_look(kind)) is not None:
                yield from self._moving(kind, since - self._config.run_overlap, known, promise)
            else:
                yield from self._complete(kind, known, promise)
            if not self._whole:
                yield self._unlisted(kind)

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        """Turn one raw item into an asset."""
        try:
            item, aside = unwrap(raw)
        except ValueError as exc:
            raise shape_error(f"{kind} of an unknown structure ({type(exc).__name__})") from exc
        asset = parse(kind, item, owner_tags=self._config.owner_tags)
        return replace(asset, aside={**asset.aside, **aside}) if aside else asset

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        """Look assets up by id, as they are now. A key that cannot be one is one that is not there."""
        answers: dict[str, Item | None] = {}
        for block in chunks(keys, _CONFIRM_VERSIONS if kind is Kind.MODEL_VERSION else _CONFIRM_CHUNK):
            try:
                found = {item.key: item for item in self._look_up(kind, block)}
            except SourceError as exc:
                log.info("assets could not be confirmed", extra={"action": "confirm_failed", "trouble": exc.trouble})
                break
            answers |= {key: found.get(key) for key in block}
        return answers

    def _look_up(self, kind: Kind, keys: Sequence[str]) -> list[Item]:
        reader = self._asker
        try:
            if kind is Kind.WORKSPACE:
                return reader.ask(lambda: [self._server_item(reader)])[1]
            reader.ask(lambda: None)  # opens the snapshot: the schema must be known before the question is put
            if not self._offered(kind):
                return []
            table = TABLES[kind]
            ids = table.ids(keys)
            if not all(ids.values()):
                return []
            params = {**ids, "limit": len(keys) * (len(keys) if kind is Kind.MODEL_VERSION else 1)}
            read = reader.pages(kind)
            try:
                return reader.ask(lambda: read(table.one_of(reader.sql), params))[1]
            except TooMuch:
                middle = len(keys) // 2
                return [*self._look_up(kind, keys[:middle]), *self._look_up(kind, keys[middle:])]
        finally:
            reader.release()

    def _offered(self, kind: Kind) -> bool:
        schema = self._lister.schema or self._asker.schema
        assert schema is not None
        there = {
            Kind.LOGGED_MODEL: schema.logged_models,
            Kind.TRACE: schema.traces,
            Kind.WEBHOOK: schema.webhooks,
        }
        return there.get(kind, True)

    def _listing(self, scope: Scope, pages: Iterator[Page], promise: ScopeState) -> Listing:
        return Listing(scope=scope, pages=prefetch(pages) if self._config.read_ahead else pages, promise=promise)

    def _complete(self, kind: Kind, known: Known, promise: ScopeState) -> Iterator[Listing]:
        """Every experiment that is listed or known: the runs of one that vanished must be judged too."""
        planned = groups(self._experiments, {**known.partition_sizes(kind), **self._sizes(kind)}, LIMITS)
        if not planned:
            yield Listing(scope=Scope(kind=kind, covers=()), pages=iter(()), promise=promise)
        yield from (self._group(kind, group, promise) for group in planned)

    def _group(self, kind: Kind, group: Group, promise: ScopeState) -> Listing:
        where = self._lister.sql.among("experiment_id", "experiments")
        pages = self._pages(kind, where, experiments=numbers(group.ids))
        return self._listing(Scope(kind=kind, partition=group.label, covers=group.ids), pages, promise)

    def _sizes(self, kind: Kind) -> dict[str, int]:
        reader = self._lister
        try:
            _, rows = reader.ask(lambda: reader.rows(reader.sql.counts(COUNTED[kind])))
        except SourceError:
            return {}  # the listing will meet the same trouble, and say so
        finally:
            reader.release()
        listed = set(self._experiments)
        return {str(key): count for key, count in rows if str(key) in listed}

    def _moving(self, kind: Kind, since: datetime, known: Known, promise: ScopeState) -> Iterator[Listing]:
        """What is new or moving in any experiment, then all of the experiments that changed themselves."""
        pages = self._pages(kind, MOVING[kind], since=int(since.timestamp() * 1000))
        yield self._listing(Scope(kind=kind, partition="moving", covers=()), pages, ScopeState.INCREMENTAL)
        if kind is Kind.TRACE:
            return  # deleting an experiment leaves its traces as they are
        if changed := known.changed(Kind.EXPERIMENT):
            sizes = {key: size for key, size in known.partition_sizes(kind).items() if key in changed}
            for group in groups([key for key in self._experiments if key in changed], sizes, LIMITS):
                yield self._group(kind, group, promise)

    def _pages(self, kind: Kind, where: str = "1 = 1", **params: Any) -> Iterator[Page]:
        """The pages of a scope, in snapshots of its own. A page that is too much is asked for again in halves."""
        reader, table = self._lister, TABLES[kind]
        read, position, size = reader.pages(kind), dict(table.start), self._config.page_size
        reader.release()
        try:
            while True:
                given = {**params, **position, "limit": size}
                try:
                    at, items = reader.ask(lambda given=given: read(f"{table.key} AND {where}", given))  # type: ignore[misc]
                except TooMuch:
                    size = max(1, size // 2)
                    continue
                full = len(items) == size
                if full:
                    position = dict(table.after(items[-1].key))
                large = sum(len(item.raw) for item in items) > _PAGE_BYTES
                size = max(1, size // 2) if large else min(self._config.page_size, size * 2)
                if items or not full:
                    yield Page(items=items, requested_at=at)
                if not full:
                    return
        finally:
            reader.release()

    def _experiment_pages(self) -> Iterator[Page]:
        seen: list[str] = []
        for page in self._pages(Kind.EXPERIMENT):
            seen += [item.key for item in page.items]
            self._experiments = list(seen)
            yield page
        self._whole = True

    def _unlisted(self, kind: Kind) -> Listing:
        """A scope that fails: what lies in experiments that were not listed was not looked at in this pass."""
        error = SourceError(
            Trouble.TRUNCATED,
            f"not every experiment could be listed, so items ({kind}) of the others were not looked at",
            next_step="See what is wrong with the scope of the experiments; the next scan tries again.",
        )
        return Listing(scope=Scope(kind=kind, partition="unlisted", covers=()), pages=failing(error))

    def _server_pages(self) -> Iterator[Page]:
        reader = self._lister
        reader.release()
        try:
            at, item = reader.ask(lambda: self._server_item(reader))
        finally:
            reader.release()
        yield Page(items=[item], requested_at=at)

    def _server_item(self, reader: Reader) -> Item:
        assert reader.schema is not None
        facts: dict[str, Any] = {
            "uri": self._config.url.rstrip("/"),
            "store_type": f"database ({reader.backend.name})",
            "schema_revision": reader.schema.revision,
            "visibility": "filtered" if self._config.visibility == "filtered" else "complete",
        }
        if reader.schema.workspaces:
            found = reader.rows(reader.sql.workspaces())
            names = ("description", "default_artifact_root")
            workspaces = {
                name: {word: text for word, text in zip(names, about, strict=True) if text} for name, *about in found
            }
            if set(workspaces) - {"default"}:
                facts["workspaces"] = workspaces
        if self._config.workspace is not None:
            facts["mlflow_workspace"] = self._config.workspace
        return Item("server", encode(facts))


def _not_offered(kind: Kind) -> Listing:
    return Listing(scope=Scope(kind=kind, covers=()), pages=iter(()), promise=ScopeState.UNSUPPORTED)
