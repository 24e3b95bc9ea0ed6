"""A real `mlflow server` on a free loopback port, in a process group of its own that always ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

#: The administrator of a server that was started with `users=True`.
ADMIN = ("admin", "a-long-password-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowServer:
    """A running server."""

    uri: str
    folder: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        """What the server printed so far."""
        return (self.folder / "server.log").read_text(errors="replace")


@contextmanager
def mlflow_server(
    folder: Path,
    *,
    backend: str | None = None,
    users: bool = False,
    mlflow_workspaces: bool = False,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    start_timeout: float = 120.0,
) -> Iterator[MlflowServer]:
    """Start a server over `backend` (a new SQLite file by default) and stop it, with all its children, at the end.

    `users` starts MLflow's basic-auth app, `python` is the interpreter whose MLflow is served.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", backend or f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--default-artifact-root", str(folder / "artifacts")]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "OTEL_", "PYTHONPATH"))}
    env["MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"] = "true"  # webhooks of tests point to loopback
    env |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if users:
        command += ["--app-name", "basic-auth"]
        settings = folder / "auth.ini"
        settings.write_text(
            "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
            f"database_uri = sqlite:///{folder / 'auth.db'}\n"
            f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            "auth_cache_ttl_seconds = 600\n"  # hashing a password takes half a second
        )
        env |= {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-tests"}
        env |= {"MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1]}
    if mlflow_workspaces:
        command += ["--enable-workspaces"]
    env |= environment or {}
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    server = MlflowServer(uri=f"http://127.0.0.1:{port}", folder=folder, process=process)
    try:
        _await(server, start_timeout)
        yield server
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """End a process and everything in its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _await(server: MlflowServer, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"mlflow server ended with {server.process.returncode}:\n{server.log()[-4000:]}")
        with suppress(httpx.TransportError):
            if httpx.get(f"{server.uri}/health", timeout=2.0, trust_env=False).status_code == 200:
                return
        try:
            server.process.wait(0.2)  # a pause that ends early when the server dies
        except subprocess.TimeoutExpired:
            continue
    raise TimeoutError(f"mlflow server did not answer within {timeout:.0f} s:\n{server.log()[-4000:]}")
