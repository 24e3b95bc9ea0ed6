"""Looking for Azure Machine Learning workspaces now: discover."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows
from stocktake.cli.exits import ExitCode
from stocktake.cli.render import Output, clean, write_json, write_table, write_tsv
from stocktake.cli.session import OutputOption, known, now, session
from stocktake.cli.times import ago
from stocktake.core.errors import ConfigError

if TYPE_CHECKING:
    from stocktake.discovering import Looked


def discover(
    context: typer.Context,
    entry: Annotated[
        list[str] | None, typer.Argument(metavar="[ENTRY]...", help="Which entries of `discovery`. [default: all]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be found; keep nothing of it.")] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """Look for workspaces where the configuration says, now: what is there, since when it is watched, what is missing.

    What is found is kept, as a worker keeps it, and can be named from then on. Exits with 0 when everything was looked
    at, 3 when something was not, 4 when nothing was.
    """
    from stocktake.wiring import open_app

    current = session(context)
    settings = current.settings()
    if not settings.discovery:
        raise ConfigError(
            "The configuration looks for no workspaces. Add an entry under `discovery`; docs/how-to/azure-workspaces.md"
            " shows how."
        )
    names = [one.name for one in settings.discovery]
    chosen = known(entry, names) or names
    current.logging(settings, level="ERROR")
    with open_app(settings) as app:
        looked = [app.discover(name, keep=not dry_run) for name in chosen]
    answer = [rows.discovered(one) for each in looked for one in each.found]
    answer += [rows.not_looked_at(each.entry, one) for each in looked for one in each.look.scopes if not one.looked]
    if output == Output.JSON:
        write_json(answer)
    elif output == Output.TSV:
        write_tsv(rows.DISCOVERED_TSV, answer)
    else:
        _page(answer, looked)
    return _exit(looked)


def _page(answer: Sequence[dict[str, Any]], looked: Sequence[Looked]) -> None:
    at = now()
    there = [one for one in answer if one["workspace"]]
    if there:
        write_table(
            ["WORKSPACE", "STANDING", "SUBSCRIPTION", "RESOURCE GROUP", "REGION", "TAGS", "WATCHED SINCE", "BY"],
            (
                [
                    one["workspace"],
                    one["standing"],
                    one["subscription"],
                    one["resource_group"],
                    one["region"],
                    ", ".join(f"{name}={value}" for name, value in one["tags"].items()),
                    ago(one["watched_since"], now=at),
                    one["how"],
                ]
                for one in there
            ),
            whole="WORKSPACE",
        )
    for one in there:
        if one["why"]:
            sys.stdout.write(f"{clean(one['workspace'])}: {one['standing']}: {clean(one['why'])}\n")
    for one in answer:
        if not one["workspace"]:
            sys.stdout.write(f"NOT LOOKED AT {clean(one['scope'])}: {clean(one['why'])}\n")
            sys.stdout.write(f"  next step: {clean(one['next_step'])}\n")
    for each in looked:
        scopes = each.look.scopes
        new = sum(one.before is None for one in each.happened)
        sys.stdout.write(
            f"{clean(each.entry)}: {len(each.found):,} known, {new:,} new; {sum(one.looked for one in scopes):,} of"
            f" {len(scopes):,} scopes looked at, with {each.look.requests:,} requests\n"
        )


def _exit(looked: Sequence[Looked]) -> ExitCode:
    scopes = [one.looked for each in looked for one in each.look.scopes]
    if all(scopes):
        return ExitCode.COMPLETE
    return ExitCode.PARTIAL if any(scopes) else ExitCode.FAILED
