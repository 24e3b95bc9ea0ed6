"""Moves a real MLflow server at random and writes down what it did and when: acts over REST, purges in its database."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import httpx

from stocktake.core.assets import Kind
from stocktake.sources.mlflow_documents import parse
from tests.servers.mlflow_server import MlflowServer
from tests.servers.moving_mlflow import MovingMlflow

_V2 = "/api/2.0/mlflow"
_MOST_RUNS, _FEWEST_RUNS = 60, 20


class RealMover:
    """One act at a time; after each, the server is asked what became of it, and `world` keeps that as the truth."""

    def __init__(self, server: MlflowServer, choose: random.Random) -> None:
        self.world = MovingMlflow()
        self.choose = choose
        self.failure: Exception | None = None
        self._http = httpx.Client(base_url=server.uri, timeout=60, trust_env=False)
        self._database = str(server.folder / "mlflow.db")
        self._number = 0

    def __enter__(self) -> RealMover:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def begin(self) -> None:
        """What is there at first."""
        self._learn(Kind.EXPERIMENT, ["0"], datetime.now(UTC))
        for _ in range(3):
            self._experiment()
        for _ in range(_FEWEST_RUNS):
            self._run()

    def move_until(self, ended: threading.Event) -> None:
        """Act until told to stop."""
        acts = [
            self._run,
            self._run,
            self._tag,
            self._mark,
            self._mark,
            self._purge,
            self._purge,
            self._mark_experiment,
        ]
        try:
            while not ended.is_set():
                self.choose.choice(acts)()
        except (httpx.HTTPError, sqlite3.Error, LookupError) as exc:
            self.failure = exc

    def _experiment(self) -> None:
        since = datetime.now(UTC)
        answer = self._post("experiments/create", {"name": f"exp {self._next()}"})
        self._learn(Kind.EXPERIMENT, [answer["experiment_id"]], since)

    def _run(self) -> None:
        active = self.world.keys(Kind.EXPERIMENT, stage="active")
        if len(self.world.there(Kind.RUN)) > _MOST_RUNS or not active:
            return self._purge()
        since = datetime.now(UTC)
        body = {
            "experiment_id": self.choose.choice(active),
            "start_time": int(since.timestamp() * 1000) - self.choose.choice([0, 0, 86_400_000]),
            "run_name": f"run {self._next()}",
        }
        key = self._post("runs/create", body)["run"]["info"]["run_id"]
        return self._learn(Kind.RUN, [key], since)

    def _tag(self) -> None:
        if keys := self.world.keys(Kind.RUN, stage="active"):
            key, since = self.choose.choice(keys), datetime.now(UTC)
            self._post("runs/set-tag", {"run_id": key, "key": "t", "value": str(self._next())})
            self._learn(Kind.RUN, [key], since)

    def _mark(self) -> None:
        stage = self.choose.choice(["active", "deleted"])
        if keys := self.world.keys(Kind.RUN, stage=stage):
            key, since = self.choose.choice(keys), datetime.now(UTC)
            self._post("runs/delete" if stage == "active" else "runs/restore", {"run_id": key})
            self._learn(Kind.RUN, [key], since)

    def _mark_experiment(self) -> None:
        stage = self.choose.choice(["active", "deleted"])
        keys = [key for key in self.world.keys(Kind.EXPERIMENT, stage=stage) if key != "0"]
        if keys:
            key, since = self.choose.choice(keys), datetime.now(UTC)
            self._post(f"experiments/{'delete' if stage == 'active' else 'restore'}", {"experiment_id": key})
            self._learn(Kind.EXPERIMENT, [key], since)
            self._learn(Kind.RUN, self.world.keys(Kind.RUN, experiment=key), since)

    def _purge(self) -> None:
        """Remove a run's rows, as `mlflow gc` does."""
        keys = self.world.keys(Kind.RUN)
        if len(keys) <= _FEWEST_RUNS:
            return
        key, since = self.choose.choice(keys), datetime.now(UTC)
        database = sqlite3.connect(self._database, timeout=60)
        with database:
            for table in ("tags", "params", "metrics", "latest_metrics"):
                database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (key,))
            database.execute("DELETE FROM runs WHERE run_uuid = ?", (key,))
        database.close()
        self.world.put(Kind.RUN, key, None, since)

    def _learn(self, kind: Kind, keys: Sequence[str], since: datetime) -> None:
        """Ask the server for what is so now."""
        one = "run" if kind == Kind.RUN else "experiment"
        for key in keys:
            answer = self._http.get(f"{_V2}/{one}s/get", params={f"{one}_id": key}).raise_for_status()
            raw = httpx.Response(200, json=answer.json()[one]).content
            self.world.put(kind, key, dict(parse(kind, raw).document), since)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._http.post(f"{_V2}/{path}", json=body).raise_for_status().json()
        return answer

    def _next(self) -> int:
        self._number += 1
        return self._number
