"""The questions: list, show, history, changes, diff. They read the database and nothing else."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows, tables, words
from stocktake.cli.exits import ExitCode
from stocktake.cli.observed import View, note, opening, refuse, view, view_of
from stocktake.cli.render import Output, clean, say, write_json, write_table, write_tsv
from stocktake.cli.session import (
    AskedOption,
    AtOption,
    KeyArgument,
    KindArgument,
    OutputOption,
    SinceOption,
    UntilOption,
    kind,
    known,
    moment,
    now,
    pairs,
    session,
    wide,
)
from stocktake.cli.times import ago, exact, span
from stocktake.core.assets import Category, ChangeType, Kind
from stocktake.core.diff import field_changes

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stocktake.store.history import ChangeRow
    from stocktake.store.observation import Life

_TABLE_ROWS = 200
_VALUES = 8
_WHERE = ("name", "state", "owner", "partition", "lifecycle", "parent", "run")
_LIMIT_HELP = f"At most N. [default: {_TABLE_ROWS} in a table, else all]"
LimitOption = Annotated[int | None, typer.Option("--limit", "-n", min=1, metavar="N", help=_LIMIT_HELP)]
ExpandOption = Annotated[
    bool, typer.Option("--expand", help="One line for every change, also those that a larger one explains.")
]
Record = Mapping[str, Any]


def list_(
    context: typer.Context,
    what: KindArgument,
    workspace: AskedOption = None,
    at: AtOption = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="NAME=VALUE", help=f"Only where it is so; one of {', '.join(_WHERE)}."),
    ] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted/--no-deleted", help="With those that the source marks deleted.")
    ] = True,
    limit: LimitOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """List the assets of a kind, as they are known now or were known at a time.

    Purged assets are not listed; `show` still finds them.
    """
    from stocktake.store.history import experiment_names, list_assets, values_of, workspace_names

    which, when = kind(what), moment(at, "--at", future=False)
    conditions = pairs(where, _WHERE)
    settings = session(context).settings()
    with session(context).database(settings) as connection:
        names = workspace_names(connection)
        workspaces = known(workspace, names, wide(settings, connection))
        seen = view(connection, which, workspaces, when, partition=(conditions or {}).get("partition"))
        if seen.blind:
            return refuse(seen, output)
        opening(seen)
        answered = seen.answerable(which, workspaces or names)
        found = (
            rows.record(row, rows.ASSET)
            for row in list_assets(
                connection,
                which,
                workspaces=answered,
                at=when,
                deleted=deleted,
                where=conditions,
                limit=_ask(limit, output),
            )
        )
        experiments = functools.partial(experiment_names, connection, workspaces=answered, at=when)
        table = functools.partial(tables.assets, which=which, experiments=experiments)
        count = _write(found, output, rows.ASSET_TSV, table, limit, context)
        if not count:
            session(context).tell(f"No {words.kind(which, 2)}.")
            for column, value in (conditions or {}).items():
                there = values_of(connection, which, column, workspaces=answered, at=when, limit=_VALUES + 1)
                if value.lower() not in {one.lower() for one in there}:
                    session(context).tell(_there_are(column, there))
        return note(seen)


def show(
    context: typer.Context,
    what: KindArgument,
    key: KeyArgument,
    workspace: AskedOption = None,
    at: AtOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show one asset with its whole document, now or at a time. A purged one is shown in its last state."""
    from stocktake.store.history import experiment_names, find_asset, workspace_names
    from stocktake.store.observation import lives, unseen

    which, when = kind(what), moment(at, "--at", future=False)
    settings = session(context).settings()
    with session(context).database(settings) as connection:
        workspaces = known(workspace, workspace_names(connection), wide(settings, connection))
        found = [
            rows.record(row, rows.ASSET) for row in find_asset(connection, which, key, workspaces=workspaces, at=when)
        ]
        if not found:
            ever = lives(connection, which, key, workspaces=workspaces)
            return none_found(connection, which, key, ever, workspaces, when, output)
        told = unseen(connection, workspaces=sorted({row["workspace"] for row in found}), at=when, kind=which)
        names = experiment_names(connection, {row["partition"] for row in found}, workspaces=workspaces, at=when)
    seen = View(at=when or now(), observations=(), unseen=told)
    opening(seen)
    if output != Output.TABLE:
        _write(found, output, rows.ASSET_TSV, lambda _: None, None, context)
    elif len(found) > 1:
        tables.assets(found, which, lambda _: names)
        session(context).tell(f"{len(found)} have that name: ask for one by its key, or with --workspace.")
    else:
        tables.details(found[0], when)
    return note(seen)


