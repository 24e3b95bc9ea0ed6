"""Kills: passes killed at random points, Postgres stopped under them, its disk full, two workers by mistake. After one
clean sweep, versions and changes (apart from their times) are those of a worker that was never disturbed."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from stocktake.cli.exits import ExitCode
from stocktake.core.assets import Kind, Mode, ScanState
from stocktake.core.errors import Fenced
from stocktake.pipeline import story
from stocktake.store import embedded, migrate
from stocktake.store.claims import Busy
from stocktake.store.engine import make_engine, trouble
from tests.needs import need
from tests.servers.moving_mlflow import PLAY_ALONG, MovingMlflow, served
from tests.soak import witness

PAGE = 20

# Every process of a pass is forked from one that has imported everything, and is killed as a whole.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.soak.test_kills"])


def one_pass(url: str, uri: str, mode: str, workspace: str, ready: Any) -> None:
    """What a worker's process does. `ready` is told just before the pass, and how it ended.

    It publishes in many small transactions, as a pass over a large server does: more to be killed between.
    """
    story._BATCH_DOCUMENTS, story._BATCH_SCOPES = 3, 1
    engine = make_engine(url)
    engine.connect().close()
    ready.send("ready")
    try:
        witness.scan(engine, uri, Mode(mode), workspace=workspace, page=PAGE)
        ready.send("complete")
    except (Busy, Fenced, SQLAlchemyError, psycopg.Error) as exc:
        ready.send(type(exc).__name__)


def _begin(url: str, uri: str, mode: Mode, workspace: str) -> tuple[BaseProcess, Any]:
    ours, theirs = _processes.Pipe()
    child = _processes.Process(target=one_pass, args=(url, uri, str(mode), workspace, theirs))
    child.start()
    theirs.close()
    assert ours.poll(60)
    assert ours.recv() == "ready"
    return child, ours


def _versions(connection: Connection, workspace: str) -> list[Any]:
    """Every state of every asset in its order, without times and ids."""
    query = (
        "SELECT a.kind, a.key, a.baseline, a.gone_at IS NULL, v.valid_to IS NULL, v.lifecycle, v.partition, v.name,"
        " v.state, v.owner, v.parent, v.run, v.params_digest, encode(v.digest, 'hex'), v.document"
        " FROM version v JOIN asset a USING (asset_id) JOIN workspace w ON w.workspace_id = a.workspace_id"
        " WHERE w.name = :name ORDER BY a.kind, a.key, v.valid_from"
    )
    return [tuple(row) for row in connection.execute(text(query), {"name": workspace})]


def _changes(connection: Connection, workspace: str) -> list[Any]:
    """Every change with the one that tells its story, without times and ids."""
    query = (
        "SELECT a.kind, a.key, c.type, c.category, c.name, c.actor, c.fields, b.kind, b.key, p.type"
        " FROM change c JOIN asset a USING (asset_id) JOIN workspace w ON w.workspace_id = a.workspace_id"
        " LEFT JOIN change p ON p.change_id = c.part_of LEFT JOIN asset b ON b.asset_id = p.asset_id"
        " WHERE w.name = :name ORDER BY a.kind, a.key, c.at, c.change_id"
    )
    return [tuple(row) for row in connection.execute(text(query), {"name": workspace})]


def _equal(engine: Engine, disturbed: str, undisturbed: str, world: MovingMlflow) -> int:
    """Assert that a disturbed workspace holds what the other does; returns how many changes that is."""
    with engine.connect() as connection:
        witness.equal_to_server(connection, disturbed, world)
        for question in (_versions, _changes):
            ours, theirs = (question(connection, name) for name in (disturbed, undisturbed))
            extra, lost = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
            assert not extra, f"{question.__name__}: only with kills: {list(extra)[:5]}"
            assert not lost, f"{question.__name__}: lost by kills: {list(lost)[:5]}"
            assert ours == theirs, f"{question.__name__}: in another order"
        return len(ours)


def _mover(world: MovingMlflow, seed: int) -> witness.Mover:
    mover = witness.Mover(world, random.Random(seed))
    mover.begin(experiments=5, runs=60)
    return mover


def _clean(engine: Engine, uri: str, *workspaces: str) -> None:
    for workspace in workspaces:
        report = witness.scan(engine, uri, Mode.SWEEP, workspace=workspace, page=PAGE)
        assert report.state == ScanState.COMPLETE


def _lasts(url: str, uri: str, mode: Mode, workspace: str) -> float:
    """How long an undisturbed pass takes."""
    child, pipe = _begin(url, uri, mode, workspace)
    began = time.monotonic()
    assert pipe.recv() == "complete"
    child.join(30)
    pipe.close()
    return time.monotonic() - began


def _kills(engine: Engine, url: str, *, seed: int, kills: int, seconds: float) -> None:
    choose, deadline = random.Random(seed), witness.Deadline(seconds)
    landed, missed, changes = Counter[str](), 0, 0
    witness.say(f"kills: seed {seed}")
    with served() as place:
        mover = _mover(place.world, seed)
        _clean(engine, place.uri, "killed", "whole")
        lasts = {mode: _lasts(url, place.uri, mode, "killed") for mode in (Mode.HOT, Mode.SWEEP)}
        rounds = max(1, kills // 4)
        for number in range(rounds):
            for _ in range(25):
                mover.act()
            wanted = kills * (number + 1) // rounds
            while landed.total() < wanted and not deadline.passed():
                mode = choose.choice(list(lasts))
                child, pipe = _begin(url, place.uri, mode, "killed")
                pipe.poll(choose.uniform(0.0, 1.2 * lasts[mode]))
                if pipe.poll():
                    missed += 1  # it was done before
                    assert pipe.recv() == "complete"
                else:
                    child.kill()
                    landed[mode] += 1
                child.join(30)
                pipe.close()
                witness.released(engine)
            _clean(engine, place.uri, "killed", "whole")
            changes = _equal(engine, "killed", "whole", place.world)
        with engine.connect() as connection:
            _, false = witness.false_changes(connection, "killed", place.world)
            abandoned = connection.execute(
                text("SELECT count(*) FROM scan WHERE state = 'abandoned' AND error LIKE 'the worker went away%'")
            ).scalar_one()
            half = connection.execute(
                text("SELECT count(DISTINCT scan_id) FROM change JOIN scan USING (scan_id) WHERE state = 'abandoned'")
            ).scalar_one()
        assert not false, false[:10]
    assert landed.total() >= min(kills, 5), "hardly a pass was killed"
    witness.say(
        f"kills: seed {seed}, {landed.total()} passes killed with SIGKILL ({landed[Mode.HOT]} hot, {landed[Mode.SWEEP]}"
        f" sweeps; {abandoned} of them after their claim, {half} after they had published something), {missed} were"
        f" done before, {rounds} clean sweeps;"
        f" {place.world.acts} acts; versions and changes ({changes}) equal to those of a worker never killed;"
        f" {deadline.taken():.0f} s"
    )


def test_a_pass_may_be_killed_anywhere(engine: Engine, database_url: str) -> None:
    _kills(engine, database_url, seed=20261127, kills=15, seconds=12)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_kills_at_length(engine: Engine, database_url: str) -> None:
    _kills(engine, database_url, seed=witness.seed(), kills=200, seconds=witness.budget())


# ---- Postgres stopped and started -----------------------------------------------------------------------------------


@contextmanager
def _own_postgres(folder: Path) -> Iterator[tuple[embedded._Server, Engine]]:
    """An embedded server of this test's own, which it may stop: set up as the service sets it up."""
    server = embedded._Server(folder)
    with server.held():
        engine = make_engine(server.url())
        migrate.upgrade(engine)
        yield server, engine
        engine.dispose()


