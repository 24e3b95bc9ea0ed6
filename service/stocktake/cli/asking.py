"""Which workspace of Azure is asked for, and the line of the ledger about it: what cannot be noted is not asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import clean
from stocktake.cli.session import Session, operator
from stocktake.core.errors import ConfigError, SourceError
from stocktake.core.fetches import End, What

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from stocktake.core.redact import Redactor
    from stocktake.settings import AzureMlSettings, Settings, WorkspaceSettings
    from stocktake.sources.azure_blobs import Fetched
    from stocktake.sources.azure_ondemand import OnDemand, OnDemandConfig

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


@dataclass(frozen=True, slots=True)
class Asked:
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


def _one(settings: Settings, asked: Asked) -> tuple[WorkspaceSettings, AzureMlSettings]:
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


@dataclass(slots=True)
class Note:
    """What the ledger will say."""

    state: End = End.FAILED
    identity: str | None = None
    place: str | None = None
    fetched: Fetched | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """The workspace that is asked for, and the database that it is noted in."""

    workspace: WorkspaceSettings
    config: OnDemandConfig
    engine: Engine
    redactor: Redactor
    operator: str = field(default_factory=operator)

    def ask(self, note: Note) -> OnDemand:
        """The client, once it is known whom we are."""
        from stocktake.sources.azure_ondemand import OnDemand

        azure = OnDemand(self.config)
        note.identity = azure.who().words
        return azure


@contextmanager
def opened(current: Session, asked: Asked) -> Iterator[Here]:
    from stocktake.making import ondemand_config
    from stocktake.sources.azure_mlclient import INSTALL, installed
    from stocktake.wiring import remembering_redactor

    if not installed():  # before anything is opened, asked or noted
        raise ConfigError(INSTALL)
    settings = current.widest()
    current.logging(settings)
    one, azure = _one(settings, asked)
    config = ondemand_config(one, azure, settings, os.environ)
    with current.engine(settings) as engine:
        redactor = remembering_redactor(engine, settings, os.environ)
        yield Here(workspace=one, config=config, engine=engine, redactor=redactor)


@contextmanager
def noted(here: Here, kind: str, key: str, what: What) -> Iterator[Note]:
    """Note in the ledger that it begins, and how it ended: what cannot be noted is not fetched."""
    from stocktake.store import fetches

    with here.engine.begin() as connection:
        line = fetches.begin(
            connection, workspace=here.workspace.name, kind=kind, key=here.redactor.text(key), what=what,
            operator=here.operator,
        )  # fmt: skip
    note = Note()
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
def missing() -> Iterator[None]:
    """What is not there has an exit code of its own."""
    try:
        yield
    except SourceError as exc:
        if exc.status == 404:
            raise Stop(ExitCode.NOT_FOUND, str(exc)) from exc
        raise