def history(
    context: typer.Context,
    what: KindArgument,
    key: KeyArgument,
    workspace: AskedOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Show the states of one asset, oldest first, and what made each differ from the one before."""
    from stocktake.store.history import asset_history, workspace_names
    from stocktake.store.observation import lives, unseen

    which = kind(what)
    after, before = moment(since, "--since", future=False), moment(until, "--until")
    _ordered(after, before, "--since", "--until")
    settings = session(context).settings()
    with session(context).database(settings) as connection:
        workspaces = known(workspace, workspace_names(connection), wide(settings, connection))
        found = [
            rows.record(row, rows.VERSION)
            for row in asset_history(connection, which, key, workspaces=workspaces, since=after, until=before)
        ]
        ever = lives(connection, which, key, workspaces=workspaces)
        if not found:
            return none_found(connection, which, key, ever, workspaces, before, output)
        seen = view_of(connection, which, ever, after) if after is not None else View(at=now(), observations=())
        told = unseen(connection, workspaces=sorted({row["workspace"] for row in found}), at=before, kind=which)
        seen = replace(seen, unseen=told)
    opening(seen)
    blind = {one.workspace for one in seen.unseen}
    _write(found, output, rows.VERSION_TSV, lambda held: _versions(held, blind), None, context)
    for one in ever if after is None else ():  # without --since it goes back as far as states are kept
        if one.kept_since is not None and one.first_seen < one.kept_since:
            say(f"States of {clean(one.key)} before {exact(one.kept_since)} were dropped by retention.")
    return note(seen)


def changes(
    context: typer.Context,
    workspace: AskedOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    what: Annotated[str | None, typer.Option("--kind", "-k", metavar="KIND", help="Only this kind.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only the asset with this id.")] = None,
    type_: Annotated[
        ChangeType | None, typer.Option("--type", metavar="|".join(ChangeType), help="Only this type.")
    ] = None,
    category: Annotated[
        Category | None, typer.Option("--category", metavar="|".join(Category), help="Only this category.")
    ] = None,
    expand: ExpandOption = False,
    limit: LimitOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Tell what changed, oldest first: between which two looks, what, from what to what, and by whom.

    An experiment deleted with its runs is one change that says how many runs went with it; --expand shows them all.
    Who did it is "unknown" unless a source names the actor. A limit keeps the newest.
    """
    from stocktake.store import history as store

    which = kind(what) if what is not None else None
    after, before = moment(since, "--since", future=False), moment(until, "--until")
    _ordered(after, before, "--since", "--until")
    settings = session(context).settings()
    with session(context).database(settings) as connection:
        workspaces = known(workspace, store.workspace_names(connection), wide(settings, connection))
        seen = view(connection, which, workspaces, before)
        if seen.blind:
            return refuse(seen, output)
        if after is not None:  # what was not seen at the beginning has changes that nobody saw
            seen = replace(view(connection, which, workspaces, after), unseen=seen.unseen)
        opening(seen)
        told = (
            rows.change(row)
            for row in store.changes(
                connection,
                workspaces=workspaces,
                since=after,
                until=before,
                kind=which,
                key=key,
                type=type_,
                category=category,
                expand=expand,
                limit=_ask(limit, output),
            )
        )
        count = _write(told, output, rows.CHANGE, _changes, limit, context, newest=True)
        if not count:
            session(context).tell("No changes.")
        return note(seen)


def diff(
    context: typer.Context,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="The earlier time.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="The later time.")] = "now",
    workspace: AskedOption = None,
    what: Annotated[str | None, typer.Option("--kind", "-k", metavar="KIND", help="Only this kind.")] = None,
    expand: ExpandOption = False,
    limit: LimitOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Compare two times: the net difference, without what came and went in between.

    As in `changes`, an experiment deleted with its runs is one difference; --expand shows them all.
    """
    from stocktake.store.difference import difference
    from stocktake.store.history import workspace_names
    from stocktake.store.observation import unseen

    which = kind(what) if what is not None else None
    first, last = moment(start, "--from", future=False), moment(end, "--to")
    assert first is not None
    assert last is not None
    _ordered(first, last, "--from", "--to")
    settings = session(context).settings()
    with session(context).database(settings) as connection:
        workspaces = known(workspace, workspace_names(connection), wide(settings, connection))
        seen = view(connection, which, workspaces, first)
        if seen.blind:
            return refuse(seen, output)
        never = [one for one in seen.unseen if one.since is None]
        seen = replace(seen, unseen=[*never, *unseen(connection, workspaces=workspaces, at=last, kind=which)])
        opening(seen)
        told = (
            rows.change(row)
            for row in difference(
                connection,
                start=first,
                end=last,
                workspaces=workspaces,
                kind=which,
                without=seen.hidden,
                expand=expand,
            )
        )
        count = _write(itertools.islice(told, _ask(limit, output)), output, rows.CHANGE, _differences, limit, context)
        if not count:
            session(context).tell(f"No difference between {exact(first)} and {exact(last)}.")
        return note(seen)


def _there_are(column: str, values: Sequence[str]) -> str:
    """Say what could have been asked for."""
    if not values:
        return f"None of them has a {column}."
    return f"{column}: {', '.join(clean(one) for one in values[:_VALUES])}{', ...' if len(values) > _VALUES else '.'}"


def _ask(limit: int | None, output: Output) -> int | None:
    """How many to ask for: one more than a table shows, so that it can say that there is more."""
    if limit is not None:
        return limit
    return _TABLE_ROWS + 1 if output == Output.TABLE else None


def _write(
    found: Iterable[Record],
    output: Output,
    columns: Sequence[str],
    table: Callable[[Sequence[Record]], None],
    limit: int | None,
    context: typer.Context,
    *,
    newest: bool = False,
) -> int:
    if output == Output.JSON:
        return write_json(found)
    if output == Output.TSV:
        return write_tsv(columns, found)
    held = list(found)
    if limit is None and len(held) > _TABLE_ROWS:
        held = held[-_TABLE_ROWS:] if newest else held[:_TABLE_ROWS]
        which = "newest" if newest else "first"
        session(context).tell(f"Only the {which} {_TABLE_ROWS} are shown: --limit N shows more, -o tsv or json all.")
    if held:
        table(held)
    return len(held)


def _versions(held: Sequence[Record], blind: Collection[str]) -> None:
    at = now()
    several = len({(row["workspace"], row["key"]) for row in held}) > 1

    def lines() -> Iterator[list[str]]:
        before: Record | None = None
        for row, after in itertools.zip_longest(held, held[1:]):
            if before is not None and not _same(before, row):
                before = None
            which = [f"{row['workspace']}\n{row['key']}"] if several else []
            until = "now" if row["valid_to"] is None else exact(row["valid_to"])
            lasted = f"{until}\nfor {span(((row['valid_to'] or at) - row['valid_from']).total_seconds())}"
            if row["valid_to"] is None and row["workspace"] in blind:
                lasted = "the last look"
            yield [
                *which,
                f"{exact(row['valid_from'])}\n{ago(row['valid_from'], now=at)}",
                lasted,
                tables.state(row),
                _since(before, row),
            ]
            if row["ended_by"] == "purged" and (after is None or not _same(row, after)):
                yield [*which, f"{exact(row['valid_to'])}\n{ago(row['valid_to'], now=at)}", "", "purged", "gone"]
            before = row

    write_table([*(["ASSET"] if several else []), "FROM", "TO", "STATE", "WHAT CHANGED"], lines())


def _same(one: Record, other: Record) -> bool:
    return (one["workspace"], one["key"]) == (other["workspace"], other["key"])


def _since(before: Record | None, row: Record) -> str:
    if before is None:
        return "first known state"
    told = []
    if before["valid_to"] is not None and before["valid_to"] < row["valid_from"]:
        told.append(f"was gone for {span((row['valid_from'] - before['valid_to']).total_seconds())}")
    found = [
        {"path": one.path, "before": one.before, "after": one.after}
        for one in field_changes(before["document"], row["document"])
    ]
    if found:
        told.append(words.fields({"fields": found}))
    if before["lifecycle"] != row["lifecycle"] and not found:
        told.append("marked deleted" if row["lifecycle"] == "deleted" else "restored")
    return "\n".join(told) or "read anew; nothing in the document differs"


def _changes(held: Sequence[Record]) -> None:
    at = now()
    several = len({row["workspace"] for row in held}) > 1
    write_table(
        ["BETWEEN", "WHAT", "CHANGED"],
        ([words.when(row, now=at), words.what(row, several=several), words.fields(row)] for row in held),
        whole="WHAT",
    )


def show_changes(found: Sequence[ChangeRow]) -> None:
    """Print changes as `stocktake changes` does, for the demonstration."""
    if found:
        _changes([rows.change(row) for row in found])


def _differences(held: Sequence[Record]) -> None:
    several = len({row["workspace"] for row in held}) > 1
    write_table(
        ["WHAT", "DIFFERENCE"],
        ([words.what(row, several=several, who=False), words.fields(row)] for row in held),
        whole="WHAT",
    )


def _ordered(first: datetime | None, last: datetime | None, one: str, other: str) -> None:
    if first is not None and last is not None and first > last:
        raise typer.BadParameter(f"{exact(first)} is later than {other} {exact(last)}.", param_hint=one)


def none_found(
    connection: Connection,
    which: Kind,
    key: str,
    ever: Sequence[Life],
    workspaces: Sequence[str] | None,
    at: datetime | None,
    output: Output,
) -> ExitCode:
    """No state of that asset then: because it was not there, or because nobody can know."""
    seen = (
        view_of(connection, which, ever, min(at or now(), now())) if ever else view(connection, which, workspaces, at)
    )
    if seen.blind:
        return refuse(seen, output)
    opening(seen)
    say(_nobody(which, key, at))
    note(seen)
    return ExitCode.NOT_FOUND


def _nobody(which: Kind, key: str, when: datetime | None) -> str:
    at = f" at {exact(when)}" if when is not None else ""
    return (
        f"No {words.kind(which)} has the key or the name {json.dumps(clean(key), ensure_ascii=False)}{at}."
        f" `stocktake list {which}` shows what there is."
    )
