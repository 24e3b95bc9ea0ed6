"""What reading a real `mlflow server` costs, against reading the same pages and throwing them away.

python -m bench.server [--runs 20000] [--rounds 5]

The server is MLflow's own, with one worker over SQLite; its runs are written straight into its database. In the same
run: the requests of a sweep sent again with the answers thrown away (the floor), a first sweep and an unchanged one,
MlflowClient.search_runs over the same runs, and mlflow-export-import (the peer) over a sample of them. Each reader is
a process of its own; only its own CPU time counts as the client's. The readers take turns, round after round, because
a server does not answer equally fast for minutes: the table has the median round of each, the spread, and the median
of the ratios to the floor of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from bench.corpus import run_json
from bench.peak import peak
from stocktake import pipeline
from stocktake.core.assets import Mode
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.sources.http import HttpConfig
from stocktake.sources.mlflow_rest import MlflowRest, MlflowRestConfig
from stocktake.store import migrate
from stocktake.store.embedded import embedded_postgres
from stocktake.store.engine import make_engine
from tests.servers.mlflow_server import mlflow_server
from tests.servers.recording_proxy import recording_proxy

KEY = b"k" * 32
EXPERIMENTS = 100
_PEER = ("mlflow-export-import==1.2.0", "mlflow-skinny<3.18", "tabulate")  # it does not declare that it needs tabulate


def fill(database: Path, runs: int) -> None:
    """Write runs into the tables of a server that has made them."""
    with closing(sqlite3.connect(database)) as connection, connection:
        now = 1_700_000_000_000
        connection.executemany(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time,"
            " last_update_time) VALUES (?, ?, ?, 'active', ?, ?)",
            ((n, f"experiment {n}", f"mlflow-artifacts:/{n}", now, now) for n in range(1, EXPERIMENTS + 1)),
        )
        for number in range(runs):
            _insert(connection, json.loads(run_json(number, 1 + number % EXPERIMENTS)))


def _insert(connection: sqlite3.Connection, run: dict[str, Any]) -> None:
    info, data = run["info"], run["data"]
    connection.execute(
        "INSERT INTO runs (run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri,"
        " experiment_id, source_type, source_name, entry_point_name, source_version)"
        " VALUES (?, ?, ?, ?, ?, ?, 'active', ?, ?, 'LOCAL', '', '', '')",
        (info["run_id"], info["run_name"], info["user_id"], info["status"], info["start_time"], info["end_time"],
         info["artifact_uri"], info["experiment_id"]),
    )  # fmt: skip
    for table in ("params", "tags"):
        connection.executemany(
            f"INSERT INTO {table} (key, value, run_uuid) VALUES (?, ?, ?)",
            ((pair["key"], pair["value"], info["run_id"]) for pair in data[table]),
        )
    for table in ("metrics", "latest_metrics"):
        connection.executemany(
            f"INSERT INTO {table} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)",
            ((one["key"], one["value"], one["timestamp"], one["step"], info["run_id"]) for one in data["metrics"]),
        )


def floor(given: dict[str, Any]) -> int:
    """Send the requests of a sweep again, and throw the answers away."""
    with httpx.Client(base_url=given["uri"], timeout=120, trust_env=False) as client:
        for method, url, body, kind in given["requests"]:
            headers = {"content-type": kind} if body else {}
            if client.request(method, url, content=body, headers=headers).is_server_error:
                raise SystemExit(f"{method} {url} failed")
    return int(given["runs"])


def sweep(given: dict[str, Any]) -> int:
    """One sweep, as a worker does it."""
    engine = make_engine(given["database"])
    config = MlflowRestConfig(http=HttpConfig(base_url=given["uri"]))
    report = pipeline.scan(
        engine,
        lambda now: MlflowRest(config, now),
        workspace="bench",
        source_name="mlflow_rest",
        uri="bench",
        mode=Mode.SWEEP,
        redactor=Redactor(KEY),
        key=KEY,
        guard=Guard(),
    )
    engine.dispose()
    if report.state != "complete":
        raise SystemExit(f"the sweep was {report.state}: {report.error}")
    return sum(scope.listed for scope in report.scopes if scope.kind == "run")


def client(given: dict[str, Any]) -> int:
    """Page through the runs with MLflow's own client."""
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    reader = MlflowClient(given["uri"])
    experiments = [one.experiment_id for one in reader.search_experiments(view_type=ViewType.ALL)]
    count, token = 0, None
    while True:
        page = reader.search_runs(experiments, run_view_type=ViewType.ALL, max_results=1000, page_token=token)
        count, token = count + len(page), page.token
        if not token:
            return count


