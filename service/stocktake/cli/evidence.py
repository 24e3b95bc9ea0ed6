"""`stocktake evidence`: what goes on a change ticket."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from stocktake.cli import words
from stocktake.cli.asking import Asked, missing, noted, opened
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.questions import none_found
from stocktake.cli.render import Output, clean, say
from stocktake.cli.session import (
    AskedOption,
    AtOption,
    KeyArgument,
    KindArgument,
    Session,
    kind,
    known,
    moment,
    session,
)
from stocktake.cli.session import wide as wide_
from stocktake.core.assets import Kind
from stocktake.core.fetches import End, What

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from stocktake.reports.evidence import Artifact, Told
    from stocktake.settings import Settings
    from stocktake.store.history import AssetRow

_OF_JOBS = (Kind.RUN, Kind.JOB, Kind.CHILD_JOB)


class _OrBundle(TyperGroup):
    """`evidence KIND KEY` is `evidence bundle KIND KEY`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["bundle", *args]
        return super().resolve_command(ctx, args)


evidence = typer.Typer(
    name="evidence",
    cls=_OrBundle,
    help="Evidence of one asset for a ticket or an auditor: `evidence KIND KEY --output FILE`; the chain behind it.",
    no_args_is_help=True,
)


@evidence.command("bundle")
def bundle(
    context: typer.Context,
    what: KindArgument,
    key: KeyArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The zip to write.")],
    workspace: AskedOption = None,
    at: AtOption = None,
    artifact: Annotated[
        list[str] | None,
        typer.Option(
            "--artifact",
            metavar="PATH",
            help="Of a run or job in Azure: fetch this file, or what is below this folder, of its logs and default"
            " outputs; may be repeated.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Over a file that is there.")] = False,
) -> int:
    """Write a bundle about one asset: its documents, history, changes, lineage, findings, and the scans behind them.

    `stocktake evidence KIND KEY ...` is the same. A zip of JSON files and a page for people, with the SHA-256 sum of
    each file, and the proof that each state, change and row of the ledger is in the chain. Redacted values stay
    redacted; artifacts are as they are. `evidence verify FILE` checks it, anywhere. Exits with 3 when nothing vouches
    for a part of it, because that is older than the chain, or when an artifact did not come.
    """
    from stocktake.core.chain import salt_key
    from stocktake.store.history import find_asset, workspace_names
    from stocktake.store.observation import lives
    from stocktake.wiring import key_of

    which, when = kind(what), moment(at, "--at", future=False)
    if output.exists() and not force:
        raise Stop(ExitCode.REFUSED, f"{clean(str(output))} is there already. Take another name, or add --force.")
    current = session(context)
    settings = current.settings()
    with current.engine(settings) as engine:
        with engine.connect() as connection:
            asked = known(workspace, workspace_names(connection), wide_(settings, connection))
            found = find_asset(connection, which, key, workspaces=asked, at=when)
            if not found:
                ever = lives(connection, which, key, workspaces=asked)
                return none_found(connection, which, key, ever, asked, when, Output.TABLE)
        one = _one(found)
        artifacts_asked = list(artifact or ())
        if artifacts_asked and which not in _OF_JOBS:
            raise typer.BadParameter("Only runs and jobs have artifacts that can be fetched.", param_hint="--artifact")
        with tempfile.TemporaryDirectory(prefix="stocktake-evidence-") as folder:
            came = [_fetched(current, one, path, Path(folder) / str(n)) for n, path in enumerate(artifacts_asked)]
            told = _write(
                current, engine, one, output, when, salt_key(key_of(engine, settings, os.environ)),
                [file for files, _ in came for file in files],
            )  # fmt: skip
    return _said(current, output, told, whole=all(whole for _, whole in came))


def beside_check(
    current: Session, settings: Settings, workspace: str, which: Kind, key: str, output: Path, checked: str
) -> None:
    """Write the bundle about what was checked before a release; what the check said is in it, artifacts/check.json."""
    from stocktake.core.chain import salt_key
    from stocktake.reports.evidence import Artifact
    from stocktake.store.history import find_asset
    from stocktake.wiring import key_of

    if output.exists():
        raise Stop(ExitCode.REFUSED, f"{clean(str(output))} is there already. Take another name.")
    with current.engine(settings) as engine, tempfile.TemporaryDirectory(prefix="stocktake-evidence-") as folder:
        with engine.connect() as connection:
            one = _one(find_asset(connection, which, key, workspaces=[workspace]))
        said = Path(folder) / "check.json"
        said.write_text(checked, encoding="utf-8")
        salts = salt_key(key_of(engine, settings, os.environ))
        _write(current, engine, one, output, None, salts, [Artifact(name=said.name, path=said)])
    current.tell(f"{clean(str(output))}: the evidence, for the ticket. `stocktake evidence verify` checks it anywhere.")


