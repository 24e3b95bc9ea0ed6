"""On the loopback Azure every rule about it finds what is planted, and nothing else; `make check-rules` plays more."""

from __future__ import annotations

from pathlib import Path

import pytest

from stocktake.rules import RULES
from tests.scenarios.azure import COMPANY, SCENARIOS
from tests.scenarios.azure_world import azure_world
from tests.scenarios.playing import proved

#: Rules that plays have a fault of beside their own.
_BESIDE = frozenset({"run-deleted"})


@pytest.mark.timeout(0)
def test_what_is_planted_is_found_and_nothing_else(pg_server: str, tmp_path: Path) -> None:
    played = {one.rule for one in SCENARIOS} | _BESIDE
    world = azure_world([rule for rule in RULES if rule.id in played])
    proved(world, SCENARIOS, COMPANY, section="azure scenarios", slice_of=16, pg_server=pg_server, folder=tmp_path)
