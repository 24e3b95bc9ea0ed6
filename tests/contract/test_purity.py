"""The core reads no clock and does no I/O. The import contracts hold most of it; this holds what needs no import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "service" / "stocktake"
FILES = sorted(path for room in ("core", "rules") for path in (PACKAGE / room).rglob("*.py"))
CLOCKS = {"now", "utcnow", "today", "monotonic", "perf_counter"}
IO = {"open", "print", "input", "exec", "eval", "__import__"}


def _impure(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute(attr=name) if name in CLOCKS:
                    found.append(f"line {node.lineno}: .{name}()")
                case ast.Name(id=name) if name in IO:
                    found.append(f"line {node.lineno}: {name}()")
    return found


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_the_core_reads_no_clock_and_does_no_io(path: Path) -> None:
    assert _impure(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("line", ["datetime.now(UTC)", "date.today()", "open('x')", "print(1)"])
def test_the_check_itself_sees_a_breach(line: str) -> None:
    assert len(_impure(ast.parse(line))) == 1
