"""`stocktake rules check | test | try`: whether a rule is right, what it would say now, and what it would have said."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import Output, clean, shorten, write_json, write_table, write_tsv
from stocktake.cli.rules import RuleArgument, asked
from stocktake.cli.session import AskedOption, OutputOption, Session, known, moment, now, session, wide
from stocktake.cli.times import exact
from stocktake.core.rules import ChangeRule, Rule, StateRule
from stocktake.rules import RULES

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from stocktake.pipeline.replaying import Move, Unobserved

_ROWS = 50
_EXAMPLES = 3
_TELL_EVERY = 0.2


def check(
    context: typer.Context,
    places: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE|FOLDER", help="Files or folders. [default: rules.folder]", show_default=False),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Check rules of your own: the header and the words, the SQL as Postgres reads it, and what it yields.

    A statement is parsed, must read the views of the schema `inventory` alone and call nothing that does more than
    compute, and is asked once, read-only and within `rules.timeout`. The exit code is 0 when all is right, 4 when a
    file is wrong, 7 when there is nothing to check.
    """
    from stocktake import ruling
    from stocktake.settings.own_rules import Own, Problem
    from stocktake.store import rule_check

    this = session(context)
    settings = this.settings()
    files = _files(places, settings.rules.folder)
    shipped = {rule.id for rule in RULES}
    answer = []
    with this.engine(settings) as engine:

        def flaw(rule: StateRule) -> rule_check.Flaw | None:
            return rule_check.flaw(engine, rule) or rule_check.trial(engine, rule, settings.rules.timeout)

        for file in files:
            one: Own | Problem = ruling.examine(file, flaw)
            if isinstance(one, Own) and one.rule.id in shipped:
                one = Problem(file, None, f"there is a rule {one.rule.id} of stocktake's own. Rename the file")
            problem = one if isinstance(one, Problem) else None
            rule = one.rule if isinstance(one, Own) else None
            sort = None if rule is None else "change" if isinstance(rule, ChangeRule) else "state"
            answer.append(
                {
                    "file": str(file),
                    "line": problem.line if problem else None,
                    "rule": rule.id if rule else problem.rule if problem else None,
                    "sort": sort,
                    "ok": problem is None,
                    "problem": problem.what if problem else None,
                }
            )
    if output == Output.JSON:
        write_json(rows.record(line, rows.RULE_CHECKED) for line in answer)
    elif output == Output.TSV:
        write_tsv(rows.RULE_CHECKED, answer)
    else:
        for line in answer:
            where = f"{line['file']}, line {line['line']}" if line["line"] else line["file"]
            sys.stdout.write(clean(f"{where}: {line['problem'] or 'is right'}") + "\n")
    return ExitCode.COMPLETE if all(line["ok"] for line in answer) else ExitCode.FAILED


def _files(places: Sequence[Path] | None, folder: Path | None) -> list[Path]:
    from stocktake.settings.own_rules import rule_files

    found: list[Path] = []
    for place in places or ([folder] if folder is not None else []):
        at = place.expanduser().absolute()
        if not at.exists():
            raise Stop(ExitCode.NOT_FOUND, f"There is no file or folder {clean(str(at))}.")
        found += rule_files(at) if at.is_dir() else [at]
    if not found:
        words = "There are no .sql or .py files there." if places or folder else "Name a file or a folder:"
        step = "" if places or folder else " the configuration names no rules.folder."
        raise Stop(ExitCode.NOT_FOUND, f"{words}{step} Nothing was checked.")
    return found


