"""A world to watch: `mlflow server` on loopback and a small team that trains, logs, and later changes things.

Everything lies in a fresh folder under the given one, and everything ends with this process, even if it is killed:
each child runs on a leash (leash.py) or reads a pipe of ours. The environment's own MLFLOW_ variables are never handed
on: nothing here can reach, let alone write to, a server of yours.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

from stocktake.core.errors import ConfigError

log = logging.getLogger(__name__)

SERVER_SECONDS = 120.0  # how long the server may take to answer: it imports a great deal
TEAM_SECONDS = 240.0  # how long one command to the team may take
STOP_SECONDS = 10.0
PORT_ATTEMPTS = 3

Progress = Callable[[str], None]


class Interrupted(Exception):
    """The demonstration was asked to stop while it waited."""


def require_extra() -> None:
    """Say what to install when the extra is missing."""
    missing = []
    for package in ("mlflow", "scikit-learn"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        raise ConfigError(
            f"The demonstration needs {' and '.join(missing)}, which this installation lacks. "
            "Install the extra: pip install 'stocktake[demo]'. To watch a server of yours instead, name it in a "
            "configuration file (--config) or in MLFLOW_TRACKING_URI."
        )


def child_environment() -> dict[str, str]:
    """The environment for the children: no MLflow settings of the user's, no phoning home, no proxy for loopback."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
    environment |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # saves two processes
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # of a server on loopback: fail soon
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONUNBUFFERED": "1",
    }
    # The children run in another folder: a relative path, or one that only this process knows, would be lost.
    ours = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [ours, environment.get("PYTHONPATH", "")]))
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, [environment.get(name, ""), "127.0.0.1", "localhost"]))
    return environment


def free_port() -> int:
    """A port that was free a moment ago; whoever takes it first has it, which is why starting is tried again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Whether a port could be listened on a moment ago; 0 is no port yet, so it is not."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return port != 0


class Server:
    """A real `mlflow server` with a SQLite backend and its artifacts in a folder, on a leash."""

    def __init__(self, folder: Path, stop: Callable[[], bool]) -> None:
        self.folder = folder
        self.log_file = folder / "mlflow-server.log"
        self._stop = stop
        self.uri = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; `wait` says when it answers."""
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "stocktake.demo.leash", sys.executable, "-m", "mlflow", "server"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=child_environment(),
                start_new_session=True,
            )

    def wait(self, seconds: float = SERVER_SECONDS) -> None:
        """Wait until the server answers /health. Raises ConfigError with the name of its log when it does not."""
        deadline = time.monotonic() + seconds
        attempt = 1
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            while time.monotonic() < deadline:
                if self._stop():
                    raise Interrupted
                if not self.alive():
                    if attempt == PORT_ATTEMPTS or "address already in use" not in self.tail().lower():
                        raise self._broken("ended while starting")
                    attempt += 1
                    self.start()
                with contextlib.suppress(httpx.HTTPError):
                    # The answer counts only while our own process lives: the port may have gone to somebody else.
                    if client.get(f"{self.uri}/health").text == "OK" and self.alive():
                        return
                time.sleep(0.1)
        raise self._broken(f"did not answer within {seconds:.0f} seconds")

    def alive(self) -> bool:
        """Whether the server's process is there."""
        return self._process is not None and self._process.poll() is None

    def tail(self, lines: int = 8) -> str:
        """The last lines of the server's log."""
        if not self.log_file.exists():
            return ""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Let go of the leash and wait for the end."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _broken(self, what: str) -> ConfigError:
        return ConfigError(
            f"The demonstration's MLflow server {what}. Its log is {self.log_file}; it ends with:\n{self.tail()}"
        )


