"""On a real MLflow server every rule finds what is planted, and nothing else; `make check-rules` plays more of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.mlflow import COMPANY, SCENARIOS
from tests.scenarios.mlflow_world import mlflow_world
from tests.scenarios.playing import proved


@pytest.mark.timeout(0)
def test_what_is_planted_is_found_and_nothing_else(pg_server: str, tmp_path: Path) -> None:
    proved(
        mlflow_world, SCENARIOS, COMPANY, section="mlflow scenarios", slice_of=30, pg_server=pg_server, folder=tmp_path
    )
