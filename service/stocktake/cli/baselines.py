"""`stocktake baseline`: how a workspace should be, in a file of source control, and in what it is not."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows, words
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import Output, clean, say, shorten, write_json, write_table, write_tsv
from stocktake.cli.rules import loaded
from stocktake.cli.session import AskedOption, OutputOption, known, session, wide
from stocktake.core.assets import Kind
from stocktake.core.baseline import Actual, Baseline, Off
from stocktake.core.errors import ConfigError
from stocktake.core.gate import CHECKS

if TYPE_CHECKING:
    from stocktake.settings.baseline import BaselineFile

baseline = typer.Typer(
    name="baseline", help="How things should be, in source control.", no_args_is_help=True, rich_markup_mode=None
)

FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[FILE]...", help="Files with baselines. [default: those of the configuration]"),
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A file with a baseline.")]
_EXACT = ("endpoints", "roles")
_SECTION: Mapping[Kind, str] = {
    Kind.EXPERIMENT: "experiments", Kind.REGISTERED_MODEL: "models", Kind.ONLINE_ENDPOINT: "endpoints",
    Kind.BATCH_ENDPOINT: "endpoints", Kind.WORKSPACE: "network", Kind.STORAGE_ACCOUNT: "storage",
    Kind.ROLE_ASSIGNMENT: "roles",
}  # fmt: skip


@baseline.command("init")
def init(
    context: typer.Context,
    workspace: Annotated[str, typer.Option("--workspace", "-w", metavar="NAME", help="Which workspace.")],
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Where to; never over another. [default: stdout]")
    ] = None,
) -> int:
    """Write a baseline of a workspace from what was seen: experiments, models, endpoints, network, roles.

    Read it, take out what nobody means to keep so, put it into source control, and name it in the configuration under
    `governance.files`. Of what was not completely seen there is nothing in it, and the exit code is 3.
    """
    from stocktake.store import baselines, history

    with session(context).database() as connection:
        known([workspace], history.workspace_names(connection))
        there, seen = baselines.actuals(connection, workspace), baselines.looked_at(connection, workspace)
    unseen = sorted({one.kind for one in there} - seen.keys())
    made = _written(workspace, [one for one in there if one.kind in seen])
    if file is None:
        sys.stdout.write(made)
    else:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as out:
                out.write(made)
        except FileExistsError:
            raise Stop(ExitCode.REFUSED, f"{file} is there already. Name another, or move it away.") from None
        except OSError as exc:
            raise Stop(ExitCode.REFUSED, f"{file} cannot be written: {exc.strerror}.") from exc
        say(f"Written to {clean(str(file))}. Name it under `governance.files` in the configuration.")
    for kind in unseen:
        say(f"Left out, for they were not completely seen: {words.kind(kind, 2)}.")
    if not seen:
        say("Nothing was completely seen yet. Run `stocktake scan`.")
        return ExitCode.NOT_OBSERVED
    return ExitCode.PARTIAL if unseen else ExitCode.COMPLETE


@baseline.command("check")
def check(context: typer.Context, file: FileArgument) -> int:
    """Check a file: its keys, its values, the rules that its waivers name. What is wrong is told with its line.

    Exits with 0 when it can be used, 2 when not.
    """
    from stocktake.settings.governing import read_file

    read = read_file(file, missing="Check its name.")
    settings = session(context).settings()
    problems = list(_unknown_rules(read.content, read.lines, [rule.id for rule in loaded(settings).rules]))
    names = {one.name for one in settings.workspaces}
    if read.content.workspace is not None and names and read.content.workspace not in names:
        say(f"{file} is about workspace {read.content.workspace!r}, which the configuration does not name itself.")
    if problems:
        raise ConfigError(f"{file}: " + "; ".join(problems))
    counts = [
        f"{len(those):,} {name}"
        for name in ("experiments", "models", "endpoints", "roles", "waivers", "windows")
        if (those := getattr(read.content, name))
    ]
    session(context).tell(f"{file} can be used: {', '.join(counts) or 'nothing but a frame'}.")
    return ExitCode.COMPLETE


@baseline.command("diff")
def diff(
    context: typer.Context,
    file: FilesArgument = None,
    workspace: AskedOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Compare workspaces with their baselines, by what was seen last: what differs, both sides.

    Exits with 0 when nothing differs, 9 when something does, 3 when a kind that a baseline names was not completely
    seen (and nothing differs in the rest).
    """
    from stocktake.store import baselines, history

    this = session(context)
    settings = this.settings()
    wanted = _baselines(settings, file)
    found, unseen = list[tuple[str, Off]](), list[tuple[str, str]]()
    with this.database(settings) as connection:
        names = history.workspace_names(connection)
        asked = known(workspace, names, wide(settings, connection) if not file else None)
        about = list(dict.fromkeys(one.workspace for one in wanted if asked is None or one.workspace in asked))
        for name in about:
            if name not in names:
                raise Stop(
                    ExitCode.NOT_FOUND, f"Workspace {clean(name)} was never scanned. Run `stocktake scan {name}`."
                )
            seen = baselines.looked_at(connection, name)
            kinds = {each.kind for one in wanted if one.workspace == name for each in one.wanted}
            kinds |= {kind for one in wanted if one.workspace == name for kind in one.exact}
            unseen += [(name, kind) for kind in sorted(kinds - seen.keys())]
            found += [(name, off) for off in baselines.differences(connection, name, wanted)]
    made = [record for name, off in found for record in _records(name, off)]
    if output == Output.JSON:
        write_json(made)
    elif output == Output.TSV:
        write_tsv(rows.OFF_BASELINE, made)
    elif made:
        write_table(["WORKSPACE", "WHAT", "WHERE", "BASELINE", "ACTUAL", "FILE"], map(_line, made), whole="WHERE")
    for name, kind in unseen:
        say(f"{clean(name)}: {words.kind(kind, 2)} were not completely seen, so it is not known whether they are all"
            " there.")  # fmt: skip
    if not about:
        say("No baseline is about any of these workspaces. `stocktake baseline init` writes one.")
        return ExitCode.NOT_FOUND
    if not made and not unseen:
        this.tell("Everything is as its baseline says.")
    return ExitCode.DIFFERS if made else ExitCode.PARTIAL if unseen else ExitCode.COMPLETE


