"""A real MLflow server in good order: whatever is made here well kept breaks no rule, so that a play breaks one."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from stocktake import pipeline
from stocktake.core.assets import Mode, ScanState
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.core.rules import Rule, bound
from stocktake.rules import RULES
from stocktake.settings import Settings
from stocktake.settings.parameters import parameters
from stocktake.sources.http import HttpConfig
from stocktake.sources.mlflow_database import MlflowDatabase, MlflowDatabaseConfig
from stocktake.sources.mlflow_rest import MlflowRest, MlflowRestConfig
from tests.scenarios.clock import Clock
from tests.servers.content import V2, Writer
from tests.servers.mlflow_server import MlflowServer, free_port, mlflow_server

WORKSPACE = "lab"
#: Configured as somebody might, with the schedule that is usual.
SETTINGS = Settings.model_validate(
    {
        "workspaces": [{"name": WORKSPACE, "mlflow": {"uri": "http://127.0.0.1:5000"}}],
        "hygiene": {
            "required_tags": [
                {"experiments": "prod-*", "tags": ["cost-centre"]},
                {"experiments": "prod-?? *", "run_tags": ["purpose", "git_sha"]},
            ],
            "comparison_parameters": ["split", "metric"],
        },
    }
)
PARAMETERS = parameters(SETTINGS, SETTINGS.workspaces[0])
SWEEP: timedelta = PARAMETERS["sweep_every"]
HOT: timedelta = PARAMETERS["hot_every"]
_KEY = b"k" * 32
_OWNER_TAGS = ("owner", "team", "contact")
_PEOPLE = ("ada", "grace", "edsger", "barbara", "ünal")
_WORDS = ("churn", "fraud", "risk", "demand", "owl", "vision", "größe", "credit line", "ranker", "v2/eu")
_TABLES = ("latest_metrics", "metrics", "params", "tags")


@dataclass(slots=True)
class MlflowWorld:
    """A server, and what plays do to it. Times are those of the simulated clock, as a client's own would be."""

    server: MlflowServer
    writer: Writer
    clock: Clock
    choose: random.Random
    by_database: bool  # whether its backend database is read in place of the server
    rules: Sequence[Rule] = field(default_factory=lambda: bound(RULES, PARAMETERS))
    blind: int = 0  # how many scans to come cannot reach the server
    _made: int = 0
    _lies_in: dict[str, str] = field(default_factory=dict)  # the experiment of each run

    # ---- being watched ----------------------------------------------------------------------------------------------

    def scan(self, mode: Mode) -> bool:
        """Take stock; say whether the server could be reached."""
        if self.blind:
            if mode == Mode.HOT:  # a scan that sees nothing is one, of whatever mode
                return False
            self.blind -= 1
            assert self._scan(mode, reachable=False).state == ScanState.FAILED
            return False
        report = self._scan(mode, reachable=True)
        assert report.state == ScanState.COMPLETE, report
        return True

    def _scan(self, mode: Mode, *, reachable: bool) -> pipeline.ScanReport:
        backend = f"sqlite:///{self.server.folder / 'mlflow.db'}"
        uri = self.server.uri if reachable else f"http://127.0.0.1:{free_port()}"
        elsewhere = backend if reachable else "sqlite:////nowhere/mlflow.db"

        def source(now: Any) -> Any:
            if self.by_database:
                return MlflowDatabase(MlflowDatabaseConfig(url=elsewhere, owner_tags=_OWNER_TAGS), now)
            config = MlflowRestConfig(http=HttpConfig(base_url=uri, retries=0), owner_tags=_OWNER_TAGS)
            return MlflowRest(config, now)

        return pipeline.scan(
            self.clock.engine,
            source,
            workspace=WORKSPACE,
            source_name="mlflow_database" if self.by_database else "mlflow_rest",
            uri=self.server.uri,
            mode=mode,
            redactor=Redactor(_KEY),
            key=_KEY,
            guard=Guard(),
            judged_by=pipeline.RuleSet(rules=self.rules),
        )

    # ---- what is well kept ------------------------------------------------------------------------------------------

    def name(self, prefix: str) -> str:
        """A name that nobody else has."""
        self._made += 1
        return f"{prefix} {self.choose.choice(_WORDS)} {self._made}"

    def person(self) -> str:
        """Somebody of the team."""
        return self.choose.choice(_PEOPLE)

    def millis(self, at: datetime | None = None) -> int:
        """A time, now by default, as MLflow writes it."""
        return int((at or self.clock.now()).timestamp() * 1000)

    def experiment(self, name: str | None = None, *, location: str | None = None, **tags: str) -> str:
        """An experiment with an owner."""
        name = name or self.name("experiment")
        body = {"name": name, "artifact_location": location or f"mlflow-artifacts:/scenarios/{self._made}"}
        tags = {self.choose.choice(_OWNER_TAGS): self.person()} | tags
        answer = self.post("experiments/create", body | {"tags": _pairs(tags)})
        return str(answer["experiment_id"])

    def run(
        self,
        experiment: str | None = None,
        *,
        status: str = "FINISHED",
        ago: timedelta = timedelta(minutes=5),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        data: tuple[str, str] | Literal["any"] | None = "any",
    ) -> str:
        """A run that can be made again: it says its code, its environment, its data and its parameters."""
        experiment = experiment or self.experiment()
        started = self.millis(self.clock.now() - ago)
        known = {
            "mlflow.source.git.commit": f"{self.choose.getrandbits(160):040x}",
            "mlflow.docker.image.uri": f"registry.example/train:{self.choose.randint(1, 99)}",
            "mlflow.user": self.person(),
        }
        known = {name: value for name, value in (known | dict(tags or {})).items() if value != ""}
        body = {"experiment_id": experiment, "run_name": self.name("run"), "start_time": started, "tags": _pairs(known)}
        run = str(self.post("runs/create", body)["run"]["info"]["run_id"])
        self._lies_in[run] = experiment
        logged = {"seed": str(self.choose.getrandbits(48)), "lr": str(self.choose.random())}
        self.log(run, params=logged if params is None else params, metrics={"loss": self.choose.random()})
        if data is not None:
            name, digest = data if data != "any" else (f"table{self.choose.randrange(9)}", "d0")
            dataset = {"name": name, "digest": digest, "source_type": "local", "source": "x"}
            self.post("runs/log-inputs", {"run_id": run, "datasets": [{"dataset": dataset}]})
        if status != "RUNNING":
            self.end(run, status)
        return run

    def model(
        self,
        run: str | None = None,
        aliases: Mapping[str, str] | None = None,
        *,
        versions: int = 1,
        name: str | None = None,
    ) -> str:
        """A registered model with an owner; every version from a run that can be made again."""
        name = name or self.name("model").replace("/", "-")
        owner = {self.choose.choice(_OWNER_TAGS): self.person()}
        self.post("registered-models/create", {"name": name, "tags": _pairs(owner)})
        for _ in range(versions):
            self.version(name, run or self.run())
        for alias, version in (aliases or {}).items():
            self.alias(name, alias, version)
        return name

    def logged_model(self, run: str) -> str:
        """A logged model of a run."""
        return self.writer.logged_model(self._lies_in[run], run, "owl")

    def version(self, model: str, run: str | None, *, source: str | None = None, **more: str) -> str:
        """A version of a registered model; returns its key."""
        body = {"name": model, "source": source or f"runs:/{run}/model"} | more
        body |= {"run_id": run} if run is not None else {}
        return f"{model}/{self.post('model-versions/create', body)['model_version']['version']}"

    # ---- what people do ---------------------------------------------------------------------------------------------

    def post(self, path: str, body: Mapping[str, Any], method: str = "POST") -> Any:
        """Any write."""
        return self.writer.send(f"{V2}/{path}", dict(body), method=method)

    def log(
        self, run: str, *, params: Mapping[str, str] | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Log to a run."""
        at = {"timestamp": self.millis(), "step": 1}
        rows = [{"key": key, "value": value, **at} for key, value in (metrics or {}).items()]
        self.post("runs/log-batch", {"run_id": run, "params": _pairs(params or {}), "metrics": rows})

    def end(self, run: str, status: str = "FINISHED") -> None:
        """End a run."""
        self.post("runs/update", {"run_id": run, "status": status, "end_time": self.millis()})

    def tag(self, run: str, name: str, value: str) -> None:
        """Set a run's tag."""
        self.post("runs/set-tag", {"run_id": run, "key": name, "value": value})

    def untag(self, run: str, name: str) -> None:
        """Take a run's tag away."""
        self.post("runs/delete-tag", {"run_id": run, "key": name})

    def delete(self, run: str) -> None:
        """Delete a run: it can be restored."""
        self.post("runs/delete", {"run_id": run})

    def restore(self, run: str) -> None:
        """Restore a run."""
        self.post("runs/restore", {"run_id": run})

    def alias(self, model: str, alias: str, version: str) -> None:
        """Set an alias."""
        self.post("registered-models/alias", {"name": model, "alias": alias, "version": version})

    def unalias(self, model: str, alias: str) -> None:
        """Take an alias away."""
        self.post("registered-models/alias", {"name": model, "alias": alias}, method="DELETE")

    def purge(self, run: str) -> None:
        """Remove a run for good, by SQL, as administrators do and `mlflow gc` does."""
        for table in _TABLES:
            self.sql(f"DELETE FROM {table} WHERE run_uuid = ?", run)
        self.sql("DELETE FROM inputs WHERE destination_id = ? OR source_id = ?", run, run)
        self.sql("DELETE FROM runs WHERE run_uuid = ?", run)

    def sql(self, statement: str, *values: str) -> None:
        """What only somebody with the backend database can do."""
        with closing(sqlite3.connect(self.server.folder / "mlflow.db", timeout=30)) as database, database:
            database.execute(statement, values)


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


@contextmanager
def mlflow_world(folder: Path, clock: Clock, choose: random.Random) -> Iterator[MlflowWorld]:
    """A fresh server, and a team at work."""
    with mlflow_server(folder) as server, closing(Writer(server.uri)) as writer:
        yield MlflowWorld(server, writer, clock, choose, by_database=choose.random() < 0.4)
