"""Servers of older MLflow, each installed at its first use: what they tell over HTTP is what their databases hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stocktake.core.assets import Kind
from tests.conftest import clone
from tests.integration.test_equal_sources import OWNERS, same, shared
from tests.needs import need
from tests.servers.content import fill, fill_more
from tests.servers.mlflow_server import mlflow_server
from tests.servers.reading import database_source, mlflow_source, read

#: Version -> the kinds that a server of it knows.
VERSIONS = {
    "2.22.0": {Kind.EXPERIMENT, Kind.RUN, Kind.REGISTERED_MODEL, Kind.MODEL_VERSION},
    "3.1.4": {Kind.EXPERIMENT, Kind.RUN, Kind.REGISTERED_MODEL, Kind.MODEL_VERSION, Kind.LOGGED_MODEL},
}
#: What their own metadata leaves open, and breaks them in its newest versions.
_BESIDE = ("psycopg2-binary", "setuptools<81", "sqlalchemy<2.1")
_KEPT = Path(__file__).parents[2] / ".cache"


def _interpreter(version: str) -> str:
    """Return the Python of an environment with this MLflow, made in .cache when it is first asked for."""
    folder = _KEPT / f"mlflow-{version}"
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", f"mlflow=={version}", *_BESIDE]
        done = subprocess.run(install, check=False, capture_output=True, text=True)
        need(done.returncode == 0, f"MLflow {version} cannot be installed here: {done.stderr[-500:]}")
        made.touch()
    return str(python)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the address of an empty backend store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'mlflow.db'}"
        return
    with clone(request.getfixturevalue("pg_server"), "template0") as url:
        yield url


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_server_tells_what_its_database_holds(version: str, backend: str, tmp_path: Path) -> None:
    kinds = VERSIONS[version]
    new = version.startswith("3")
    with mlflow_server(tmp_path, backend=backend.replace("+psycopg", ""), python=_interpreter(version)) as server:
        content = fill(server.uri, v3=new, webhooks=False, traces=False)
        if new:
            fill_more(server.uri, content, folder=True, traces=False)
        rest, database = mlflow_source(server.uri, owner_tags=OWNERS), database_source(backend, owner_tags=OWNERS)
        try:
            told, held = read(rest), read(database)
        finally:
            rest.close()
            database.close()
    for reading in (told, held):
        assert [(one.scope.kind, one.error, one.problems) for one in reading.heard if one.error or one.problems] == []
    for kind in kinds:
        theirs, ours = told.assets(kind), shared(held.assets(kind))
        assert ours, f"no {kind} proves nothing"
        assert ours.keys() == theirs.keys()
        for key, asset in ours.items():
            same(asset, theirs[key])
    total = sum(len(told.assets(kind)) for kind in kinds)
    name = backend.partition(":")[0].removesuffix("+psycopg")
    sys.stdout.write(f"MLflow {version} over {name}: {total} assets of {len(kinds)} kinds equal\n")