class Team:
    """The process that fills and changes the server (team.py)."""

    def __init__(self, folder: Path, stop: Callable[[], bool]) -> None:
        self.log_file = folder / "team.log"
        self._stop = stop
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._listener: threading.Thread | None = None

    def start(self) -> None:
        """Start the process; it imports and trains at once, and answers when it has."""
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stocktake.demo.team"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=self._folder,
                env=child_environment(),
                start_new_session=True,
                text=True,
                encoding="utf-8",
            )
        assert self._process.stdout is not None
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def _listen(self, answers: IO[str]) -> None:
        for line in answers:
            self._answers.put(json.loads(line))
        self._answers.put(None)

    def tell(self, command: Mapping[str, str], progress: Progress) -> None:
        """Give one command and wait for its end."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: `finish` finds out and says why
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        self.finish(progress)

    def finish(self, progress: Progress) -> None:
        """Wait until what was begun is done; `progress` hears each stage. Raises ConfigError when it fails."""
        deadline = time.monotonic() + TEAM_SECONDS
        while True:
            try:
                answer = self._answers.get(timeout=0.25)
            except queue.Empty:
                if self._stop():
                    raise Interrupted from None
                if time.monotonic() < deadline:
                    continue
                raise ConfigError(
                    f"The demonstration's team did not finish within {TEAM_SECONDS:.0f} seconds. "
                    f"Its log is {self.log_file}."
                ) from None
            if answer is None:
                raise ConfigError(f"The demonstration's team ended early. Its log is {self.log_file}.")
            if "failed" in answer:
                raise ConfigError(
                    f"The demonstration's team could not do its work ({answer['failed']}). Its log is {self.log_file}."
                )
            if "done" in answer:
                return
            if "seconds" in answer:
                log.debug("demonstration stage", extra={"action": "demo_stage", **answer})
            else:
                progress(answer["stage"])

    def stop(self) -> None:
        """Close the pipe, which ends it, and make sure."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()  # it may be in the middle of an upload: nothing of this world is kept
            self._process.wait()
        if self._listener is not None:
            self._listener.join(STOP_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


class DemoWorld:
    """A server and its team in a fresh folder, which is gone at the end.

    After a failure the folder stays till the next start, for the logs in it.
    `with DemoWorld(folder) as world:` returns at once, while both still start; `fill` waits for them.
    """

    def __init__(self, folder: Path, stop: Callable[[], bool] = lambda: False) -> None:
        self._parent = folder
        self.folder = folder
        self.stop = stop
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        require_extra()
        self._parent.mkdir(parents=True, exist_ok=True)
        for stale in self._parent.glob("world-*"):
            _remove_if_unused(stale)
        self.folder = Path(tempfile.mkdtemp(prefix=f"world-{os.getpid()}-", dir=self._parent))
        with contextlib.ExitStack() as stack:
            self.server = Server(self.folder, self.stop)
            stack.callback(self.server.stop)
            self.server.start()
            self.team = Team(self.folder, self.stop)
            stack.callback(self.team.stop)
            self.team.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if not isinstance(error, Exception):  # else its message may name a log in there; the next start removes it
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def uri(self) -> str:
        """Where the server listens."""
        return self.server.uri

    def wait(self) -> None:
        """Wait until the server answers and the models are trained. Raises Interrupted when asked to stop."""
        self.server.wait()
        self.team.finish(lambda _: None)

    def fill(self, progress: Progress) -> None:
        """Write experiments, runs, models and the registry."""
        self.team.tell({"do": "fill", "uri": self.uri}, progress)

    def change(self, progress: Progress) -> None:
        """Change things behind stocktake's back."""
        self.team.tell({"do": "change"}, progress)


def _remove_if_unused(folder: Path) -> None:
    """Remove what a killed demonstration left behind; the folder's name holds the id of the process that made it."""
    pid = folder.name.split("-")[1]
    if not pid.isdigit():
        return
    try:
        if int(pid) != os.getpid():  # our own: a container starts over with the same ids
            os.kill(int(pid), 0)
            return
    except PermissionError:
        return
    except ProcessLookupError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
