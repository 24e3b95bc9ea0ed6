"""What happened, in words for whoever is on call at three in the morning."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from stocktake.cli.render import clean, shorten, shorten_alike
from stocktake.cli.times import ago, exact, short

_METRIC = re.compile(r"metrics[.\[].*\.value", re.DOTALL)
_TIME = re.compile(r"(^|\.|_)(time|timestamp)(_ms)?$")
_MARKS = ("B", "kB", "MB", "GB", "TB")
_PLURAL = {"data": "data", "registry": "registries"}


def kind(name: str, count: int = 1) -> str:
    """Write a kind for a person, in the number that fits."""
    one = name.replace("_", " ")
    return one if count == 1 else _PLURAL.get(name, one + "s")


def counted(counts: Mapping[str, int]) -> str:
    """Write counts by kind: "500 runs, 2 logged models"."""
    return ", ".join(f"{count:,} {kind(name, count)}" for name, count in counts.items() if count)


def size(count: int) -> str:
    """Write bytes for a person."""
    amount, mark = float(count), 0
    while amount >= 1000 and mark < len(_MARKS) - 1:
        amount, mark = amount / 1000, mark + 1
    return f"{count} B" if mark == 0 else f"{amount:.1f} {_MARKS[mark]}"


def title(item: Mapping[str, Any]) -> str:
    """Name an asset so that it can be asked about again: its name, and its key where that says more."""
    name, key = item.get("name"), str(item["key"])
    if name and name != key:
        return f"{clean(str(name))} ({clean(key)})"
    return clean(key)


def when(item: Mapping[str, Any], *, now: datetime) -> str:
    """Write the two looks between which it happened, and how long ago."""
    after = item.get("not_after") or item["at"]
    until = short(after, now=now)
    line = f"{short(item['not_before'], now=now)} – {until}" if item.get("not_before") else f"before {until}"
    return f"{line}\n{ago(after, now=now)}"


def what(item: Mapping[str, Any], *, several: bool, who: bool = True) -> str:
    """Write what happened, to what, by whom, and what was folded into it."""
    lines = [f"{kind(item['kind'])} {item['type']}{f' by {actor(item)}' if who else ''}"]
    name, key = item.get("name"), clean(str(item["key"]))
    lines += [clean(str(name)), key] if name and name != item["key"] else [key]
    if item.get("includes"):
        lines.append(f"and {counted(item['includes'])}")
    if several:
        lines.append(f"in {clean(str(item['workspace']))}")
    return "\n".join(lines)


def fields(item: Mapping[str, Any], *, most: int = 6) -> str:
    """Write the differing fields, the first few of them: path: before -> after."""
    found = list(_without_steps(item["fields"]))
    lines = [field(one) for one in found[:most]]
    if len(found) > most:
        lines.append(f"and {len(found) - most} more fields (--output json shows them)")
    return "\n".join(lines)


def field(one: Mapping[str, Any], *, zone: tzinfo | None = None) -> str:
    """Write one differing field; what was not there before, or is not there now, is said shorter."""
    path = str(one["path"])
    before, after = (_readable(path, one.get(side), zone) for side in ("before", "after"))
    path = clean(path)
    if before is None:
        return f"{path}: set to {shorten(after)}"
    if after is None:
        return f"{path}: removed (was {shorten(before)})"
    return f"{path}: {' -> '.join(shorten_alike(before, after))}"


def _without_steps(found: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """A metric that moved is one line: its value. Its step and time stay in the JSON output."""
    moved = {str(one["path"])[: -len(".value")] for one in found if _METRIC.fullmatch(str(one["path"]))}
    for one in found:
        base, _, last = str(one["path"]).rpartition(".")
        if base not in moved:
            yield one
        elif last == "value":
            yield {**one, "path": base}


def _readable(path: str, value: Any, zone: tzinfo | None) -> Any:
    if isinstance(value, Mapping) and "value" in value and value.keys() <= {"value", "step", "timestamp"}:
        return value["value"]
    if _TIME.search(path) and isinstance(value, int) and 10**11 < value < 10**14:
        return exact(datetime.fromtimestamp(value / 1000, UTC), zone=zone)
    return value


def actor(item: Mapping[str, Any]) -> str:
    """Write who did it, and how that is known; nobody is named unless a source named them. A source without a name
    says who it may have been."""
    name, source = clean(str(item.get("actor") or "unknown")), item.get("actor_source")
    return f"{name} ({clean(str(source))})" if source else name