#: psycopg cannot close a cursor on the server whose connection was lost, and complains when it is forgotten.
_cursors = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function ServerCursorMixin:pytest.PytestUnraisableExceptionWarning"
)


def _stop_at_once(server: embedded._Server) -> None:
    server._call("pg_ctl", "stop", "-s", "-m", "immediate", "-w", "-D", str(server.data))


def _stops(folder: Path, *, seed: int, stops: int, seconds: float) -> None:
    choose, deadline, told = random.Random(seed), witness.Deadline(seconds), Counter[str]()
    witness.say(f"stops: seed {seed}")
    with _own_postgres(folder) as (server, engine), served() as place:
        mover = _mover(place.world, seed)
        _clean(engine, place.uri, "stopped", "whole")
        done = 0
        while done < stops and not (done and deadline.passed()):
            for _ in range(20):
                mover.act()
            mode = choose.choice([Mode.HOT, Mode.SWEEP])
            timer = threading.Timer(choose.uniform(0.0, 0.2), _stop_at_once, [server])
            timer.start()
            try:
                witness.scan(engine, place.uri, mode, workspace="stopped", page=PAGE)
                told["done before"] += 1
            except (SQLAlchemyError, psycopg.Error) as exc:
                told["broke off" if trouble(exc) is not None else f"not told as the database's trouble: {exc!r}"] += 1
            timer.join()
            server._ensure_running()
            _clean(engine, place.uri, "stopped", "whole")
            changes = _equal(engine, "stopped", "whole", place.world)
            done += 1
        with engine.connect() as connection:
            _, false = witness.false_changes(connection, "stopped", place.world)
        assert not false, false[:10]
        assert told.keys() <= {"done before", "broke off"}, told
    gc.collect()  # what hung on the lost connections goes here, where its warning is expected
    witness.say(
        f"stops: seed {seed}, Postgres stopped (immediate) and started {done} times, {told['broke off']} passes broke"
        f" off with one clear error, {told['done before']} were done before; versions and changes ({changes}) equal to"
        f" those of a worker never disturbed; {deadline.taken():.0f} s"
    )