@baseline.command("update")
def update(
    context: typer.Context,
    file: FileArgument,
    write: Annotated[bool, typer.Option("--write", help="Change the file, in place of printing what changes.")] = False,
) -> int:
    """Show what a file would have to say for what was seen to be as it says; for a change that was approved.

    Only what differs is written anew, section by section (comments inside such a section are lost); waivers, windows
    and whatever else is in the file stay letter for letter. Without --write the difference is printed, and the exit
    code is 9 where there is one. What was not completely seen is left as it is (3).
    """
    from stocktake.settings.governing import read_file
    from stocktake.store import baselines, history

    this = session(context)
    read = read_file(file, missing="Check its name.")
    ours = read.content.baseline(read.source)
    if ours is None:
        raise Stop(ExitCode.USAGE, f"{file} says nothing of how a workspace should be. `stocktake baseline init` does.")
    with this.database() as connection:
        known([ours.workspace], history.workspace_names(connection))
        seen = baselines.looked_at(connection, ours.workspace)
        there = baselines.actuals(connection, ours.workspace)
        off = baselines.differences(connection, ours.workspace, [ours])
    before = file.read_text("utf-8-sig")
    sections = {_SECTION[one.kind] for one in off}
    after = _with(before, read.content, sections, [one for one in there if one.kind in seen], ours)
    unseen = sorted({one.kind for one in ours.wanted} - seen.keys())
    for kind in unseen:
        say(f"{words.kind(kind, 2)} were not completely seen: what the file says of them stays.")
    if write and after != before:
        file.write_text(after, "utf-8")
        this.tell(f"{file} was changed: {', '.join(sorted(sections))}. Review it as you would any change.")
    elif after != before:
        sys.stdout.writelines(
            difflib.unified_diff(
                before.splitlines(keepends=True), after.splitlines(keepends=True), str(file), f"{file} (as seen)"
            )
        )
    else:
        this.tell(f"{file} says how things are.")
    if after != before and not write:
        return ExitCode.DIFFERS
    return ExitCode.PARTIAL if unseen else ExitCode.COMPLETE


def _baselines(settings: Any, file: Sequence[Path] | None) -> list[Baseline]:
    from stocktake.settings.governing import governance, read_file

    if file:
        read = [read_file(one, missing="Check its name.") for one in file]
        return [found for one in read if (found := one.content.baseline(one.source)) is not None]
    agreed, wrong = governance(settings)
    if wrong:
        raise wrong[0]
    return list(agreed.baselines)


def _unknown_rules(
    content: BaselineFile, lines: Mapping[tuple[str | int, ...], int], rules: Sequence[str]
) -> Iterator[str]:
    ids = [*rules, *(f"check-{one}" for one in CHECKS)]
    for section in ("waivers", "windows"):
        for number, one in enumerate(getattr(content, section)):
            for rule in one.rule:
                if "*" in rule or "?" in rule or rule in ids:
                    continue
                close = difflib.get_close_matches(rule, ids, n=1)
                hint = f" Did you mean {close[0]}?" if close else " `stocktake rules list` names them all."
                line = lines.get((section, number, "rule"), 1)
                yield f"{section}[{number}].rule (line {line}) names no rule: {rule!r}.{hint}"


