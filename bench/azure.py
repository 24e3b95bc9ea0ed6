"""What reading Azure ML costs, over the loopback Azure (tests/azure), which runs in a process of its own.

python -m bench.azure [--jobs 5000] [--part cpu|plan|fleet] [--tiny 400 --medium 95 --huge 5] [--scale 1]

cpu: the client's processor for a job, against MLClient.jobs.list on the same pages. plan: requests of a sweep, against
the documented plan. fleet: all workspaces of one subscription at once under ARM's bucket (250, 25 a second; --scale N
lets the bucket's time run N times as fast): when the tiny ones are complete, when all are, and the most memory held.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.azure_plan import compare
from bench.peak import peak
from stocktake.core.assets import Kind, Mode
from stocktake.demo.azure.content import TINY, Size
from stocktake.demo.azure.estate import Estate
from stocktake.sources.arm import Arm, ArmConfig
from stocktake.sources.arm_bucket import CAPACITY, RATE, Bucket
from stocktake.sources.azureml import AzureMl, AzureMlConfig
from stocktake.sources.azureml_documents import parse
from stocktake.sources.http import HttpConfig
from tests.azure.server import served
from tests.azure.throttle import Throttle
from tests.servers.known import PlainKnown

FLOORS = {"cpu": 5.0, "plan": 0.10, "tiny": 1.2, "total": 1.15, "peak_mb": 350.0}
#: One job in twenty has children: each parent is a request to run-history, which no bucket of ARM's limits.
TYPES = ("Command",) * 19 + ("Pipeline",)
MEDIUM, HUGE = Size(jobs=500, experiments=10, types=TYPES), Size(jobs=50_000, experiments=20, types=TYPES)
AT_ONCE = 64  # scans at the same time, the most that the configuration allows


def say(line: str) -> None:
    """Write a line at once: the whole takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# ---- the server -----------------------------------------------------------------------------------------------------


def serve(given: dict[str, Any]) -> None:
    """Serve until the pipe closes; a line in is answered with what was asked so far."""
    estate = Estate(seed=7)
    kinds = [*("tiny",) * given["tiny"], *("medium",) * given["medium"], *("huge",) * given["huge"]]
    sizes = {"tiny": TINY, "medium": MEDIUM, "huge": HUGE}
    if given.get("jobs"):
        kinds, sizes = ["one"], {"one": Size(jobs=given["jobs"], types=TYPES, experiments=10)}
    made = [(estate.add_workspace(f"{kind}-{number:03d}", size=sizes[kind]), kind) for number, kind in enumerate(kinds)]
    throttle = Throttle(rate=RATE * given["scale"]) if given.get("scale") else None
    with served(estate, throttle=throttle, only_reads=False) as server:
        server.seen.keep = False
        server.credential.lifetime = timedelta(days=1)
        told = {"arm": server.arm, "ca": str(server.ca_file), "token": server.token(), "cloud": server.cloud(),
                "workspaces": [(one.subscription, one.group, one.name, kind) for one, kind in made]}  # fmt: skip
        say(json.dumps(told))
        for _ in sys.stdin:
            refused = throttle.refused if throttle else 0
            seen = {"arm": server.seen.count(plane="arm"), "all": len(server.seen), "acts": len(server.seen.acts)}
            say(json.dumps(seen | {"refused": refused}))


