"""`stocktake lineage`: what something was made from and what was made of it, now or at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from stocktake.cli import rows, words
from stocktake.cli.absent import Absent, absent
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.observed import View, note, opening, refuse, view
from stocktake.cli.questions import none_found
from stocktake.cli.render import Output, clean, say, write_json
from stocktake.cli.session import AskedOption, AtOption, KeyArgument, kind, kinds, known, moment, now, session, wide
from stocktake.cli.times import exact
from stocktake.core.assets import Kind
from stocktake.core.lineage import ALIAS, DATASET, STATING, Edge, Node, Walk, walk

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stocktake.store.lineage import Known

_OTHERS = (ALIAS, DATASET)
_MOST = 500
_NOT_OBSERVED = "not observed"


class Format(StrEnum):
    """How lineage is written."""

    TREE = "tree"
    JSON = "json"
    MERMAID = "mermaid"


class Found(NamedTuple):
    """The lineage of one thing."""

    workspace: str
    start: Node
    back: Walk
    forth: Walk
    known: Mapping[Node, Known]
    absent: Mapping[Node, Absent] = {}  # why its ends that nobody observed were not


def _complete(incomplete: str) -> list[str]:
    return [*kinds(incomplete), *(one for one in _OTHERS if one.startswith(incomplete.lower()))]


def lineage(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="run, model_version, alias (MODEL@ALIAS), dataset (NAME@DIGEST), ...",
            autocompletion=_complete,
        ),
    ],
    key: KeyArgument,
    workspace: AskedOption = None,
    at: AtOption = None,
    form: Annotated[
        Format,
        typer.Option("--format", "-f", metavar="|".join(Format), help="A tree for people; json; a Mermaid diagram."),
    ] = Format.TREE,
) -> int:
    """Show what something was made from, and what was made of it: data, run, model, version, alias, endpoint.

    What is purged is shown by its last state, and what nobody ever observed as what it is: an end that is only named.
    """  # fmt: skip
    from stocktake.store.history import find_asset, workspace_names
    from stocktake.store.lineage import Graph
    from stocktake.store.observation import lives

    when = moment(at, "--at", future=False)
    other = what.strip().lower() if what.strip().lower() in _OTHERS else None
    which = kind(what) if other is None else Kind.MODEL_VERSION if other == ALIAS else Kind.RUN
    settings = session(context).settings()
    output = Output.JSON if form == Format.JSON else Output.TABLE
    with session(context).database(settings) as connection:
        names = workspace_names(connection)
        workspaces = known(workspace, names, wide(settings, connection))
        if other is None:
            assets = find_asset(connection, which, key, workspaces=workspaces, at=when)
            if not assets:
                ever = lives(connection, which, key, workspaces=workspaces)
                return none_found(connection, which, key, ever, workspaces, when, output)
            starts = [(one.workspace, Node(which, one.key)) for one in assets]
        else:
            seen = view(connection, which, workspaces, when)
            if seen.blind:
                return refuse(seen, output)
            starts = [(name, Node(other, key)) for name in seen.answerable(which, workspaces or names)]
        found = []
        for name, start in starts:
            graph = Graph(connection, name, when)
            ways = [walk(start, graph.touching, back=back, most=_MOST) for back in (True, False)]
            if other is None or ways[0].edges or ways[1].edges:
                found.append(Found(name, start, ways[0], ways[1], graph.known))
        if not found:
            raise Stop(ExitCode.NOT_FOUND, f"No {what} {clean(key)!r} is named by anything that is known.")
        seen = view(connection, None, [one.workspace for one in found], when)
        found = [one._replace(absent=_absent(connection, one, seen, when)) for one in found]
    seen = _of_edges(seen)
    opening(seen)
    _write(found, form, when, seen)
    code = note(seen)
    for one in found:
        if one.back.cut or one.forth.cut:
            say(f"Answered in part. {clean(one.start.key)}: only the nearest {_MOST} are shown in each direction.")
            code = ExitCode.PARTIAL
    return code


def _absent(connection: Connection, one: Found, seen: View, when: datetime | None) -> Mapping[Node, Absent]:
    named = [node for node in _nodes(one) if _standing(one, node) == _NOT_OBSERVED]
    return absent(connection, one.workspace, named, seen, when)


def _of_edges(seen: View) -> View:
    """Of which kinds the answer leaves something out: an end that is missing there may be one nobody looked for."""
    return replace(seen, observations=[one for one in seen.observations if one.kind in STATING
                                       and one.first_observed is not None])  # fmt: skip


def _write(found: Sequence[Found], form: Format, when: datetime | None, seen: View) -> None:
    if form == Format.JSON:
        write_json(
            rows.record(
                _record(one, when) | {"workspace_deletion": rows.deletion(seen.deletions.get(one.workspace))},
                rows.LINEAGE,
            )
            for one in found
        )
        return
    for one in found:
        lines = _mermaid(one) if form == Format.MERMAID else _tree(one, when)
        sys.stdout.write("".join(f"{line}\n" for line in lines))


def _record(one: Found, when: datetime | None) -> dict[str, Any]:
    def of(node: Node) -> dict[str, Any]:
        why = one.absent.get(node)
        return rows.record(one.known.get(node), rows.LINEAGE_NODE) | {
            "kind": node.kind,
            "key": node.key,
            "standing": _standing(one, node),
            "why": why.why if why is not None else None,
            "listed_at": why.listed_at if why is not None else None,
        }

    return {
        "workspace": one.workspace,
        "kind": one.start.kind,
        "key": one.start.key,
        "at": when or now(),
        "cut": one.back.cut or one.forth.cut,
        "nodes": [of(node) for node in _nodes(one)],
        "edges": [
            {
                "from": {"kind": edge.source.kind, "key": edge.source.key},
                "relation": edge.relation,
                "to": {"kind": edge.target.kind, "key": edge.target.key},
                "detail": edge.detail,
            }
            for edge in dict.fromkeys((*one.back.edges, *one.forth.edges))
        ],
    }


def _nodes(one: Found) -> list[Node]:
    ends = (end for edge in (*one.back.edges, *one.forth.edges) for end in (edge.source, edge.target))
    return list(dict.fromkeys([one.start, *ends]))


def _standing(one: Found, node: Node) -> str | None:
    """How an end stands; None for what is no asset and has no state of its own."""
    if node.kind in _OTHERS:
        return None
    known_ = one.known.get(node)
    if known_ is not None:
        return known_.standing
    if "/registries/" in node.key.lower():
        return "in a registry"
    return "in another workspace" if "/workspaces/" in node.key.lower() else _NOT_OBSERVED


def _title(one: Found, node: Node) -> str:
    found = one.known.get(node)
    title = words.title({"name": found.name if found is not None else None, "key": node.key})
    more = [_standing(one, node)] if _standing(one, node) not in (None, "active") else []
    if node in one.absent:
        more = [f"{_NOT_OBSERVED}: {one.absent[node]}"]
    if found is not None:
        more += [found.state] if found.state not in (None, "None", "READY") else []
        more += [f"code {found.code_version}"] if found.code_version else []
    told = ", ".join(clean(str(part)) for part in more)
    return f"{words.kind(node.kind)} {title}" + (f" [{told}]" if told else "")


def _tree(one: Found, when: datetime | None) -> Iterator[str]:
    then = f" at {exact(when)}" if when is not None else ""
    yield f"{_title(one, one.start)} in {clean(one.workspace)}{then}"
    for title, way, back in (("made from", one.back, True), ("made into", one.forth, False)):
        if way.edges:
            yield f"  {title}"
            yield from _branches(one, way.edges, one.start, "    ", {one.start}, back=back)
        else:
            yield f"  {title}: nothing that is known"


def _branches(
    one: Found, stated: Sequence[Edge], node: Node, indent: str, shown: set[Node], *, back: bool
) -> Iterator[str]:
    below: dict[Node, list[str]] = {}
    for edge in stated:
        here, there = (edge.target, edge.source) if back else (edge.source, edge.target)
        if here == node:
            below.setdefault(there, []).append(_relation(edge))
    for there, relations in below.items():
        again = there in shown
        yield f"{indent}{', '.join(relations)}: {_title(one, there)}{' (see above)' if again else ''}"
        if not again:
            shown.add(there)
            yield from _branches(one, stated, there, indent + "  ", shown, back=back)


def _relation(edge: Edge) -> str:
    return f"{edge.relation} {edge.detail} %" if edge.detail is not None else edge.relation


def _mermaid(one: Found) -> Iterator[str]:
    ids = {node: f"n{number}" for number, node in enumerate(_nodes(one))}
    yield "flowchart LR"
    for node, id_ in ids.items():
        yield f'  {id_}["{_quoted(_title(one, node))}"]'
    for edge in dict.fromkeys((*one.back.edges, *one.forth.edges)):
        yield f'  {ids[edge.source]} -->|"{_quoted(_relation(edge))}"| {ids[edge.target]}'
    yield f"  style {ids[one.start]} stroke-width:3px"


def _quoted(text: str) -> str:
    """A text inside a quoted label: nothing in it is read as Mermaid or as HTML."""
    return "".join(one if one.isalnum() or one in " .,:@/-_()[]%+=" else f"#{ord(one)};" for one in clean(text))
