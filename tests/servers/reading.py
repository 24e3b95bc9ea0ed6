"""Reads a source to its end, the way the pipeline does, and keeps what came for the test to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stocktake.core.actors import Line
from stocktake.core.assets import Asset, Kind, Mode, Scope, ScopeState
from stocktake.core.errors import SourceError
from stocktake.sources.http import HttpConfig
from stocktake.sources.mlflow_database import MlflowDatabase, MlflowDatabaseConfig
from stocktake.sources.mlflow_files import MlflowFiles, MlflowFilesConfig
from stocktake.sources.mlflow_rest import MlflowRest, MlflowRestConfig
from stocktake.sources.protocol import Source
from tests.servers.known import PlainKnown


@dataclass(slots=True)
class Heard:
    """One scope as it was read."""

    scope: Scope
    promise: ScopeState
    assets: dict[str, Asset] = field(default_factory=dict)
    pages: int = 0
    problems: list[str] = field(default_factory=list)
    error: SourceError | None = None


@dataclass(slots=True)
class Reading:
    """One pass."""

    heard: list[Heard]
    acts: list[Line] = field(default_factory=list)
    acts_error: SourceError | None = None

    def assets(self, kind: Kind) -> dict[str, Asset]:
        """What was seen of a kind, by key."""
        return {key: asset for one in self.of(kind) for key, asset in one.assets.items()}

    def of(self, kind: Kind) -> list[Heard]:
        """The scopes of a kind."""
        return [one for one in self.heard if one.scope.kind == kind]

    def only(self, kind: Kind) -> Heard:
        """The one scope of a kind."""
        (one,) = self.of(kind)
        return one


def read(source: Source, mode: Mode = Mode.SWEEP, known: PlainKnown | None = None) -> Reading:
    """Consume every listing, then the log of who did what; an error ends its scope, and only that."""
    heard = []
    for listing in source.listings(mode, known or PlainKnown()):
        one = Heard(listing.scope, listing.promise)
        try:
            for page in listing.pages:
                one.pages += 1
                one.problems += page.problems
                one.assets |= {item.key: source.parse(listing.scope.kind, item.raw) for item in page.items}
        except SourceError as exc:
            one.error = exc
        heard.append(one)
    reading = Reading(heard)
    if source.acts is not None:
        try:
            for lines in source.acts(datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)):
                reading.acts += lines
        except SourceError as exc:
            reading.acts_error = exc
    return reading


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._at

    def monotonic(self) -> float:
        return self._at.timestamp()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._at += timedelta(seconds=seconds)


def files_source(folder: Path, clock: Clock | None = None, **options: Any) -> MlflowFiles:
    """The source over a folder, with options of MlflowFilesConfig by name."""
    return MlflowFiles(MlflowFilesConfig(folder=folder, **options), (clock or Clock()).now)


def mlflow_source(uri: str, clock: Clock | None = None, **options: object) -> MlflowRest:
    """The source under test, with options of HttpConfig and of MlflowRestConfig by name."""
    clock = clock or Clock()
    http = {name: value for name, value in options.items() if name in HttpConfig.__dataclass_fields__}
    rest = {name: value for name, value in options.items() if name not in http}
    config = MlflowRestConfig(http=HttpConfig(base_url=uri, **http), **rest)  # type: ignore[arg-type]
    return MlflowRest(config, clock.now, sleep=clock.sleep, monotonic=clock.monotonic)


def database_source(url: str, clock: Clock | None = None, **options: object) -> MlflowDatabase:
    """The source that reads a backend database, with options of MlflowDatabaseConfig by name."""
    clock = clock or Clock()
    config = MlflowDatabaseConfig(url=url, **options)  # type: ignore[arg-type]
    return MlflowDatabase(config, clock.now, monotonic=clock.monotonic)
