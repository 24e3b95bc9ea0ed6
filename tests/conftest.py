"""A real Postgres for every test that asks: migrated once into a template, cloned for each."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from stocktake.store import migrate
from stocktake.store.embedded import embedded_postgres
from stocktake.store.engine import make_engine
from tests.servers.shared import Filled, richly_filled_server

# In CI a test that is left out is a failure. Only what reads recorded exchanges, which no clone holds, may be.
_CI = os.environ.get("CI", "").lower() in ("1", "true")
_MAY_BE_ABSENT = "shared"

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)

_LOCK = 0x73746B7F  # "the template is being made", among the workers of a test run


def _driver(url: str) -> URL:
    return make_url(url).set(drivername="postgresql+psycopg")


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _admin(url: str) -> Engine:
    return create_engine(_driver(url), isolation_level="AUTOCOMMIT", poolclass=NullPool)


def _not_left_out(report: _Report) -> _Report:
    if _CI and report.skipped and not hasattr(report, "wasxfail") and _MAY_BE_ABSENT not in str(report.longrepr):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"left out, which CI does not allow: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _not_left_out((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _not_left_out((yield))


@pytest.fixture(scope="session")
def pg_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the administrator's URL of a server: the one of STOCKTAKE_TEST_DATABASE_URL, or an embedded one.

    The workers of one test run share the embedded server: the first starts it, the last stops it.
    """
    named = os.environ.get("STOCKTAKE_TEST_DATABASE_URL")
    if named:
        yield _text(_driver(named))
        return
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with embedded_postgres(folder / "postgres") as url:
        engine = _admin(url)
        with engine.connect() as connection:
            # Nothing in a test survives a power cut; what is asked of durability is asked of killed processes.
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
        yield _text(_driver(url))


def _template_name() -> str:
    digest = hashlib.sha256()
    for script in sorted(Path(migrate.scripts()).rglob("*.py")):
        digest.update(script.name.encode() + b"\0" + script.read_bytes())
    return f"stocktake_template_{digest.hexdigest()[:12]}"


@pytest.fixture(scope="session")
def pg_template(pg_server: str) -> str:
    """Return the name of the migrated database, made by whichever worker comes first."""
    name = _template_name()
    with _admin(pg_server).connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        try:
            # Only a database whose migrations ended is marked as a template: half of one is made anew.
            if connection.scalar(text("SELECT datistemplate FROM pg_database WHERE datname = :name"), {"name": name}):
                return name
            connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
            connection.execute(text(f'CREATE DATABASE "{name}"'))
            engine = make_engine(_driver(pg_server).set(database=name))
            migrate.upgrade(engine)
            engine.dispose()
            connection.execute(text(f'ALTER DATABASE "{name}" IS_TEMPLATE true'))
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
    return name


@contextmanager
def clone(pg_server: str, template: str) -> Iterator[str]:
    """A database of one's own, made from a template."""
    name = f"stocktake_test_{uuid.uuid4().hex[:16]}"
    admin = _admin(pg_server)
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    try:
        yield _text(_driver(pg_server).set(database=name))
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@pytest.fixture
def database_url(pg_server: str, pg_template: str) -> Iterator[str]:
    """Return the URL of a migrated, empty database that is this test's own."""
    with clone(pg_server, pg_template) as url:
        yield url


@pytest.fixture
def empty_database_url(pg_server: str) -> Iterator[str]:
    """Return the URL of a database that no migration has touched."""
    with clone(pg_server, "template0") as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return an engine, made as the service makes it, on a migrated database that is this test's own."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def mlflow_on_postgres(pg_server: str) -> Iterator[Filled]:
    """Return an MLflow 3 server whose backend is a database of the test's Postgres. Read it, do not change it."""
    with clone(pg_server, "template0") as url:
        yield richly_filled_server(url)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def rich(request: pytest.FixtureRequest) -> Filled:
    """Return an MLflow 3 server over each kind of backend that is read directly."""
    if request.param == "sqlite":
        return richly_filled_server()
    found: Filled = request.getfixturevalue("mlflow_on_postgres")
    return found
