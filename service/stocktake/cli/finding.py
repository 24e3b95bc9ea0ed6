"""`stocktake finding`: what the rules found, with its evidence, and how a person takes it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import Output, clean, shorten, write_json, write_table, write_tsv
from stocktake.cli.rules import find, ids, loaded, said, told
from stocktake.cli.session import AskedOption, OutputOption, Session, known, now, operator, session, wide
from stocktake.cli.times import ago, exact
from stocktake.core.findings import State
from stocktake.core.rules import Rule, Severity, about
from stocktake.rules import RULES

if TYPE_CHECKING:
    from stocktake.ruling import Loaded
    from stocktake.store.finding_list import FindingRow, NotJudged

_ROWS = 50

finding = typer.Typer(name="finding", help="What the rules found.", no_args_is_help=True, rich_markup_mode=None)

IdArgument = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The finding's number.")]


@finding.command("list")
def list_(
    context: typer.Context,
    workspace: AskedOption = None,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="RULE", help="Only of this rule; may be repeated.", autocompletion=ids),
    ] = None,
    severity: Annotated[
        list[Severity] | None,
        typer.Option("--severity", metavar="|".join(Severity), help="Only of this severity; may be repeated."),
    ] = None,
    state: Annotated[
        list[State] | None,
        typer.Option(
            "--state",
            metavar="|".join(State),
            help="Only in this state; may be repeated. [default: all but resolved]",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, metavar="N", help=f"At most N. [default: {_ROWS} in a table]")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """List findings: the worst first, of those the latest.

    Where rules could not be asked, because what they need was never completely listed, or because they fail, that is
    said, and the exit code is 3: no finding is no claim that all is well there. With nothing judged yet it is 5.
    """
    from stocktake.store import finding_list, history

    this = session(context)
    settings = this.settings()
    rules = loaded(settings)
    with this.database(settings) as connection:
        for name in rule or ():
            if name not in rules.broken and not finding_list.has_findings(connection, name):
                find(rules, name)
        which = known(workspace, history.workspace_names(connection), wide(settings, connection))
        judged = finding_list.judged(connection, which)
        unasked = [one for one in finding_list.not_judged(connection, which) if not rule or one.rule in rule]
        most = limit or (_ROWS if output == Output.TABLE else None)
        found = finding_list.listed(
            connection,
            workspaces=which,
            rules=rule,
            severities=[str(one) for one in severity] if severity else None,
            states=[str(one) for one in state] if state else None,
            limit=most,
        )
        listed = []
        if output == Output.JSON:
            write_json(rows.record(one, rows.FINDING) for one in found)
        elif output == Output.TSV:
            write_tsv(rows.FINDING_TSV, (rows.record(one, rows.FINDING) for one in found))
        else:
            listed = list(found)
    if listed:
        show_findings(listed, rules.rules)
        if len(listed) == most and limit is None:
            this.tell(f"The first {most}; --limit shows more.")
    elif output == Output.TABLE and judged and not unasked:
        this.tell("Nothing was found.")
    return _ended(this, judged, unasked)


@finding.command("show")
def show(context: typer.Context, number: IdArgument, output: OutputOption = Output.TABLE) -> int:
    """Show a finding: its evidence, its history, and what its rule says to do."""
    from stocktake.store import finding_list

    this = session(context)
    settings = this.settings()
    with this.database(settings) as connection:
        found = finding_list.shown(connection, number)
    write_one(there(found, number), output, loaded(settings))
    return ExitCode.COMPLETE


@finding.command("ack")
def ack(
    context: typer.Context,
    number: IdArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, or which ticket; it is kept.")],
    output: OutputOption = Output.TABLE,
) -> int:
    """Take a finding on: you are at it, or, of a change, it was meant. Who and why is kept in its history.

    It stays on the list as acknowledged until a scan sees that it is over. What happens anew opens it again.
    """
    import os

    from stocktake.store import finding_list
    from stocktake.wiring import remembering_redactor

    if not reason.strip():
        raise typer.BadParameter("Say why in a few words.", param_hint="--reason")
    this = session(context)
    settings = this.settings()
    with this.engine(settings) as engine:
        redactor = remembering_redactor(engine, settings, os.environ)
        found = there(
            finding_list.acknowledged(engine, number, actor=operator(), reason=redactor.text(reason.strip())), number
        )
    if not finding_list.can_be_acknowledged(found.state):
        words = "is resolved" if found.state == State.RESOLVED else "did not open yet"
        raise Stop(ExitCode.REFUSED, f"Finding {number} {words}: there is nothing to take on. Nothing was changed.")
    write_one(found, output, loaded(settings))
    return ExitCode.COMPLETE


def there(found: FindingRow | None, number: int) -> FindingRow:
    if found is None:
        raise Stop(ExitCode.NOT_FOUND, f"There is no finding {number}. `stocktake finding list` names those there are.")
    return found


def _ended(this: Session, judged: bool, unasked: Sequence[NotJudged]) -> int:
    if not judged:
        this.tell("Nothing was judged yet: rules are asked after a scan. Run `stocktake scan`.")
        return ExitCode.NOT_OBSERVED
    failing = {(one.workspace, one.rule): one for one in unasked if one.error is not None}
    told = [
        f"{clean(one.workspace)}: {one.rule} could not be asked since {exact(one.since) if one.since else 'long'}:"
        f" {clean(one.error or '')}. What it had found stands as it was."
        for one in failing.values()
    ]
    told += [
        f"{clean(one.workspace)}: {one.rule} says nothing of {one.kind} yet: what it needs was never completely"
        " listed. `stocktake scope list` says why."
        for one in unasked
        if one.error is None
    ]
    for line in told[:5]:
        this.tell(line)
    if len(told) > 5:
        this.tell(f"And {len(told) - 5} more.")
    return ExitCode.PARTIAL if unasked else ExitCode.COMPLETE


def show_findings(found: Sequence[FindingRow], rules: Sequence[Rule] = RULES) -> None:
    """Write findings as a table, in their order."""
    titles = {rule.id: rule.words.title for rule in rules}
    lines = [_line(one, titles.get(one.rule, one.rule)) for one in found]
    write_table(["ID", "SEVERITY", "STATE", "SINCE", "WORKSPACE", "WHAT", "WHERE"], lines, whole="WHERE")


def _line(row: FindingRow, title: str) -> list[str]:
    named = f"{row.kind} {clean(row.key)}" + (f" ({clean(row.name)})" if row.name and row.name != row.key else "")
    state = row.state + (", inherited" if row.inherited else "")
    state += f"\nin {clean(row.change_window)}" if row.change_window else ""
    return [
        str(row.id), row.severity, state, f"{exact(row.since)}\n{ago(row.since, now=now())}", clean(row.workspace),
        f"{title}\n{row.rule}", f"{named}\nowner: {clean(row.owner or 'unknown')}",
    ]  # fmt: skip


def write_one(row: FindingRow, output: Output, rules: Loaded) -> None:
    rule = next((one for one in rules.rules if one.id == row.rule), None)
    made: dict[str, Any] = rows.record(row, rows.FINDING_SHOWN)
    made["history"] = [rows.record(one, rows.FINDING_EVENT) for one in row.history]
    filled = replace(rule, words=about(rule.words, row.kind, row.key, row.workspace)) if rule is not None else None
    made["words"] = rows.record(told(filled), rows.RULE) if filled is not None else None
    if output == Output.JSON:
        write_json([made])
        return
    if output == Output.TSV:
        write_tsv(rows.FINDING_TSV, [made])
        return
    lines = [
        ("Finding", f"{row.id}, {row.state}" + (" (inherited: it was so when we began to look)" * row.inherited)),
        ("Rule", f"{row.rule} ({row.severity})" + (f": {rule.words.title}" if rule is not None else "")),
        ("Where", f"{row.workspace}: {row.kind} {row.key}" + (f" ({row.name})" if row.name else "")),
        ("Owner", row.owner or "unknown"),
        ("First seen", exact(row.first_seen)),
        ("Last seen", exact(row.last_seen)),
        *([("Waived until", exact(row.waived_until))] if row.state == State.WAIVED and row.waived_until else []),
        *([("Change window", row.change_window)] if row.change_window else []),
        *([("Done by", row.actor + (f" ({row.actor_source})" if row.actor_source else ""))] if row.actor else []),
        *((f"Evidence: {name}", shorten(value, 400)) for name, value in _flat(row.evidence)),
    ]
    for event in row.history:
        by = f" by {event.actor}: {event.reason}" if event.actor else f": {event.reason}" if event.reason else ""
        lines.append((exact(event.at), f"{event.before or 'new'} -> {event.after}{by}"))
    if rule is not None:
        lines += said(rule, row.kind, row.key, row.workspace)
        lines += [("Runbook", f"docs/runbook/{rule.id}.md")] if rule.origin is None else [("File", rule.origin)]
    write_table(["", ""], ([name, text] for name, text in lines))


def _flat(evidence: Any) -> list[tuple[str, Any]]:
    """Evidence line by line; of fields that changed, each on its own."""
    lines: list[tuple[str, Any]] = []
    for name, value in evidence.items():
        if name == "fields":
            lines += [(f["path"], f"{shorten(f['before'])} -> {shorten(f['after'])}") for f in value]
        elif name == "differs":
            lines += [
                (f["path"], f"{shorten(f['baseline'])} in the baseline, is {shorten(f['actual'])}") for f in value
            ]
        else:
            lines.append((name, value))
    return lines
