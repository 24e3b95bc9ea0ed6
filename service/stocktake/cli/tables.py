"""Assets for a person to read: many as a table, one with all that is known of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from stocktake.cli import rows, words
from stocktake.cli.render import clean, console, dumps, write_table
from stocktake.cli.session import now
from stocktake.cli.times import ago, exact
from stocktake.core.assets import PARTITIONED, Kind

Record = Mapping[str, Any]
Experiments = Callable[[Collection[str]], Mapping[tuple[str, str], str]]


def assets(held: Sequence[Record], which: Kind, experiments: Experiments) -> None:
    """Write a table of assets of one kind. `experiments` gives the names of those with these keys."""
    several = len({row["workspace"] for row in held}) > 1
    at = now()
    names = experiments({row["partition"] for row in held}) if which in PARTITIONED else {}
    columns: dict[str, Callable[[Record], str]] = {
        "WORKSPACE": lambda row: str(row["workspace"]),
        "NAME": lambda row: str(row["name"] or ""),
        "KEY": lambda row: str(row["key"]),
        "EXPERIMENT": lambda row: names.get((row["workspace"], row["partition"]), row["partition"]),
        "STATE": state,
        "ALIASES": _aliases,
        "RUN": lambda row: str(row["run"] or ""),
        "OWNER": lambda row: str(row["owner"] or ""),
        "BEGAN" if which == Kind.RUN else "CREATED": lambda row: _ago(row["started_at"] or row["created_at"], at),
        "CHANGED": lambda row: _ago(row["last_changed"], at),
    }
    if not several:
        del columns["WORKSPACE"]
    if which not in PARTITIONED:
        del columns["EXPERIMENT"]
    if which not in (Kind.REGISTERED_MODEL, Kind.MODEL_VERSION):
        del columns["ALIASES"]
    if which != Kind.MODEL_VERSION:
        del columns["RUN"]
    if console().width < 100:  # a key that can be copied is worth more than these
        columns = {name: cell for name, cell in columns.items() if name not in ("OWNER", "CHANGED", "RUN")}
    write_table(list(columns), ([show(row) for show in columns.values()] for row in held), whole="KEY")


def _aliases(row: Record) -> str:
    """The aliases: of a model with the versions that they point to, of a version alone."""
    found = row["document"].get("aliases") or ()
    if isinstance(found, Mapping):
        return ", ".join(f"{name}: {found[name]}" for name in sorted(found))
    return found if isinstance(found, str) else ", ".join(map(str, found))


def state(row: Record) -> str:
    """The state, and whether it is marked deleted."""
    words_ = [str(row["state"] or ""), "deleted" if row["lifecycle"] == "deleted" else ""]
    return " ".join(word for word in words_ if word)


def _ago(time: datetime | None, at: datetime) -> str:
    return ago(time, now=at) if time is not None else ""


def details(row: Record, asked: datetime | None) -> None:
    """Write all of one asset, as it is known now or (`asked`) was at a time."""
    at = now()
    lines = [f"{words.kind(row['kind'])} {words.title(row)} in {clean(row['workspace'])}"]
    if row["gone_at"] is not None and asked is not None:
        lines.append(f"It was there at {exact(asked)} (purged later, gone at {exact(row['gone_at'])}); its state then:")
    elif row["gone_at"] is not None:
        lines.append(f"PURGED: it was gone at {exact(row['gone_at'])} ({ago(row['gone_at'], now=at)}); its last state:")
    for name in rows.ASSET:
        value = row[name]
        if value is None or value == "" or name in ("workspace", "kind", "key", "name", "document", "aside", "gone_at"):
            continue
        text = f"{exact(value)} ({ago(value, now=at)})" if isinstance(value, datetime) else clean(str(value))
        lines.append(f"  {name.replace('_', ' '):14} {text}")
    for name in ("document", "aside"):
        if row[name]:
            lines += [f"  {name}", *("    " + line for line in dumps(row[name], indent=2).splitlines())]
    sys.stdout.write("\n".join(lines) + "\n")
