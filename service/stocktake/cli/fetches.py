"""`stocktake fetches`: what was fetched from Azure on demand, when, and by whom we were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from stocktake.cli import rows, words
from stocktake.cli.exits import ExitCode
from stocktake.cli.render import Output, clean, write_json, write_table, write_tsv
from stocktake.cli.session import OutputOption, SinceOption, UntilOption, WorkspaceOption, known, moment, now, session
from stocktake.cli.times import ago, exact

_ROWS = 50


def fetches(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, metavar="N", help=f"At most N. [default: {_ROWS} in a table]")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """List what `job show`, `job download` and `workspace show` asked of Azure, the latest first.

    IDENTITY is whom our token stood for; the operator is who ran the command. `inventory.fetched` has the same.
    """
    from stocktake.store import fetches as ledger

    first, last = moment(since, "--since"), moment(until, "--until")
    with session(context).database() as connection:
        known(workspace, ledger.fetched_workspaces(connection))
        most = limit or (_ROWS if output == Output.TABLE else None)
        held = [
            rows.record(one, rows.FETCH)
            for one in ledger.fetches(connection, workspaces=workspace, since=first, until=last, limit=most)
        ]
    if output == Output.JSON:
        write_json(held)
    elif output == Output.TSV:
        write_tsv(rows.FETCH, held)
    elif held:
        write_table(["WHEN", "WORKSPACE", "WHAT", "KEY", "STATE", "CAME", "IDENTITY"], map(_line, held), whole="KEY")
    else:
        session(context).tell("Nothing was fetched.")
    return ExitCode.COMPLETE


def _line(row: Mapping[str, Any]) -> list[str]:
    came = f"{row['blobs']:,} blobs, {words.size(row['bytes'])}" if row["what"] == "download" else ""
    state = [str(row["state"] or "not ended"), *([str(row["error"])] if row["error"] else [])]
    who = [str(row["identity"] or "unknown"), f"run by {row['operator']}"]
    return [
        f"{exact(row['began_at'])}\n{ago(row['began_at'], now=now())}", clean(row["workspace"]),
        f"{row['kind']} {row['what']}", clean(row["key"]), "\n".join(map(clean, state)), came,
        "\n".join(map(clean, who)),
    ]  # fmt: skip