PARTS: dict[str, Callable[[dict[str, Any]], int]] = {
    "floor": floor,
    "first": sweep,
    "unchanged": sweep,
    "client": client,
}


def _part(name: str) -> None:
    given = json.load(sys.stdin)
    if name == "client":
        import mlflow  # noqa: F401  # its import is not the reading
    began, cpu = time.perf_counter(), time.process_time()
    count = PARTS[name](given)
    figures = {"runs": count, "wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    json.dump(figures | {"rss": peak()}, sys.stdout)


def _measure(name: str, given: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.server", "--part", name],
        input=json.dumps(given), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _requests(uri: str, database: str) -> list[tuple[str, str, str, str]]:
    """What a sweep asks for, seen on the wire."""
    with recording_proxy(uri) as proxy:
        sweep({"uri": proxy.uri, "database": database})
        return [
            (
                one.method,
                f"{one.path}?{one.query}" if one.query else one.path,
                one.body.decode(),
                next((value for name, value in one.headers.items() if name.lower() == "content-type"), ""),
            )
            for one in proxy.seen
        ]


def _export(uri: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Let the peer export one experiment (it needs a hundred times longer); nothing where it cannot be installed."""
    python = folder / "peer" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "peer"], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", *_PEER]
    installed = subprocess.run(command, check=False, capture_output=True, text=True)
    if installed.returncode:
        sys.stderr.write(f"{_PEER[0]} cannot be installed here, so its row is left out: {installed.stderr}\n")
        return
    env = os.environ | {"MLFLOW_TRACKING_URI": uri}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [str(python.parent / "export-experiment"), "--experiment", "1", "--output-dir", str(folder / "exported")]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    exported = json.loads((folder / "exported" / "experiment.json").read_text())
    runs = len(exported["mlflow"]["runs"])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    yield {"runs": runs, "wall": time.perf_counter() - began, "cpu": cpu, "rss": after.ru_maxrss * 1024}


def main() -> None:
    """Measure the readers one after the other, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        _part(given.part)
        return
    with tempfile.TemporaryDirectory(prefix="stocktake-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        template = folder / "server"
        with mlflow_server(template):
            pass
        fill(template / "mlflow.db", given.runs)
        with mlflow_server(template) as server, embedded_postgres(folder / "postgres") as url:
            databases = [_database(url, name) for name in ("recorded", *(f"round_{n}" for n in range(given.rounds)))]
            task = {"uri": server.uri, "runs": given.runs}
            task["requests"] = _requests(server.uri, databases[0])
            _table(task, databases[1:], folder)


def _database(url: str, name: str) -> str:
    """Make an empty inventory."""
    engine = make_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    engine = make_engine(made := url.replace("/stocktake?", f"/{name}?"))
    migrate.upgrade(engine)
    engine.dispose()
    return made


def _table(task: dict[str, Any], databases: Sequence[str], folder: Path) -> None:
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in PARTS}
    for number, database in enumerate(databases, 1):
        for name, rounds in measured.items():
            rounds.append(_measure(name, task | {"database": database}))
            sys.stderr.write(f"round {number}: {name} {rounds[-1]['wall']:.1f} s\n")
    for one in _export(task["uri"], folder):
        measured["mlflow-export-import, one experiment"] = [one]
    shutil.rmtree(folder / "exported", ignore_errors=True)

    head = ("reader", "runs", "wall s", "fastest - slowest", "of the floor", "runs/s", "client CPU us a run", "RSS MB")
    floors = [one["wall"] / one["runs"] for one in measured["floor"]]
    sys.stdout.write(f"| {' | '.join(head)} |\n|{'---|' * len(head)}\n")
    for name, rounds in measured.items():
        n, wall = rounds[0]["runs"], _median(rounds, "wall")
        walls = [one["wall"] for one in rounds]
        ratio = statistics.median(wall / n / floor for wall, floor in zip(walls, floors, strict=False))
        sys.stdout.write(
            f"| {name} | {n:,} | {wall:.1f} | {min(walls):.1f} - {max(walls):.1f} | {ratio:.2f}x |"
            f" {n / wall:.0f} | {_median(rounds, 'cpu') / n * 1e6:.0f} | {_median(rounds, 'rss') / 2**20:.0f} |\n"
        )


def _median(rounds: Sequence[dict[str, Any]], figure: str) -> float:
    return statistics.median(float(one[figure]) for one in rounds)


if __name__ == "__main__":
    main()
