"""`stocktake rules`: what findings are made by: which rules there are, what they need, and what they say to people."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import Output, clean, write_json, write_table, write_tsv
from stocktake.cli.session import OutputOption, Session, session
from stocktake.core.errors import ConfigError
from stocktake.core.rules import ChangeRule, Rule, about
from stocktake.rules import RULES

if TYPE_CHECKING:
    from stocktake.ruling import Loaded
    from stocktake.settings import Settings
    from stocktake.store.finding_list import NotJudged

rules = typer.Typer(name="rules", help="The rules that make findings.", no_args_is_help=True, rich_markup_mode=None)


def ids(incomplete: str) -> list[str]:
    """Complete a rule."""
    return [rule.id for rule in RULES if rule.id.startswith(incomplete)]


RuleArgument = Annotated[
    str,
    typer.Argument(
        metavar="RULE",
        help="The rule's id; or the file of a rule of your own.",
        autocompletion=ids,
    ),
]


def loaded(settings: Settings) -> Loaded:
    """Every rule that there is, the operator's own among them."""
    from stocktake import ruling

    return ruling.load(settings)


def find(among: Loaded, rule_id: str) -> Rule:
    """The rule of this name. Raises Stop where there is none, or where its file is wrong."""
    for rule in among.rules:
        if rule.id == rule_id:
            return rule
    if rule_id in among.broken:
        raise Stop(ExitCode.FAILED, among.broken[rule_id])
    close = difflib.get_close_matches(rule_id, [rule.id for rule in among.rules], n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise Stop(ExitCode.NOT_FOUND, f"There is no rule {clean(rule_id)!r}.{hint} `stocktake rules list` names them all.")


def asked(settings: Settings, named: str) -> Rule:
    """The rule of this name, or that of a file. Raises Stop where there is none, or where the file is wrong."""
    from stocktake.ruling import examine
    from stocktake.settings.own_rules import Problem

    file = Path(named).expanduser()
    if file.suffix not in (".sql", ".py"):
        return find(loaded(settings), named)
    one = examine(file.absolute())
    if isinstance(one, Problem):
        raise Stop(ExitCode.FAILED, clean(str(one)))
    return one.rule


def told(rule: Rule) -> dict[str, Any]:
    """A rule as programs read it."""
    of_change = isinstance(rule, ChangeRule)
    return {
        "id": rule.id,
        "severity": str(rule.severity),
        "group": str(rule.group),
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
        "runbook": f"docs/runbook/{rule.id}.md" if rule.origin is None else None,
        "statement": None if isinstance(rule, ChangeRule) else rule.statement.strip(),
        "origin": rule.origin,
    }


def said(rule: Rule, kind: str | None = None, key: str = "", workspace: str = "") -> list[tuple[str, str]]:
    """The words of a rule, each with its heading; of one finding, with what it is about where the words leave room."""
    words = rule.words if kind is None else about(rule.words, kind, key, workspace)
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
def list_(context: typer.Context, output: OutputOption = Output.TABLE) -> int:
    """List the rules: what each is about, and what must have been completely seen before it says anything.

    Those that are switched off and those that fail are named with the reason; what is wrong with a file of your own is
    said, and the exit code is then 3. Without a database it is not known which fail.
    """
    from stocktake import ruling

    this = session(context)
    settings = this.settings()
    among = loaded(settings)
    ruling.refuse_unknown(settings, among)
    failing = _failing(this, settings)
    made = [_with_standing(rule, settings, failing) for rule in among.rules]
    if output == Output.JSON:
        write_json(rows.record(one, rows.RULE) for one in made)
    elif output == Output.TSV:
        write_tsv(rows.RULE_TSV, made)
    else:
        write_table(
            ["RULE", "SEVERITY", "ASKED", "TITLE"],
            (
                [
                    one["id"],
                    f"{one['severity']}\n{one['group']}",
                    _when(one),
                    "\n".join([one["title"], *_standing(one)]),
                ]
                for one in made
            ),
            whole="RULE",
        )
    for problem in among.problems:
        this.tell(clean(str(problem)))
    if among.unread is not None:
        this.tell(clean(among.unread))
    return ExitCode.PARTIAL if among.problems or among.unread else ExitCode.COMPLETE


def _with_standing(rule: Rule, settings: Settings, failing: Sequence[NotJudged] | None) -> dict[str, Any]:
    from stocktake import ruling

    whys = {
        one.name if one is not None else "": ruling.why_off(rule, settings, one)
        for one in settings.workspaces or (None,)
    }
    off = {name: why for name, why in whys.items() if why is not None}
    same = len(set(whys.values())) == 1
    where = next(iter(off.values()), None) if same else "; ".join(f"{name}: {why}" for name, why in off.items())
    here = None if failing is None else [rows.record(one, rows.FAILING) for one in failing if one.rule == rule.id]
    return told(rule) | {"off": where, "failing": here}


def _when(one: dict[str, Any]) -> str:
    if one["sort"] == "change":
        return "of each change"
    return "once complete: " + ", ".join(one["needs"]) if one["needs"] else "after each scan"


def _standing(one: dict[str, Any]) -> list[str]:
    lines = [f"off ({one['off']})"] if one["off"] else []
    failing = one["failing"] or []
    lines += [f"FAILS in {each['workspace']}: {each['error']}" for each in failing[:1]]
    return lines + ([f"and in {len(failing) - 1} more"] if len(failing) > 1 else [])


def _failing(this: Session, settings: Settings) -> list[NotJudged] | None:
    """Which rules fail; None where the database cannot tell. One that nobody made yet is not made for this."""
    from stocktake.store import finding_list

    if settings.database == "embedded" and not (settings.data_dir / "postgres").exists():
        return None
    try:
        with this.database(settings) as connection:
            return finding_list.failing(connection)
    except (ConfigError, Stop) as exc:
        this.tell(f"Which rules fail is not known. {exc}")
        return None


@rules.command("show")
def show(context: typer.Context, rule_id: RuleArgument, output: OutputOption = Output.TABLE) -> int:
    """Show what a rule says: why it matters, how to inspect, the fix, the way back, and when it opens and resolves."""
    rule = asked(session(context).settings(), rule_id)
    made = told(rule)
    if output == Output.JSON:
        write_json([rows.record(made, rows.RULE)])
    elif output == Output.TSV:
        write_tsv(rows.RULE_TSV, [made])
    else:
        facts = [("Rule", f"{rule.id} ({rule.severity}, {rule.group})"), ("Title", rule.words.title)]
        last = ("Runbook", made["runbook"]) if rule.origin is None else ("File", rule.origin)
        write_table(["", ""], ([name, text] for name, text in [*facts, *said(rule), last]))
    return ExitCode.COMPLETE
