"""The demonstration's world: a real server, filled and changed, that never outlives whoever started it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stocktake.core.errors import ConfigError
from stocktake.demo import changes, training, world
from stocktake.demo.world import DemoWorld, Interrupted, Server

pytest.importorskip("sklearn", reason="the demonstration needs the extra: pip install 'stocktake[demo]'")


def processes_with(word: str) -> list[int]:
    """The processes whose command line holds a word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if word in command:
                found.append(int(entry.name))
    return found


def gone(word: str, seconds: float = 20.0) -> bool:
    """Wait until no process is left whose command line holds a word."""
    deadline = time.monotonic() + seconds
    while processes_with(word):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)  # another program's end: there is no clock to pass
    return True


def search(uri: str, path: str, **body: Any) -> dict[str, Any]:
    """Ask the server as anybody may."""
    answer = httpx.post(f"{uri}/api/2.0/mlflow/{path}", json=body, timeout=30.0, trust_env=False)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def runs_by_name(uri: str) -> dict[str, dict[str, Any]]:
    """Every run of the server, deleted ones too."""
    experiments = search(uri, "experiments/search", max_results=1000, view_type="ALL")["experiments"]
    ids = [experiment["experiment_id"] for experiment in experiments]
    runs = search(uri, "runs/search", experiment_ids=ids, run_view_type="ALL", max_results=1000)["runs"]
    return {run["info"]["run_name"]: run for run in runs}


def experiments_by_name(uri: str) -> dict[str, dict[str, Any]]:
    found = search(uri, "experiments/search", max_results=1000, view_type="ALL")["experiments"]
    return {experiment["name"]: experiment for experiment in found}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoWorld]:
    folder = tmp_path_factory.mktemp("demonstration")
    with DemoWorld(folder) as made:
        made.wait()
        made.fill(lambda stage: None)
        yield made
    assert not list(folder.glob("world-*"))
    assert gone(str(folder))


def test_the_world_holds_what_a_team_leaves_behind(filled: DemoWorld) -> None:
    runs = runs_by_name(filled.uri)
    assert {run["info"]["status"] for run in runs.values()} == {"FINISHED", "FAILED", "KILLED", "RUNNING"}
    deleted = {name for name, run in runs.items() if run["info"]["lifecycle_stage"] == "deleted"}
    assert {"forest-first-try", "forest-wrong-labels", "svm-poly-1"} <= deleted
    children = [run for run in runs.values() if any(tag["key"] == "mlflow.parentRunId" for tag in run["data"]["tags"])]
    assert len(children) == 16
    losses = {metric["key"]: metric["value"] for metric in runs["mlp-32-sgd"]["data"]["metrics"]}
    assert math.isnan(float(losses["loss"]))
    assert all(run["inputs"]["dataset_inputs"] for run in runs.values())
    experiments = experiments_by_name(filled.uri)
    assert {name for name, e in experiments.items() if e["lifecycle_stage"] == "deleted"} == {training.OLD_NOTEBOOKS}


def test_the_changes_happen_in_the_server(filled: DemoWorld) -> None:
    told: list[str] = []
    filled.change(told.append)
    assert told == [step.what for step in changes.STEPS]
    runs, experiments = runs_by_name(filled.uri), experiments_by_name(filled.uri)
    assert runs["mlp-128-overnight"]["info"]["status"] == "FINISHED"
    assert runs["knn-3"]["info"]["lifecycle_stage"] == "deleted"
    assert runs["forest-first-try"]["info"]["lifecycle_stage"] == "active"
    assert "extra-trees-20" in runs
    assert {"key": "review.state", "value": "approved"} in runs["boosted-depth-3"]["data"]["tags"]
    assert experiments[training.ONBOARDING]["lifecycle_stage"] == "deleted"
    assert changes.RENAMED in experiments


def test_the_users_own_server_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://production.example.com")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a token of the user's")
    monkeypatch.setenv("NO_PROXY", "example.com")
    environment = world.child_environment()
    assert not {name for name in environment if name.startswith("MLFLOW_TRACKING")}
    assert environment["NO_PROXY"] == "example.com,127.0.0.1,localhost"


def test_a_killed_owner_takes_the_world_with_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from stocktake.demo.world import DemoWorld\n"
        "with DemoWorld(Path(sys.argv[1])) as w:\n"
        "    print('up', flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=world.child_environment(),
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    try:
        assert owner.stdout.readline() == "up\n"
        assert processes_with(str(tmp_path / "world-"))
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()
    assert gone(str(tmp_path / "world-"))
    left = list(tmp_path.glob("world-*"))
    assert len(left) == 1
    with DemoWorld(tmp_path, stop=lambda: True) as fresh:
        assert not left[0].exists()  # what the killed one left behind is cleared away by the next
        with pytest.raises(Interrupted):
            fresh.wait()


def test_a_server_that_does_not_come_up_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()  # a folder where the database should be: MLflow tries again and again
    server = Server(tmp_path, lambda: False)
    server.start()
    try:
        with pytest.raises(ConfigError, match="did not answer within 15 seconds") as caught:
            server.wait(15.0)
    finally:
        server.stop()
    assert str(server.log_file) in str(caught.value)


def test_a_server_that_ends_while_it_starts_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # a broken environment: no interpreter starts in it
    server = Server(tmp_path, lambda: False)
    server.start()
    try:
        with pytest.raises(ConfigError, match="ended while starting") as caught:
            server.wait(60.0)
    finally:
        server.stop()
    assert str(server.log_file) in str(caught.value)


def test_training_shows_the_same_figures_every_time() -> None:
    def figures() -> str:
        told = {one.name: [dict(one.params), dict(one.metrics)] for one in training.train_all()}
        return json.dumps(told, sort_keys=True)

    assert figures() == figures()
