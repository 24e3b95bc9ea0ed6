"""Read-only towards what we watch: every request of every source, seen on the wire, in the file or by the database."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from stocktake.core.assets import Kind, Mode
from stocktake.core.errors import SourceError
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.sources import SOURCES
from stocktake.sources.mlflow_database import open_backend
from stocktake.sources.protocol import Source
from tests.azure.server import served
from tests.contract.test_folder_is_read_only import tree
from tests.servers.azureml import azureml_source
from tests.servers.known import PlainKnown
from tests.servers.reading import database_source, files_source, mlflow_source, read
from tests.servers.recording_proxy import recording_proxy
from tests.servers.shared import Filled, filled_folder, filled_server

#: The searches of MLflow's documentation that are asked by POST.
SEARCHES = {
    "/api/2.0/mlflow/runs/search",
    "/api/2.0/mlflow/logged-models/search",
    "/api/3.0/mlflow/traces/search",
}


def everything(source: Source, **known: Any) -> None:
    """All that a source ever does: both modes with something known, and every kind asked for by id."""
    source.identify()
    looks = dict.fromkeys(Kind, datetime(2020, 1, 1, tzinfo=UTC))
    changes = {Kind.EXPERIMENT: frozenset({"1", "2"})}
    aliases = {"classifier": {"gone": "1"}}
    for mode in Mode:
        reading = read(source, mode, PlainKnown(looks=looks, changes=changes, published_aliases=aliases, **known))
        assert [heard.error for heard in reading.heard] == [None] * len(reading.heard)
        for kind in source.kinds:
            source.confirm(kind, [*reading.assets(kind), "no-such-thing"])
    source.close()


def over_http() -> None:
    with recording_proxy(filled_server().server.uri) as proxy:
        everything(mlflow_source(proxy.uri))
        asked = {(seen.method, seen.path if seen.method == "POST" else "") for seen in proxy.seen}
        assert asked <= {("GET", ""), ("HEAD", "")} | {("POST", path) for path in SEARCHES}
        assert {path for method, path in asked if method == "POST"} == SEARCHES
        assert all(seen.headers["user-agent"].startswith("stocktake/") for seen in proxy.seen)


def in_a_file() -> None:
    folder = filled_server().server.folder
    before = state(folder)
    everything(database_source(filled_server().database))
    assert state(folder) == before


def state(folder: Path) -> dict[str, tuple[int, str]]:
    """Of every file of the database: when it was written, and its bytes. A journal would be a new one."""
    files = sorted(folder.glob("mlflow.db*"))
    return {file.name: (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files}


def in_a_folder() -> None:
    before = tree(filled_folder().path)
    everything(files_source(filled_folder().path))
    assert tree(filled_folder().path) == before


def in_azure() -> None:
    """The loopback Azure classifies every request, and raises at its end if one was no read."""
    estate = Estate()
    workspace = estate.add_workspace("watched", size=Size(live=3))
    parents = tuple(job.name for job in workspace.jobs.newest() if workspace.jobs.children(job))
    running = {job.name: job.status for job in workspace.jobs.newest()}
    with served(estate) as server:
        everything(azureml_source(server, workspace), states={Kind.JOB: running, Kind.RUN: running}, due=parents)
        posts = {what.path.rpartition("/api/")[2] for what, _ in server.seen.requests if what.method != "GET"}
        assert posts == {"2.0/mlflow/runs/search"}
        planes = {what.plane for what, _ in server.seen.requests}
        assert planes == {"arm", "mlflow", "history"}
        assert not [what.path for what, _ in server.seen.requests if "list" in what.path.rpartition("/")[2].lower()]


PROOFS: Mapping[str, Callable[[], None]] = {
    "azureml": in_azure,
    "mlflow_rest": over_http,
    "mlflow_database": in_a_file,
    "mlflow_files": in_a_folder,  # test_folder_is_read_only.py looks closer
}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_nothing_is_written_whatever_a_source_does(name: str) -> None:
    PROOFS[name]()


#: What it tells an operator to grant is what a role here is given.
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "backend-database.md"


@pytest.fixture
def documented_role(mlflow_on_postgres: Filled) -> Iterator[str]:
    """Return the name of a role with the rights that the documentation names, and no other."""
    role = f"stocktake_reader_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(plain(mlflow_on_postgres.database), autocommit=True) as admin:
        block = PAGE.read_text("utf-8").split("```sql")[1].split("```")[0].replace("stocktake_reader", role)
        admin.execute(block.replace("DATABASE mlflow", f'DATABASE "{admin.info.dbname}"').encode())
        yield role
        admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def plain(url: str) -> str:
    return url.replace("postgresql+psycopg:", "postgresql:")


def test_a_role_with_the_rights_that_are_documented_suffices(mlflow_on_postgres: Filled, documented_role: str) -> None:
    url = make_url(mlflow_on_postgres.database).set(username=documented_role, password=None)
    source = database_source(url.render_as_string(), password="a-long-password")
    identity = source.identify()
    assert (identity.name, "could" in identity.note) == (documented_role, False)
    everything(source)


def test_a_write_is_refused_to_the_owner_of_the_database_itself(rich: Filled) -> None:
    backend = open_backend(rich.database, password=make_url(rich.database).password, timeout=60)
    with closing(backend):
        for statement in ("DELETE FROM params", "CREATE TABLE ours (x int)", "UPDATE runs SET name = 'x'"):
            backend.begin()
            with pytest.raises(SourceError, match=r"read-only|readonly"):
                backend.rows(statement, {})
            backend.end()
