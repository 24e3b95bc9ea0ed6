"""What the long proofs share: their seed and budget, a pass over a moving server, and the witness.

The witness holds what the inventory says against what truly happened on the server: every reported change must be the
difference of two states that both held between its two looks, and after a clean sweep the inventory is the server.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from stocktake import pipeline
from stocktake.core.assets import Kind, Mode
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.sources.http import HttpConfig
from stocktake.sources.mlflow_rest import MlflowRest, MlflowRestConfig
from stocktake.store import history
from tests.servers.moving_mlflow import MovingMlflow, differing, leaves

KEY = b"k" * 32
KINDS = (Kind.EXPERIMENT, Kind.RUN, Kind.LOGGED_MODEL)

#: The database's clock is carried forward by each pass and lags by less than its quickest round trip.
LAG = timedelta(milliseconds=2)

#: Believes every confirmed removal: what the guard withholds is proved elsewhere.
OPEN_GUARD = Guard(share=1.0, assets=10**9)


def seed() -> int:
    """STOCKTAKE_SOAK_SEED, or one at random; every proof prints its own."""
    return int(os.environ.get("STOCKTAKE_SOAK_SEED") or random.randrange(10**6))


def budget(default: float = 600.0) -> float:
    """STOCKTAKE_SOAK_SECONDS: how long one proof may take."""
    return float(os.environ.get("STOCKTAKE_SOAK_SECONDS") or default)


def say(line: str) -> None:
    """Print a line of the summary: `make soak` shows it, pytest shows it where a proof fails."""
    print(line, flush=True)


@dataclass(slots=True)
class Deadline:
    """Whether a proof may begin another round."""

    seconds: float
    _began: float = field(default_factory=time.monotonic)

    def passed(self) -> bool:
        return time.monotonic() - self._began >= self.seconds

    def taken(self) -> float:
        return time.monotonic() - self._began


def scan(
    engine: Engine,
    uri: str,
    mode: Mode,
    *,
    workspace: str,
    page: int = 7,
    guard: Guard = OPEN_GUARD,
    filtered: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> pipeline.ScanReport:
    """One pass of the real pipeline, by the real source, over the wire."""
    config = MlflowRestConfig(
        http=HttpConfig(base_url=uri, retries=0),
        page_size=page,
        visibility="filtered" if filtered else "complete",
    )
    return pipeline.scan(
        engine,
        lambda now: MlflowRest(config, now),
        workspace=workspace,
        source_name="mlflow_rest",
        uri=uri,
        mode=mode,
        redactor=Redactor(KEY),
        key=KEY,
        guard=guard,
        stop=stop,
    )


def inventory(
    connection: Connection, workspace: str, kind: Kind, at: datetime | None = None
) -> dict[str, dict[str, Any]]:
    """What the inventory says is there: the documents by key."""
    rows = history.list_assets(connection, kind, workspaces=[workspace], at=at)
    return {row.key: dict(row.document) for row in rows}


def equal_to_server(connection: Connection, workspace: str, world: MovingMlflow) -> None:
    """Assert that the inventory is the server, as far as REST can tell."""
    for kind in KINDS:
        found, there = inventory(connection, workspace, kind), world.there(kind)
        if kind == Kind.LOGGED_MODEL:  # what REST no longer shows is called deleted
            gone = {key for key, document in found.items() if document["lifecycle_stage"] == "deleted"}
            assert not gone & there.keys(), f"called deleted, but there: {gone & there.keys()}"
            found = {key: document for key, document in found.items() if key not in gone}
        assert found.keys() == there.keys(), f"{kind}: {sorted(found.keys() ^ there.keys())}"
        wrong = [(key, differing(found[key], there[key])) for key in found if differing(found[key], there[key])]
        assert not wrong, f"{kind}: {wrong[:5]}"


def reported(connection: Connection, workspace: str) -> Iterator[history.ChangeRow]:
    """Every change, parts of stories too."""
    for change in history.changes(connection, workspaces=[workspace], expand=True):
        if change.kind in KINDS:
            yield change


def false_changes(
    connection: Connection, workspace: str, world: MovingMlflow, *, torn: list[str] | None = None
) -> tuple[Counter[str], list[str]]:
    """Hold every reported change against the truth. Returns how many were held by type, and what is false.

    Where `torn` is given, what a server that reads a page in several statements tore is put there instead.
    """
    held, false = Counter[str](), list[str]()
    born = Counter[tuple[str, str]]()
    for change in reported(connection, workspace):
        held[change.type] += 1
        if change.type == "created":
            born[change.kind, change.key] += 1
        if why := _false(change, world):
            (false if torn is None or not _is_torn(change, world) else torn).append(
                f"{change.kind} {change.key} {change.type} {list(change.fields)}: {why}"
                f" [{change.not_before} .. {change.not_after}]"
            )
    false += [f"{kind} {key} was created {number} times" for (kind, key), number in born.items() if number > 1]
    return held, false


def _false(change: history.ChangeRow, world: MovingMlflow) -> str | None:
    if change.not_before is not None and change.not_before > change.not_after:
        return "its looks are in the wrong order"
    truth = world.truth.get((Kind(change.kind), change.key))
    if truth is None:
        return "it never existed"
    states = truth.between(change.not_before, change.not_after + LAG)
    if change.type == "created":
        ok = states[0] is None and any(state is not None for state in states)
    elif change.type == "purged":
        ok = states[-1] is None and any(state is not None for state in states)
    elif change.kind == Kind.LOGGED_MODEL and change.type == "deleted":
        # The last state that was seen, marked: what became of it before it vanished cannot be known over REST.
        there = [state is not None and state["lifecycle_stage"] == "active" for state in states]
        ok = any(there) and not there[-1] and [one["path"] for one in change.fields] == ["lifecycle_stage"]
    else:
        said = sorted(row for one in change.fields for row in _said(one))
        ok = any(
            before is not None and after is not None and _sorted(differing(before, after)) == said
            for index, before in enumerate(states)
            for after in states[index + 1 :]
        ) and _as_said(change)
    return None if ok else f"between its two looks these states held: {[_short(state) for state in states]}"


def _is_torn(change: history.ChangeRow, world: MovingMlflow) -> bool:
    """A run whose row was read before it was purged, and its tags, params or metrics after."""
    gone = world.truth[Kind(change.kind), change.key].between(change.not_before, change.not_after + LAG)[-1] is None
    lost = all(one["after"] is None and str(one["path"]).startswith(_PARTS) for one in change.fields)
    return gone and lost and change.type == "updated" and change.kind == Kind.RUN


_PARTS = ("tags", "params", "metrics")


def _said(one: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The leaves of a differing field: a subtree that came or went is reported whole."""
    before, after = leaves(one["before"], one["path"]), leaves(one["after"], one["path"])
    for path in before.keys() | after.keys():
        if (old := before.get(path)) != (new := after.get(path)):
            yield path, old, new


