"""The demonstration's world: a real server that never outlives whoever started it, out of reach of the user's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stocktake.core.errors import ConfigError
from stocktake.demo import training, world
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
        with pytest.raises(ConfigError, match="did not answer within 4 seconds") as caught:
            server.wait(4.0)
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
