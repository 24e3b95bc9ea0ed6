"""Which source reads what lies at a path: an `mlruns` folder, or the database file of a tracking server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.mlflow_database import MlflowDatabase, MlflowDatabaseConfig
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
    return MlflowDatabase(MlflowDatabaseConfig(url=f"sqlite:///{quote(str(path))}", owner_tags=owner_tags), now)
