"""The text of a rule's statement: what of it is SQL and what is only quoted, so that it can be bound or moved. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

#: Quoted things and comments; nothing inside them is SQL.
_QUOTED = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$""",
    re.DOTALL | re.VERBOSE,
)
_NOW = re.compile(r"(?<![:\w]):now\b")
_SCHEMA = re.compile(r"\binventory\s*\.\s*(?!\w+\s*\()", re.IGNORECASE)  # of views: functions stay where they are


def _outside(statement: str, change: Callable[[str], str], quoted: Callable[[str], str] = str) -> str:
    """Change what is SQL, and what is quoted, each by its own."""
    made, at = [], 0
    for hit in _QUOTED.finditer(statement):
        made += [change(statement[at : hit.start()]), quoted(hit.group())]
        at = hit.end()
    return "".join([*made, change(statement[at:])])


def bindable(statement: str) -> str:
    """The statement for SQLAlchemy's text(): every colon stands for itself but that of `:now`, and no comment and no
    semicolon at its end can swallow what is written behind it."""

    def kept(text: str) -> str:
        return text.replace(":", r"\:")

    def sql(text: str) -> str:
        parts = _NOW.split(text)
        return ":now".join(kept(part) for part in parts)

    return _outside(statement.strip().rstrip(";").rstrip(), sql, kept) + "\n"


def asks_now(statement: str) -> bool:
    """Whether it asks for `:now`, the time at which it is judged."""
    found: list[str] = []

    def look(text: str) -> str:
        found.extend(_NOW.findall(text))
        return text

    _outside(statement, look)
    return bool(found)


def in_schema(statement: str, schema: str) -> str:
    """The same statement over the views of another schema than `inventory`."""
    return re.sub(r'"inventory"\s*\.\s*', f"{schema}.", moved(statement, _SCHEMA, lambda _: f"{schema}."))


def moved(statement: str, pattern: re.Pattern[str], put: Callable[[re.Match[str]], str]) -> str:
    """The same statement with what a pattern finds in its SQL put otherwise; what is quoted stays."""
    return _outside(statement, lambda text: pattern.sub(put, text))


def at_time(statement: str, literal: str) -> str:
    """The same statement with a time written in place of `:now`, where nothing can be bound."""
    return _outside(statement.strip().rstrip(";").rstrip(), lambda text: _NOW.sub(literal, text))
