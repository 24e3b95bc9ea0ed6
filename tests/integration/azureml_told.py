"""A workspace of the loopback Azure that is watched, and what the history tells of it after each scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from stocktake import pipeline
from stocktake.core.assets import Kind, Mode
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.demo.azure.workspace import Workspace
from stocktake.sources.azureml import AzureMl
from stocktake.store import history
from tests.azure.server import AzureServer
from tests.servers.azureml import azureml_config

KEY = b"k" * 32


@dataclass(slots=True)
class Told:
    """A watched workspace, and what the history told after each scan."""

    engine: Engine
    server: AzureServer
    workspace: Workspace
    told: int = 0  # changes that were looked at
    name: str = "w"

    def scan(
        self,
        mode: Mode = Mode.HOT,
        *,
        budget: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        **options: Any,
    ) -> pipeline.ScanReport:
        """Take stock of it once, with options of AzureMlConfig by name."""
        config = azureml_config(self.server, self.workspace, retries=0, **options)
        config = replace(config, arm=replace(config.arm, budget=budget))
        return pipeline.scan(
            self.engine,
            lambda now: AzureMl(config, now),
            workspace=self.name,
            stop=stop,
            source_name="azureml",
            uri=self.server.arm + self.workspace.scope,
            mode=mode,
            redactor=Redactor(KEY),
            key=KEY,
            guard=Guard(),
        )

    def changes(self, *, runs: bool = False) -> list[tuple[str, str, str, tuple[str, ...]]]:
        """What is new in the history: kind, key, what happened, and which fields."""
        with self.engine.connect() as connection:
            rows = sorted(history.changes(connection, limit=10_000), key=lambda row: row.id or 0)
        rows, self.told = rows[self.told :], len(rows)
        return [
            (row.kind, row.key, str(row.type), tuple(change["path"] for change in row.fields))
            for row in rows
            if runs or row.kind not in (Kind.RUN, Kind.EXPERIMENT)
        ]

    def now(self) -> Workspace:
        """The workspace, after its clock has caught up with ours: its activity log tells when somebody did what."""
        estate = self.server.estate
        estate.tick((datetime.now(UTC) - estate.now()).total_seconds())
        return self.workspace

    def actors(self) -> dict[tuple[str, str, str], tuple[str, str | None]]:
        """Who made each change of the whole history, and how that is known; runs and experiments left out."""
        with self.engine.connect() as connection:
            return {
                (row.kind, row.key, str(row.type)): (row.actor, row.actor_source)
                for row in history.changes(connection, limit=10_000)
                if row.kind not in (Kind.RUN, Kind.EXPERIMENT)
            }

    def state(self, kind: Kind, key: str) -> str | None:
        """The state of an asset as it is published."""
        with self.engine.connect() as connection:
            return next((row.state for row in history.list_assets(connection, kind) if row.key == key), None)

    def times(self, key: str) -> tuple[bool, bool]:
        """Whether the start and the end of a job are known."""
        with self.engine.connect() as connection:
            row = next(row for row in history.list_assets(connection, Kind.JOB) if row.key == key)
        return row.started_at is not None, row.ended_at is not None

    def keys(self, kind: Kind) -> set[str]:
        """What is published of a kind."""
        with self.engine.connect() as connection:
            return {row.key for row in history.list_assets(connection, kind)}
