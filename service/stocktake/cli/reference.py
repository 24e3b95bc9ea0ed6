"""Writes the generated parts of docs/reference/cli.md from the commands themselves; a test compares the two.

`python -m stocktake.cli.reference FILE` rewrites the parts in place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from stocktake.cli import rows
from stocktake.cli.entry import app
from stocktake.cli.exits import MEANING

_OBJECTS = (
    ("`changes`, `diff`", "change", rows.CHANGE, ()),
    ("`list`, `show`", "asset", rows.ASSET, ("document", "aside")),
    ("`history`", "state of the asset", rows.VERSION, ("document",)),
    ("`production`", "stay of a model version in production", rows.PRODUCTION, ("evidence",)),
    ("`lineage`", "asset found", rows.LINEAGE, ()),
    ("`reconcile`", "job and its run", rows.JOB_RUN, ()),
    ("`fetches`", "look at Azure on demand", rows.FETCH, ()),
    ("`job download`", "job", rows.DOWNLOAD, ("examples",)),
    ("`scan`", "workspace", rows.SCAN, ("scopes",)),
    ("`status`", "workspace", rows.STATUS, tuple(set(rows.STATUS) - set(rows.STATUS_TSV))),
    ("`scope list`", "kind of a workspace", rows.COVERED, ()),
    ("`discover`", "workspace found, or scope not looked at", rows.DISCOVERED, ("tags",)),
    ("`finding list`", "finding", rows.FINDING, ("evidence",)),
    ("`finding show`, `finding ack`", "finding (no list)", rows.FINDING_SHOWN, ()),
    ("`rules list`, `rules show`", "rule", rows.RULE, tuple(set(rows.RULE) - set(rows.RULE_TSV))),
    ("`rules check`", "file", rows.RULE_CHECKED, ()),
    ("`rules test`", "asset that the rule yields", rows.RULE_TESTED, ("evidence",)),
    ("`rules try`", "move of a finding", rows.RULE_TRIED, ("evidence",)),
    ("`try`", "figure", rows.FIGURE, ()),
    ("`doctor`", "check", rows.CHECK, ()),
)


def rewritten(page: str) -> str:
    """Return the page with its generated parts as they must be now."""
    for name, lines in (("exit codes", _exit_codes()), ("fields", _fields()), ("commands", _commands())):
        pattern = re.compile(rf"(<!-- {name}\b[^>]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        body = "".join(f"{line}\n" for line in lines)
        found = pattern.search(page)
        if found is None:
            raise ValueError(f"the page has no part named {name!r}")
        page = page[: found.start()] + found[1] + body + found[2] + page[found.end() :]
    return page


def _exit_codes() -> Iterator[str]:
    yield "| code | meaning |"
    yield "|---|---|"
    for code, meaning in MEANING.items():
        yield f"| {int(code)} | {meaning} |"


def _fields() -> Iterator[str]:
    yield "| command | one object per | fields |"
    yield "|---|---|---|"
    for commands, item, names, hidden in _OBJECTS:
        told = ", ".join(f"`{name}`*" if name in hidden else f"`{name}`" for name in names)
        yield f"| {commands} | {item} | {told} |"
    yield ""
    yield "Fields marked with * are left out of TSV."


def _commands() -> Iterator[str]:
    yield ""
    yield "Global options come before the command."
    yield ""
    yield from _parameters(typer.main.get_command(app))
    yield from _below(typer.main.get_command(app), "stocktake")


def _below(group: Any, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(command, f"{prefix} {name}")
            continue
        yield ""
        yield f"### {prefix} {name}"
        yield re.sub(r"\s*\n\s*\n\s*", "\n\n", re.sub(r"[ \t]+", " ", (command.help or "").strip()))
        parameters = list(_parameters(command))
        if parameters:
            yield ""
            yield from parameters


def _parameters(command: Any) -> Iterator[str]:
    made = []
    for parameter in command.params:
        words = (getattr(parameter, "help", None) or "").replace("|", "\\|")
        if parameter.param_type_name == "argument":
            made.append((str(parameter.metavar or parameter.name.upper()), words))
            continue
        if parameter.name in ("install_completion", "show_completion"):
            continue
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        made.append((f"{names}{_value(parameter)}", words))
    if made:
        yield "| option | meaning |"
        yield "|---|---|"
        for option, words in made:
            yield f"| {option} | {words} |"


def _value(parameter: Any) -> str:
    return f" {parameter.metavar}".replace("|", "\\|") if parameter.metavar and not parameter.is_flag else ""


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(rewritten(target.read_text()))