def _records(workspace: str, off: Off) -> Iterator[dict[str, Any]]:
    for one in off.differs or [{"path": None, "baseline": None, "actual": None}]:
        yield {
            "workspace": workspace, "kind": str(off.kind), "key": off.key, "name": off.name, "what": off.what,
            "path": one["path"], "baseline": one["baseline"], "actual": one["actual"], "source": off.source,
        }  # fmt: skip


def _line(one: Mapping[str, Any]) -> list[str]:
    named = one["name"] or one["key"]
    where = f"{one['kind']} {clean(str(named))}" + (f": {clean(one['path'])}" if one["path"] else "")
    return [one["workspace"], one["what"], where, shorten(one["baseline"]), shorten(one["actual"]), one["source"]]


# ---- a file, out of what was seen ----------------------------------------------------------------------------------


def _written(workspace: str, there: Sequence[Actual]) -> str:
    parts = [
        "# How this workspace should be. Made by `stocktake baseline init` from what was seen; what is left out is not"
        " compared.\n",
        f"workspace: {workspace}\n",
    ]
    made = {section: _section(section, there) for section in dict.fromkeys(_SECTION.values())}
    if exact := [name for name in _EXACT if made[name]]:
        parts.append(f"# Of these there is to be nothing else.\nexact: [{', '.join(exact)}]\n")
    return "".join(parts) + "".join(_dump({name: value}) for name, value in made.items() if value)


def _section(section: str, there: Iterable[Actual]) -> Any:
    those = [one for one in there if _SECTION[one.kind] == section]
    if section in ("network", "storage"):
        return {name: value for name, value in those[0].fields.items() if value is not None} if those else None
    return [_entry(one) for one in those]


def _entry(one: Actual) -> dict[str, Any]:
    if one.kind == Kind.ROLE_ASSIGNMENT:
        principal, role, scope = one.name.split(" ", 2)
        return {"principal": principal, "role": role, "scope": scope}
    made: dict[str, Any] = {"name": one.name}
    if one.kind in (Kind.ONLINE_ENDPOINT, Kind.BATCH_ENDPOINT):
        made["kind"] = "online" if one.kind == Kind.ONLINE_ENDPOINT else "batch"
    for name, value in one.fields.items():
        if name == "tags":
            value = {tag: text for tag, text in value.items() if not tag.startswith("mlflow.")}
        if value not in (None, {}, "") or name == "aliases":
            made[name] = value
    return made


def _dump(part: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(part), sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)


def _with(text: str, content: BaselineFile, sections: Iterable[str], there: Sequence[Actual], ours: Baseline) -> str:
    """The file with some sections written anew: what they name as it is now, and where they are exact what is new."""
    for section in sections:
        exact = section in content.exact
        wanted = {(one.kind, one.name): one for one in ours.wanted if _SECTION[one.kind] == section}
        those = [one for one in there if _SECTION[one.kind] == section]
        if section in ("network", "storage"):
            given = next(iter(wanted.values())).fields
            value: Any = {name: those[0].fields.get(name) for name in given} if those else {}
        else:
            value = []
            for one in those:
                named = wanted.get((one.kind, one.name))
                if named is not None:
                    value.append(_as_wanted(_entry(one), named.fields, one))
                elif exact:
                    value.append(_entry(one))
        text = _replaced(text, section, _dump({section: value}))
    return text


def _as_wanted(entry: dict[str, Any], fields: Mapping[str, Any], one: Actual) -> dict[str, Any]:
    """What a file says of an asset, as it is now: what it did not speak of stays out, and * stays where it holds."""
    made = {name: value for name, value in entry.items() if name in ("name", "kind", "principal", "role", "scope")}
    for name, value in fields.items():
        now = one.fields.get(name)
        if isinstance(value, Mapping):
            inside = now if isinstance(now, Mapping) else {}
            names = value if name == "tags" else inside
            made[name] = {
                each: "*" if value.get(each) == "*" and inside.get(each) else inside[each]
                for each in names
                if each in inside
            }
        else:
            made[name] = "*" if value == "*" and now else now
    return {name: value for name, value in made.items() if value is not None}


def _replaced(text: str, section: str, part: str) -> str:
    """A text with one of its keys at the beginning of a line, and all below it, written anew."""
    lines = text.splitlines(keepends=True)
    begins = (number for number, line in enumerate(lines) if re.match(rf"[\"']?{section}[\"']?\s*:", line))
    if (start := next(begins, None)) is None:
        raise Stop(
            ExitCode.REFUSED, f"`{section}` does not begin a line of its own in this file. Write it so, and try again."
        )
    end = start + 1
    while end < len(lines) and not re.match(r"[^\s#-]", lines[end]):
        end += 1
    while end > start + 1 and re.match(r"\s*(#.*)?$", lines[end - 1]) and not lines[end - 1].startswith(" "):
        end -= 1  # what stands before the next key belongs to it
    return "".join([*lines[:start], part, *lines[end:]])
