"""Asked to stop, the worker stops: a server that says nothing holds it up no longer than its last breath."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stocktake.cli.operate import until_signalled
from tests.integration.test_cli import configured
from tests.servers.mlflow_server import free_port
from tests.servers.recording_proxy import RecordingProxy, hang, recording_proxy
from tests.servers.shared import filled_server


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    with recording_proxy(filled_server().server.uri) as running:
        yield running


@pytest.mark.parametrize("silent", ["/health", "runs/search"], ids=["the first request", "a page of runs"])
def test_a_scan_whose_server_hangs_is_abandoned_at_once_and_says_so(
    tmp_path: Path, database_url: str, proxy: RecordingProxy, silent: str
) -> None:
    asked, released = threading.Event(), threading.Event()
    proxy.fault("/" if silent == "/health" else silent, hang(released, 120.0, asked=asked))
    cli = configured(
        tmp_path,
        f'database: "{database_url}"\nweb: {{port: 0}}\nschedule: {{splay: 0}}\n'
        f'workspaces:\n  - {{name: silent, mlflow: {{uri: "{proxy.uri}"}}}}\n',
    )
    process = cli.start("worker")
    assert process.stderr is not None
    lines = list[str]()
    for line in process.stderr:
        lines.append(line)
        if '"endpoint_ready"' in line:
            break
    assert asked.wait(60)
    ready = httpx.get(json.loads(lines[-1])["url"] + "/readyz", trust_env=False, timeout=10.0)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    took = time.monotonic() - began
    released.set()
    err = "".join(lines) + err
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert took < 6, err  # two seconds on an idle machine
    (status,) = cli("status", "-o", "json").json()
    assert (status["last_sweep"]["state"], status["state"], status["error"]) == ("abandoned", "abandoned", None)
    assert '"scan_given_up"' in err
    assert '"scans_abandoned"' not in err  # nothing was left behind: the scan itself wrote its row
    # Ready is what can serve; that nothing was seen yet is told all the same.
    assert ready.status_code == 200
    checks = {one["name"]: one for one in ready.json()["checks"]}
    assert (checks["first scans"]["ok"], checks["first scans"]["required"]) == (False, False)
    assert "silent" in checks["first scans"]["detail"]


def test_an_address_is_announced_only_once_it_is_ours(tmp_path: Path, database_url: str) -> None:
    words = (
        f'database: "{database_url}"\nworkspaces:\n'
        f'  - {{name: dead, mlflow: {{uri: "http://127.0.0.1:{free_port()}"}}}}\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = configured(tmp_path, words + f"web: {{port: {other.getsockname()[1]}}}\n").process("up")
    assert taken.code == 2
    assert "is already taken" in taken.err
    assert "Watching" not in taken.err + taken.out
    process = configured(tmp_path, words + "web: {port: 0}\n").start("up")
    assert process.stderr is not None
    try:
        url = next(line.split()[1] for line in process.stderr if line.startswith("  health"))
        assert httpx.get(url.removesuffix("/healthz") + "/", trust_env=False, timeout=10.0).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_two_modes_of_one_scan_are_refused_in_one_line(tmp_path: Path) -> None:
    answer = configured(tmp_path, "").process("scan", "--hot", "--sweep")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert "--hot and --sweep exclude each other" in answer.err


def test_a_signal_in_the_middle_of_waiting_for_it_stops_nothing_but_the_worker() -> None:
    """The main thread waits for the event that the signal sets, and holds the event's lock for moments of that."""
    with until_signalled() as stop:
        with stop._cond:  # type: ignore[attr-defined]  # such a moment
            signal.raise_signal(signal.SIGTERM)
        assert stop.wait(10)
        with stop._cond, pytest.raises(KeyboardInterrupt):  # type: ignore[attr-defined]
            signal.raise_signal(signal.SIGINT)
