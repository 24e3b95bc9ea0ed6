"""What a scan that was cut did not reach counts as never seen, whatever it listed of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain

import msgspec
import pytest
from sqlalchemy import Engine

from stocktake.core.assets import Asset, Kind, Mode
from stocktake.core.errors import Trouble
from stocktake.core.rules import Severity, StateRule
from stocktake.rules import missing_owner as missing_owner_rule
from stocktake.sources.protocol import Known, Listing, failing
from tests.integration.registry import Registry, WithRegistry, found, look, stands
from tests.integration.scripted import broken


@pytest.fixture
def world() -> Registry:
    made = Registry()
    for number in range(4):
        made.add_run(f"run{number}")
    made.experiments["1"]["owner"] = "ada"
    made.registered["m"] = {"name": "m", "owner": "ada", "aliases": {"champion": "1"}}
    made.versions["m/1"] = {"run_id": "run0", "aliases": ["champion"]}
    made.versions["m/2"] = {"run_id": "", "aliases": []}
    return made


#: Of an operator: every run there is.
EVERY_RUN = StateRule(
    id="every-run", severity=Severity.CRITICAL, words=missing_owner_rule.RULE.words, kinds=(Kind.RUN,),
    statement="SELECT workspace, 'run' AS kind, key, '{}'::jsonb AS evidence FROM inventory.run",
)  # fmt: skip


def test_runs_of_experiments_that_were_not_listed_yet_are_seen_for_the_first_time_when_they_are(
    engine: Engine, world: Registry
) -> None:
    class Cut(WithRegistry):
        """The list of experiments breaks after its first page; the runs of those on it are listed all the same."""

        def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
            first = {"1": self._world.experiments["1"]}
            for listing in super().listings(mode, known):
                kind = listing.scope.kind
                if kind == Kind.EXPERIMENT:
                    yield replace(listing, pages=chain(self._pages(kind, first), failing(broken())))
                elif listing.scope.partition in ("", *first):
                    yield listing

    world.add_run("other", experiment="2")
    look(engine, world, rules=[EVERY_RUN], source=Cut)
    look(engine, world, rules=[EVERY_RUN])
    assert {one.inherited for one in found(engine, "every-run")} == {True}
    assert len(found(engine, "every-run")) == 5


def test_no_run_is_lost_in_an_experiment_that_was_never_listed(engine: Engine, world: Registry) -> None:
    """The server goes away in the middle of a sweep; somebody looks again at what one finding needs."""

    class Gone(WithRegistry):
        gone = False

        def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
            for listing in super().listings(mode, known):
                if self.gone and listing.scope.kind == Kind.RUN and listing.scope.partition == "2":
                    yield replace(listing, pages=failing(broken(Trouble.UNREACHABLE)))
                    return
                yield listing

        def parse(self, kind: Kind, raw: bytes) -> Asset:
            asset = super().parse(kind, raw)
            return msgspec.structs.replace(asset, created_at=datetime.now(UTC) - timedelta(hours=2))

    world.add_run("second", experiment="2", lifecycle_stage="deleted")
    world.versions["m/2"]["run_id"] = "second"
    look(engine, world, source=Gone)
    (one,) = found(engine, "model-version-lost-its-run")
    world.add_run("third", experiment="3")
    world.versions["m/3"] = {"run_id": "third", "aliases": []}
    Gone.gone = True
    look(engine, world, source=Gone)
    Gone.gone = False
    look(engine, world, Mode.RECHECK, source=Gone, finding=one.id)
    assert stands(engine, "model-version-lost-its-run") == {"m/2": "open"}
    look(engine, world, source=Gone)
    assert stands(engine, "model-version-lost-its-run") == {"m/2": "open"}
