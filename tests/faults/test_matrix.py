"""A slice of the matrix: a third of the faults, each at another level. `python -m tests.faults` runs every cell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from stocktake.cli.exits import ExitCode
from stocktake.core.assets import Mode
from stocktake.store.engine import make_engine
from tests.conftest import clone
from tests.faults.matrix import FAULTS, LEVELS, Bench, prepared
from tests.servers.recording_proxy import recording_proxy
from tests.servers.shared import filled_server

#: Faults that are none: what they show can be understood.
HARMLESS = {
    "an empty object", "an empty page in the middle", "a torn run", "numbers as strings", "a tag of 1 MB",
    "every answer late",
    "a clock 10 min ahead", "a clock 10 min behind",
}  # fmt: skip
_NAMES = list(LEVELS)
CELLS = [(fault, _NAMES[number % len(_NAMES)]) for number, fault in enumerate(FAULTS) if number % 3 == 0]


@pytest.fixture(scope="module")
def bench(pg_server: str, pg_template: str) -> Iterator[Bench]:
    with clone(pg_server, pg_template) as url, recording_proxy(filled_server().server.uri) as proxy:
        engine: Engine = make_engine(url)
        yield prepared(engine, proxy)
        engine.dispose()


@pytest.mark.parametrize(("fault", "level"), CELLS)
def test_a_fault_is_told_and_nothing_is_claimed(bench: Bench, fault: str, level: str) -> None:
    code = bench.cell(fault, level)
    assert code in (ExitCode.COMPLETE, ExitCode.PARTIAL, ExitCode.FAILED)
    assert (code == ExitCode.COMPLETE) == (fault in HARMLESS)


@pytest.mark.parametrize("level", ["everything", "experiments", "runs, page 2", "aliases"])
def test_a_hot_pass_claims_nothing_either(bench: Bench, level: str) -> None:
    assert bench.cell("status 503", level, Mode.HOT) == (ExitCode.FAILED if level == "everything" else ExitCode.PARTIAL)