@_cursors
def test_postgres_may_be_stopped_under_a_pass(tmp_path: Path) -> None:
    _stops(tmp_path / "postgres", seed=20261127, stops=2, seconds=8)


@_cursors
@pytest.mark.soak
@pytest.mark.timeout(0)
def test_stops_at_length(tmp_path: Path) -> None:
    _stops(tmp_path / "postgres", seed=witness.seed(), stops=100, seconds=witness.budget())


# ---- the disk is full -----------------------------------------------------------------------------------------------


@contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own, of that size."""
    need(os.geteuid() == 0, "only root may mount a small file system for the database's disk to become full")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "stocktake-small-disk", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    need(mounted.returncode == 0, f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _command(disk: Path, uri: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line as people call it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STOCKTAKE_", "MLFLOW_"))}
    environ |= {"STOCKTAKE_DATA_DIR": str(disk / "data"), "MLFLOW_TRACKING_URI": uri, "NO_COLOR": "1"}
    command = [sys.executable, "-m", "stocktake", "--quiet", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=disk)


def _fill(disk: Path, *, leave: int) -> Path:
    """Take what is left of the disk, but for so many bytes."""
    ballast, facts = disk / "ballast", os.statvfs(disk)
    with ballast.open("wb") as file:
        for _ in range(max(0, facts.f_bavail * facts.f_frsize - leave) // 65536):
            file.write(b"\0" * 65536)
    return ballast


@pytest.mark.parametrize("mode", ["--sweep", pytest.param("--hot", marks=pytest.mark.soak)])
def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path: Path, mode: str) -> None:
    began, choose = time.monotonic(), random.Random(20261127)
    with _small_disk(tmp_path / "disk", 160) as disk, served() as place:
        world = place.world
        world.add_experiment("1")
        for number in range(50):
            world.add_run(f"old{number}", "1")
        assert _command(disk, place.uri, "scan").returncode == ExitCode.COMPLETE
        with embedded.embedded_postgres(disk / "data" / "postgres"):  # it runs, as under `stocktake up`
            ballast = _fill(disk, leave=1_000_000)
            for number in range(1200):
                world.add_run(f"new{number}", "1")
                world.edit(Kind.RUN, f"new{number}", "tags.long", choose.randbytes(2000).hex())
            world.edit(Kind.RUN, "old7", "tags.note", "late")
            world.purge(Kind.RUN, "old8")
            full = _command(disk, place.uri, "scan", mode)
            assert full.returncode == ExitCode.DATABASE, full.stderr
            assert len(full.stderr.strip().splitlines()) == 1, full.stderr
            assert full.stderr.startswith("The disk of the database is full: "), full.stderr
            assert "Free some space" in full.stderr
            listed = _command(disk, place.uri, "list", "run", "-o", "json")
            assert listed.returncode == ExitCode.COMPLETE, listed.stderr
            assert {row["key"] for row in json.loads(listed.stdout)} >= {f"old{number}" for number in range(50)}
            ballast.unlink()
            assert _command(disk, place.uri, "scan").returncode == ExitCode.COMPLETE
            engine = make_engine(embedded._Server(disk / "data" / "postgres").url())
            with engine.connect() as connection:
                (workspace,) = connection.execute(text("SELECT name FROM workspace")).scalars()
                witness.equal_to_server(connection, workspace, world)
                held, false = witness.false_changes(connection, workspace, world)
            engine.dispose()
        assert not false, false[:5]
        assert held == {"created": 1200, "updated": 1, "purged": 1}
        witness.say(
            f"disk full ({mode}): exit {full.returncode}, {full.stderr.strip()!r}; after space was freed, one sweep:"
            f" {dict(held)}, nothing lost; {time.monotonic() - began:.0f} s"
        )


# ---- two workers by mistake -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=pytest.mark.soak)])
def test_a_worker_that_was_paused_and_overtaken_publishes_nothing(
    engine: Engine, database_url: str, rounds: int
) -> None:
    """Paused with SIGSTOP in mid-sweep, it keeps its claim: a second one is turned away. When the server has given
    its connection up, the second takes over; continued, the first finds itself fenced off."""
    told = Counter[str]()
    with served() as place:
        world, mover = place.world, _mover(place.world, 7)
        _clean(engine, place.uri, "twice", "whole")
        for number in range(rounds):
            for _ in range(30):
                mover.act()
            paused = threading.Event()
            pause_at = world.requests + 8 + 3 * number % 12

            def pause(path: str, asked: int, at: int = pause_at, reached: threading.Event = paused) -> object:
                if asked >= at:
                    reached.set()
                return PLAY_ALONG

            world.interfere = pause
            first, pipe = _begin(database_url, place.uri, Mode.SWEEP, "twice")
            assert paused.wait(30)
            assert first.pid is not None
            os.kill(first.pid, signal.SIGSTOP)
            world.interfere = None
            if pipe.poll():
                told["done before"] += 1
            else:
                with pytest.raises(Busy):
                    witness.scan(engine, place.uri, Mode.SWEEP, workspace="twice")
                _give_up_connections(engine)
            _clean(engine, place.uri, "twice", "whole")
            mark = _ledger(engine)
            os.kill(first.pid, signal.SIGCONT)
            first.join(30)
            told[pipe.recv()] += 1
            assert _ledger(engine) == mark, "the overtaken worker has written"
            changes = _equal(engine, "twice", "whole", world)
    assert told["OperationalError"] + told["AdminShutdown"] >= 1, told
    witness.say(
        f"two workers: {rounds} rounds, the overtaken one ended with {dict(told)} and wrote nothing more;"
        f" versions and changes ({changes}) equal"
    )


def _give_up_connections(engine: Engine) -> None:
    """What the server does when it no longer hears from a machine: end its sessions, that which holds the claim and
    that which publishes beside it."""
    with engine.connect() as connection:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        connection.execute(text(f"{query} AND pid <> pg_backend_pid()"))
    witness.released(engine)


def _ledger(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT 'scan', scan_id, state, finished_at::text FROM scan UNION ALL SELECT 'change', max(change_id),"
                " count(*)::text, max(recorded_at)::text FROM change UNION ALL SELECT 'version', count(*),"
                " count(valid_to)::text, max(valid_from)::text FROM version ORDER BY 1, 2"
            )
        )
        return [tuple(row) for row in rows]


@pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=pytest.mark.soak)])
def test_a_hot_pass_and_a_sweep_of_two_workers_run_beside_each_other(
    engine: Engine, database_url: str, rounds: int
) -> None:
    with served() as place:
        mover = _mover(place.world, 11)
        _clean(engine, place.uri, "twice", "whole")
        for number in range(rounds):
            modes = [Mode.HOT, Mode.SWEEP] if number % 2 else [Mode.SWEEP, Mode.HOT]
            for _ in range(30):
                mover.act()
            both = [_begin(database_url, place.uri, mode, "twice") for mode in modes]
            for child, pipe in both:
                child.join(60)
                assert pipe.recv() == "complete"
            _clean(engine, place.uri, "twice", "whole")
            changes = _equal(engine, "twice", "whole", place.world)
    witness.say(f"beside: a hot pass and a sweep at once, {rounds} times; versions and changes ({changes}) equal")


@pytest.fixture(autouse=True)
def _continue_what_was_paused() -> Iterator[None]:
    """Leave no stopped process behind, whatever a test did."""
    yield
    for child in multiprocessing.active_children():
        with suppress(ProcessLookupError, TypeError):
            os.kill(child.pid, signal.SIGKILL)  # type: ignore[arg-type]