def ask(
    context: typer.Context, rule_id: RuleArgument, workspace: AskedOption = None, output: OutputOption = Output.TABLE
) -> int:
    """Say what a rule yields now, and what stands about it; nothing is written.

    `state` is that of the finding that there is; `would open`, or `would be pending` where the rule waits for several
    looks; `would resolve` where a finding stands and the rule yields it no more. Of what was never completely listed
    nothing is said, and the exit code is 3.
    """
    from stocktake.store import finding_list, findings, judging

    this = session(context)
    settings = this.settings()
    rule = asked(settings, rule_id)
    if isinstance(rule, ChangeRule):
        raise Stop(
            ExitCode.REFUSED,
            f'{rule.id} speaks of changes, not of how things stand: `stocktake rules try {clean(rule_id)} --since "7'
            ' days ago"` says what it would have made of them.',
        )
    answer: list[dict[str, Any]] = []
    blind: list[str] = []
    with this.engine(settings) as engine:
        _sound(engine, rule)
        with judging.reading(engine, settings.rules.timeout) as reader:
            at, numbers = _numbers(reader)
            for name in known(workspace, list(numbers), wide(settings, reader)) or list(numbers):
                if name not in numbers:
                    continue
                complete = judging.complete_kinds(reader, numbers[name])
                units = [unit.kind for unit in judging.units(rule)]
                seen = [kind for kind in units if rule.of_ledger or {kind, *map(str, rule.needs)} <= complete.keys()]
                blind += [f"{clean(name)}: {kind}" for kind in units if kind not in seen]
                try:
                    found = findings.yielded(reader, rule.statement, name, seen, at)
                except findings.Malformed as exc:
                    raise Stop(ExitCode.FAILED, f"{rule.id} {clean(str(exc))}.") from exc
                stands = {
                    (row.kind, row.key): row.state
                    for row in finding_list.listed(reader, workspaces=[name], rules=[rule.id])
                    if row.kind in seen
                }
                new = "would open" if rule.opens_after == 1 else "would be pending"
                for subject, evidence in found.items():
                    state = stands.pop((subject.kind, subject.key), new)
                    answer.append(_tested(name, subject.kind, subject.key, state, evidence))
                answer += [_tested(name, kind, key, "would resolve", None) for kind, key in stands]
    if output == Output.JSON:
        write_json(rows.record(one, rows.RULE_TESTED) for one in answer)
    elif output == Output.TSV:
        write_tsv(rows.RULE_TESTED_TSV, answer)
    elif answer:
        write_table(
            ["WORKSPACE", "WHERE", "STATE", "EVIDENCE"],
            (
                [one["workspace"], f"{one['kind']} {one['key']}", one["state"], shorten(one["evidence"], 200)]
                for one in answer[:_ROWS]
            ),
            whole="WHERE",
        )
        if len(answer) > _ROWS:
            this.tell(f"The first {_ROWS} of {len(answer):,}; `--output json` shows all.")
    else:
        this.tell("It yields nothing.")
    for line in blind[:5]:
        this.tell(f"{line} was not asked about: what the rule needs was never completely listed, or not lately.")
    return ExitCode.PARTIAL if blind else ExitCode.COMPLETE


def _tested(workspace: str, kind: str, key: str, state: str, evidence: Any) -> dict[str, Any]:
    return {"workspace": workspace, "kind": kind, "key": key, "state": state, "evidence": evidence}


def _numbers(connection: Connection) -> tuple[datetime, dict[str, int]]:
    """The time, and the workspaces that are known."""
    from sqlalchemy import text

    at = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    found = connection.execute(text("SELECT name, workspace_id FROM public.workspace ORDER BY name"))
    return at, {row.name: row.workspace_id for row in found}


def _sound(engine: Engine, rule: StateRule) -> None:
    """Refuse a statement that would do more than read the public views."""
    from stocktake.store import rule_check

    if rule.origin is not None and (flaw := rule_check.flaw(engine, rule)) is not None:
        raise Stop(ExitCode.FAILED, f"{clean(rule.origin)}: {clean(flaw.what)}.")


