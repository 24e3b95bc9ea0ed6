"""The source mlflow_database on real backends: what it sees and when, what may go wrong, whom it must not disturb."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from stocktake.core.assets import Kind, Lifecycle, Mode, ScopeState
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources import mlflow_reader
from stocktake.sources.mlflow_backends import Backend
from stocktake.sources.mlflow_database import MlflowDatabase, open_backend
from stocktake.sources.protocol import Listing
from tests.conftest import clone
from tests.servers.content import V3, Content, fill
from tests.servers.known import PlainKnown
from tests.servers.mlflow_server import free_port, mlflow_server
from tests.servers.reading import Clock, database_source, mlflow_source, read
from tests.servers.shared import filled_server


@dataclass(frozen=True, slots=True)
class Store:
    """A backend database that a test may write to, as its server would."""

    url: str
    content: Content

    def write(self, *statements: str) -> None:
        """Write at once, or fail: nobody may be in the way."""
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=0)) as file, file:
                for statement in statements:
                    file.execute(statement)
            return
        with psycopg.connect(self.url.replace("+psycopg", "")) as server:
            server.execute("SET lock_timeout = 500")
            for statement in statements:
                server.execute(statement.encode())

    def add_run(self, key: str, *, start: int = 1) -> None:
        self.write(
            "INSERT INTO runs (run_uuid, name, status, lifecycle_stage, start_time, user_id, experiment_id)"
            f" VALUES ('{key}', 'late', 'FINISHED', 'active', {start}, '', {self.content.experiment})"
        )


@pytest.fixture(scope="module")
def filled_postgres(pg_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Content]]:
    """A filled backend whose server has ended, to be cloned."""
    with clone(pg_server, "template0") as url:
        with mlflow_server(tmp_path_factory.mktemp("mlflow"), backend=url) as running:
            content = fill(running.uri)
        yield url, content


@pytest.fixture
def server(pg_server: str, filled_postgres: tuple[str, Content]) -> Iterator[Store]:
    url, content = filled_postgres
    with clone(pg_server, str(make_url(url).database)) as copy:
        yield Store(copy, content)


@pytest.fixture
def file(tmp_path: Path) -> Store:
    shutil.copyfile(filled_server().database.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    return Store(f"sqlite:///{tmp_path / 'mlflow.db'}", filled_server().content)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue("file" if request.param == "sqlite" else "server")
    return found


def scope_of_runs(source: MlflowDatabase) -> Listing:
    """The scope of all runs, when those before it have been read."""
    for listing in source.listings(Mode.SWEEP, PlainKnown()):
        if listing.scope.kind is Kind.RUN:
            return listing
        for _ in listing.pages:
            pass
    raise AssertionError


# What is seen, and as of when


def test_many_small_pages_give_what_one_big_page_gives(store: Store) -> None:
    with closing(database_source(store.url)) as one, closing(database_source(store.url, page_size=1)) as many:
        big, small = read(one), read(many)
    for kind in Kind:
        assert small.assets(kind) == big.assets(kind)
    assert small.only(Kind.RUN).pages > big.only(Kind.RUN).pages == 1


def test_a_page_that_holds_too_much_is_asked_for_in_halves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(database_source(store.url)) as source:
        whole = read(source)
        monkeypatch.setattr(mlflow_reader, "MOST_ROWS", 3)  # of one table; the run with most has five tags
        halved = read(source)
        assert halved.only(Kind.RUN).assets == whole.only(Kind.RUN).assets
        assert halved.only(Kind.RUN).pages > 1
        keys = sorted(whole.assets(Kind.RUN))
        assert [item.key for item in source.confirm(Kind.RUN, keys).values() if item is not None] == keys


def test_a_scope_in_postgres_is_one_moment(server: Store) -> None:
    with closing(database_source(server.url, page_size=2, read_ahead=False)) as source:
        pages = scope_of_runs(source).pages
        first = next(pages)
        server.add_run("f" * 32)  # would be on the last page
        rest = list(pages)
        assert {page.requested_at for page in rest} == {first.requested_at}
        assert "f" * 32 not in {item.key for page in rest for item in page.items}
        assert "f" * 32 in read(source).assets(Kind.RUN)


def test_a_snapshot_that_grows_old_is_renewed_and_what_it_shows_is_as_young(server: Store) -> None:
    clock = Clock()
    with closing(database_source(server.url, clock, page_size=2, read_ahead=False)) as source:
        pages = scope_of_runs(source).pages
        first = next(pages)
        server.add_run("f" * 32)
        clock.sleep(mlflow_reader.SNAPSHOT_SECONDS)
        rest = list(pages)
        assert all(page.requested_at == clock.now() > first.requested_at for page in rest)
        keys = [item.key for page in (first, *rest) for item in page.items]
        assert "f" * 32 in keys
        assert len(keys) == len(set(keys)) == 7


def test_what_is_asked_for_by_id_is_as_it_is_now(store: Store) -> None:
    """The snapshot that is being listed may be older than what another pass has published since."""
    with closing(database_source(store.url, page_size=2, read_ahead=False)) as source:
        pages = scope_of_runs(source).pages
        next(pages)
        store.write(
            f"UPDATE runs SET name = 'renamed' WHERE run_uuid = '{store.content.run}'",
            f"DELETE FROM tags WHERE run_uuid = '{store.content.failed}'",
            f"DELETE FROM runs WHERE run_uuid = '{store.content.failed}'",
        )
        answers = source.confirm(Kind.RUN, [store.content.run, store.content.failed])
        assert answers[store.content.failed] is None
        item = answers[store.content.run]
        assert item is not None
        assert source.parse(Kind.RUN, item.raw).document["info"]["run_name"] == "renamed"


def test_a_hot_pass_sees_a_run_deleted_though_no_other_time_of_it_moved(store: Store) -> None:
    clock = Clock()
    moment = int(clock.now().timestamp() * 1000)
    store.write("UPDATE runs SET deleted_time = 1, end_time = 1 WHERE lifecycle_stage = 'deleted'")
    store.write(
        f"UPDATE runs SET lifecycle_stage = 'deleted', deleted_time = {moment} WHERE run_uuid = '{store.content.child}'"
    )
    with closing(database_source(store.url, clock)) as source:
        found = read(source, Mode.HOT, PlainKnown(looks={Kind.RUN: clock.now()})).assets(Kind.RUN)
    assert found.keys() == {store.content.child, store.content.running}
    assert found[store.content.child].lifecycle is Lifecycle.DELETED


def test_a_hot_pass_reads_all_of_an_experiment_that_changed(store: Store) -> None:
    known = PlainKnown(
        looks=dict.fromkeys((Kind.RUN, Kind.LOGGED_MODEL, Kind.TRACE), Clock().now().replace(year=2100)),
        changes={Kind.EXPERIMENT: frozenset({store.content.deleted_experiment})},
    )
    with closing(database_source(store.url)) as source:
        moving, changed = read(source, Mode.HOT, known).of(Kind.RUN)
    assert (moving.promise, list(moving.assets)) == (ScopeState.INCREMENTAL, [store.content.running])
    assert (changed.promise, list(changed.assets)) == (ScopeState.COMPLETE, [store.content.run_of_deleted_experiment])


def test_large_experiments_are_scopes_of_their_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from stocktake.sources import mlflow_database
    from stocktake.sources.mlflow_plan import Limits

    monkeypatch.setattr(mlflow_database, "LIMITS", Limits(alone=2))
    with closing(database_source(store.url)) as source:
        reading = read(source)
    covered = {heard.scope.covers: set(heard.assets) for heard in reading.of(Kind.RUN)}
    assert set(covered) == {(store.content.experiment,), ("0", store.content.deleted_experiment)}
    assert len(covered[(store.content.experiment,)]) == 5


def test_one_mlflow_workspace_is_read_as_the_server_shows_it(tmp_path: Path) -> None:
    with mlflow_server(tmp_path, mlflow_workspaces=True) as running:
        httpx.post(f"{running.uri}{V3}/workspaces", json={"name": "team-a"}, trust_env=False).raise_for_status()
        fill(running.uri, v3=False)  # the ids of traces are those of the other workspace
        inner = fill(running.uri, workspace="team-a")
        url = f"sqlite:///{tmp_path / 'mlflow.db'}"
        for name in ("team-a", None):
            with (
                closing(database_source(url, workspace=name)) as ours,
                closing(mlflow_source(running.uri, workspace=name)) as theirs,
            ):
                mine, other = read(ours), read(theirs)
            for kind in set(Kind) - {Kind.WORKSPACE}:
                shown = {key: asset.document for key, asset in mine.assets(kind).items()}
                assert shown == {key: asset.document for key, asset in other.assets(kind).items()}, kind
            assert (inner.run in mine.assets(Kind.RUN)) is (name == "team-a")
            server_ = mine.assets(Kind.WORKSPACE)["server"].document
            assert set(server_["workspaces"]) == {"default", "team-a"}


def test_a_role_with_more_rights_than_it_needs_is_told_so(store: Store) -> None:
    with closing(database_source(store.url)) as source:
        assert ("backend-database.md" in source.identify().note) is store.url.startswith("postgresql")


# Whom it must not disturb


def test_a_writer_never_waits_for_a_reader(store: Store) -> None:
    """SQLite lets nobody write while somebody reads: between two pages nothing may be open. Writers here wait 0 s."""
    with closing(database_source(store.url, page_size=1, read_ahead=False)) as source:
        for number, page in enumerate(scope_of_runs(source).pages):
            assert page.items is not None
            store.add_run(f"{number:032x}")
        source.confirm(Kind.RUN, [store.content.run])
        store.add_run("e" * 32)


def test_a_connection_that_the_server_ends_is_opened_again_and_nothing_is_lost(server: Store) -> None:
    with closing(database_source(server.url, page_size=2, read_ahead=False)) as source:
        pages = scope_of_runs(source).pages
        keys = [item.key for item in next(pages).items]
        server.write(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stocktake'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        keys += [item.key for page in pages for item in page.items]
        assert len(keys) == len(set(keys)) == 6
        assert source.traffic.retries == 1


SLOW = {
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(100)",
}


def opened(store: Store, timeout: float = 60.0) -> Backend:
    backend = open_backend(store.url, password=make_url(store.url).password, timeout=timeout)
    backend.begin()
    return backend


def test_a_question_that_takes_too_long_is_given_up(store: Store) -> None:
    backend = opened(store, timeout=0.2)
    with closing(backend), pytest.raises(SourceError) as caught:
        backend.rows(SLOW[backend.name], {})
    assert caught.value.trouble is Trouble.SERVER
    assert "timeout" in caught.value.next_step


def test_closing_ends_the_question_under_way(store: Store) -> None:
    backend = opened(store)
    began, failed = threading.Event(), list[SourceError]()

    def ask() -> None:
        began.set()
        try:
            backend.rows(SLOW[backend.name], {})
        except SourceError as exc:
            failed.append(exc)

    asking = threading.Thread(target=ask)
    asking.start()
    began.wait()
    while asking.is_alive():  # it may not have been sent yet when we first look
        backend.close()
        asking.join(0.05)
    assert [error.trouble for error in failed] in ([Trouble.UNREACHABLE], [Trouble.SERVER])
    with pytest.raises(SourceError):
        backend.begin()


# What may go wrong


def refused(url: str, **options: Any) -> SourceError:
    with closing(database_source(url, **options)) as source:
        with pytest.raises(SourceError) as caught:
            source.identify()
        assert source.confirm(Kind.RUN, ["a" * 32]) == {}
        return caught.value


def _nothing(path: Path) -> None:
    pass


def _words(path: Path) -> None:
    path.write_text("no database at all " * 100)


def _empty(path: Path) -> None:
    path.touch()


def _unknown(path: Path) -> None:
    shutil.copyfile(filled_server().database.removeprefix("sqlite:///"), path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")


@pytest.mark.parametrize(
    ("make", "trouble", "words"),
    [
        (_nothing, Trouble.NOT_FOUND, "is not there"),
        (_words, Trouble.CONFIG, "no sound SQLite file"),
        (_empty, Trouble.CONFIG, "no backend database of MLflow"),
        (Path.mkdir, Trouble.PERMISSION, "cannot be opened"),
        (_unknown, Trouble.UNSUPPORTED, "schema revision 'ffffffffffff'"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, make: Callable[[Path], None], trouble: Trouble, words: str
) -> None:
    make(tmp_path / "x.db")
    error = refused(f"sqlite:///{tmp_path / 'x.db'}")
    assert (error.trouble, words in error.what) == (trouble, True), error
    assert error.next_step
    assert [file.name for file in tmp_path.iterdir()] == (["x.db"] if make is not _nothing else [])


def test_a_file_that_its_server_has_locked_is_busy_not_empty(file: Store) -> None:
    with closing(sqlite3.connect(file.url.removeprefix("sqlite:///"), isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        error = refused(file.url, timeout=0.1)
    assert (error.trouble, "locked" in error.what) == (Trouble.SERVER, True)


def test_a_server_that_does_not_let_us_in_says_why(server: Store, pg_server: str) -> None:
    there = make_url(server.url)
    nobody = there.set(username="nobody_here").render_as_string(hide_password=False)
    nowhere = there.set(database="no_such_database").render_as_string(hide_password=False)
    assert refused(nobody).trouble in (Trouble.AUTHENTICATION, Trouble.PERMISSION)
    error = refused(nowhere)
    assert (error.trouble, "no_such_database" in error.what) == (Trouble.NOT_FOUND, True)
    silent = refused(f"postgresql://ann@127.0.0.1:{free_port()}/mlflow")
    assert silent.trouble is Trouble.UNREACHABLE
    assert refused(pg_server).trouble is Trouble.CONFIG  # a database, but not MLflow's


@pytest.fixture
def role(server: Store) -> Iterator[str]:
    """A role that may read everything but webhooks."""
    name = f"reader_{uuid.uuid4().hex[:8]}"
    server.write(f"CREATE ROLE {name} LOGIN", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    server.write(f"REVOKE SELECT ON webhooks FROM {name}")
    yield name
    server.write(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_what_a_role_may_not_read_is_unobservable_and_the_rest_complete(server: Store, role: str) -> None:
    url = make_url(server.url).set(username=role, password=None).render_as_string()
    with closing(database_source(url)) as source:
        reading = read(source)
    failed = {heard.scope.kind: heard.error for heard in reading.heard if heard.error is not None}
    assert failed.keys() == {Kind.WEBHOOK}
    assert failed[Kind.WEBHOOK].trouble is Trouble.PERMISSION
    assert "backend-database.md" in failed[Kind.WEBHOOK].next_step
    assert len(reading.assets(Kind.RUN)) == 6


def test_rows_that_a_policy_hides_are_an_error_and_never_absent(server: Store, role: str) -> None:
    server.write("ALTER TABLE runs ENABLE ROW LEVEL SECURITY")
    url = make_url(server.url).set(username=role, password=None).render_as_string()
    with closing(database_source(url)) as source:
        error = read(source).only(Kind.RUN).error
        assert source.confirm(Kind.RUN, [server.content.run]) == {}
    assert error is not None
    assert error.trouble is Trouble.PERMISSION
    assert "row-level security" in error.what


def test_a_store_that_is_upgraded_while_we_read_ends_the_scope(store: Store) -> None:
    with closing(database_source(store.url, page_size=2, read_ahead=False)) as source:
        reading = scope_of_runs(source)
        store.write("UPDATE alembic_version SET version_num = '75868b020152'")
        with pytest.raises(SourceError, match="was upgraded"):
            list(reading.pages)


def test_text_that_is_no_utf8_is_shown_escaped(file: Store) -> None:
    file.write(f"UPDATE params SET value = CAST(x'ff41' AS TEXT) WHERE run_uuid = '{file.content.run}' AND key = 'lr'")
    with closing(database_source(file.url)) as source:
        found = read(source).assets(Kind.RUN)[file.content.run]
    assert found.document["params"]["lr"] == "\\xffA"


def test_the_password_of_our_own_database_is_never_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that asks for a password in the clear gets ours for it, or none, whatever PGPASSWORD says."""
    monkeypatch.setenv("PGPASSWORD", "of-another-server")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    for password, sent in ((None, b""), ("its-own", b"its-own\0")):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            heard: list[bytes] = []
            thread = threading.Thread(target=_ask_for_password, args=(listener, heard))
            thread.start()
            url = f"postgresql://ann@127.0.0.1:{listener.getsockname()[1]}/mlflow?sslmode=disable&gssencmode=disable"
            with closing(database_source(url, password=password)) as source, pytest.raises(SourceError) as caught:
                source.identify()
            thread.join()
        assert b"".join(heard)[5:] == sent
        assert "its-own" not in str(caught.value)


def _ask_for_password(listener: socket.socket, heard: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        connection.recv(4096)
        connection.sendall(b"R" + (8).to_bytes(4, "big") + (3).to_bytes(4, "big"))
        heard.append(connection.recv(4096))
