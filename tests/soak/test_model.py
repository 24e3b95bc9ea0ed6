"""The model: acts, hot passes, sweeps and faults in any order, chosen by hypothesis. A clean sweep makes the inventory
equal to the server, and the changes between any two times add up to the difference of the states at those times."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import Connection, Engine, text

from stocktake.core.assets import Kind, Mode, ScanState
from stocktake.pipeline import Stopped
from stocktake.store import difference, history
from tests.servers.moving_mlflow import PLAY_ALONG, MovingMlflow, Served, leaves, served
from tests.soak import witness

_ACTS = sorted(name for name in witness.WEIGHTS if name != "_experiment")
#: What a request meets instead of its answer: a status, half of the answer, a broken connection.
_FAULTS = [500, 503, 404, 403, 401, 0.5, 0.0, None]
_modes = st.sampled_from(Mode)
_acts = st.lists(st.tuples(st.sampled_from(_ACTS), st.integers(0, 999)), max_size=6)
_names = count()

_Acts = list[tuple[str, int]]
State = dict[tuple[str, str], dict[str, Any]]


@dataclass(slots=True)
class _Tally:
    examples: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    acts: int = 0
    spans: int = 0


class Model(RuleBasedStateMachine):
    """One workspace, one server, and whatever may come between them."""

    def __init__(self, engine: Engine, place: Served, tally: _Tally) -> None:
        super().__init__()
        self.engine = engine
        self.place = place
        self.tally = tally
        self.world = place.world = MovingMlflow()
        self.mover = witness.Mover(self.world, random.Random(0))
        self.workspace = f"m{next(_names)}"

    @initialize(runs=st.integers(0, 8))
    def begin(self, runs: int) -> None:
        self.mover.begin(experiments=2, runs=runs)

    def _do(self, acts: _Acts) -> None:
        for act, pick in acts:
            self.mover.choose = random.Random(pick)
            getattr(self.mover, act)()

    @rule(mode=_modes, acts=_acts)
    def good_pass(self, mode: Mode, acts: _Acts) -> None:
        self.tally.rules[f"{mode} passes"] += 1
        self._pass(mode)

    @rule(mode=_modes, acts=_acts, fault=st.sampled_from(_FAULTS), at=st.integers(1, 14), times=st.integers(1, 3))
    def pass_with_a_fault(self, mode: Mode, acts: _Acts, fault: object, at: int, times: int) -> None:
        self._do(acts)
        self.tally.rules["passes with a fault"] += 1
        first = self.world.requests + at
        self.world.interfere = lambda _, number: fault if first <= number < first + times else PLAY_ALONG
        self._pass(mode)

    @rule(mode=_modes, acts=_acts)
    def pass_over_an_unreachable_server(self, mode: Mode, acts: _Acts) -> None:
        self._do(acts)
        self.tally.rules["unreachable"] += 1
        self.world.interfere = lambda _, __: None
        assert self._pass(mode) == ScanState.FAILED

    @rule(mode=_modes, acts=_acts, share=st.sampled_from([0.0, 0.5, 1.0]), pick=st.integers(0, 99))
    def pass_through_a_filter(self, mode: Mode, acts: _Acts, share: float, pick: int) -> None:
        self._do(acts)
        self.tally.rules["filtered passes"] += 1
        choose = random.Random(pick)
        there = [key for kind in witness.KINDS for key in self.world.there(kind)]
        self.world.hidden = {key for key in there if choose.random() < share}
        self._pass(mode, filtered=True)

    @rule(mode=_modes, acts=_acts, share=st.sampled_from([0.2, 0.5]), pick=st.integers(0, 99))
    def pass_over_lists_that_leave_things_out(self, mode: Mode, acts: _Acts, share: float, pick: int) -> None:
        """As OFFSET pages do when rows move: what is left out of a list answers by id all the same."""
        self._do(acts)
        self.tally.rules["lists with holes"] += 1
        choose = random.Random(pick)
        known = {change.key for change in self._changes()}
        self.world.unlisted = {key for key in sorted(known) if choose.random() < share}
        self._pass(mode)

    @rule(mode=_modes, acts=_acts, pages=st.integers(0, 6))
    def pass_that_is_cut(self, mode: Mode, acts: _Acts, pages: int) -> None:
        self._do(acts)
        self.tally.rules["cut passes"] += 1
        asked = count()
        with suppress(Stopped):
            self._pass(mode, stop=lambda: next(asked) >= pages)
        self._quiet()

    @rule(mode=_modes, acts=_acts, at=st.integers(1, 14))
    def pass_while_something_happens(self, mode: Mode, acts: _Acts, at: int) -> None:
        self.tally.rules["passes over a moving server"] += 1
        asked_at = self.world.requests + at

        def happen(_: str, number: int) -> object:
            if number == asked_at:
                self._do(acts)
            return PLAY_ALONG

        self.world.interfere = happen
        self._pass(mode)

    @rule(acts=_acts)
    def sweep_then_compare(self, acts: _Acts) -> None:
        self._do(acts)
        self._compare()

    def _compare(self) -> None:
        self.tally.rules["clean sweeps"] += 1
        assert self._pass(Mode.SWEEP) == ScanState.COMPLETE
        with self.engine.connect() as connection:
            witness.equal_to_server(connection, self.workspace, self.world)
            held, false = witness.false_changes(connection, self.workspace, self.world)
        assert not false, "\n".join(false[:5])
        self.held = held

    def teardown(self) -> None:
        self._quiet()
        self._compare()
        with self.engine.connect() as connection:
            self.tally.spans += adds_up(connection, self.workspace, random.Random(self.world.acts))
        self.tally.examples += 1
        self.tally.acts += self.world.acts
        self.tally.changes += self.held

    def _pass(self, mode: Mode, *, filtered: bool = False, stop: Callable[[], bool] = lambda: False) -> ScanState:
        report = witness.scan(
            self.engine, self.place.uri, mode, workspace=self.workspace, page=3, filtered=filtered, stop=stop
        )
        self._quiet()
        return report.state

    def _quiet(self) -> None:
        self.world.interfere = None
        self.world.hidden = set()
        self.world.unlisted = set()

    def _changes(self) -> list[history.ChangeRow]:
        with self.engine.connect() as connection:
            return list(witness.reported(connection, self.workspace))


def adds_up(connection: Connection, workspace: str, choose: random.Random, spans: int = 6) -> int:
    """Assert that the changes between two times, applied to the state at the first, make the state at the second, and
    that the difference of the two is what `difference` tells. Times are chosen at random, in mid-scan too."""
    changes = list(witness.reported(connection, workspace))
    baseline = connection.execute(
        text(
            "SELECT a.kind, a.key, a.first_seen FROM asset a JOIN workspace w USING (workspace_id)"
            " WHERE w.name = :name AND a.baseline AND a.kind <> 'workspace'"
        ),
        {"name": workspace},
    ).all()
    moments = sorted({change.at for change in changes} | {row.first_seen for row in baseline})
    if not moments:
        return 0
    tick = timedelta(microseconds=1)
    moments = sorted({at + shift for at in moments for shift in (-tick, timedelta(0))})
    for _ in range(spans):
        start, end = sorted(choose.choices(moments, k=2))
        before, after = (_state(connection, workspace, at) for at in (start, end))
        events: list[tuple[datetime, int, str, str, history.ChangeRow | None]] = [
            (row.first_seen, 0, row.kind, row.key, None) for row in baseline if start < row.first_seen <= end
        ]
        events += [(one.at, one.id or 0, one.kind, one.key, one) for one in changes if start < one.at <= end]
        replayed = {key: leaves(document) for key, document in before.items()}
        for at, _, kind, key, change in sorted(events, key=lambda event: event[:2]):
            if change is not None and change.type == "purged":
                del replayed[kind, key]
            elif change is None or change.type == "created" or not change.fields:
                replayed[kind, key] = leaves(_version(connection, workspace, kind, key, at))
            else:
                for one in change.fields:
                    for path in leaves(one["before"], one["path"]):
                        replayed[kind, key].pop(path, None)
                    new = leaves(one["after"], one["path"])
                    replayed[kind, key] |= {path: value for path, value in new.items() if value is not None}
        assert replayed == {key: leaves(document) for key, document in after.items()}
        fresh = {(row.kind, row.key) for row in baseline if start < row.first_seen <= end}
        told = {
            (row.kind, row.key): row.type
            for row in difference.difference(connection, start=start, end=end, workspaces=[workspace], expand=True)
            if row.kind in witness.KINDS
        }
        differs = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} - fresh
        # One whose look before lies before the beginning may have been there by then: nothing is said of it.
        unsure = {
            (one.kind, one.key)
            for one in changes
            if one.type == "created" and start < one.at <= end and (one.not_before is None or one.not_before < start)
        }
        assert told.keys() <= differs
        assert differs - told.keys() <= unsure - before.keys()
        for asset, what in told.items():
            assert (what == "created", what == "purged") == (asset not in before, asset not in after)
    return spans


def _state(connection: Connection, workspace: str, at: datetime) -> State:
    state: State = {}
    for kind in witness.KINDS:
        found = witness.inventory(connection, workspace, kind, at)
        query = f"SELECT key FROM inventory.{kind}_at(:at) WHERE workspace = :name"
        viewed = set(connection.execute(text(query), {"at": at, "name": workspace}).scalars())
        assert viewed == found.keys(), "the view and the question disagree"
        state |= {(str(kind), key): document for key, document in found.items()}
    return state


def _version(connection: Connection, workspace: str, kind: str, key: str, at: datetime) -> dict[str, Any]:
    rows = history.asset_history(connection, Kind(kind), key, workspaces=[workspace])
    (document,) = [row.document for row in rows if row.valid_from == at]
    return dict(document)


def _prove(engine: Engine, first: int, *, seconds: float, examples: int) -> None:
    tally, deadline, batches = _Tally(), witness.Deadline(seconds), 0
    witness.say(f"model: seed {first}")
    with served() as place:
        while batches == 0 or not deadline.passed():
            factory = seed(first + batches)(lambda: Model(engine, place, tally))
            run_state_machine_as_test(
                factory,  # type: ignore[arg-type]  # anything that makes a machine will do
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=20,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],  # a history that fails is printed as it is: to shrink it takes minutes
                    suppress_health_check=list(HealthCheck),
                ),
            )
            batches += 1
    rules = ", ".join(f"{number:,} {name}" for name, number in sorted(tally.rules.items()))
    types = ", ".join(f"{number:,} {name}" for name, number in sorted(tally.changes.items()))
    witness.say(
        f"model: seeds {first}..{first + batches - 1}, {tally.examples:,} histories ({rules}), {tally.acts:,} acts,"
        f" {tally.changes.total():,} changes ({types}), 0 false; {tally.spans:,} spans between two times add up; every"
        f" clean sweep equal to the server; {deadline.taken():.0f} s"
    )


def test_whatever_comes_between_a_clean_sweep_is_the_server_and_changes_add_up(engine: Engine) -> None:
    _prove(engine, 20261127, seconds=0, examples=5)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_model_at_length(engine: Engine) -> None:
    _prove(engine, witness.seed(), seconds=witness.budget(), examples=20)
