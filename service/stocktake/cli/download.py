"""`stocktake job download`: what a job left, into a folder, by our own identity, and noted.

Content goes into the folder as it is. A file in its place is whole, however this ends; what is cut lies apart.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows, words
from stocktake.cli.asking import (
    Asked,
    AzureNameOption,
    GroupOption,
    Here,
    NameArgument,
    Note,
    OwnOption,
    SubscriptionOption,
    missing,
    noted,
    opened,
)
from stocktake.cli.exits import ExitCode
from stocktake.cli.render import Output, clean, say, write_json, write_tsv
from stocktake.cli.session import OutputOption, Session, session
from stocktake.core.errors import SourceError
from stocktake.core.fetches import End, What

if TYPE_CHECKING:
    from stocktake.sources.azure_ondemand import Content, Unplaced

#: The folders that `az ml job download` makes, too.
ARTIFACTS, OUTPUTS = "artifacts", "named-outputs"
DEFAULT = "default"
_ENDED = ("Completed", "Failed", "Canceled")

FolderOption = Annotated[
    Path | None,
    typer.Option("--download-path", "-p", metavar="DIR", help="Where to: into folders below it. [default: ./NAME]"),
]
OutputNameOption = Annotated[
    str | None,
    typer.Option("--output-name", metavar="NAME", help="A named output in place of the logs and default outputs."),
]
AllOption = Annotated[bool, typer.Option("--all", help="The logs and default outputs, and every named output.")]


def download(
    context: typer.Context,
    name: NameArgument,
    output_name: OutputNameOption = None,
    every: AllOption = False,
    download_path: FolderOption = None,
    subscription: SubscriptionOption = None,
    resource_group: GroupOption = None,
    workspace_name: AzureNameOption = None,
    workspace: OwnOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Fetch what a job left into a folder, by our own identity; no key is ever asked for.

    Its logs and default outputs go into `artifacts`, an output with a name into `named-outputs/NAME`. Whatever is there
    already is not fetched again; cut off or interrupted, the same command goes on where it stopped. The identity needs
    the role Storage Blob Data Reader on the workspace's storage account, and this command the extra `azure`. What was
    fetched is noted: `stocktake fetches`. Exits with 3 when only a part came, 4 when nothing, 7 when there is no such
    job or output, 130 when interrupted.
    """
    if every and output_name is not None:
        raise typer.BadParameter("Either one output, or all of them.", param_hint="--output-name / --all")
    current = session(context)
    asked = Asked(subscription, resource_group, workspace_name, workspace)
    below = download_path or Path(_as_folder(name))
    told, ends = list[dict[str, Any]](), list[End]()
    with opened(current, asked) as here:
        with noted(here, "job", name, What.DOWNLOAD) as note:
            azure = here.ask(note)
            with missing():
                first, *others = azure.content(name, [output_name or DEFAULT], every=every)
            _add(told, ends, _fetched(current, here, note, name, first, below), note)
        for one in others:
            with noted(here, "job", name, What.DOWNLOAD) as more:
                more.identity = note.identity
                _add(told, ends, _fetched(current, here, more, name, one, below), more)
    return _told(current, told, ends, first.status, output)


def _add(told: list[dict[str, Any]], ends: list[End], row: dict[str, Any], note: Note) -> None:
    told.append(row)
    ends.append(note.state)


