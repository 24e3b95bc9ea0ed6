"""`stocktake finding waive` and `stocktake waiver`: approved exceptions to findings, each with an end."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.finding import IdArgument, finding, there, write_one
from stocktake.cli.render import Output, clean, say, write_json, write_table, write_tsv
from stocktake.cli.rules import find, ids, loaded
from stocktake.cli.session import OutputOption, kind, kinds, now, operator, session
from stocktake.cli.times import TimeError, ago, exact, parse_time
from stocktake.core.covering import Covering
from stocktake.core.findings import State
from stocktake.core.gate import CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from stocktake.core.governance import Governance
    from stocktake.core.waivers import Waiver
    from stocktake.settings import Settings
    from stocktake.store.waivers import WaiverRow

waiver = typer.Typer(
    name="waiver", help="Approved exceptions to findings.", no_args_is_help=True, rich_markup_mode=None
)

UntilOption = Annotated[
    str,
    typer.Option(
        "--until",
        metavar="TIME",
        help='Until when, as "30 days", "2026-12-31" (that day included) or "2026-12-31T18:00".',
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, or which ticket; it is kept.")]
OwnerOption = Annotated[
    str | None, typer.Option("--owner", metavar="NAME", help="Who approved it. [default: you@host]")
]


@finding.command("waive")
def waive(
    context: typer.Context,
    number: IdArgument,
    until: UntilOption,
    reason: ReasonOption,
    owner: OwnerOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Make an exception of a finding until a time: it is not told, and opens again when the time is over.

    It becomes a waiver of this rule and this asset, listed by `stocktake waiver list`; `stocktake waiver end` ends it.
    """
    from stocktake.pipeline.governing import apply
    from stocktake.store import finding_list, waivers

    this, at = session(context), _until(until)
    settings = this.settings()
    agreed = _agreed(settings)
    with this.engine(settings) as engine:
        clean_words = _redacted(engine, settings)
        with engine.begin() as connection:
            whose = waivers.whose(connection, number)
            if whose is not None:
                wid, workspace, about = whose
                moment = waivers.lock(connection, wid)
                found = there(finding_list.shown(connection, number), number)
                if found.state in (State.PENDING, State.RESOLVED):
                    words = "is resolved" if found.state == State.RESOLVED else "did not open yet"
                    raise Stop(
                        ExitCode.REFUSED, f"Finding {number} {words}: there is nothing to waive. Nothing was changed."
                    )
                wanted = Covering(
                    rules=(about.rule,), workspaces=(workspace,), kinds=(about.kind,), assets=(about.key,), exact=True
                )
                waivers.add(
                    connection, wanted, owner=clean_words(owner or operator()), reason=clean_words(_why(reason)),
                    until=at, actor=operator(),
                )  # fmt: skip
                apply(connection, wid, agreed, moment)
            found = there(finding_list.shown(connection, number), number)
    write_one(found, output, loaded(settings))
    return ExitCode.COMPLETE