def _one(found: Sequence[AssetRow]) -> AssetRow:
    if len(found) > 1:
        places = ", ".join(f"{clean(one.key)} in {clean(one.workspace)}" for one in found[:5])
        raise typer.BadParameter(
            f"{len(found)} are meant: {places}. Name one by its key, or with --workspace.", param_hint="KEY"
        )
    return found[0]


def _write(
    current: Session,
    engine: Engine,
    one: AssetRow,
    output: Path,
    when: datetime | None,
    key: bytes,
    artifacts: Sequence[Artifact],
) -> Told:
    from stocktake.reports import evidence as reports
    from stocktake.ruling import load
    from stocktake.store import evidence as store

    with engine.connect() as connection, connection.begin():
        found = store.subject(connection, one.workspace, Kind(one.kind), one.key)
        assert found is not None
        if when is None:  # what the last passes saw is to be vouched for, too
            store.settle(connection, found.workspace_id, key)
    said = {rule.id: {"title": rule.words.title, "why": rule.words.why} for rule in load(current.settings()).rules}
    with (
        _beside(output) as file,
        engine.connect().execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        ) as connection,
        connection.begin(),
    ):  # fmt: skip
        until = when or connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return reports.write(
            connection, found, file, until=until, key=key, page_words=said, artifacts=artifacts,
            tell=lambda part: current.tell(f"Writing {part} ..."),
        )  # fmt: skip


@contextmanager
def _beside(output: Path) -> Iterator[Any]:
    """A file that becomes the one that was asked for once it is whole."""
    part = output.with_name(f".{output.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(output)
    except OSError as exc:
        raise Stop(ExitCode.REFUSED, f"{clean(str(output))} cannot be written: {exc.strerror or exc}.") from exc
    finally:
        part.unlink(missing_ok=True)


def _fetched(current: Session, one: AssetRow, path: str, folder: Path) -> tuple[list[Artifact], bool]:
    """Fetch a file or a folder of what a job left; say whether all of it came."""
    from stocktake.core.errors import SourceError
    from stocktake.reports.evidence import Artifact
    from stocktake.sources.azure_blobs import Blobs, Fetched
    from stocktake.sources.azure_ondemand import Unplaced

    with (
        opened(current, Asked(None, None, None, one.workspace)) as here,
        noted(here, "job", one.key, What.DOWNLOAD) as note,
    ):
        azure = here.ask(note)
        with missing():
            place = azure.content(one.key)[0]
        fetched = Fetched()
        try:
            if isinstance(place, Unplaced):
                raise place.why
            note.place, note.fetched = f"{place.container}/{place.prefix}{path}", fetched
            blobs = Blobs(place.container, place.prefix + path, here.config.storage, ca_file=here.config.ca_file)
            try:
                blobs.fetch(folder, fetched)
            finally:
                blobs.close()
        except SourceError as exc:
            note.state = End.PARTIAL if fetched.blobs else End.FAILED
            note.error = here.redactor.text(str(exc))
            say(f"Artifact {clean(path)}: {clean(note.error)}")
        else:
            note.state = End.PARTIAL if fetched.refused else End.COMPLETE
            if not fetched.blobs:
                say(f"Artifact {clean(path)}: nothing lies there.")
    below = path.rstrip("/")
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.exists() else []
    named = [(file, file.relative_to(folder).as_posix()) for file in files]
    single = len(named) == 1 and named[0][1] == below.rpartition("/")[2]
    made = [Artifact(name=below if single else f"{below}/{name}".lstrip("/"), path=file) for file, name in named]
    return made, note.state is End.COMPLETE and bool(fetched.blobs)


def _said(current: Session, output: Path, told: Told, *, whole: bool) -> int:
    size = words.size(output.stat().st_size)
    holds = {
        "state": told.states, "change": told.changes, "finding": told.findings, "scan": told.scans,
        "artifact": told.artifacts,
    }  # fmt: skip
    sys.stdout.write(f"{clean(str(output))}: {words.counted(holds) or 'nothing'}; {size}.\n")
    if told.head is not None:
        sys.stdout.write(f"Head of the chain: {told.head[0]} {told.head[1]}\n")
    if told.head is None:
        say("This workspace has no chain yet: nothing vouches for what is in the bundle. Scan it, then ask again.")
    elif told.before_the_chain:
        say(
            f"{told.before_the_chain:,} rows are older than the chain: nothing vouches for those, and the page says so."
        )
    current.tell(f"`stocktake evidence verify {clean(str(output))}` checks it, on any machine.")
    return ExitCode.COMPLETE if whole and told.head is not None and not told.before_the_chain else ExitCode.PARTIAL
