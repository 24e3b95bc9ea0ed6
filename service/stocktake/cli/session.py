"""What every command shares: the global options, the configuration and the database, opened when first needed."""

from __future__ import annotations

import difflib
import getpass
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import Output, clean, say
from stocktake.cli.times import TimeError, parse_time
from stocktake.core.assets import Kind
from stocktake.core.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from stocktake.settings import Settings


@dataclass(slots=True, kw_only=True)
class Session:
    """The global options of one call."""

    config: Path | None = None
    debug: bool = False
    quiet: bool = False
    log_format: str | None = None
    log_level: str = "WARNING"

    def settings(self) -> Settings:
        """Read and check the configuration."""
        from stocktake.settings import load_settings

        return load_settings(self.config)

    def tell(self, message: str) -> None:
        """Say something that is not the answer, unless --quiet."""
        if not self.quiet:
            say(message)

    def logging(self, settings: Settings | None = None, *, level: str | None = None) -> None:
        """Begin to log on stderr; questions log warnings only, what runs for long follows the configuration."""
        from stocktake.telemetry.logs import LogConfig, setup_logging

        chosen = "DEBUG" if self.debug else level or self.log_level
        style = self.log_format or (settings.log.format if settings is not None else "auto")
        setup_logging(LogConfig(level=chosen, format=style))  # type: ignore[arg-type]  # checked by typer or pydantic

    @contextmanager
    def engine(self, settings: Settings | None = None) -> Iterator[Engine]:
        """Open the database as it is; refuse one whose migrations are missing."""
        from stocktake.store import migrate
        from stocktake.wiring import open_database

        with open_database(settings or self.settings()) as engine:
            with engine.connect() as connection:
                known, wanted = migrate.current(connection), migrate.newest()
            if known != wanted:
                state = "is empty" if known is None else f"is at revision {known}"
                raise Stop(
                    ExitCode.DATABASE,
                    f"The database {state}; this version of stocktake needs revision {wanted}."
                    " Run `stocktake db upgrade`, or `stocktake up` or `stocktake scan`, which do it themselves.",
                )
            yield engine

    @contextmanager
    def database(self, settings: Settings | None = None) -> Iterator[Connection]:
        """A connection for questions: one snapshot, nothing is written."""
        with self.engine(settings) as engine, engine.connect() as connection:
            yield connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def widest(self) -> Settings:
        """The configuration with what discovery found, or alone where the database cannot tell."""
        settings = self.settings()
        if not settings.discovery:
            return settings
        try:
            with self.database(settings) as connection:
                return wide(settings, connection)
        except (ConfigError, Stop):
            return settings


def now() -> datetime:
    """The clock that "2 days ago" counts from."""
    return datetime.now(UTC)


def session(context: typer.Context) -> Session:
    """The session of this call."""
    found = context.find_object(Session)
    assert found is not None
    return found


def moment(text: str | None, option: str, *, future: bool = True) -> datetime | None:
    """Read the time given to an option."""
    if text is None:
        return None
    try:
        return parse_time(text, now=now(), future=future)
    except TimeError as exc:
        raise typer.BadParameter(str(exc), param_hint=option) from exc


def kind(text: str) -> Kind:
    """Read a kind as people write it: `runs`, `model-version` and `Registered Models` are understood."""
    word = text.strip().lower().replace("-", "_").replace(" ", "_")
    for candidate in (word, word.removesuffix("s")):
        if candidate in set(Kind):
            return Kind(candidate)
    close = difflib.get_close_matches(word, [*Kind], n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise typer.BadParameter(f"There is no kind {clean(text)!r}.{hint} Kinds: {', '.join(Kind)}.", param_hint="KIND")


def kinds(incomplete: str) -> list[str]:
    """Complete a kind."""
    return [str(one) for one in Kind if one.startswith(incomplete.lower())]


def known(asked: Sequence[str] | None, names: Sequence[str], settings: Settings | None = None) -> list[str] | None:
    """Check workspace names. Without any, it is about those that `settings` name, or else about all (None)."""
    for name in asked or ():
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            there = f" There are: {', '.join(names)}." if names else " None was scanned yet: run `stocktake scan`."
            raise Stop(ExitCode.NOT_FOUND, f"There is no workspace {clean(name)!r}.{hint}{there}")
    if asked:
        return list(dict.fromkeys(asked))
    return [one.name for one in settings.workspaces] or None if settings is not None else None


def wide(settings: Settings, connection: Connection) -> Settings:
    """The configuration with the workspaces that discovery found beside those that it names."""
    if not settings.discovery:
        return settings
    from stocktake.discovering import widened

    return widened(settings, connection)


def pairs(given: Sequence[str] | None, allowed: Sequence[str]) -> dict[str, str] | None:
    """Read `--where state=FAILED`."""
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or name not in allowed:
            raise typer.BadParameter(
                f"{clean(text)!r} is not NAME=VALUE with NAME one of: {', '.join(allowed)}.", param_hint="--where"
            )
        found[name] = value
    return found or None


def operator() -> str:
    """Who runs this command, for what is recorded."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def log_levels() -> Mapping[str, int]:
    """The names of the levels."""
    return logging.getLevelNamesMapping()


WorkspaceOption = Annotated[
    list[str] | None,
    typer.Option("--workspace", "-w", metavar="NAME", help="Only this workspace; may be repeated. [default: all]"),
]
AskedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="NAME",
        help="Only this workspace; may be repeated. [default: all configured, or all where none is]",
    ),
]
OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", metavar="|".join(Output), help="A table for people; json and tsv for programs."),
]
AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="As it was known then. A time without an offset is local time."),
]
SinceOption = Annotated[str | None, typer.Option("--since", metavar="TIME", help='After this time, e.g. "2 days ago".')]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Up to this time.")]
KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="experiment, run, ...", autocompletion=kinds)]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The asset's id, or its name.")]