@waiver.command("add")
def add(
    context: typer.Context,
    until: UntilOption,
    reason: ReasonOption,
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            metavar="RULE",
            help="Which rule, with * and ?; or a check before a release, as `check-artifacts`.",
            autocompletion=ids,
        ),
    ] = "*",
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", metavar="NAME", help="Which workspace, with * and ?.")
    ] = "*",
    what: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="Which kind, with * and ?.", autocompletion=kinds)
    ] = "*",
    asset: Annotated[
        str, typer.Option("--asset", metavar="PATTERN", help="Key or name of the asset, with * and ?.")
    ] = "*",
    owner: OwnerOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Make an exception of whatever is found, now or later, by a rule about some assets, until a time."""
    from stocktake.store import waivers

    this, at, why = session(context), _until(until), _why(reason)
    settings = this.settings()
    if not _is_pattern(rule) and rule.removeprefix("check-") not in CHECKS:
        find(loaded(settings), rule)
    if not _is_pattern(what):
        what = str(kind(what))
    wanted = Covering(rules=(rule,), workspaces=(workspace,), kinds=(what,), assets=(asset,))
    if wanted.everything:
        raise typer.BadParameter(
            "This would waive whatever is found. Name a rule, a workspace, a kind or an asset.", param_hint="--rule"
        )
    with this.engine(settings) as engine:
        clean_words = _redacted(engine, settings)
        with engine.begin() as connection:
            number = waivers.add(
                connection, wanted, owner=clean_words(owner or operator()), reason=clean_words(why), until=at,
                actor=operator(),
            )  # fmt: skip
        moved = _apply_everywhere(engine, _agreed(settings), None)
        with engine.connect() as connection:
            made = waivers.row(connection, number)
    assert made is not None
    _write([_of_command(made)], output)
    this.tell(f"{moved:,} {'finding is' if moved == 1 else 'findings are'} waived by it now.")
    return ExitCode.COMPLETE


@waiver.command("list")
def list_(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """List the waivers that run: those that were entered by command, and those of the configuration and its files."""
    from stocktake.settings.governing import governance
    from stocktake.store import waivers

    this = session(context)
    settings = this.settings()
    agreed, wrong = governance(settings)
    with this.database(settings) as connection:
        entered = waivers.rows(connection, everything=everything)
    made = [_of_command(one) for one in entered]
    made += [one for one in map(_of_file, agreed.waivers) if everything or one["state"] == "running"]
    _write(made, output)
    if not made:
        this.tell("Nothing is waived.")
    for exc in wrong:
        say(str(exc))
    return ExitCode.PARTIAL if wrong else ExitCode.COMPLETE


@waiver.command("end")
def end(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The waiver's number.")],
    reason: ReasonOption,
    output: OutputOption = Output.TABLE,
) -> int:
    """End a waiver before its time: what it made an exception of opens again. One of a file is ended in the file."""
    from stocktake.store import waivers

    this, why = session(context), _why(reason)
    settings = this.settings()
    agreed = _agreed(settings)
    with this.engine(settings) as engine:
        words = _redacted(engine, settings)(why)
        with engine.begin() as connection:
            known = waivers.row(connection, number)
            if known is None:
                raise Stop(
                    ExitCode.NOT_FOUND, f"There is no waiver {number}. `stocktake waiver list` names those there are."
                )
            if not waivers.end(connection, number, actor=operator(), reason=words):
                raise Stop(ExitCode.REFUSED, f"Waiver {number} is over already. Nothing was changed.")
        moved = _apply_everywhere(engine, agreed, (operator(), f"waiver {number} was ended: {words}"))
        with engine.connect() as connection:
            made = waivers.row(connection, number)
    assert made is not None
    _write([_of_command(made)], output)
    this.tell(f"{moved:,} {'finding' if moved == 1 else 'findings'} moved.")
    return ExitCode.COMPLETE


def _apply_everywhere(engine: Engine, agreed: Governance, ended: tuple[str, str] | None) -> int:
    """Workspace by workspace, each in a transaction of its own: a scan waits no longer than for its own."""
    from stocktake.pipeline.governing import apply
    from stocktake.store import waivers

    with engine.connect() as connection:
        several = waivers.workspaces(connection)
    moved = 0
    for wid, _ in several:
        with engine.begin() as connection:
            moved += apply(connection, wid, agreed, waivers.lock(connection, wid), ended=ended)
    return moved


def _agreed(settings: Settings) -> Governance:
    """What the files say; where one cannot be read, that is said before anything is changed."""
    from stocktake.settings.governing import governance

    agreed, wrong = governance(settings)
    if wrong:
        raise wrong[0]
    return agreed


def _redacted(engine: Engine, settings: Settings) -> Callable[[str], str]:
    import os

    from stocktake.wiring import remembering_redactor

    return remembering_redactor(engine, settings, os.environ).text


def _why(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("Say why in a few words.", param_hint="--reason")
    return reason.strip()


def _until(text: str) -> datetime:
    """A time to come: a day with its last hour, a span from now, or a time."""
    at, words = now(), text.strip().lower().removeprefix("in ")
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", words):
            found = parse_time(words, now=at) + timedelta(days=1)
        elif re.match(r"(\d+(\.\d+)?|an?|one)\s*[a-z]", words) and not words.endswith("ago"):
            found = at + (at - parse_time(words, now=at))
        else:
            found = parse_time(words.upper(), now=at)
    except (TimeError, OverflowError) as exc:
        raise typer.BadParameter(
            f'{text!r} is not a time to come. Write it like "30 days", "2026-12-31" or "2026-12-31T18:00".',
            param_hint="--until",
        ) from exc
    if found <= at:
        raise typer.BadParameter(f"{text!r} is over: it was {exact(found)}.", param_hint="--until")
    return found


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def _of_command(one: WaiverRow) -> dict[str, Any]:
    state = "ended" if one.ended_at is not None else "running" if one.until > now() else "over"
    return rows.record(one, rows.WAIVER) | {
        "source": f"waiver {one.id}", "rules": [one.rule], "workspaces": [one.workspace], "kinds": [one.kind],
        "assets": [one.asset], "state": state,
    }  # fmt: skip


def _of_file(one: Waiver) -> dict[str, Any]:
    about = one.covering
    return dict.fromkeys(rows.WAIVER) | {
        "source": one.source, "rules": list(about.rules), "workspaces": list(about.workspaces),
        "kinds": list(about.kinds), "assets": list(about.assets), "exact": False, "owner": one.owner,
        "reason": one.reason, "until": one.until, "state": "running" if one.runs(now()) else "over",
    }  # fmt: skip


def _write(made: list[dict[str, Any]], output: Output) -> None:
    if output == Output.JSON:
        write_json(made)
    elif output == Output.TSV:
        write_tsv(rows.WAIVER, made)
    elif made:
        write_table(["WAIVER", "RULE", "WHERE", "UNTIL", "OWNER", "WHY"], _lines(made), whole="WHERE")


def _lines(made: list[dict[str, Any]]) -> Iterator[list[str]]:
    at = now()
    for one in made:
        until = f"{exact(one['until'])}\n{one['state']}, {ago(one['until'], now=at)}"
        where = "/".join(", ".join(one[name]) for name in ("workspaces", "kinds", "assets"))
        yield [one["source"], ", ".join(one["rules"]), clean(where), until, clean(one["owner"]), clean(one["reason"])]
