"""`stocktake try PATH`: take stock once of a folder or a file, say what is worth knowing, and leave nothing behind."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stocktake.cli import rows, words
from stocktake.cli.exits import ExitCode
from stocktake.cli.render import Output, clean, say, write_json, write_table, write_tsv
from stocktake.cli.session import OutputOption, now, session
from stocktake.core.assets import Kind, Mode, ScopeState
from stocktake.core.errors import SourceError

if TYPE_CHECKING:
    from stocktake.core.redact import Redactor
    from stocktake.reports.figures import Figure
    from stocktake.reports.places import Places
    from stocktake.reports.stock import Stock
    from stocktake.sources.protocol import Listing, Source


def try_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An mlruns folder, or a tracking server's SQLite file.")],
    output: OutputOption = Output.TABLE,
) -> int:
    """Take stock once of an mlruns folder or a database file, and print what is worth knowing.

    Counts; failed, deleted, stale and repeated runs; folders that nothing refers to or that are missing, with their
    bytes; values that look like secrets. It needs no configuration, and leaves nothing behind but what it prints: no
    database, no data folder, and not a byte in PATH. Exits with 3 when something could not be read, 4 when nothing.
    """
    from stocktake.core.redact import Redactor
    from stocktake.sources.opening import open_path

    current = session(context)
    current.logging(level="ERROR")
    at = now()
    redactor = Redactor(secrets.token_bytes(32))
    source = open_path(path, now, owner_tags=("owner", "team", "contact"))
    try:
        if sys.stderr.isatty():
            current.tell(f"Reading {clean(str(path))} ...")
        figures, complete = take(source, path, at, redactor)
    finally:
        source.close()
    told = [rows.record(one, rows.FIGURE) for one in figures]
    if output == Output.JSON:
        write_json(told)
    elif output == Output.TSV:
        write_tsv(rows.FIGURE, told)
    else:
        _table(path, figures, complete=complete)
    if complete:
        return ExitCode.COMPLETE
    say("Not everything could be read: the figures hold for what was.")
    return ExitCode.PARTIAL


def take(source: Source, path: Path, at: datetime, redactor: Redactor) -> tuple[list[Figure], bool]:
    """Read everything once; returns the figures, and whether everything could be read. Raises SourceError."""
    from stocktake.reports.figures import Tallies
    from stocktake.reports.places import Places
    from stocktake.reports.stock import Stock
    from stocktake.sources.mlflow_files import MlflowFiles
    from stocktake.sources.protocol import NothingKnown

    odd, problems = Tallies({}), Tallies({"problem": "things that could not be read or understood"})
    files = isinstance(source, MlflowFiles)
    stock, places = Stock(at, folders=files), None
    with ExitStack() as stack:
        source.identify()
        if isinstance(source, MlflowFiles):
            places = Places(path.expanduser().absolute())
            stack.callback(places.close)

            def note(_kind: Kind, what: str, where: str) -> None:
                odd.odd(what).add(where)
                places.note(what, where)

            source.on_note = note
        for listing in source.listings(Mode.SWEEP, NothingKnown()):
            for problem in _read(source, listing, stock, places, redactor):
                problems["problem"].add(problem)
        complete = not problems["problem"].count
        figures = stock.figures(redactor.text)
        if places is not None:
            figures += places.figures(at, redactor.text, complete=complete)
        return figures + odd.figures(redactor.text) + problems.figures(redactor.text), complete


def _read(source: Source, listing: Listing, stock: Stock, places: Places | None, redactor: Redactor) -> list[str]:
    """Read one scope to its end; returns what was not understood."""
    from stocktake.core import canonical

    problems = list[str]()
    try:
        for page in listing.pages:
            problems += page.problems
            for item in page.items:
                try:
                    asset = source.parse(listing.scope.kind, item.raw)
                except SourceError as exc:
                    problems.append(f"{listing.scope.kind} {item.key}: {exc.what}")
                    continue
                stock.add(asset, places.add(asset) if places is not None else None)
                for found in redactor.redact(asset.document, canonical.encode(asset.document))[1]:
                    stock.secret(asset, found.path)
    except SourceError as exc:
        problems.append(str(exc))
    if listing.promise not in (ScopeState.COMPLETE, ScopeState.UNSUPPORTED):
        problems.append(f"{listing.scope.kind}: {listing.promise}")
    return problems


def _table(path: Path, figures: list[Figure], *, complete: bool) -> None:
    sys.stdout.write(f"{clean(os.fspath(path))}, {'seen completely' if complete else 'seen in part'}:\n\n")
    write_table(
        ["WHAT", "COUNT", "SIZE", "FOR EXAMPLE"],
        (
            [one.meaning, f"{one.count:,}", "" if one.bytes is None else words.size(one.bytes), "\n".join(one.examples)]
            for one in figures
        ),
    )
