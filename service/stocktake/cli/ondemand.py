"""`stocktake job show`, `job download`, `workspace show`: asked of Azure now, by Microsoft's client, and noted.

What is shown went through the redactor, as everything that is kept does; content goes into a folder as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows, words
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import Output, clean, say, write_json, write_tsv
from stocktake.cli.session import OutputOption, Session, operator, session
from stocktake.core.errors import ConfigError, SourceError
from stocktake.core.fetches import End, What

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from stocktake.core.redact import Redactor
    from stocktake.settings import AzureMlSettings, Settings, WorkspaceSettings
    from stocktake.sources.azure_blobs import Fetched
    from stocktake.sources.azure_ondemand import Artifacts, OnDemand, OnDemandConfig

job = typer.Typer(
    name="job", help="One job of Azure Machine Learning, asked for now.", no_args_is_help=True, rich_markup_mode=None
)
workspace = typer.Typer(
    name="workspace", help="One workspace of Azure Machine Learning, asked for now.", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the job: the id of its run.")]
SubscriptionOption = Annotated[
    str | None, typer.Option("--subscription", metavar="ID", help="Id of the subscription, as for `az ml`.")
]
GroupOption = Annotated[
    str | None, typer.Option("--resource-group", "-g", metavar="NAME", help="Its resource group, as for `az ml`.")
]
AzureNameOption = Annotated[
    str | None, typer.Option("--workspace-name", "-w", metavar="NAME", help="Its name in Azure, as for `az ml`.")
]
OwnOption = Annotated[
    str | None,
    typer.Option("--workspace", "-W", metavar="NAME", help="Its name in our configuration. [default: the only one]"),
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--download-path", "-p", metavar="DIR", help="Where to: into `artifacts` below it. [default: ./NAME]"),
]


@job.command("show")
def show_job(
    context: typer.Context,
    name: NameArgument,
    subscription: SubscriptionOption = None,
    resource_group: GroupOption = None,
    workspace_name: AzureNameOption = None,
    workspace: OwnOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show a job as it is in Azure now, by Microsoft's client; `stocktake show job` has what a scan saw.

    It needs the extra `azure`. Values that look like secrets are replaced. That it was asked is noted: `stocktake
    fetches`. Exits with 7 when there is no such job, 4 when Azure could not be asked, 2 without the extra.
    """
    return _show(
        context, "job", name, lambda azure: azure.job(name), output,
        _Asked(subscription, resource_group, workspace_name, workspace),
    )  # fmt: skip


