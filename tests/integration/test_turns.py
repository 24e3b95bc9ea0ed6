"""What a workspace cost is read from the ledger: the last sweep that came to its end, and nothing else."""

from __future__ import annotations

from sqlalchemy import Engine

from stocktake.core.assets import Mode
from stocktake.core.errors import Trouble
from stocktake.store import ledger
from tests.integration.scripted import World, scan


def test_the_cost_of_a_workspace_is_what_its_last_sweep_took(engine: Engine) -> None:
    def cost(workspace: str) -> int:
        with engine.connect() as connection:
            return ledger.cost(connection, workspace)

    world = World()
    for number in range(40):
        world.add_run(f"r{number}")
    assert cost("w") == 0
    swept = scan(engine, world).counts["requests"]
    assert swept >= 9  # an experiment, and eight pages of runs
    assert cost("w") == swept
    scan(engine, world, mode=Mode.HOT)
    assert cost("w") == swept
    world.fail_identify = Trouble.AUTHENTICATION
    scan(engine, world)
    assert cost("w") == swept
    assert cost("another") == 0