def _fetched(
    current: Session, here: Here, note: Note, job: str, one: Content | Unplaced, below: Path
) -> dict[str, Any]:
    """Fetch one output; whatever keeps it from coming is its own."""
    from stocktake.sources.azure_blobs import Fetched
    from stocktake.sources.azure_ondemand import Unplaced

    folder = below / ARTIFACTS if one.output == DEFAULT else below / OUTPUTS / _as_folder(one.output)
    fetched, said = Fetched(), None
    try:
        if isinstance(one, Unplaced):
            raise one.why
        note.place, said, note.fetched = f"{one.container}/{one.prefix}", one.told_by, fetched
        _fetch(current, here, one, folder, fetched)
    except SourceError as exc:
        note.state = End.PARTIAL if fetched.blobs else End.FAILED
        note.error = here.redactor.text(str(exc))
    except KeyboardInterrupt:
        say(f"{fetched.blobs:,} files are whole in {clean(str(folder))}. The same command goes on from here.")
        raise
    else:
        note.state = End.PARTIAL if fetched.refused else End.COMPLETE
    row = {
        "workspace": here.workspace.name, "key": job, "output": one.output, "folder": str(folder), "place": note.place,
        "told_by": said, "job_state": one.status, "blobs": fetched.blobs, "bytes": fetched.bytes,
        "there_before": fetched.there, "refused": fetched.refused, "examples": fetched.examples, "error": note.error,
    }  # fmt: skip
    return rows.record(row, rows.DOWNLOAD)


def _fetch(current: Session, here: Here, one: Content, folder: Path, fetched: Any) -> None:
    from stocktake.sources.azure_blobs import Blobs
    from stocktake.sources.azure_blobs_folder import room_for

    blobs = Blobs(one.container, one.prefix, here.config.storage, ca_file=here.config.ca_file)
    try:
        stock = blobs.measure(folder)
        room_for(folder, stock.bytes - stock.there)
        with _progress(current, one.output, stock.bytes) as tell:
            blobs.fetch(folder, fetched, tell=tell)
    finally:
        blobs.close()


def _told(
    current: Session, told: Sequence[Mapping[str, Any]], ends: Sequence[End], status: str | None, output: Output
) -> int:
    if output == Output.JSON:
        write_json(told)
    elif output == Output.TSV:
        write_tsv([name for name in rows.DOWNLOAD if name != "examples"], told)
    for row in told:
        if output == Output.TABLE and row["place"] is not None:
            before = f", {row['there_before']:,} of them were there before" if row["there_before"] else ""
            sys.stdout.write(
                f"{row['blobs']:,} files, {words.size(row['bytes'])} in {clean(row['folder'])}{before}.\n"
                f"From {clean(row['place'])} (as {clean(str(row['told_by']))} says).\n"
            )
        if row["place"] is not None and not (row["blobs"] or row["refused"] or row["error"]):
            current.tell(f"Nothing lies there: output {clean(row['output'])} is empty, or was deleted.")
        for one in row["examples"]:
            say(f"Not fetched: {clean(one)}.")
        if row["refused"] > len(row["examples"]):
            say(f"Not fetched: {row['refused'] - len(row['examples']):,} more.")
        if row["error"]:
            say(clean(str(row["error"])))
    if status not in (*_ENDED, None):
        current.tell(f"The job is {clean(str(status))}: more may come. The same command fetches what is new.")
    if all(end is End.COMPLETE for end in ends):
        return ExitCode.COMPLETE
    return ExitCode.FAILED if all(end is End.FAILED for end in ends) else ExitCode.PARTIAL


def _as_folder(name: str) -> str:
    """The name of a job or an output as that of a folder here."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).lstrip(".") or "job"


@contextmanager
def _progress(current: Session, what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal; lines elsewhere; nothing with --quiet."""
    if current.quiet or not sys.stderr.isatty():
        yield (lambda _: None) if current.quiet else Lines(what, total, say, time.monotonic)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(clean(what), total=total)
        yield lambda more: bar.update(task, advance=more)


class Lines:
    """How far a download is, as a line every ten seconds; several threads tell of it."""

    EVERY = 10.0

    def __init__(self, what: str, total: int, say: Callable[[str], object], now: Callable[[], float]) -> None:
        self._what, self._total, self._say, self._now = what, total, say, now
        self._come = 0
        self._last = now()
        self._lock = threading.Lock()

    def __call__(self, more: int) -> None:
        """So many bytes more."""
        with self._lock:
            self._come += more
            if self._now() - self._last < self.EVERY:
                return
            self._last = self._now()
            share = f" ({self._come * 100 // self._total} %)" if self._total else ""
            self._say(f"{clean(self._what)}: {words.size(self._come)} of {words.size(self._total)}{share}.")
