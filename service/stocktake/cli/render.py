"""Answers as a table for people, or as JSON and TSV for programs. What a watched server wrote is never trusted here.

Values come from servers that anybody may write to: control characters never reach a terminal, rich markup is never
read from them, and a table cell never breaks a TSV line.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TextIO

from stocktake.cli.times import utc

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_RAW_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TSV = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
WIDE = 100_000  # columns of a table that nobody looks at: nothing is wrapped


class Output(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    TSV = "tsv"


def plain(value: Any) -> Any:
    """Make a value JSON: times in UTC with Z, bytes as hex, numbers that JSON has no word for as their names."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        if value != value:
            return "NaN"
        return value if abs(value) != float("inf") else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value)


_HOW: Mapping[str, Any] = {"ensure_ascii": False, "allow_nan": False, "default": plain}
_JSON = json.JSONEncoder(**_HOW)


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Write JSON that a terminal can bear: control characters and lone surrogates are escaped, letters are not."""
    encode = _JSON.encode if indent is None else json.JSONEncoder(**_HOW, indent=indent).encode
    try:
        text = encode(value)  # what JSON knows needs no copy; the rest is asked for
    except (TypeError, ValueError):  # a number or a key that it has no word for
        text = encode(plain(value))
    return _RAW_IN_JSON.sub(lambda hit: f"\\u{ord(hit.group()):04x}", text)


def clean(text: str) -> str:
    """Make control characters visible instead of effective."""
    return _CONTROL.sub(lambda hit: repr(hit.group())[1:-1], text).encode("utf-8", "backslashreplace").decode()


def shorten(value: Any, limit: int = 48) -> str:
    """Write a value in one short line for a table; absent is said in words."""
    if value is None:
        return "(absent)"
    text = clean(value if isinstance(value, str) else dumps(value))
    if isinstance(value, str) and (not value or value != value.strip()):
        text = f'"{text}"'
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shorten_alike(one: Any, other: Any, limit: int = 48) -> tuple[str, str]:
    """Shorten two values that differ, so that it still shows: of long paths that begin alike the ends are told."""
    short = shorten(one, limit), shorten(other, limit)
    if short[0] != short[1] or not (isinstance(one, str) and isinstance(other, str)):
        return short
    alike = (left == right for left, right in zip(one, other, strict=False))
    same = sum(1 for _ in takewhile(bool, alike))
    longest = max(len(one), len(other))
    whole = [at + 1 for at in range(same) if one[at] == "/" and longest - at <= limit]  # as much of a path as fits
    begin = whole[0] if whole else max(0, same - limit // 2)
    return "…" + shorten(one[begin:], limit - 1), "…" + shorten(other[begin:], limit - 1)


def write_json(items: Iterable[Mapping[str, Any]], *, file: TextIO | None = None) -> int:
    """Stream a JSON array, one object a line; returns how many there were."""
    out = file or sys.stdout
    count = 0
    for count, item in enumerate(items, start=1):
        out.write(("[\n" if count == 1 else ",\n") + dumps(item))
    out.write("\n]\n" if count else "[]\n")
    return count


def write_tsv(columns: Sequence[str], items: Iterable[Mapping[str, Any]], *, file: TextIO | None = None) -> int:
    """Stream lines of tab-separated values under a header; absent values are empty."""
    out = file or sys.stdout
    out.write("\t".join(columns) + "\n")
    count = 0
    for count, item in enumerate(items, start=1):  # noqa: B007
        out.write("\t".join(_cell(item.get(column)) for column in columns) + "\n")
    return count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    made = plain(value)
    text = made if isinstance(made, str) else json.dumps(made, ensure_ascii=False)
    if text.isascii() and text.isprintable() and "\\" not in text:  # as nearly all are
        return text
    text = text.translate(_TSV)
    return _CONTROL.sub(lambda hit: f"\\x{ord(hit.group()):02x}", text).encode("utf-8", "backslashreplace").decode()


def console(*, stderr: bool = False) -> Console:
    """The terminal; where there is none, plain text of any width without colours."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(file=stream, highlight=False, markup=False, emoji=False)
    return Console(file=stream, width=WIDE, no_color=True, highlight=False, markup=False, emoji=False)


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, whole: str | None = None) -> None:
    """Write a table: folded to the terminal's width, or one line a row where nobody looks.

    The column named by `whole` is folded last: its cells are keys that somebody will copy.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    target = console()
    terminal = target.is_terminal
    cells = [["\n".join(clean(line) for line in cell.split("\n")) for cell in row] for row in rows]
    table = Table(
        box=box.SIMPLE_HEAD if terminal else None,
        header_style="bold",
        pad_edge=False,
        show_edge=False,
        padding=(0, 2, 0, 0),
    )
    for number, column in enumerate(columns):
        longest = max((len(line) for row in cells for line in row[number].split("\n")), default=0)
        least = min(longest, 36, target.width // 2) if column == whole and terminal else None
        table.add_column(column, overflow="fold", no_wrap=not terminal, width=least)
    for row in cells:
        table.add_row(*(Text(cell if terminal else cell.replace("\n", "; ")) for cell in row))
    if terminal:
        target.print(table)
        return
    with target.capture() as capture:
        target.print(table)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in capture.get().splitlines()))


def say(message: str) -> None:
    """Tell a person something, on stderr; data alone goes to stdout."""
    sys.stderr.write(message.rstrip("\n") + "\n")