def try_(
    context: typer.Context,
    rule_id: RuleArgument,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help='From when on, e.g. "90 days ago".')
    ] = "30 days ago",
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until when. [default: now]")] = None,
    workspace: AskedOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Say what a rule would have opened and resolved over the recorded history, day by day; nothing is written.

    A rule about changes is given those that were recorded. A rule about how things stand is asked as of the last time
    of each day at which a scan ended: a rule that waits for several looks then waits for as many days. What was not
    observed, or what retention dropped, is said: the exit code is 3, or 5 where nothing of the time is known.
    """
    from stocktake.core.findings import Policy
    from stocktake.pipeline.replaying import Replay
    from stocktake.store import history
    from stocktake.store.findings import Malformed
    from stocktake.store.past import NoPast

    this = session(context)
    settings = this.settings()
    rule = asked(settings, rule_id)
    begin, end = moment(since, "--since", future=False), moment(until, "--until", future=False) or now()
    assert begin is not None
    if begin >= end:
        raise typer.BadParameter("It lies behind --until.", param_hint="--since")
    with this.engine(settings) as engine:
        if isinstance(rule, StateRule):
            _sound(engine, rule)
        with engine.connect() as connection:
            there = history.workspace_names(connection)
            names = known(workspace, there, wide(settings, connection)) or there
        with _progress(this, rule, len(names), begin, end) as progress:
            replay = Replay(
                engine=engine,
                rule=rule,
                since=begin,
                until=end,
                policy=Policy(stale_after=settings.rules.stale_after, reopen_within=settings.rules.reopen_within),
                timeout=settings.rules.timeout * 10,
                progress=progress,
            )
            try:
                moves = list(replay.run(names))
            except (Malformed, NoPast) as exc:
                raise Stop(ExitCode.FAILED, f"{rule.id} {clean(str(exc))}.") from exc
    if output == Output.JSON:
        write_json(rows.record(asdict(one), rows.RULE_TRIED) for one in moves)
    elif output == Output.TSV:
        write_tsv(rows.RULE_TRIED_TSV, (asdict(one) for one in moves))
    elif moves:
        _by_day(moves)
    else:
        this.tell(f"It would have said nothing: looked {replay.looks:,} {'time' if replay.looks == 1 else 'times'}.")
    for one in replay.unobserved:
        _tell(this, one)
    if not replay.looks and replay.unobserved:
        return ExitCode.NOT_OBSERVED
    return ExitCode.PARTIAL if replay.unobserved else ExitCode.COMPLETE


def _by_day(moves: Sequence[Move]) -> None:
    """What moved on each day, in each workspace, and how much stood open in its evening."""
    standing: dict[str, int] = {}
    days: dict[tuple[str, str], list[Any]] = {}
    for one in sorted(moves, key=lambda move: (move.at, move.workspace)):
        day = f"{one.at.astimezone(UTC):%Y-%m-%d}"
        line = days.setdefault((day, one.workspace), [0, 0, 0, []])
        was, is_ = _stands(one.before), _stands(one.after)
        standing[one.workspace] = standing.get(one.workspace, 0) + is_ - was
        if is_ > was:
            line[0] += 1
            line[3].append(f"{one.kind} {one.key}" + (" (at the beginning)" if one.inherited else ""))
        elif was > is_:
            line[1] += 1
        line[2] = standing[one.workspace]
    write_table(
        ["DAY (UTC)", "WORKSPACE", "OPENED", "RESOLVED", "OPEN THEN", "SUCH AS"],
        (
            [
                day,
                name,
                str(opened or ""),
                str(resolved or ""),
                str(open_),
                "\n".join(_some(examples)),
            ]
            for (day, name), (opened, resolved, open_, examples) in days.items()
        ),
    )


def _some(examples: list[str]) -> list[str]:
    more = len(examples) - _EXAMPLES
    return examples[:_EXAMPLES] + ([f"and {more:,} more"] if more > 0 else [])


def _stands(state: str | None) -> int:
    return int(state in ("open", "acknowledged", "waived", "stale"))


def _tell(this: Session, one: Unobserved) -> None:
    name = clean(one.workspace)
    if one.dropped_before is not None:
        this.tell(f"{name}: not observed before {exact(one.dropped_before)}: retention dropped what was earlier.")
    if one.first is not None:
        this.tell(
            f"{name}: nothing is said of the time before {exact(one.first)}: a rule about how things stand is asked"
            " once for each day, and no rule before all that it needs was completely listed."
        )
    if one.never:
        this.tell(f"{name}: not observed at all: {', '.join(one.never)}, or what the rule needs beside.")


@contextmanager
def _progress(
    this: Session, rule: Rule, workspaces: int, begin: datetime, end: datetime
) -> Iterator[Callable[[str, datetime], None]]:
    """A bar on a terminal, over the time of all workspaces; nothing elsewhere."""
    if this.quiet or not sys.stderr.isatty():
        yield lambda _name, _at: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
        TextColumn("{task.fields[at]}", markup=False), TimeElapsedColumn(),
    )  # fmt: skip
    whole = max((end - begin).total_seconds(), 1)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(rule.id, total=whole * max(workspaces, 1), at="")
        done: list[str] = []
        told = [0.0]

        def tell(name: str, at: datetime) -> None:
            if not done or done[-1] != name:
                done.append(name)
            elif time.monotonic() - told[0] < _TELL_EVERY:
                return
            told[0] = time.monotonic()
            spent = (len(done) - 1) * whole + max((at - begin) / timedelta(seconds=1), 0)
            bar.update(task, completed=spent, at=f"{clean(name)} {at.astimezone(UTC):%Y-%m-%d}")

        yield tell
