"""Moving the inventory from one database to another: db dump, db restore. A dump is whole or it is not there."""

from __future__ import annotations

import errno
import hmac
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from stocktake import __version__
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import clean
from stocktake.cli.session import Session, session

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from stocktake.settings import Settings
    from stocktake.store.dump import Header

_FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The dump.", show_default=False)]


def dump(context: typer.Context, file: _FileArgument) -> int:
    """Write the whole inventory, with its history, into one file.

    It may be done while a worker runs: the file holds one moment. It needs no program of Postgres. The installation
    key is not in it. `stocktake db restore` loads it into another database. Exits with 8 when the file cannot be
    written; then nothing is left of it.
    """
    from stocktake.store import dump as dumps

    current = session(context)
    settings = current.settings()
    with (
        _new(file) as opened,
        _database_errors("Nothing was written."),
        current.engine(settings) as engine,
        _progress(current, None) as tell,
    ):
        header = dumps.write(engine, opened, made_by=__version__, tell=tell)
    sys.stdout.write(
        f"Dumped {header.rows:,} rows of {len(header.sections)} tables into {clean(str(file))}"
        f" ({(header.bytes + dumps.HEADER) / 1e6:,.1f} MB, revision {header.revision}).\n"
    )
    current.tell(
        "The installation key is not in it. Whoever restores it needs the same key:"
        f" {clean(str(settings.data_dir / 'installation.key'))}, or what STOCKTAKE_REDACTION_KEY is set to."
    )
    return ExitCode.COMPLETE


def restore(context: typer.Context, file: _FileArgument) -> int:
    """Load a dump into an empty database: the one that the configuration names.

    All of it or nothing, in one transaction; what was loaded is read back and compared with the dump. An empty database
    is migrated first. Exits with 8 when the dump or the database does not fit; then nothing was changed.
    """
    from stocktake.store import dump as dumps

    current = session(context)
    settings = current.settings()
    try:
        with _existing(file) as opened:
            header = dumps.read_header(opened, os.fstat(opened.fileno()).st_size)
            dumps.check_revision(header)
            warning = _key_warning(settings, header)
            with (
                _database_errors("Nothing of the dump was kept."),
                _target(settings) as engine,
                _progress(current, header.bytes) as tell,
            ):
                dumps.restore(engine, opened, header, tell=tell)
    except dumps.DumpError as exc:
        raise Stop(ExitCode.REFUSED, f"{clean(str(file))}: {exc}") from exc
    sys.stdout.write(
        f"Restored {header.rows:,} rows of {len(header.sections)} tables, dumped at {header.made_at} by stocktake"
        f" {clean(header.made_by)}; read back and found equal.\n"
    )
    if warning:
        sys.stderr.write(warning + "\n")  # even with --quiet: without the key no scan is possible
    return ExitCode.COMPLETE


def _key_warning(settings: Settings, header: Header) -> str | None:
    """Say that the installation key of the dump is not the one here, and what to do."""
    from stocktake.settings import present_key
    from stocktake.store.installation import check_value

    if not header.key_check:
        return None  # nothing was ever scanned into it
    key = present_key(settings.data_dir, os.environ)
    if key is not None and hmac.compare_digest(check_value(key).hex(), header.key_check):
        return None
    path = clean(str(settings.data_dir / "installation.key"))
    here = "is another one than" if key is not None else "is missing; it must be"
    return (
        f"The installation key here {here} that of the dumped database. Questions are answered, but no scan is possible"
        f" until it is here: copy the old installation's installation.key to {path}, or set STOCKTAKE_REDACTION_KEY to"
        " it, for every worker of this database. If it is lost, equal secrets can no longer be recognised: begin again"
        " with an empty database, and keep this one to look things up."
    )


@contextmanager
def _target(settings: Settings) -> Iterator[Engine]:
    """The database to restore into, at the revision of this version."""
    from stocktake.store import migrate
    from stocktake.wiring import open_database

    with open_database(settings) as engine:
        with engine.connect() as connection:
            known, wanted = migrate.current(connection), migrate.newest()
        if known is not None and known != wanted:
            raise Stop(
                ExitCode.REFUSED,
                f"The database is at revision {clean(known)}, so it is not new (this version makes {wanted}). A dump is"
                " restored into a new database only; create one, and name it under `database` in the configuration.",
            )
        if known is None:
            migrate.upgrade(engine)
        yield engine


@contextmanager
def _database_errors(kept: str) -> Iterator[None]:
    """Say plainly what the database did not do."""
    import psycopg
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (psycopg.Error, DBAPIError) as exc:
        cause = getattr(exc, "orig", None) or exc
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        hint = ""
        if isinstance(cause, psycopg.errors.InsufficientPrivilege):
            hint = " Make the database's user the owner of the database: it must read, and create, tables and a schema."
        elif isinstance(cause, psycopg.errors.DiskFull):
            hint = " Free some space there; three times the size of the dump is enough."
        raise Stop(ExitCode.DATABASE, f"The database refused: {clean(reason).rstrip('.')}.{hint} {kept}") from exc


@contextmanager
def _new(file: Path) -> Iterator[BinaryIO]:
    """A new file, written beside its place and moved there when it is whole; nothing is left of it otherwise."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.partial")
    before = signal.signal(signal.SIGTERM, _interrupted)
    try:
        if file.exists():
            raise Stop(ExitCode.REFUSED, f"{clean(str(file))} is there already. Name another file, or remove it first.")
        with os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b", buffering=1_048_576) as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        draft.rename(file)
    except OSError as exc:
        raise Stop(
            ExitCode.REFUSED,
            f"{clean(str(file))} cannot be written: {exc.strerror}. {_advice(exc)} Nothing is left of it.",
        ) from exc
    finally:
        signal.signal(signal.SIGTERM, before)
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _existing(file: Path) -> Iterator[BinaryIO]:
    try:
        opened = file.open("rb", buffering=1_048_576)
    except OSError as exc:
        raise Stop(ExitCode.REFUSED, f"{clean(str(file))} cannot be read: {exc.strerror}. {_advice(exc)}") from exc
    with opened:
        yield opened


def _advice(exc: OSError) -> str:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free some space, or name a file on another disk."
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Check who may read and write there."
    return "Check the path."


@contextmanager
def _progress(current: Session, total: int | None) -> Iterator[Callable[[str, int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    if current.quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda table, size: bar.update(task, advance=size, description=table)
