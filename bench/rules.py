"""What judging costs: all rules over many workspaces, beside the sweeps from a backend database that precede them.

python -m bench.rules [--runs 1000000] [--workspaces 200]

One store of MLflow's on PostgreSQL with runs / workspaces runs (10 params, 10 metrics, 5 tags; one in a hundred has
been RUNNING for years, a third of the experiments and half of the models name no owner) is swept under as many names as
there are workspaces: first at once, then with nothing changed, then with one run in a hundred edited. Judging is timed
inside each scan; the sweep is what is left of the scan. CPU is that of this process and of both databases.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from sqlalchemy import Engine, text

from bench.scan import server_cpu, vacuum
from bench.sources import fill
from stocktake import pipeline
from stocktake.core.assets import Mode
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.pipeline.judging import Judging
from stocktake.sources.mlflow_database import MlflowDatabase, MlflowDatabaseConfig
from stocktake.store import migrate
from stocktake.store.embedded import embedded_postgres
from stocktake.store.engine import make_engine
from tests.servers.mlflow_server import mlflow_server

KEY = b"k" * 32
MODELS = 20

_FAULTS = f"""
UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE abs(hashtext(run_uuid)) % 100 = 0;
INSERT INTO experiment_tags (key, value, experiment_id)
    SELECT 'owner', 'ada', experiment_id FROM experiments WHERE experiment_id % 3 <> 0;
INSERT INTO registered_models (name, creation_time, last_updated_time)
    SELECT 'model ' || n, 1700000000000, 1700000000000 FROM generate_series(1, {MODELS}) n;
INSERT INTO registered_model_tags (key, value, name)
    SELECT 'owner', 'ada', name FROM registered_models WHERE name ~ '[02468]$';
INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage, status, source, run_id)
    SELECT 'model ' || n, 1, 1700000000000, 1700000000000, 'None', 'READY', 's3://lake', r.run_uuid
    FROM generate_series(1, {MODELS}) n, LATERAL (SELECT run_uuid FROM runs ORDER BY run_uuid OFFSET n LIMIT 1) r;
"""
_EDITS = "UPDATE tags SET value = value || ' edited' WHERE key = 'tag.0' AND abs(hashtext(run_uuid)) % 100 = 1"


@dataclass(slots=True)
class Clock:
    """How long judging took."""

    servers: Callable[[], float]  # what both databases have computed
    seconds: float = 0.0
    slowest: float = 0.0
    computed: float = 0.0

    def processor(self) -> float:
        """Seconds of processor, of this process and of the databases."""
        return time.process_time() + self.servers()

    def around(self, name: str) -> Callable[..., object]:
        """A method of Judging, timed."""
        real = getattr(Judging, name)

        def timed(one: Judging, *given: object) -> object:
            used, began = self.processor(), time.perf_counter()
            try:
                return real(one, *given)
            finally:
                took = time.perf_counter() - began
                self.computed += self.processor() - used
                self.seconds += took
                self.slowest = max(self.slowest, took)

        return timed


def sweep(engine: Engine, url: str, name: str) -> int:
    """One sweep, as a worker does it."""
    report = pipeline.scan(
        engine,
        lambda now: MlflowDatabase(MlflowDatabaseConfig(url=url, owner_tags=("owner",)), now),
        workspace=name,
        source_name="mlflow_database",
        uri="bench",
        mode=Mode.SWEEP,
        redactor=Redactor(KEY),
        key=KEY,
        guard=Guard(),
    )
    if report.state != "complete":
        raise SystemExit(f"the sweep was {report.state}: {report.error} {report.scopes}")
    return report.counts["seen"]


def measure(engine: Engine, url: str, workspaces: int, what: str, servers: Callable[[], float]) -> None:
    """Sweep every workspace once, and print a row."""
    clock = Clock(servers)
    kept = {name: getattr(Judging, name) for name in ("enrol", "judge")}
    for name in kept:
        setattr(Judging, name, clock.around(name))
    used, began = clock.processor(), time.perf_counter()
    try:
        seen = sum(sweep(engine, url, f"w{number}") for number in range(workspaces))
    finally:
        for name, real in kept.items():
            setattr(Judging, name, real)
    whole = time.perf_counter() - began
    swept = whole - clock.seconds
    computed = clock.processor() - used - clock.computed
    with engine.connect() as connection:
        findings = connection.execute(text("SELECT count(*) FROM finding WHERE state <> 'resolved'")).scalar_one()
    say(
        f"| {what} | {seen:,} | {swept:.1f} | {clock.seconds:.1f} | {clock.seconds / swept:.1%} |"
        f" {computed:.1f} | {clock.computed:.1f} | {clock.computed / computed:.1%} |"
        f" {clock.seconds / workspaces * 1000:.0f} | {clock.slowest * 1000:.0f} | {findings:,} |"
    )


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fill the store, sweep it under many names, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--workspaces", type=int, default=200)
    given = parser.parse_args()
    each = max(given.runs // given.workspaces, MODELS + 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stocktake-bench-")))
        folder.chmod(0o755)
        ours = stack.enter_context(embedded_postgres(folder / "postgres"))
        engine = make_engine(ours)
        stack.callback(engine.dispose)
        migrate.upgrade(engine)
        theirs = stack.enter_context(embedded_postgres(folder / "mlflow"))
        backend = theirs.replace("postgresql:", "postgresql+psycopg:", 1) if "+psycopg" not in theirs else theirs
        with mlflow_server(folder / "server", backend=backend):
            pass  # it has made its tables
        fill(backend, each)
        plain = theirs.replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=True) as server:
            server.execute(_FAULTS.encode())
            server.execute("VACUUM ANALYZE")
        say(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {given.workspaces} workspaces of {each:,} runs")
        say(
            "| pass | seen | sweeps s | judging s | share | sweeps CPU s | judging CPU s | share | ms a workspace |"
            " slowest ms | findings |\n|---|---|---|---|---|---|---|---|---|---|---|"
        )
        both = server_cpu(folder / "postgres"), server_cpu(folder / "mlflow")

        def servers() -> float:
            return sum(read() for read in both)

        measure(engine, plain, given.workspaces, "first", servers)
        vacuum(ours)
        measure(engine, plain, given.workspaces, "nothing changed", servers)
        with psycopg.connect(plain, autocommit=True) as server:
            server.execute(_EDITS)
        measure(engine, plain, given.workspaces, "1 % edited", servers)


if __name__ == "__main__":
    main()
