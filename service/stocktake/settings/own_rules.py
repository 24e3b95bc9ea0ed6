"""Rules of operators, from files: `.sql` with a header in YAML, `.py` that defines RULE. What is wrong with a file is
said with its name and line; it never keeps the others from being read.

A `.sql` file is data: what it may do is held by the transaction in which it is asked, and checked before. A `.py` file
is code and runs with our rights.
"""

from __future__ import annotations

import importlib.util
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from stocktake.core.assets import Kind
from stocktake.core.rules import ChangeRule, Group, Rule, Severity, StateRule, Words

_HEADER = re.compile(r"\s*/\*(?P<header>.*?)\*/", re.DOTALL)
_ID = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)+")
_WORDS: Mapping[str, str | None] = {  # None: must be there
    "title": None,
    "why": None,
    "fix": None,
    "inspect": "stocktake show KIND KEY",
    "rest": "The view inventory.finding has its evidence.",
    "portal": "The page of the asset in MLflow or the studio.",
    "rollback": "Undo what was changed, where that was not meant.",
    "signal": "It opens when the rule's statement yields an asset, and resolves when it yields it no more.",
}
_KEYS = ("id", "severity", "group", "kinds", "needs", "opens_after", "resolves_after", "for_teams", *_WORDS)
_MOST = 100  # looks to wait for


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one file."""

    file: Path
    line: int | None
    what: str
    rule: str | None = None  # the rule that it would be

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else str(self.file)
        return f"{where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Own:
    """A rule of an operator, and the line of its file that its statement begins in."""

    rule: Rule
    line: int = 1


class _Wrong(Exception):
    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line


def rule_files(folder: Path) -> list[Path]:
    """The files of a folder that are rules, in the order of their names. Raises OSError."""
    return sorted(
        path for path in folder.iterdir() if path.suffix in (".sql", ".py") and not path.name.startswith((".", "_"))
    )


def rule_id(file: Path) -> str:
    """The id that a file's rule has: its name."""
    return file.stem.replace("_", "-")


def read(file: Path) -> Own | Problem:
    """Read one rule."""
    named = rule_id(file)
    try:
        if not _ID.fullmatch(named):
            raise _Wrong(
                f"its name makes no id of a rule ({named!r}): call it by at least two words in small letters, like"
                f" wide-network{file.suffix}"
            )
        return _sql(file, named) if file.suffix == ".sql" else _python(file, named)
    except _Wrong as exc:
        return Problem(file, exc.line, str(exc), named if _ID.fullmatch(named) else None)
    except OSError as exc:
        return Problem(file, None, f"cannot be read ({exc.strerror}). Check its permissions.", named)
    except UnicodeDecodeError:
        return Problem(file, None, "is not text in UTF-8. Save it as UTF-8.", named)


def _sql(file: Path, named: str) -> Own:
    text = file.read_text("utf-8-sig")
    found = _HEADER.match(text)
    if found is None:
        raise _Wrong("has no header: begin it with a comment /* ... */ that holds `severity:`, `kinds:`, `title:`", 1)
    first = text.count("\n", 0, found.start("header")) + 1
    head, lines = _yaml(found["header"], first)
    statement = text[found.end() :]
    if not statement.strip().rstrip(";").strip():
        raise _Wrong("has no statement behind its header: write a SELECT of workspace, kind, key and evidence")
    begins = text.count("\n", 0, len(text) - len(statement.lstrip())) + 1
    for key in head:
        if key not in _KEYS:
            raise _Wrong(f"`{key}` is no key of a rule. Known: {', '.join(_KEYS)}", lines.get(str(key)))
    if head.get("id", named) != named:
        raise _Wrong(f"`id` is {head['id']!r}, but its file is called {file.name}: let them be the same", lines["id"])
    words = {name: _text(head, lines, name, default) for name, default in _WORDS.items()}
    rule = StateRule(
        id=named,
        severity=_one_of(Severity, head, lines, "severity", None),
        group=_one_of(Group, head, lines, "group", Group.DRIFT),
        kinds=_kinds(head, lines, "kinds"),
        needs=_kinds(head, lines, "needs"),
        opens_after=_count(head, lines, "opens_after"),
        resolves_after=_count(head, lines, "resolves_after"),
        for_teams=_flag(head, lines, "for_teams"),
        statement=statement.strip(),
        origin=str(file),
        words=Words(cli=words.pop("inspect"), **words),
    )
    if not rule.kinds:
        raise _Wrong("`kinds` is missing: name the kinds that its findings are about, like `kinds: [run]`", first)
    return Own(rule, begins)


