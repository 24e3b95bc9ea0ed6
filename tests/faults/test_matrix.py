"""A slice of the matrix: a third of the faults, each at another level. `python -m tests.faults` runs every cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from stocktake.cli.exits import ExitCode
from stocktake.core.assets import Mode
from stocktake.store.engine import make_engine
from tests.conftest import clone
from tests.faults.matrix import FAULTS, LEVELS, Bench, prepared
from tests.servers.recording_proxy import recording_proxy
from tests.servers.shared import filled_server

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
_NAMES = list(LEVELS)
CELLS = [(fault, _NAMES[number % len(_NAMES)]) for number, fault in enumerate(FAULTS) if number % 3 == 0]


@pytest.fixture(scope="module")
def bench(pg_server: str, pg_template: str) -> Iterator[Bench]:
    with clone(pg_server, pg_template) as url, recording_proxy(filled_server().server.uri) as proxy:
        engine: Engine = make_engine(url)
        yield prepared(engine, proxy)
        engine.dispose()


def documented() -> dict[tuple[str, str], ExitCode]:
    """The table of the page: fault and level -> exit code."""
    lines = [line.strip("| \n").split(" | ") for line in _PAGE.read_text().splitlines() if line.startswith("| ")]
    levels = lines[0][1:]
    return {
        (row[0], level): ExitCode(int(code)) for row in lines[1:] for level, code in zip(levels, row[1:], strict=True)
    }


def test_the_page_tells_of_every_fault_at_every_level() -> None:
    assert documented().keys() == {(fault, level) for fault in FAULTS for level in LEVELS}


@pytest.mark.parametrize(("fault", "level"), CELLS)
def test_a_fault_comes_to_what_the_page_says_and_nothing_is_claimed(bench: Bench, fault: str, level: str) -> None:
    assert bench.cell(fault, level) == documented()[fault, level]


@pytest.mark.parametrize("level", ["everything", "experiments", "runs, page 2", "aliases"])
def test_a_hot_pass_claims_nothing_either(bench: Bench, level: str) -> None:
    assert bench.cell("status 503", level, Mode.HOT) == (ExitCode.FAILED if level == "everything" else ExitCode.PARTIAL)
