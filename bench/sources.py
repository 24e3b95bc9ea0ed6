"""What reading a store costs by each source: runs a second, and what the client's processor does for one run.

python -m bench.sources [--runs 20000] [--backend sqlite|postgresql] [--rounds 2]

One store of runs as real ones are (10 params, 10 metrics, 5 tags), filled by SQL; a real MLflow server over it, whose
process is not counted; each source in a process of its own. Listed: the pages are read. Parsed: every item is an asset.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from bench.peak import peak
from stocktake.core.assets import Kind, Mode
from stocktake.sources.protocol import Source
from stocktake.store.embedded import embedded_postgres
from tests.servers.known import PlainKnown
from tests.servers.mlflow_server import mlflow_server
from tests.servers.reading import database_source, mlflow_source

EXPERIMENTS = 8
START = 1_700_000_000_000


def rows(runs: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Rows of the tables of MLflow's backend, by table."""
    for number in range(EXPERIMENTS):
        key = number + 1
        yield "experiments", (key, f"experiment {key}", f"s3://lake/{key}", "active", START, START)
    for number in range(runs):
        run, experiment = (
            uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128).hex,
            number % EXPERIMENTS + 1,
        )
        uri = f"s3://lake/{experiment}/{run}/artifacts"
        at = START + number * 1000
        yield "runs", (run, f"run {number}", "ada", "FINISHED", at, at + 900_000, "active", uri, experiment)
        for n in range(10):
            yield "params", (f"param_{n}", f"value {number % 97} of {n}", run)
            yield "latest_metrics", (f"metric_{n}", number * 0.001 + n, at + n, n, False, run)
        for n in range(5):
            yield "tags", (f"tag.{n}", f"{'words ' * 8}{number % 31}", run)


COLUMNS = {
    "experiments": "experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time",
    "runs": "run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id",
    "params": "key, value, run_uuid",
    "latest_metrics": "key, value, timestamp, step, is_nan, run_uuid",
    "tags": "key, value, run_uuid",
}


def fill(url: str, runs: int) -> None:
    """Put the rows into a backend whose tables MLflow has made."""
    by_table: dict[str, list[tuple[Any, ...]]] = {table: [] for table in COLUMNS}
    for table, row in rows(runs):
        by_table[table].append(row)
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            for table, several in by_table.items():
                marks = ", ".join("?" * len(several[0]))
                file.executemany(f"INSERT INTO {table} ({COLUMNS[table]}) VALUES ({marks})", several)
        return
    with psycopg.connect(url.replace("+psycopg", "")) as server:
        for table, several in by_table.items():
            with server.cursor().copy(f"COPY {table} ({COLUMNS[table]}) FROM STDIN".encode()) as copy:
                for row in several:
                    copy.write_row(row)
        server.commit()
        server.autocommit = True
        server.execute("VACUUM ANALYZE")


def read(name: str, address: str, parse: bool) -> dict[str, float]:
    """Read every run once; in this process alone."""
    source: Source = mlflow_source(address) if name == "mlflow_rest" else database_source(address)
    found = 0
    began, processor = time.perf_counter(), time.process_time()
    with closing(source):
        for listing in source.listings(Mode.SWEEP, PlainKnown()):
            for page in listing.pages:
                if listing.scope.kind is not Kind.RUN:
                    continue
                found += len(page.items)
                if parse:
                    for item in page.items:
                        source.parse(Kind.RUN, item.raw)
    seconds, used = time.perf_counter() - began, time.process_time() - processor
    return {
        "runs": found,
        "runs_per_second": found / seconds,
        "cpu_us_per_run": used / found * 1e6,
        "peak_mb": peak() / 2**20,
    }


def measure(name: str, address: str, parse: bool) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "bench.sources", "--read", name, address, *(["--parse"] if parse else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def say(line: str) -> None:
    """Write a line at once: the whole takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fill a store, read it by both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--backend", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--rounds", type=int, default=2, help="of which the fastest counts: others use the machine too")
    parser.add_argument("--read", nargs=2, metavar=("SOURCE", "ADDRESS"), help=argparse.SUPPRESS)
    parser.add_argument("--parse", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        say(json.dumps(read(given.read[0], given.read[1], given.parse)))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stocktake-bench-")))
        backend = f"sqlite:///{folder / 'mlflow.db'}"
        if given.backend == "postgresql":
            backend = stack.enter_context(embedded_postgres(folder / "postgres"))
            backend = backend.replace("postgresql:", "postgresql+psycopg:", 1)
        server = stack.enter_context(mlflow_server(folder / "server", backend=backend))
        fill(backend, given.runs)
        places = {"mlflow_database": backend, "mlflow_rest": server.uri}
        say(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {given.runs:,} runs, backend {given.backend}")
        say("| source | what | runs/s | client CPU a run | peak memory |\n|---|---|---|---|---|")
        rates: dict[tuple[str, bool], float] = {}
        for parse in (False, True):
            word = "parsed" if parse else "listed"
            rounds = [
                {name: measure(name, address, parse) for name, address in places.items()} for _ in range(given.rounds)
            ]
            for name in places:
                best = max((one[name] for one in rounds), key=lambda figures: figures["runs_per_second"])
                assert best["runs"] == given.runs, best
                rates[name, parse] = best["runs_per_second"]
                say(
                    f"| {name} | {word} | {best['runs_per_second']:,.0f} | {best['cpu_us_per_run']:.0f} us |"
                    f" {best['peak_mb']:.0f} MB |"
                )
        for parse in (False, True):
            ratio = rates["mlflow_database", parse] / rates["mlflow_rest", parse]
            say(f"{'parsed' if parse else 'listed'}: mlflow_database is {ratio:.0f} times as fast as mlflow_rest")


if __name__ == "__main__":
    main()
