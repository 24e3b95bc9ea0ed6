"""`stocktake job show`, `workspace show`: asked of Azure now, by Microsoft's client, and noted.

What is shown went through the redactor, as everything that is kept does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from stocktake.cli.asking import (
    Asked,
    AzureNameOption,
    GroupOption,
    NameArgument,
    OwnOption,
    SubscriptionOption,
    missing,
    noted,
    opened,
)
from stocktake.cli.exits import ExitCode
from stocktake.cli.render import Output, clean, write_json, write_tsv
from stocktake.cli.session import OutputOption, session
from stocktake.core.fetches import End, What

if TYPE_CHECKING:
    from stocktake.sources.azure_ondemand import OnDemand

job = typer.Typer(
    name="job", help="One job of Azure Machine Learning, asked for now.", no_args_is_help=True, rich_markup_mode=None
)
workspace = typer.Typer(
    name="workspace", help="One workspace of Azure Machine Learning, asked for now.", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip


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
        Asked(subscription, resource_group, workspace_name, workspace),
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
        Asked(subscription, resource_group, workspace_name, workspace),
    )  # fmt: skip


def _show(
    context: typer.Context, kind: str, name: str | None, ask: Callable[[OnDemand], dict[str, Any]], output: Output,
    asked: Asked,
) -> int:  # fmt: skip
    current = session(context)
    with opened(current, asked) as here, noted(here, kind, name or here.config.workspace, What.SHOW) as note:
        azure = here.ask(note)
        with missing():
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
