"""`stocktake rules`: what findings are made by: which rules there are, what they need, and what they say to people."""

from __future__ import annotations

import difflib
from typing import Annotated, Any

import typer

from stocktake.cli import rows
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import Output, clean, write_json, write_table, write_tsv
from stocktake.cli.session import OutputOption
from stocktake.core.rules import ChangeRule, Rule
from stocktake.rules import RULES

rules = typer.Typer(name="rules", help="The rules that make findings.", no_args_is_help=True, rich_markup_mode=None)


def find(rule_id: str) -> Rule:
    """The rule of this name. Raises Stop where there is none."""
    for rule in RULES:
        if rule.id == rule_id:
            return rule
    close = difflib.get_close_matches(rule_id, [rule.id for rule in RULES], n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise Stop(ExitCode.NOT_FOUND, f"There is no rule {clean(rule_id)!r}.{hint} `stocktake rules list` names them all.")


def ids(incomplete: str) -> list[str]:
    """Complete a rule."""
    return [rule.id for rule in RULES if rule.id.startswith(incomplete)]


def told(rule: Rule) -> dict[str, Any]:
    """A rule as programs read it."""
    of_change = isinstance(rule, ChangeRule)
    return {
        "id": rule.id,
        "severity": str(rule.severity),
        "sort": "change" if of_change else "state",
        "kinds": [str(kind) for kind in rule.kinds],
        "needs": [] if isinstance(rule, ChangeRule) else [str(kind) for kind in (*rule.kinds, *rule.needs)],
        "opens_after": rule.opens_after,
        "resolves_after": rule.resolves_after,
        "title": rule.words.title,
        "why": rule.words.why,
        "inspect_cli": rule.words.cli,
        "inspect_rest": rule.words.rest,
        "inspect_portal": rule.words.portal,
        "fix": rule.words.fix,
        "rollback": rule.words.rollback,
        "signal": rule.words.signal,
        "runbook": f"docs/runbook/{rule.id}.md",
        "statement": None if isinstance(rule, ChangeRule) else rule.statement.strip(),
    }


def said(rule: Rule) -> list[tuple[str, str]]:
    """The words of a rule, each with its heading."""
    words = rule.words
    return [
        ("Why it matters", words.why),
        ("Inspect (command line)", words.cli),
        ("Inspect (REST, SQL)", words.rest),
        ("Inspect (portal)", words.portal),
        ("Fix", words.fix),
        ("Go back", words.rollback),
        ("Opens and resolves", words.signal),
    ]


@rules.command("list")
def list_(output: OutputOption = Output.TABLE) -> int:
    """List the rules: what each is about, and what must have been completely seen before it says anything."""
    made = [told(rule) for rule in RULES]
    if output == Output.JSON:
        write_json(rows.record(one, rows.RULE) for one in made)
    elif output == Output.TSV:
        write_tsv(rows.RULE_TSV, made)
    else:
        write_table(
            ["RULE", "SEVERITY", "SORT", "NEEDS COMPLETE", "TITLE"],
            ([one["id"], one["severity"], one["sort"], ", ".join(one["needs"]) or "-", one["title"]] for one in made),
            whole="RULE",
        )
    return ExitCode.COMPLETE


@rules.command("show")
def show(
    rule_id: Annotated[str, typer.Argument(metavar="RULE", help="The rule's id.", autocompletion=ids)],
    output: OutputOption = Output.TABLE,
) -> int:
    """Show what a rule says: why it matters, how to inspect, the fix, the way back, and when it opens and resolves."""
    rule = find(rule_id)
    made = told(rule)
    if output == Output.JSON:
        write_json([rows.record(made, rows.RULE)])
    elif output == Output.TSV:
        write_tsv(rows.RULE_TSV, [made])
    else:
        facts = [("Rule", f"{rule.id} ({rule.severity})"), ("Title", rule.words.title)]
        write_table(["", ""], ([name, text] for name, text in [*facts, *said(rule), ("Runbook", made["runbook"])]))
    return ExitCode.COMPLETE
