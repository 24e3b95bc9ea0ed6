"""`python -m tests.azure`: serve a loopback Azure until Ctrl-C, and say how to point stocktake at it.

It lets time pass: jobs are submitted and move on, so that there is something to see in the changes.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from tests.azure.config import TOKEN, configuration
from tests.azure.recordings import Recordings
from tests.azure.server import AzureServer, served
from tests.azure.throttle import Throttle

BEAT = 2.0  # seconds between two lines of progress, and two steps of the estate's clock


def main(argv: Sequence[str] | None = None, *, wait: Callable[[float], bool] | None = None) -> int:
    """Serve; `wait` returns True when it is time to end."""
    parser = argparse.ArgumentParser(prog="python -m tests.azure", description=__doc__)
    parser.add_argument("--workspaces", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--jobs", type=int, default=200, help="jobs in each (default 200)")
    parser.add_argument("--subscriptions", type=int, default=1, help="over how many subscriptions (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another estate (default 1)")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--speed", type=float, default=10.0, help="how fast the estate's time passes (default 10)")
    parser.add_argument("--exotic", action="store_true", help="with jobs of types that clients do not know")
    parser.add_argument("--throttle", action="store_true", help="refuse as ARM does: a bucket of 250, 25 a second")
    parser.add_argument("--recordings", type=Path, metavar="DIR", help="replay recorded exchanges where a path fits")
    parser.add_argument("--folder", type=Path, help="where the configuration is written (default: a temporary one)")
    args = parser.parse_args(argv)
    if args.recordings is not None and not args.recordings.is_dir():
        parser.error(f"{args.recordings} is no folder; give one with recorded exchanges as JSON files")
    ended = threading.Event()
    with ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stocktake-azure-")))
        folder.mkdir(parents=True, exist_ok=True)
        estate = _estate(args.workspaces, args.jobs, args.subscriptions, args.seed, exotic=args.exotic)
        recordings = Recordings(args.recordings) if args.recordings is not None else None
        throttle = Throttle() if args.throttle else None
        running = served(estate, throttle=throttle, recordings=recordings, port=args.port, only_reads=False)
        server = stack.enter_context(running)
        server.seen.keep = False
        for line in _how(server, estate, folder, recordings):
            print(line)
        try:
            _live(server, estate, args.speed, wait or ended.wait)
        except KeyboardInterrupt:
            print("\nended")
    return 1 if server.seen.acts else 0


def _estate(workspaces: int, jobs: int, subscriptions: int, seed: int, *, exotic: bool) -> Estate:
    estate = Estate(seed=seed)
    for number in range(workspaces):
        estate.add_workspace(
            f"loopback-{number:03d}", subscription=number % subscriptions, group=f"ml-{number % 5}",
            size=Size(jobs=jobs, exotic=exotic), tags={"env": "prod" if number % 2 else "dev"},
        )  # fmt: skip
    return estate


def _how(server: AzureServer, estate: Estate, folder: Path, recordings: Recordings | None) -> list[str]:
    """Write what a client needs, and say how to use it."""
    authority, config = folder / "ca.pem", folder / "stocktake.yaml"
    shutil.copy(server.ca_file, authority)
    found = list(estate.workspaces())
    config.write_text(
        configuration(found, arm=server.arm, ca_file=str(authority), schedule=("20s", "120s")), encoding="utf-8"
    )
    server.credential.lifetime = timedelta(days=365)
    replayed = f", {len(recordings.all)} recorded exchanges" if recordings is not None else ""
    return [
        f"The resource manager is {server.arm}, the data plane https://{server.data_host}.",
        f"{len(found)} workspaces in {len(estate.subscriptions)} subscriptions{replayed}. In another terminal:",
        "",
        f"  export STOCKTAKE_CONFIG={shlex.quote(str(config))}",
        f"  export STOCKTAKE_DATA_DIR={shlex.quote(str(folder / 'data'))}",
        f"  export {TOKEN}={server.token()}",
        "  stocktake scan && stocktake list job",
        "",
        f"A client of yours must trust {authority}. Ctrl-C ends it.",
    ]


def _live(server: AzureServer, estate: Estate, speed: float, wait: Callable[[float], bool]) -> None:
    """Let time pass and tell what was asked, until it is time to end."""
    last, asked, beat, submitted = time.monotonic(), 0, 0, 0
    while not wait(BEAT):
        now = time.monotonic()
        estate.tick((now - last) * speed)
        beat += 1
        if beat % 5 == 0:
            for workspace in list(estate.workspaces())[:3]:
                submitted += 1
                workspace.submit_job(f"live-{submitted:05d}", kind="Pipeline" if submitted % 4 == 0 else "Command",
                                     moving=True, fate="Failed" if submitted % 7 == 0 else "Completed")  # fmt: skip
        total = len(server.seen)
        refused = server.throttle.refused if server.throttle else 0
        rate = (total - asked) / (now - last)
        acts = f", NOT READS: {len(server.seen.acts)}" if server.seen.acts else ""
        print(
            f"\r{total} requests, {rate:.0f} a second, {refused} refused, {submitted} jobs submitted{acts}   ",
            end="", flush=True, file=sys.stderr,
        )  # fmt: skip
        last, asked = now, total


if __name__ == "__main__":
    sys.exit(main())
