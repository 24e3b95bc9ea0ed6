"""Which source reads what lies at a path: an `mlruns` folder, or the database file of a tracking server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources import SOURCES
from stocktake.sources.mlflow_files import MlflowFiles, MlflowFilesConfig
from stocktake.sources.protocol import Source

_SQLITE = b"SQLite format 3\x00"


def open_path(path: Path, now: Callable[[], datetime], *, owner_tags: Sequence[str] = ()) -> Source:
    """Return the source that reads it, for the caller to close. Raises SourceError when nothing does."""
    path = path.expanduser().absolute()
    if path.is_dir():
        return MlflowFiles(MlflowFilesConfig(folder=path, owner_tags=owner_tags), now)
    try:
        with path.open("rb") as file:
            begins = file.read(len(_SQLITE))
    except OSError as exc:
        raise SourceError(
            Trouble.PERMISSION if isinstance(exc, PermissionError) else Trouble.NOT_FOUND,
            f"{path} cannot be read ({exc.strerror})",
            next_step="Name an mlruns folder, or the SQLite file of a tracking server (mlflow.db).",
        ) from exc
    if begins != _SQLITE:
        raise SourceError(
            Trouble.UNSUPPORTED,
            f"{path} is neither a folder nor a SQLite file",
            next_step="Name an mlruns folder, or the SQLite file of a tracking server (mlflow.db).",
        )
    return _database(path, now, owner_tags)


def reads_databases() -> bool:
    """Whether this version of stocktake reads the database of a tracking server."""
    return "mlflow_database" in SOURCES


def _database(path: Path, now: Callable[[], datetime], owner_tags: Sequence[str]) -> Source:
    """The one place where `mlflow_database` is connected: return its source over the URL sqlite:///{path}."""
    del now, owner_tags
    raise SourceError(
        Trouble.UNSUPPORTED,
        f"{path} is a database, which this version of stocktake does not read",
        next_step="Start `mlflow server` over it and watch that, or try an mlruns folder.",
    )