def _yaml(header: str, first: int) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        node = yaml.compose(header, Loader=yaml.SafeLoader)
        head = yaml.safe_load(header)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        words = (exc.problem or exc.context or "cannot be understood").removeprefix("while ")
        raise _Wrong(f"its header is not valid YAML: {words}", first + (mark.line if mark else 0)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise _Wrong(f"its header is not valid YAML ({type(exc).__name__})", first) from None
    if not isinstance(head, dict) or not isinstance(node, yaml.MappingNode):
        raise _Wrong("its header must be `key: value` lines, such as `severity: warning`", first)
    lines: dict[str, int] = {}
    for key, _ in node.value:
        at = first + key.start_mark.line
        if str(key.value) in lines:
            raise _Wrong(f"`{key.value}` is given twice in its header. Remove one", at)
        lines[str(key.value)] = at
    return head, lines


def _text(head: Mapping[str, Any], lines: Mapping[str, int], name: str, default: str | None) -> str:
    value = head.get(name, default)
    if value is None:
        raise _Wrong(f"`{name}` is missing from its header: say it in a sentence", lines.get(name, 1))
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(f"`{name}` must be text. Put it in quotes", lines.get(name))
    return " ".join(value.split())


def _one_of(words: Any, head: Mapping[str, Any], lines: Mapping[str, int], name: str, default: Any) -> Any:
    value = head.get(name, default)
    if value not in list(words):
        known = ", ".join(words)
        what = f"`{name}` is missing from its header" if value is None else f"`{name}` is {value!r}"
        raise _Wrong(f"{what}: it is one of {known}", lines.get(name, 1))
    return words(value)


def _kinds(head: Mapping[str, Any], lines: Mapping[str, int], name: str) -> tuple[Kind, ...]:
    value = head.get(name, [])
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, Sequence) or not all(isinstance(one, str) for one in several):
        raise _Wrong(f"`{name}` must be a list of kinds, like [run, experiment]", lines.get(name))
    for one in several:
        if one not in list(Kind):
            raise _Wrong(f"`{name}` has {one!r}, which is no kind. Kinds: {', '.join(Kind)}", lines.get(name))
    return tuple(Kind(one) for one in several)


def _count(head: Mapping[str, Any], lines: Mapping[str, int], name: str) -> int:
    value = head.get(name, 1)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise _Wrong(f"`{name}` must be a whole number from 1 to {_MOST}", lines.get(name))
    return value


def _flag(head: Mapping[str, Any], lines: Mapping[str, int], name: str) -> bool:
    value = head.get(name, False)
    if not isinstance(value, bool):
        raise _Wrong(f"`{name}` must be true or false", lines.get(name))
    return value


def _python(file: Path, named: str) -> Own:
    spec = importlib.util.spec_from_file_location(f"stocktake_own_rule_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as exc:
        raise _Wrong(f"is not valid Python: {exc.msg}", exc.lineno) from None
    except Exception as exc:  # noqa: BLE001 - it is somebody else's code
        at = [frame.lineno for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == str(file)]
        raise _Wrong(f"fails when it is loaded: {type(exc).__name__}: {exc}", at[-1] if at else None) from None
    rule = getattr(module, "RULE", None)
    if not isinstance(rule, ChangeRule | StateRule):
        raise _Wrong("defines no RULE: end it with RULE = ChangeRule(...) or StateRule(...) of stocktake.core.rules")
    if rule.id != named:
        raise _Wrong(f"the id of its RULE is {rule.id!r}, but its file is called {file.name}: let them be the same")
    for name in Words.__slots__:
        if not isinstance(getattr(rule.words, name), str) or not getattr(rule.words, name).strip():
            raise _Wrong(f"its words say nothing under `{name}`")
    if isinstance(rule, StateRule) and not rule.kinds:
        raise _Wrong("its RULE has no `kinds`: name the kinds that its findings are about")
    return Own(replace(rule, origin=str(file)))
