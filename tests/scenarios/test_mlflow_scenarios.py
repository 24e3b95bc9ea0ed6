"""On a real MLflow server every rule finds what is planted, and nothing else; `make check-rules` plays more of it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from stocktake.rules import RULES
from tests.scenarios.mlflow import COMPANY, SCENARIOS
from tests.scenarios.mlflow_world import mlflow_world
from tests.scenarios.playing import play
from tests.scenarios.table import PAGE, written

_SECTION = "mlflow scenarios"


@pytest.mark.timeout(0)
def test_what_is_planted_is_found_and_nothing_else(pg_server: str, tmp_path: Path) -> None:
    asked = os.environ.get("STOCKTAKE_SCENARIOS")
    seed = int(os.environ.get("STOCKTAKE_SCENARIOS_SEED") or (random.randrange(10**6) if asked else 1))
    print(f"seed {seed}")
    only = os.environ.get("STOCKTAKE_SCENARIOS_RULE", "").split()
    pool = [one for one in SCENARIOS if not only or one.rule in only]
    tally = play(
        mlflow_world,
        pool,
        COMPANY,
        number=int(asked or 30),
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
    assert set(tally.rules()) <= {rule.id for rule in RULES}
