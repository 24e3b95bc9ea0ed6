"""What a scan costs, against the floor of reading the same pages and copying them into one table.

python -m bench.scan [--runs 1000000] [--folder FOLDER] [--parts floor,first,floor]

The floor, in the same run and on the same Postgres: decode the pages, put the documents in canonical form, plain
logged binary COPY into one jsonb table. The scans do what a real one does: redaction, digests, lifted columns, indexes,
ledger. Each part runs in a process of its own, so that its memory is its own.

A machine that others share is faster in one minute than in the next: the floor is measured before, between and after,
and a part is held against the mean of the one before and the one after it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from sqlalchemy import text

from bench.corpus import SECOND, Corpus, experiment_json
from bench.peak import peak
from stocktake import pipeline
from stocktake.core import canonical
from stocktake.core.assets import Asset, Kind, Mode, Scope
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.pipeline.judging import Judging
from stocktake.sources.http import Answer
from stocktake.sources.mlflow_documents import parse
from stocktake.sources.mlflow_pages import split
from stocktake.sources.protocol import Identity, Item, KindFacts, Known, Listing, Page, Traffic
from stocktake.store import migrate
from stocktake.store.embedded import embedded_postgres
from stocktake.store.engine import make_engine

KEY = b"k" * 32


class Fed:
    """The source under the benchmark: the pages of the corpus, split and parsed by the code of `mlflow_rest`."""

    name = "mlflow_rest"
    acts = None
    kinds: Mapping[Kind, KindFacts] = {
        Kind.EXPERIMENT: KindFacts(sees_deleted=True),
        Kind.RUN: KindFacts(sees_deleted=True, partitioned=True),
    }

    def __init__(self, corpus: Corpus, now: Callable[[], datetime]) -> None:
        self.traffic = Traffic()
        self._corpus = corpus
        self._now = now

    def identify(self) -> Identity:
        return Identity(name="bench")

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        yield Listing(scope=Scope(kind=Kind.EXPERIMENT), pages=self._experiments())
        for experiments, bodies in self._grouped():
            ids = tuple(str(one) for one in experiments)
            scope = Scope(kind=Kind.RUN, partition=f"{ids[0]} +{len(ids) - 1}", covers=ids)
            yield Listing(scope=scope, pages=self._pages(bodies))

    def _grouped(self) -> Iterator[tuple[range, list[bytes]]]:
        held: tuple[range, list[bytes]] | None = None
        for experiments, body in self._corpus.pages():
            if held is not None and held[0] != experiments:
                yield held
                held = None
            held = held or (experiments, [])
            held[1].append(body)
        if held is not None:
            yield held

    def _experiments(self) -> Iterator[Page]:
        items = [Item(str(number), experiment_json(number).encode()) for number in range(self._corpus.experiments)]
        yield Page(items=items, requested_at=self._now())

    def _pages(self, bodies: Sequence[bytes]) -> Iterator[Page]:
        for body in bodies:
            at = self._now()
            answer = Answer(what="page", status=200, body=body, content_type="application/json", requested_at=at)
            page = split(Kind.RUN, answer)
            yield Page(items=page.items, requested_at=at, problems=page.problems)

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        return parse(kind, raw, owner_tags=("owner",))

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        return dict.fromkeys(keys)

    def close(self) -> None:
        pass


def floor(corpus: Corpus, url: str) -> int:
    """Decode, canonical form, COPY: what nobody who keeps the documents can do without."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        connection.execute("DROP TABLE IF EXISTS floor; CREATE TABLE floor (key text, document jsonb)")
        connection.commit()
        runs = 0
        decode = msgspec.json.Decoder().decode
        for block in _blocks(corpus.pages(), 50):
            with connection.cursor() as cursor, cursor.copy("COPY floor FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["text", "jsonb"])
                for _, body in block:
                    for run in decode(body)["runs"]:
                        data = run["data"]
                        document = {
                            "info": run["info"],
                            "params": {pair["key"]: pair["value"] for pair in data["params"]},
                            "tags": {pair["key"]: pair["value"] for pair in data["tags"]},
                            "metrics": {
                                one["key"]: {"value": one["value"], "timestamp": one["timestamp"], "step": one["step"]}
                                for one in data["metrics"]
                            },
                        }
                        copy.write_row((run["info"]["run_id"], canonical.encode(document).decode()))
                        runs += 1
            connection.commit()
    return runs


def _blocks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    block = []
    for item in items:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def sweep(corpus: Corpus, url: str) -> int:
    """One sweep over the corpus, as a worker does it."""
    engine = make_engine(url)
    report = pipeline.scan(
        engine,
        lambda now: Fed(corpus, now),
        workspace="bench",
        source_name="mlflow_rest",
        uri="https://bench.invalid",
        mode=Mode.SWEEP,
        redactor=Redactor(KEY),
        key=KEY,
        guard=Guard(),
    )
    sys.stderr.write(f"{report.state} {json.dumps({k: v for k, v in report.counts.items() if v})}\n")
    if report.error:
        sys.stderr.write(f"{report.error}\n")
    engine.dispose()
    return report.counts["seen"]


def _child(what: str, folder: Path, runs: int, url: str) -> None:
    corpus = Corpus(folder, runs=runs, change=SECOND if what in ("second", "again") else None)
    judging = _watched_judging()
    began, cpu = time.perf_counter(), time.process_time()
    seen = (floor if what == "floor" else sweep)(corpus, url)
    figures = {
        "seen": seen,
        "wall": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "rss": peak(),
        "judging": sum(judging),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _watched_judging() -> list[float]:
    """Seconds that the rules take of each scan of this process from now on."""
    real, took = Judging.judge, list[float]()

    def timed(one: Judging, scan_id: int) -> None:
        began = time.perf_counter()
        real(one, scan_id)
        took.append(time.perf_counter() - began)

    Judging.judge = timed  # type: ignore[assignment, method-assign]
    return took


def measure(what: str, folder: Path, runs: int, url: str, server: Callable[[], float]) -> dict[str, Any]:
    """Run one part in a process of its own; the database's share is the CPU time of all its processes."""
    engine = make_engine(url)
    with engine.connect() as connection:
        before_wal = connection.execute(text("SELECT pg_current_wal_lsn()")).scalar_one()
        connection.rollback()
        before = server()
        command = [sys.executable, "-m", "bench.scan", "--part", what, "--folder", str(folder), "--runs", str(runs)]
        done = subprocess.run(command, env={**os.environ, "BENCH_URL": url}, stdout=subprocess.PIPE, check=True)
        figures: dict[str, Any] = json.loads(done.stdout)
        figures["server"] = server() - before
        figures["wal"] = int(
            connection.execute(
                text("SELECT pg_current_wal_lsn() - CAST(:before AS pg_lsn)"), {"before": before_wal}
            ).scalar_one()
        )
        connection.execute(text("DROP TABLE IF EXISTS floor"))
        connection.commit()
    engine.dispose()
    return figures


def vacuum(url: str) -> None:
    """What autovacuum does some minutes after a load. Its WAL, and that of the marks that the first reader of new rows
    leaves on their pages, is the load's and not the next scan's."""
    engine = make_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        while connection.exec_driver_sql(_AUTOVACUUM).scalar_one():
            time.sleep(0.5)
        connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


_AUTOVACUUM = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"


def server_cpu(home: Path) -> Callable[[], float]:
    """Seconds of CPU that the postmaster and all its children, living and dead, have used."""
    postmaster = int((home / "data" / "postmaster.pid").read_text().split()[0])
    tick = os.sysconf("SC_CLK_TCK")

    def read() -> float:
        total = 0.0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == postmaster:
                total += (int(fields[11]) + int(fields[12])) / tick
            if int(stat.parent.name) == postmaster:
                total += sum(int(fields[n]) for n in (11, 12, 13, 14)) / tick
        return total

    return read


def main() -> None:
    """Measure the parts one after the other, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--parts", default="floor,first,floor,unchanged,second,floor")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.part:
        _child(given.part, given.folder, given.runs, os.environ["BENCH_URL"])
        return
    with tempfile.TemporaryDirectory(prefix="stocktake-bench-", ignore_cleanup_errors=True) as name:
        folder = given.folder or Path(name)
        home = Path(name) / "postgres"
        Path(name).chmod(0o755)
        for change in (None, SECOND):
            corpus = Corpus(folder, runs=given.runs, change=change)
            if not (folder / ("second.index" if change else "first.index")).exists():
                corpus.write()
        with embedded_postgres(home) as url:
            engine = make_engine(url)
            migrate.upgrade(engine)
            engine.dispose()
            server = server_cpu(home)
            done: list[tuple[str, dict[str, Any]]] = []
            for part in given.parts.split(","):
                if part == "unchanged":
                    vacuum(url)
                done.append((part, measure(part, folder, given.runs, url, server)))
                sys.stderr.write(f"{part}: {done[-1][1]['wall']:.1f} s\n")
            sys.stdout.write(
                "| part | runs | wall s | of which rules s | of the floor | without rules | us a run | client CPU us |"
                " server CPU us | RSS MB | WAL MB |\n"
                "|---|---|---|---|---|---|---|---|---|---|---|\n"
            )
            for at, (part, one) in enumerate(done):
                base = one["wall"] if part == "floor" else _floor_around(done, at)
                n = one["seen"]
                sys.stdout.write(
                    f"| {part} | {n:,} | {one['wall']:.1f} | {one['judging']:.1f} | {one['wall'] / base:.2f}x |"
                    f" {(one['wall'] - one['judging']) / base:.2f}x |"
                    f" {one['wall'] / n * 1e6:.1f} | {one['cpu'] / n * 1e6:.1f} | {one['server'] / n * 1e6:.1f} |"
                    f" {one['rss'] / 2**20:.0f} | {one['wal'] / 2**20:.2f} |\n"
                )


def _floor_around(done: Sequence[tuple[str, dict[str, Any]]], at: int) -> float:
    """Seconds that the floor took around a part: the mean of the last before it and the first after it."""
    before = [one["wall"] for name, one in done[:at] if name == "floor"][-1:]
    after = [one["wall"] for name, one in done[at:] if name == "floor"][:1]
    near = before + after
    return float(sum(near) / len(near)) if near else float("nan")


if __name__ == "__main__":
    main()
