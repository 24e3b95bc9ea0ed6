"""What `stocktake up` offers where nothing is configured: what MLflow leaves in a project, a folder and a database."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import clean, say
from stocktake.core.errors import SourceError

if TYPE_CHECKING:
    from stocktake.settings import Settings


def accepted(settings: Settings) -> Settings | None:
    """Offer to watch what lies here; the settings for what a person says yes to.

    Without a terminal nobody can: which of the two is meant is not guessed. Raises Stop.
    """
    if settings.file is not None:
        return None
    from stocktake.settings import load_settings

    for path, address in found(Path.cwd()):
        say(f"Found {clean(path)}: `stocktake try {clean(path)}` takes stock of it once and leaves nothing behind.")
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            watch = f"MLFLOW_TRACKING_URI={clean(address)} stocktake up"
            raise Stop(ExitCode.USAGE, f"To watch it: {watch}. For the demonstration: stocktake up --demo")
        if typer.confirm(f"Watch {clean(path)} (read-only)?", default=True, err=True):
            return load_settings(None, os.environ | {"MLFLOW_TRACKING_URI": address})
    return None


def found(here: Path) -> Iterator[tuple[str, str]]:
    """What of MLflow's lies in a folder and can be read: how to name it, and its tracking URI."""
    from datetime import UTC, datetime

    from stocktake.sources.opening import open_path

    for name, address in (("mlflow.db", "sqlite:///{}"), ("mlruns", "{}")):
        path = here / name
        if not path.exists():
            continue
        try:
            source = open_path(path, lambda: datetime.now(UTC))
            try:
                source.identify()
            finally:
                source.close()
        except SourceError:
            continue  # something else of that name, or what this version does not read
        yield f"./{name}", address.format(path)
