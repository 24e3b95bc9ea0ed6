"""`stocktake finding recheck`: look again at what one finding is about, now, and at nothing else."""

from __future__ import annotations

import sys

import typer

from stocktake.cli import words
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.finding import IdArgument, finding, there, write_one
from stocktake.cli.render import Output, clean, say
from stocktake.cli.rules import loaded
from stocktake.cli.scans import progress
from stocktake.cli.session import OutputOption, session
from stocktake.core.assets import Mode, ScanState
from stocktake.core.errors import Fenced
from stocktake.core.findings import State


@finding.command("recheck")
def recheck(context: typer.Context, number: IdArgument, output: OutputOption = Output.TABLE) -> int:
    """Look again at what a finding is about, now: it resolves if it is over, without waiting for the next sweep.

    Only what the finding needs is listed, but all of that; of runs those of its experiment. Exits with 0 when all of it
    was seen (the state says whether it is over), 3 when not, 4 when nothing was.
    """
    from stocktake.store import finding_list, rechecking, waivers
    from stocktake.store.claims import Busy
    from stocktake.wiring import open_app

    this = session(context)
    settings = this.settings()
    rules = loaded(settings)
    this.logging(settings, level="INFO" if not sys.stderr.isatty() and not this.quiet else None)
    with open_app(settings) as app:
        with app.engine.connect() as connection:
            before = there(finding_list.shown(connection, number), number)
            asked = rechecking.asked(connection, number, rules.rules)
        if before.state == State.RESOLVED:
            raise Stop(ExitCode.REFUSED, f"Finding {number} is resolved: there is nothing to look at again.")
        if asked is None:
            raise Stop(
                ExitCode.REFUSED, f"Finding {number} is of the rule {clean(before.rule)}, which there is no more."
            )
        if before.workspace not in {one.name for one in app.workspaces}:
            raise Stop(
                ExitCode.REFUSED,
                f"Workspace {clean(before.workspace)} is not configured any more: it cannot be looked at.",
            )
        with progress(this) as tell:
            try:
                report = app.scan(before.workspace, Mode.RECHECK, progress=tell, finding=number)
            except (Busy, Fenced) as exc:
                raise Stop(ExitCode.FAILED, f"{exc}. Try again when it has finished.") from exc
        with app.engine.connect() as connection:
            found = there(finding_list.shown(connection, number), number)
            whose = waivers.whose(connection, number)
            assert whose is not None
            asked = rechecking.asked(connection, number, rules.rules) or asked
            unseen = rechecking.not_seen(connection, whose[0], asked.rule, asked.needs, report.began_at)
    write_one(found, output, rules)
    if report.state == ScanState.FAILED:
        say(f"Nothing could be looked at: {clean(report.error or 'no reason given')} {clean(report.next_step or '')}")
        return ExitCode.FAILED
    for one in unseen:
        why = f": {clean(one.reason)}" if one.reason else ""
        say(f"Not completely seen, so nothing was concluded from it: {words.kind(one.kind, 2)}{why}")
    if unseen:
        return ExitCode.PARTIAL
    if found.state == before.state:
        this.tell(f"All of it was seen. The finding stands as it did: {found.state}.")
    return ExitCode.COMPLETE
