"""What starting costs, and what an idle worker holds. `python -m bench.start`

The floor of the first is the interpreter alone; the worker watches two servers that do not answer, with an embedded
Postgres (whose memory is its own).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.servers.mlflow_server import free_port, stop

_STOCKTAKE = str(Path(sys.executable).with_name("stocktake"))
_CONFIG = """
web: {{port: {port}}}
workspaces:
  - name: one
    mlflow: {{uri: "http://127.0.0.1:9"}}
  - name: two
    mlflow: {{uri: "http://127.0.0.1:9"}}
"""


def best(command: Sequence[str], rounds: int = 7) -> float:
    """Seconds that a command takes, the best of some rounds: the machine may be busy with something else."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return min(times)


def idle(folder: Path) -> int:
    """Bytes of resident memory of a worker that waits for its next tick."""
    port = free_port()
    config = folder / "stocktake.yaml"
    config.write_text(_CONFIG.format(port=port))
    env = {name: value for name, value in os.environ.items() if not name.startswith("STOCKTAKE_")}
    env["STOCKTAKE_DATA_DIR"] = str(folder / "data")
    worker = subprocess.Popen(
        [_STOCKTAKE, "--config", str(config), "up"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            deadline = time.monotonic() + 60
            while not _scanned(client):
                if time.monotonic() > deadline or worker.poll() is not None:
                    raise SystemExit("the worker did not come to rest")
                time.sleep(0.5)
        status = Path(f"/proc/{worker.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024
    finally:
        stop(worker, patience=30)


def _scanned(client: httpx.Client) -> bool:
    """Both workspaces have been tried: that much is imported and held by then."""
    try:
        metrics = client.get("/metrics").text
    except httpx.TransportError:
        return False
    ended = 'stocktake_scans_total{mode="sweep",state="failed",workspace="%s"} 1.0'
    return all(ended % name in metrics for name in ("one", "two"))


def main() -> None:
    """Measure, and print a table in Markdown."""
    floor = best([sys.executable, "-c", ""])
    spent = best([_STOCKTAKE, "--help"])
    sys.stdout.write("| what | measured |\n|---|---|\n")
    sys.stdout.write(f"| an interpreter that does nothing | {floor:.2f} s |\n")
    sys.stdout.write(f"| `stocktake --help` | {spent:.2f} s ({spent / floor:.0f}x) |\n")
    with tempfile.TemporaryDirectory(prefix="stocktake-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        sys.stdout.write(f"| an idle worker, two workspaces, resident | {idle(Path(name)) / 2**20:.0f} MB |\n")


if __name__ == "__main__":
    main()
