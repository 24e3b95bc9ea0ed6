"""What reading an `mlruns` folder costs beside the floor: opening and reading the same files. `python -m bench.folder`

One experiment of runs as real ones are (10 params, 10 metrics of 3 points, 5 tags), written by hand; each reader in a
process of its own, the best of two. The ratio is of computing (the disk's cache and other work on the machine move the
seconds). Memory is what the process held at most; it must not grow with the runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from bench.peak import peak
from stocktake.core.assets import Kind, Mode
from tests.servers import folder as make
from tests.servers.known import PlainKnown
from tests.servers.reading import files_source


def written(mlruns: Path, runs: int) -> None:
    """Write the folder."""
    make.experiment(mlruns, "0")
    experiment = make.experiment(mlruns, "1")
    for number in range(1, runs + 1):
        run = make.run(experiment, number, params={f"p{one}": str(one * number) for one in range(10)})
        for one in range(9):
            lines = (f"{make.STARTED + step} {step * 0.1} {step}\n" for step in range(3))
            make.write(run / "metrics" / f"m{one}", "".join(lines))
        for one in range(4):
            make.write(run / "tags" / f"t{one}", "v")


def floor(mlruns: Path) -> int:
    """Open and read every file."""
    count = 0
    for above, _, files in os.walk(mlruns):
        count += "meta.yaml" in files
        for name in files:
            with open(Path(above, name), "rb") as file:  # noqa: PTH123 - the plainest way
                file.read()
    return count


def swept(mlruns: Path, mode: Mode = Mode.SWEEP) -> int:
    """List everything, as a scan does, and make every item an asset."""
    source = files_source(mlruns)
    known = PlainKnown(looks={kind: datetime(2100, 1, 1, tzinfo=UTC) for kind in Kind} if mode is Mode.HOT else {})
    count = 0
    for listing in source.listings(mode, known):
        for page in listing.pages:
            for item in page.items:
                source.parse(listing.scope.kind, item.raw)
                count += 1
    return count


READERS: Mapping[str, Callable[[Path], int]] = {
    "floor: every file opened and read": floor,
    "sweep": swept,
    "hot pass, nothing new": lambda mlruns: swept(mlruns, Mode.HOT),
}


def _measure(mlruns: Path, reader: str) -> None:
    began, spent = time.perf_counter(), time.process_time()
    READERS[reader](mlruns)
    wall, cpu = time.perf_counter() - began, time.process_time() - spent
    held = peak() / 2**20
    sys.stdout.write(f"{wall} {cpu} {held}")


def main() -> None:
    """Measure, and print a table in Markdown."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, nargs="+", default=[4301, 20000])
    options.add_argument("--one", nargs=2, metavar=("FOLDER", "READER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        _measure(Path(given.one[0]), given.one[1])
        return
    sys.stdout.write("| runs | reader | seconds | computing | times the floor | memory |\n|---|---|---|---|---|---|\n")
    for runs in given.runs:
        with tempfile.TemporaryDirectory(prefix="stocktake-bench-") as base:
            mlruns = Path(base, "mlruns")
            written(mlruns, runs)
            least = None
            for reader in READERS:
                command = [sys.executable, "-m", "bench.folder", "--one", str(mlruns), reader]
                wall, cpu, held = min((_numbers(command) for _ in range(2)), key=lambda one: one[1])
                least = least or cpu
                times = f"{cpu / least:.2f}"
                sys.stdout.write(f"| {runs:,} | {reader} | {wall:.2f} | {cpu:.2f} | {times} | {held:.0f} MB |\n")
                sys.stdout.flush()


def _numbers(command: list[str]) -> tuple[float, float, float]:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall, cpu, held = map(float, done.stdout.split())
    return wall, cpu, held


if __name__ == "__main__":
    main()