def _as_said(change: history.ChangeRow) -> bool:
    stages = {one["after"] for one in change.fields if str(one["path"]).endswith("lifecycle_stage")}
    return stages == {"deleted": {"deleted"}, "restored": {"active"}}.get(change.type, set())


def _sorted(rows: Any) -> list[tuple[Any, ...]]:
    return sorted(rows)


def _short(state: dict[str, Any] | None) -> object:
    if state is None:
        return None
    kept = ("lifecycle_stage", "status", "tags.", "metrics.", "name")
    return {path: value for path, value in leaves(state).items() if any(word in path for word in kept)}


class Mover:
    """Moves a world at random: the same seed, the same acts."""

    def __init__(self, world: MovingMlflow, choose: random.Random) -> None:
        self.world = world
        self.choose = choose
        self._number = 0

    def begin(self, *, experiments: int = 4, runs: int = 30) -> None:
        """What is there at first."""
        for _ in range(experiments):
            self._experiment()
        for _ in range(runs):
            self._run()

    def act(self) -> None:
        """One act, if there is anything for it to act upon."""
        names, weights = zip(*WEIGHTS.items(), strict=True)
        getattr(self, self.choose.choices(names, weights)[0])()

    def acts(self, most: int) -> None:
        """Some acts."""
        for _ in range(self.choose.randint(0, most)):
            self.act()

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _any(self, kind: Kind, stage: str | None = None, *, status: str | None = None) -> str | None:
        found = self.world.keys(kind, stage=stage)
        if status is not None:
            there = self.world.there(kind)
            found = [key for key in found if there[key]["info"]["status"] == status]
        return self.choose.choice(sorted(found)) if found else None

    def _experiment(self) -> None:
        if len(self.world.there(Kind.EXPERIMENT)) > _MOST_EXPERIMENTS:
            self._purge_experiment()
        else:
            self.world.add_experiment(str(self._next()))

    def _run(self) -> None:
        if len(self.world.there(Kind.RUN)) > _MOST_RUNS:
            self._purge_run()
        elif (experiment := self._any(Kind.EXPERIMENT, "active")) is not None:
            status = self.choose.choice(["RUNNING", "FINISHED", "FAILED"])
            ago = self.choose.choice([0, 0, 0, 86_400_000 * self.choose.randint(1, 9)])  # some are backdated
            self.world.add_run(f"{self.choose.getrandbits(32):08x}{self._next()}", experiment, status=status, ago=ago)

    def _model(self) -> None:
        if (experiment := self._any(Kind.EXPERIMENT, "active")) is not None:
            self.world.add_model(f"m-{self._next()}", experiment)

    def _finish(self) -> None:
        if (key := self._any(Kind.RUN, "active", status="RUNNING")) is not None:
            self.world.finish(key)

    def _tag(self) -> None:
        kind = self.choose.choice(KINDS)
        if (key := self._any(kind, "active")) is not None:
            value = self.choose.choice([None, *(str(number) for number in range(9))])
            self.world.edit(kind, key, f"tags.t{self.choose.randint(0, 2)}", value)

    def _metric(self) -> None:
        if (key := self._any(Kind.RUN, "active")) is not None:
            entry = {"value": self.choose.random(), "timestamp": self._next(), "step": self.choose.randint(0, 9)}
            self.world.edit(Kind.RUN, key, f"metrics.m{self.choose.randint(0, 1)}", entry)

    def _rename(self) -> None:
        kind = self.choose.choice([Kind.EXPERIMENT, Kind.RUN])
        if (key := self._any(kind, "active")) is not None:
            path = "name" if kind == Kind.EXPERIMENT else "info.run_name"
            self.world.edit(kind, key, path, f"renamed {self._next()}")

    def _mark_run(self) -> None:
        stage = self.choose.choice(["deleted", "active"])
        if (key := self._any(Kind.RUN, "active" if stage == "deleted" else "deleted")) is not None:
            self.world.mark(Kind.RUN, key, stage)

    def _mark_experiment(self) -> None:
        stage = self.choose.choice(["deleted", "active"])
        if (key := self._any(Kind.EXPERIMENT, "active" if stage == "deleted" else "deleted")) is not None:
            self.world.mark(Kind.EXPERIMENT, key, stage)

    def _mark_model(self) -> None:
        if (key := self._any(Kind.LOGGED_MODEL)) is not None:
            self.world.mark(Kind.LOGGED_MODEL, key, "deleted")

    def _purge_run(self) -> None:
        if (key := self._any(Kind.RUN, self.choose.choice([None, "deleted"]))) is not None:
            self.world.purge(Kind.RUN, key)

    def _purge_model(self) -> None:
        if (key := self._any(Kind.LOGGED_MODEL)) is not None:
            self.world.purge(Kind.LOGGED_MODEL, key)

    def _purge_experiment(self) -> None:
        if (key := self._any(Kind.EXPERIMENT, "deleted")) is not None:
            self.world.purge(Kind.EXPERIMENT, key)


_MOST_RUNS, _MOST_EXPERIMENTS = 60, 8
WEIGHTS = {"_experiment": 2, "_run": 20, "_model": 4, "_finish": 8, "_tag": 14, "_metric": 6, "_rename": 4,
            "_mark_run": 12, "_mark_experiment": 4, "_mark_model": 1, "_purge_run": 12, "_purge_model": 1,
            "_purge_experiment": 1}  # fmt: skip


def released(engine: Engine, patience: float = 30.0) -> None:
    """Wait until the server has noticed that whoever held a claim is gone."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            query = (
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            if connection.execute(text(query)).scalar_one() == 0:
                return
        time.sleep(0.01)
    raise AssertionError("a killed pass still holds its lock")
