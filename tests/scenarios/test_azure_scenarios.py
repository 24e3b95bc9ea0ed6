"""On the loopback Azure every rule about it finds what is planted, and nothing else; `make check-rules` plays more."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from stocktake.rules import RULES
from tests.scenarios.azure import COMPANY, SCENARIOS
from tests.scenarios.azure_world import azure_world
from tests.scenarios.playing import play
from tests.scenarios.table import PAGE, written

_SECTION = "azure scenarios"
#: Rules that plays have a fault of beside their own.
_BESIDE = frozenset({"run-deleted"})


@pytest.mark.timeout(0)
def test_what_is_planted_is_found_and_nothing_else(pg_server: str, tmp_path: Path) -> None:
    asked = os.environ.get("STOCKTAKE_SCENARIOS")
    seed = int(os.environ.get("STOCKTAKE_SCENARIOS_SEED") or (random.randrange(10**6) if asked else 1))
    print(f"seed {seed}")
    played = {one.rule for one in SCENARIOS} | _BESIDE
    tally = play(
        azure_world([rule for rule in RULES if rule.id in played]),
        SCENARIOS,
        COMPANY,
        number=int(asked or 16),
        seed=seed,
        pg_server=pg_server,
        folder=tmp_path,
        seconds=float(os.environ.get("STOCKTAKE_SCENARIOS_SECONDS") or "inf"),
    )
    table = tally.markdown(seed)
    print(table)
    if os.environ.get("STOCKTAKE_SCENARIOS_WRITE"):
        PAGE.write_text(written(PAGE.read_text(), table, _SECTION))
    assert not tally.said, "\n".join(tally.said)
    assert tally.planted
