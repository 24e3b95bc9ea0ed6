"""Servers that tests read and do not change: started once in a process, at the first use, and ended with it."""

from __future__ import annotations

import atexit
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.servers.content import Content, fill, fill_more
from tests.servers.mlflow_server import MlflowServer, mlflow_server

_running = ExitStack()
atexit.register(_running.close)


@dataclass(frozen=True, slots=True)
class Filled:
    """A server, and what is on it."""

    server: MlflowServer
    content: Content
    backend: str = ""  # the address of another backend than the usual file

    @property
    def database(self) -> str:
        """The address of its backend database."""
        return self.backend or f"sqlite:///{self.server.folder / 'mlflow.db'}"


@cache
def filled_server() -> Filled:
    """An MLflow 3 server with a little of everything. Read it; a test that writes starts one of its own."""
    server = _start("mlflow")
    return Filled(server, fill(server.uri))


@dataclass(frozen=True, slots=True)
class Folder:
    """An `mlruns` folder that a real MLflow wrote, whose server has ended, and what lies in it."""

    path: Path
    content: Content


@cache
def filled_folder() -> Folder:
    """A folder with a little of everything. Read it; a test that writes takes a copy."""
    base = Path(_running.enter_context(tempfile.TemporaryDirectory(prefix="stocktake-mlruns-")))
    path = base / "mlruns"
    with mlflow_server(base, backend=str(path), environment={"MLFLOW_ALLOW_FILE_STORE": "true"}) as server:
        return Folder(path, fill(server.uri, webhooks=False))


@cache
def server_with_users() -> Filled:
    """The same with MLflow's basic-auth app: `mlflow_server.ADMIN` sees everything."""
    server = _start("mlflow-users", users=True)
    return Filled(server, fill(server.uri, users=True))


@cache
def richly_filled_server(backend: str = "") -> Filled:
    """A server over a backend of its own, with what is easily read wrongly (content.fill_more)."""
    server = _start("mlflow-rich", backend=backend)
    content = fill(server.uri)
    fill_more(server.uri, content)
    return Filled(server, content, backend)


def _start(name: str, *, users: bool = False, backend: str = "") -> MlflowServer:
    folder = Path(_running.enter_context(tempfile.TemporaryDirectory(prefix=f"stocktake-{name}-")))
    return _running.enter_context(mlflow_server(folder, users=users, backend=backend or None))