@contextmanager
def server(**given: Any) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """The server in a process of its own: what it says of itself, and how to ask what it has seen."""
    command = [sys.executable, "-m", "bench.azure", "--serve", json.dumps(given)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        incoming, outgoing = process.stdin, process.stdout

        def seen() -> dict[str, Any]:
            incoming.write("seen\n")
            incoming.flush()
            found: dict[str, Any] = json.loads(outgoing.readline())
            return found

        try:
            yield json.loads(outgoing.readline()), seen
        finally:
            incoming.close()
            process.wait(20)


def client(part: str, told: dict[str, Any]) -> dict[str, Any]:
    """Read in a process of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(told, file)
        file.flush()
        command = [sys.executable, "-m", "bench.azure", "--client", part, file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# ---- clients --------------------------------------------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC)


def read_ours(told: dict[str, Any]) -> dict[str, float]:
    """Every job once, each as an asset."""
    subscription, group, name, _ = told["workspaces"][0]
    arm = Arm(ArmConfig(http=HttpConfig(base_url=told["arm"], token=told["token"], ca_file=told["ca"])), _now)
    scope = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.MachineLearningServices"
    found = 0
    with closing(arm):
        arm.get(f"{scope}/workspaces/{name}", "2024-10-01-preview")  # connected, and everything imported
        processor = time.process_time()
        path = f"{scope}/workspaces/{name}/jobs"
        for page in arm.pages(path, "2024-01-01-preview", {"listViewType": "All"}):
            for raw in page.items:
                parse(Kind.JOB, raw)
                found += 1
    return {"jobs": found, "seconds": time.process_time() - processor, "peak_mb": peak() / 2**20}


def read_sdk(told: dict[str, Any]) -> dict[str, float]:
    """The same by MLClient."""
    import os

    os.environ["REQUESTS_CA_BUNDLE"] = told["ca"]
    from azure.ai.ml import MLClient
    from azure.ai.ml.constants import ListViewType
    from azure.core.credentials import AccessToken

    class Credential:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken(told["token"], int(time.time()) + 80_000)

    subscription, group, name, _ = told["workspaces"][0]
    ml = MLClient(Credential(), subscription, group, name, cloud="Loopback", cloud_metadata=told["cloud"])
    ml.workspaces.get()
    processor = time.process_time()
    found = sum(1 for _ in ml.jobs.list(list_view_type=ListViewType.ALL))
    return {"jobs": found, "seconds": time.process_time() - processor, "peak_mb": peak() / 2**20}


class Collected(PlainKnown):
    """An inventory that knows only which jobs of this pass may have children."""

    parents: list[str]

    def parents_due(self, ended: frozenset[str], childless: frozenset[str], since: datetime | None) -> Sequence[str]:
        return self.parents


def sweep(source: AzureMl) -> tuple[int, list[str]]:
    """Read a workspace to its end: how many items, and what was not complete."""
    known, items, partial = Collected(), 0, list[str]()
    known.parents = []
    with closing(source):
        for listing in source.listings(Mode.SWEEP, known):
            kind = listing.scope.kind
            try:
                for page in listing.pages:
                    partial += [f"{kind}: {problem}" for problem in page.problems]
                    for item in page.items:
                        asset = source.parse(kind, item.raw)
                        items += 1
                        if kind is Kind.JOB and asset.document["properties"]["jobType"] == "Pipeline":
                            known.parents.append(asset.key)
            except Exception as exc:  # noqa: BLE001 - which one it was is what the bench tells
                partial.append(f"{kind}: {type(exc).__name__} {exc}")
        if source.acts is not None:
            now = _now()
            items += sum(len(lines) for lines in source.acts(now - timedelta(hours=1), now))
    return items, partial


class Counting(Bucket):
    """The bucket, and what each workspace spent of it: not every request names the workspace that it is for (quotas,
    registries, the storage account)."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.spent: Counter[Any] = Counter()
        self._counted = threading.Lock()

    def take(self, who: Hashable, gone: Callable[[], bool] = lambda: False, **given: Any) -> float:
        """As the bucket does."""
        waited = super().take(who, gone, **given)
        with self._counted:
            self.spent[who] += 1
        return waited


def read_fleet(told: dict[str, Any]) -> dict[str, Any]:
    """All workspaces, AT_ONCE at the same time, in the order that is given."""
    bucket = Counting(rate=RATE * told["scale"], capacity=told["capacity"])
    arm_slots, data_slots = threading.BoundedSemaphore(16), threading.BoundedSemaphore(16)
    http: dict[str, Any] = {"token": told["token"], "ca_file": told["ca"]}
    ends: dict[str, float] = {}
    partial: list[str] = []
    totals = {"items": 0}
    began = time.monotonic()

    def one(place: tuple[str, str, str, str]) -> None:
        subscription, group, name, _ = place
        config = AzureMlConfig(
            arm=ArmConfig(http=HttpConfig(base_url=told["arm"], slots=arm_slots, **http), bucket=bucket, member=name),
            subscription=subscription, resource_group=group, workspace=name,
            data_plane=HttpConfig(base_url=told["arm"], slots=data_slots, **http), data_hosts=("localhost",),
        )  # fmt: skip
        items, problems = sweep(AzureMl(config, _now))
        totals["items"] += items
        partial.extend(f"{name} {problem}" for problem in problems)
        ends[name] = time.monotonic() - began

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, told["workspaces"]))
    cost = {"peak_mb": peak() / 2**20, "cpu": time.process_time()}
    return {"ends": ends, "spent": bucket.spent, "partial": partial[:20]} | cost | totals


CLIENTS: dict[str, Callable[[dict[str, Any]], Any]] = {"ours": read_ours, "sdk": read_sdk, "fleet": read_fleet}

# ---- what is printed ------------------------------------------------------------------------------------------------