@workspace.command("show")
def show_workspace(
    context: typer.Context,
    subscription: SubscriptionOption = None,
    resource_group: GroupOption = None,
    workspace_name: AzureNameOption = None,
    workspace: OwnOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show a workspace as it is in Azure now, by Microsoft's client; otherwise as `job show`."""
    return _show(
        context, "workspace", None, lambda azure: azure.workspace(), output,
        _Asked(subscription, resource_group, workspace_name, workspace),
    )  # fmt: skip


@job.command("download")
def download(
    context: typer.Context,
    name: NameArgument,
    download_path: FolderOption = None,
    subscription: SubscriptionOption = None,
    resource_group: GroupOption = None,
    workspace_name: AzureNameOption = None,
    workspace: OwnOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Fetch the logs and default outputs of a job into a folder, by our own identity; no key is ever asked for.

    Whatever is there already is not fetched again; run again, it goes on where it stopped. The identity needs the role
    Storage Blob Data Reader on the workspace's storage account, and this command the extra `azure`. What was fetched is
    noted: `stocktake fetches`. Exits with 3 when only a part came, 4 when nothing, 7 when there is no such job.
    """
    from stocktake.sources.azure_blobs import Fetched

    current = session(context)
    asked = _Asked(subscription, resource_group, workspace_name, workspace)
    folder = (download_path or Path(_as_folder(name))) / "artifacts"
    with _opened(current, asked) as here, _noted(here, "job", name, What.DOWNLOAD) as note:
        azure = here.ask(note)
        with _missing():
            found = azure.artifacts(name)
        note.place = f"{found.container}/{found.prefix}"
        fetched = note.fetched = Fetched()
        try:
            _fetch(current, here.config, found, folder, fetched)
        except SourceError as exc:
            note.state = End.PARTIAL if fetched.blobs else End.FAILED
            note.error = here.redactor.text(str(exc))
        else:
            note.state = End.PARTIAL if fetched.refused else End.COMPLETE
    told = {
        "workspace": here.workspace.name, "key": name, "folder": str(folder), "place": note.place,
        "told_by": found.told_by, "job_state": found.status, "blobs": fetched.blobs, "bytes": fetched.bytes,
        "there_before": fetched.there, "refused": fetched.refused, "examples": fetched.examples, "error": note.error,
    }  # fmt: skip
    return _told(current, rows.record(told, rows.DOWNLOAD), found, note.state, output)


def _told(current: Session, row: Mapping[str, Any], found: Artifacts, state: End, output: Output) -> int:
    if output == Output.JSON:
        write_json([row])
    elif output == Output.TSV:
        write_tsv([name for name in rows.DOWNLOAD if name != "examples"], [row])
    else:
        before = f", {row['there_before']:,} of them were there before" if row["there_before"] else ""
        sys.stdout.write(
            f"{row['blobs']:,} files, {words.size(row['bytes'])} in {clean(row['folder'])}{before}.\n"
            f"From {clean(row['place'])} (as {found.told_by} says).\n"
        )
    for one in row["examples"]:
        say(f"Not fetched: {clean(one)}.")
    if row["refused"] > len(row["examples"]):
        say(f"Not fetched: {row['refused'] - len(row['examples']):,} more.")
    if row["error"]:
        say(clean(str(row["error"])))
    if row["job_state"] not in ("Completed", "Failed", "Canceled", None):
        current.tell(f"The job is {clean(str(row['job_state']))}: more may come. The same command fetches what is new.")
    return {End.COMPLETE: ExitCode.COMPLETE, End.PARTIAL: ExitCode.PARTIAL}.get(state, ExitCode.FAILED)


def _fetch(current: Session, config: OnDemandConfig, found: Artifacts, folder: Path, fetched: Fetched) -> None:
    from stocktake.sources.azure_blobs import Blobs
    from stocktake.sources.azure_blobs_folder import room_for

    blobs = Blobs(found.container, found.prefix, config.storage, ca_file=config.ca_file)
    try:
        stock = blobs.measure(folder)
        room_for(folder, stock.bytes - stock.there)
        with _progress(current, stock.bytes) as tell:
            blobs.fetch(folder, fetched, tell=tell)
    finally:
        blobs.close()


def _show(
    context: typer.Context, kind: str, name: str | None, ask: Callable[[OnDemand], dict[str, Any]], output: Output,
    asked: _Asked,
) -> int:  # fmt: skip
    current = session(context)
    with _opened(current, asked) as here, _noted(here, kind, name or here.config.workspace, What.SHOW) as note:
        azure = here.ask(note)
        with _missing():
            document, _ = here.redactor.redact(ask(azure), None)
        note.state = End.COMPLETE
    if output == Output.JSON:
        write_json([document])
    elif output == Output.TSV:
        write_tsv(list(document), [document])
    else:
        import yaml

        text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=110)
        sys.stdout.write("".join(f"{clean(line)}\n" for line in text.splitlines()))
    return ExitCode.COMPLETE


# ---- which workspace -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """The words that say which workspace."""

    subscription: str | None
    group: str | None
    azure_name: str | None
    name: str | None

    def meant(self, one: WorkspaceSettings, azure: AzureMlSettings) -> bool:
        """Whether a workspace is the one that is asked for. Azure's names know no case."""
        said = (self.subscription, azure.subscription), (self.group, azure.resource_group)
        pairs = (*said, (self.azure_name, azure.workspace))
        return (self.name is None or self.name == one.name) and all(
            asked is None or asked.casefold() == known.casefold() for asked, known in pairs
        )


def _one(settings: Settings, asked: _Asked) -> tuple[WorkspaceSettings, AzureMlSettings]:
    every = [(one, one.azureml) for one in settings.workspaces if one.azureml is not None]
    if not every:
        raise Stop(
            ExitCode.NOT_FOUND,
            "No workspace of Azure Machine Learning is in the configuration: name one under `azureml:`.",
        )
    found = [(one, azure) for one, azure in every if asked.meant(one, azure)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(clean(one.name) for one, _ in (found or every)[:10])
    if found:
        raise typer.BadParameter(f"Several workspaces are meant: {names}. Say which one.", param_hint="--workspace")
    raise Stop(ExitCode.NOT_FOUND, f"No workspace in the configuration is that one. There are: {names}.")


# ---- the ledger ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Note:
    """What the ledger will say."""

    state: End = End.FAILED
    identity: str | None = None
    place: str | None = None
    fetched: Fetched | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """The workspace that is asked for, and the database that it is noted in."""

    workspace: WorkspaceSettings
    config: OnDemandConfig
    engine: Engine
    redactor: Redactor
    operator: str = field(default_factory=operator)

    def ask(self, note: _Note) -> OnDemand:
        """The client, once it is known whom we are."""
        from stocktake.sources.azure_ondemand import OnDemand

        azure = OnDemand(self.config)
        note.identity = azure.who().words
        return azure


@contextmanager
def _opened(current: Session, asked: _Asked) -> Iterator[_Here]:
    from stocktake.core.redact import Redactor
    from stocktake.making import ondemand_config
    from stocktake.sources.azure_ondemand import INSTALL, installed
    from stocktake.store import redactions
    from stocktake.wiring import key_of

    if not installed():  # before anything is opened, asked or noted
        raise ConfigError(INSTALL)
    settings = current.widest()
    current.logging(settings)
    one, azure = _one(settings, asked)
    config = ondemand_config(one, azure, settings, os.environ)
    with current.engine(settings) as engine:
        told = settings.redaction
        redactor = Redactor(key_of(engine, settings, os.environ), told.keys, told.values, told.allow)
        with engine.connect() as connection:
            redactor = redactor.remembering(redactions.remembered(connection))
        yield _Here(workspace=one, config=config, engine=engine, redactor=redactor)


@contextmanager
def _noted(here: _Here, kind: str, key: str, what: What) -> Iterator[_Note]:
    """Note in the ledger that it begins, and how it ended: what cannot be noted is not fetched."""
    from stocktake.store import fetches

    with here.engine.begin() as connection:
        line = fetches.begin(
            connection, workspace=here.workspace.name, kind=kind, key=here.redactor.text(key), what=what,
            operator=here.operator,
        )  # fmt: skip
    note = _Note()
    try:
        yield note
    except KeyboardInterrupt:
        note.state = End.INTERRUPTED
        raise
    except Exception as exc:
        known = isinstance(exc, (SourceError, ConfigError, Stop))
        note.state, note.error = End.FAILED, here.redactor.text(str(exc)) if known else type(exc).__name__
        raise
    finally:
        count, total = (note.fetched.blobs, note.fetched.bytes) if note.fetched else (0, 0)
        with here.engine.begin() as connection:
            fetches.finish(
                connection, line, note.state, identity=note.identity, place=note.place, blobs=count, bytes_=total,
                error=note.error,
            )  # fmt: skip


@contextmanager
def _missing() -> Iterator[None]:
    """What is not there has an exit code of its own."""
    try:
        yield
    except SourceError as exc:
        if exc.status == 404:
            raise Stop(ExitCode.NOT_FOUND, str(exc)) from exc
        raise


def _as_folder(name: str) -> str:
    """The name of a job as that of a folder here."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).lstrip(".") or "job"


@contextmanager
def _progress(current: Session, total: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal; nothing elsewhere."""
    if current.quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda more: bar.update(task, advance=more)
