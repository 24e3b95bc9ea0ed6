"""Asks MLflow's backend database in snapshots: opens, renews and releases them, knows the schema, counts the traffic.

A snapshot is begun when a scope's first page is asked for, so that nothing in it is older than the scope, and renewed
when it has been open for minutes: an old one keeps VACUUM and `mlflow db upgrade` waiting. Pages go by key, so what
lies on both sides of a renewal is neither repeated nor skipped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources import mlflow_rows as shape
from stocktake.sources.mlflow_backends import Backend, Gone, Row
from stocktake.sources.mlflow_schema import Schema, schema
from stocktake.sources.mlflow_sql import Sql
from stocktake.sources.protocol import Item, Traffic

T = TypeVar("T")

#: Seconds after which a snapshot is renewed between two pages.
SNAPSHOT_SECONDS = 300.0
#: Rows of one table that a page of several runs may bring: beyond it the page is asked for again in halves.
MOST_ROWS = 100_000
_EVERYTHING = 2**31 - 1
#: Datasets fetched at once: each may hold a profile of megabytes.
_DATASETS = 50


class TooMuch(Exception):
    """A page holds more than may be in memory at once: ask for fewer items."""


class Reader:
    """One connection. `ask` is the only way in; what it is given runs inside a snapshot, and once more if the
    connection goes away."""

    def __init__(
        self,
        backend: Backend,
        now: Callable[[], datetime],
        traffic: Traffic,
        *,
        mlflow_workspace: str = "default",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.backend = backend
        self.schema: Schema | None = None
        self._now = now
        self._traffic = traffic
        self._workspace = mlflow_workspace
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._at: datetime | None = None  # when the open snapshot was asked for
        self._opened = 0.0

    def ask(self, work: Callable[[], T]) -> tuple[datetime, T]:
        """Say when the snapshot was taken, and what came. Raises SourceError, or TooMuch if `work` does."""
        with self._lock:
            try:
                return self._ask(work, retried=False)
            except Gone:
                self._at = None
                return self._ask(work, retried=True)

    def _ask(self, work: Callable[[], T], *, retried: bool) -> tuple[datetime, T]:
        began, status, size = self._monotonic(), None, 0
        try:
            at = self._open()
            found = work()
            status = 200
            size = sum(len(one.raw) for one in found if isinstance(one, Item)) if isinstance(found, list) else 0
        except BaseException:
            self.release()
            raise
        finally:
            self._count(status, self._monotonic() - began, size, retried)
        if not self.backend.holds:
            self.release()
        return at, found

    def release(self) -> None:
        """End the snapshot; the next question begins a new one."""
        with self._lock:
            if self._at is not None:
                self._at = None
                self.backend.end()

    def close(self) -> None:
        """Release the connection, from any thread."""
        self.backend.close()

    def _open(self) -> datetime:
        if self._at is not None and self._monotonic() - self._opened < SNAPSHOT_SECONDS:
            return self._at
        self.release()
        at = self._now()
        self.backend.begin()
        self._at, self._opened = at, self._monotonic()
        found = self._revision()
        if self.schema is not None and found != self.schema:
            raise SourceError(
                Trouble.SHAPE,
                f"{self.backend.place} was upgraded from {self.schema.revision} to {found.revision} while we read it",
                next_step="Nothing needs to be done: the next scan reads it as it is then.",
            )
        self.schema = found
        return at

    def _revision(self) -> Schema:
        try:
            rows = self.backend.rows("SELECT version_num FROM alembic_version", {})
        except SourceError as exc:
            if exc.trouble is not Trouble.SHAPE or isinstance(exc, Gone):
                raise
            what = f"{self.backend.place} is no backend database of MLflow: alembic_version cannot be read"
            step = "Check `database`: it must be what `mlflow server --backend-store-uri` is given."
            raise SourceError(Trouble.CONFIG, f"{what} ({exc.what})", next_step=step) from exc
        return schema([str(revision) for (revision,) in rows])

    def _count(self, status: int | None, seconds: float, size: int, retried: bool) -> None:
        traffic = self._traffic
        traffic.requests += 1
        traffic.bytes += size
        traffic.retries += retried
        traffic.seconds += seconds
        word = "none" if status is None else str(status)
        traffic.by_status[word] = traffic.by_status.get(word, 0) + 1
        if traffic.observer is not None:
            traffic.observer(status, seconds, size, retried)

    # -- inside `ask`: one page of a kind, whole

    @property
    def sql(self) -> Sql:
        """The questions for this database."""
        assert self.schema is not None
        return Sql(self.schema, self.backend.among)

    def pages(self, kind: Kind) -> Callable[[str, Mapping[str, Any]], list[Item]]:
        """What reads a page of a kind: of the items of which something is true, with these parameters."""
        return {
            Kind.EXPERIMENT: self.experiments,
            Kind.RUN: self.runs,
            Kind.LOGGED_MODEL: self.logged_models,
            Kind.TRACE: self.traces,
            Kind.REGISTERED_MODEL: self.registered_models,
            Kind.MODEL_VERSION: self.model_versions,
            Kind.WEBHOOK: self.webhooks,
        }[kind]

    def rows(self, sql: str, **params: Any) -> list[Row]:
        """Ask one question."""
        needed = {"workspace": self._workspace} if ":workspace" in sql else {}
        return self.backend.rows(sql, params | needed)

    def experiments(self, where: str, params: Mapping[str, Any]) -> list[Item]:
        """Experiments with their tags."""
        rows = self.rows(self.sql.experiments(where), **params)
        tags = self.rows(self.sql.experiment_tags(), keys=[row[0] for row in rows]) if rows else []
        return list(shape.experiments(rows, shape.by_first(tags)))

    def runs(self, where: str, params: Mapping[str, Any]) -> list[Item]:
        """Runs with all that belongs to them."""
        sql = self.sql
        rows = self.rows(sql.runs(where), **params)
        keys = [row[0] for row in rows]
        if not keys:
            return []
        known = sql.schema
        inputs = self._many(sql.dataset_inputs(), keys) if known.datasets else {}
        return list(
            shape.runs(
                rows,
                shape.OfRuns(
                    params=self._many(sql.of_runs("params"), keys),
                    tags=self._many(sql.of_runs("tags"), keys),
                    metrics=self._many(sql.of_runs("latest_metrics", "value, timestamp, step, is_nan"), keys),
                    dataset_inputs=inputs,
                    datasets=self._datasets({row[1] for several in inputs.values() for row in several}),
                    input_tags=self._input_tags([row[2] for several in inputs.values() for row in several]),
                    models=self._many(sql.models_of_runs(), keys) if known.logged_models else {},
                ),
            )
        )

    def logged_models(self, where: str, params: Mapping[str, Any]) -> list[Item]:
        """Logged models with params, tags and last metrics."""
        sql = self.sql
        rows = self.rows(sql.logged_models(where), **params)
        keys = [row[0] for row in rows]
        if not keys:
            return []
        tags = self._many(sql.of_logged_models("logged_model_tags", "tag"), keys)
        given = self._many(sql.of_logged_models("logged_model_params", "param"), keys)
        return list(shape.logged_models(rows, tags, given, self._many(sql.logged_model_metrics(), keys)))

    def registered_models(self, where: str, params: Mapping[str, Any]) -> list[Item]:
        """Registered models with tags and aliases."""
        rows = self.rows(self.sql.registered_models(where), **params)
        names = [row[0] for row in rows]
        tags = self.rows(self.sql.registered_model_tags(), keys=names) if names else []
        return list(shape.registered_models(rows, shape.by_first(tags), self._aliases(names)))

    def model_versions(self, where: str, params: Mapping[str, Any]) -> list[Item]:
        """Model versions with tags and aliases."""
        rows = self.rows(self.sql.model_versions(where), **params)
        if not rows:
            return []
        names = sorted({row[0] for row in rows})
        (first, first_version), (last, last_version) = rows[0][:2], rows[-1][:2]
        tags: dict[tuple[str, int], list[Row]] = {}
        found = self.rows(
            self.sql.model_version_tags(),
            keys=names,
            first=first,
            first_version=first_version,
            last=last,
            last_version=last_version,
        )
        for name, version, key, value in sorted(found, key=lambda row: row[2]):
            tags.setdefault((name, version), []).append((name, version, key, value))
        return list(shape.model_versions(rows, tags, self._aliases(names)))

    def webhooks(self, where: str, params: Mapping[str, Any]) -> list[Item]:
        """Webhooks with their events."""
        rows = self.rows(self.sql.webhooks(where), **params)
        events = self.rows(self.sql.webhook_events(), keys=[row[0] for row in rows]) if rows else []
        return list(shape.webhooks(rows, shape.by_first(events)))

    def traces(self, where: str, params: Mapping[str, Any]) -> list[Item]:
        """Traces with tags and metadata."""
        sql = self.sql
        rows = self.rows(sql.traces(where), **params)
        keys = [row[0] for row in rows]
        if not keys:
            return []
        tags = self._many(sql.of_traces("trace_tags"), keys)
        metadata = self._many(sql.of_traces("trace_request_metadata"), keys)
        return list(shape.traces(rows, tags, metadata, columns=sql.schema.trace_columns))

    def _many(self, sql: str, keys: Sequence[str]) -> shape.Rows:
        several = len(keys) > 1
        found = self.rows(sql, keys=list(keys), most=MOST_ROWS + 1 if several else _EVERYTHING)
        if several and len(found) > MOST_ROWS:
            raise TooMuch
        return shape.by_first(found)

    def _datasets(self, ids: set[str]) -> dict[str, Row]:
        ordered, found = sorted(ids), dict[str, Row]()
        for start in range(0, len(ordered), _DATASETS):
            for row in self.rows(self.sql.datasets(), keys=ordered[start : start + _DATASETS]):
                found[row[0]] = row[1:]
        return found

    def _input_tags(self, inputs: list[str]) -> shape.Rows:
        return shape.by_first(self.rows(self.sql.input_tags(), keys=inputs)) if inputs else {}

    def _aliases(self, names: list[str]) -> shape.Rows:
        if not names or not self.sql.schema.aliases:
            return {}
        return shape.by_first(self.rows(self.sql.aliases(), keys=names))