def cpu(jobs: int) -> bool:
    """Client processor per job."""
    with server(tiny=0, medium=0, huge=0, jobs=jobs) as (told, _):
        rounds = [{name: client(name, told) for name in ("ours", "sdk")} for _ in range(2)]
    best = {name: min((one[name] for one in rounds), key=lambda figure: figure["seconds"]) for name in ("ours", "sdk")}
    say(f"\n{jobs:,} jobs in pages of 50\n\n| client | CPU a job | peak memory |\n|---|---|---|")
    for name, word in (("ours", "stocktake, parsed to assets"), ("sdk", "MLClient.jobs.list")):
        assert best[name]["jobs"] == jobs, best
        say(f"| {word} | {best[name]['seconds'] / jobs * 1e6:,.0f} us | {best[name]['peak_mb']:.0f} MB |")
    ratio = best["sdk"]["seconds"] / best["ours"]["seconds"]
    say(f"\n{ratio:.1f} times less processor than MLClient (floor {FLOORS['cpu']:.0f})")
    return bool(ratio >= FLOORS["cpu"])


def plan() -> bool:
    """Requests of a sweep against the plan."""
    say("\n| workspace | planned | sent | off by |\n|---|---|---|---|")
    worst = 0.0
    for name, size in (("tiny", TINY), ("medium", MEDIUM), ("5,000 jobs", Size(jobs=5000, experiments=20))):
        planned, sent = compare(size, sweep)
        worst = max(worst, abs(sent - planned) / planned)
        say(f"| {name} | {planned} | {sent} | {(sent - planned) / planned:+.1%} |")
    return worst <= FLOORS["plan"]


def fleet(tiny: int, medium: int, huge: int, scale: float, capacity: int, order: str) -> bool:
    """A fleet under the bucket."""
    rate = RATE * scale
    with server(tiny=tiny, medium=medium, huge=huge, scale=scale) as (told, seen):
        places = list(told["workspaces"])  # made in the order of their size
        if order == "config":
            random.Random(1).shuffle(places)
        result = client("fleet", told | {"workspaces": places, "scale": scale, "capacity": capacity})
        counted = seen()
    small = {name for _, _, name, kind in told["workspaces"] if kind == "tiny"}
    own, every = sum(result["spent"][name] for name in small), sum(result["spent"].values())
    if every != counted["arm"]:
        raise SystemExit(f"{every} requests were granted, and {counted['arm']} were sent to the resource manager")
    granted = 250  # ARM's bucket, full at the start
    need, allowed = max(1e-9, own - granted) / rate, (every - granted) / rate
    last = max(result["ends"][name] for name in small)
    total = max(result["ends"].values())
    say(
        f"\n{tiny} tiny, {medium} medium (500 jobs), {huge} huge (50,000 jobs); {result['items']:,} items,"
        f" {every:,} requests to the resource manager, {counted['all']:,} in all, {counted['refused']} refused;"
        f" bucket 250, {rate:.0f} a second, started by {order}"
        + (f" (its time runs {scale:g} times as fast)" if scale != 1 else "")
    )
    say("\n| | needed at the bucket's rate | took | ratio | floor |\n|---|---|---|---|---|")
    say(f"| tiny ones complete | {need:.0f} s | {last:.0f} s | {last / need:.2f} | {FLOORS['tiny']} |")
    say(f"| all complete | {allowed:.0f} s | {total:.0f} s | {total / allowed:.2f} | {FLOORS['total']} |")
    say(
        f"\nclient: peak {result['peak_mb']:.0f} MB (floor {FLOORS['peak_mb']:.0f}), {result['cpu']:.0f} s of processor"
    )
    for problem in result["partial"]:
        say(f"  not complete: {problem}")
    good = last <= FLOORS["tiny"] * need and total <= FLOORS["total"] * allowed
    return good and result["peak_mb"] <= FLOORS["peak_mb"] and not result["partial"] and not counted["acts"]


def main() -> None:
    """Print the tables; end with 1 when a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--part", choices=("cpu", "plan", "fleet"), action="append")
    parser.add_argument("--tiny", type=int, default=400)
    parser.add_argument("--medium", type=int, default=95)
    parser.add_argument("--huge", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how much faster than real the bucket's time runs")
    parser.add_argument("--capacity", type=int, default=CAPACITY, help="of the client's own bucket (ARM's is 250)")
    order = "size: as the worker starts them, once it knows what each cost the last time; config: mixed"
    parser.add_argument("--order", choices=("size", "config"), default="size", help=order)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--client", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(json.loads(given.serve))
        return
    if given.client:
        say(json.dumps(CLIENTS[given.client[0]](json.loads(Path(given.client[1]).read_text(encoding="utf-8")))))
        return
    say(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    parts = given.part or ["cpu", "plan", "fleet"]
    met = [cpu(given.jobs)] if "cpu" in parts else []
    met += [plan()] if "plan" in parts else []
    met += (
        [fleet(given.tiny, given.medium, given.huge, given.scale, given.capacity, given.order)]
        if "fleet" in parts
        else []
    )
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
