"""The embedded Postgres with real processes: who starts it, who stops it, and what a killed one leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from stocktake.core.errors import ConfigError
from stocktake.store import unprivileged
from stocktake.store.embedded import _programs, embedded_postgres
from tests.needs import need

HOLD = """
import sys
from pathlib import Path
from stocktake.store.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


class Holder:
    """A process of its own that holds the database until it is told to leave, or is killed."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def url(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        self.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)
        self.close()

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the database was made and stopped: making one takes longer than all else."""
    folder = tmp_path_factory.mktemp("made") / "postgres"
    with embedded_postgres(folder):
        pass
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody has used."""
    folder = tmp_path / "postgres"
    yield folder
    pid = postmaster(folder)
    if pid is not None:  # a test failed half-way: leave no server behind
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def home(made: Path, empty: Path) -> Path:
    shutil.copytree(made, empty, copy_function=shutil.copy, ignore=shutil.ignore_patterns("run"))
    return empty


def postmaster(home: Path) -> int | None:
    """The process that serves this folder, if any."""
    try:
        pid = int((home / "data" / "postmaster.pid").read_text().splitlines()[0])
        return pid if Path(f"/proc/{pid}/cwd").readlink() == home / "data" else None
    except (OSError, IndexError, ValueError):
        return None


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


def wait_until(true: object) -> None:
    deadline = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)  # for a process that was killed: nothing tells when the kernel is done


def test_the_first_starts_it_others_attach_and_the_last_one_stops_it(home: Path) -> None:
    first = Holder(home)
    url = first.url()
    pid = postmaster(home)
    assert pid is not None
    second = Holder(home)
    assert second.url() == url
    first.leave()
    assert postmaster(home) == pid
    assert ask(url, "SELECT current_database()") == ("stocktake",)
    second.leave()
    assert postmaster(home) is None
    assert not (home / "data" / "postmaster.pid").exists()


def test_it_listens_on_no_port_and_only_its_user_can_enter(empty: Path) -> None:
    with embedded_postgres(empty) as url:
        assert ask(url, "SHOW listen_addresses") == ("",)
        assert ask(url, "SHOW synchronous_commit") == ("on",)
        assert ask(url, "SHOW data_checksums") == ("on",)
    for folder in (empty, empty / "data", empty / "run"):
        assert folder.stat().st_mode & 0o077 == 0


def test_two_holders_in_one_process_share_it(home: Path) -> None:
    with ExitStack() as outer:
        with embedded_postgres(home):
            url = outer.enter_context(embedded_postgres(home))
        assert ask(url, "SELECT 1") == (1,)
    assert postmaster(home) is None


def test_five_that_come_at_once_get_one_server(empty: Path) -> None:
    holders = [Holder(empty) for _ in range(5)]
    assert len({holder.url() for holder in holders}) == 1
    assert (empty / "postgres.log").read_text().count("FATAL") == 0
    for holder in holders:
        holder.leave()
    assert postmaster(empty) is None


def test_a_holder_that_was_killed_does_not_keep_it_running(home: Path) -> None:
    killed, other = Holder(home), Holder(home)
    killed.url(), other.url()
    killed.kill()
    assert postmaster(home) is not None
    other.leave()
    assert postmaster(home) is None


def test_when_all_holders_were_killed_the_next_one_attaches_and_stops_it(home: Path) -> None:
    killed = Holder(home)
    killed.url()
    pid = postmaster(home)
    killed.kill()
    assert postmaster(home) == pid
    with embedded_postgres(home) as url:
        assert postmaster(home) == pid
        assert ask(url, "SELECT 1") == (1,)
    assert postmaster(home) is None


def test_a_starter_that_is_killed_while_it_makes_the_data_leaves_nothing_in_the_way(empty: Path) -> None:
    starter = Holder(empty)
    wait_until((empty / "data.new" / "PG_VERSION").exists)
    starter.kill()
    with embedded_postgres(empty) as url:
        assert ask(url, "SELECT 1") == (1,)


def test_a_killed_server_is_recovered_with_all_that_was_committed(home: Path) -> None:
    holder = Holder(home)
    url = holder.url()
    ask(url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    pid = postmaster(home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with embedded_postgres(home) as again:  # at once: its children may still be there, and one holder still is
        assert postmaster(home) not in (None, pid)
        assert ask(again, "SELECT count(*) FROM kept") == (1000,)
        holder.leave()
        assert ask(again, "SELECT count(*) FROM kept") == (1000,)
    assert postmaster(home) is None


def test_a_pid_file_that_names_somebody_elses_process_is_no_obstacle(home: Path) -> None:
    holder = Holder(home)
    ask(holder.url(), "CREATE TABLE kept AS SELECT 1 AS n")
    pid = postmaster(home)
    assert pid is not None
    file = home / "data" / "postmaster.pid"
    left = file.read_text()
    os.kill(pid, signal.SIGKILL)
    holder.kill()
    with subprocess.Popen(["sleep", "600"]) as stranger:  # got the number after a restart of the machine
        try:
            file.write_text(left.replace(str(pid), str(stranger.pid), 1))
            with embedded_postgres(home) as url:
                assert ask(url, "SELECT n FROM kept") == (1,)
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.parametrize("left", ["", "\n", "4194304\n"])
def test_a_pid_file_cut_short_is_no_obstacle(home: Path, left: str) -> None:
    with embedded_postgres(home):
        pass
    (home / "data" / "postmaster.pid").write_text(left)
    with embedded_postgres(home) as url:
        assert ask(url, "SELECT 1") == (1,)


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30) / "it's, hé re"
    with embedded_postgres(home) as url:
        assert ask(url, "SELECT 1") == (1,)
        socket = Path(str(ask(url, "SHOW unix_socket_directories")[0]).strip('"'))  # type: ignore[index]
        assert socket.stat().st_mode & 0o077 == 0
        assert not socket.is_relative_to(tmp_path)
    shutil.rmtree(socket)


def test_data_of_another_version_are_refused_with_the_way_out(home: Path) -> None:
    with embedded_postgres(home):
        pass
    (home / "data" / "PG_VERSION").write_text("17\n")
    with (
        pytest.raises(ConfigError, match=r"holds data of PostgreSQL 17.*brings PostgreSQL 18.*pg_dump"),
        embedded_postgres(home),
    ):
        pass


def test_a_folder_that_is_no_database_is_left_alone(empty: Path) -> None:
    (empty / "data").mkdir(parents=True)
    (empty / "data" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty, and it is no database"), embedded_postgres(empty):
        pass
    assert (empty / "data" / "thesis.txt").read_text() == "years of work"


def test_a_folder_whose_name_a_shell_would_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a shell would read"), embedded_postgres(tmp_path / "$(date)"):
        pass


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"cannot be used.*STOCKTAKE_DATA_DIR"),
        embedded_postgres(tmp_path / "file" / "x"),
    ):
        pass


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], check=False)
    need(mounted.returncode == 0, "mounting a small disk is not allowed here")
    try:
        with pytest.raises(ConfigError, match=r"No space left on device.*disk is full"), embedded_postgres(disk / "pg"):
            pass
        assert not (disk / "pg" / "data").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_variables_meant_for_other_databases_do_not_matter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGUSER", "somebody")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    with embedded_postgres(home) as url:
        assert ask(url, "SELECT current_user, current_database()") == ("postgres", "stocktake")


class TestRoot:
    """As root: Postgres refuses to be root, and nobody's folders may be opened up for it."""

    @pytest.fixture(autouse=True)
    def _root(self) -> None:
        need(os.geteuid() == 0, "what is done for root is tried as root")

    def test_files_stay_ours_and_no_folder_is_opened(self, empty: Path) -> None:
        before = [folder.stat().st_mode for folder in (*empty.parents, *_programs().parents)]
        with embedded_postgres(empty) as url:
            assert ask(url, "SELECT 1") == (1,)
            if unprivileged.runner(_programs(), empty).user is None:
                assert (empty / "data" / "PG_VERSION").stat().st_uid == 0
        assert [folder.stat().st_mode for folder in (*empty.parents, *_programs().parents)] == before

    def test_ctrl_c_while_it_finds_out_how_to_run_does_not_reach_the_probe(self, tmp_path: Path) -> None:
        groups = tmp_path / "groups"
        program = tmp_path / "postgres"
        program.write_text(f"#!{sys.executable}\nimport os\nopen({str(groups)!r}, 'w').write(str(os.getpgrp()))\n")
        program.chmod(0o755)
        if unprivileged.runner(tmp_path, tmp_path).user is not None:
            pytest.skip("no user namespaces here")
        assert int(groups.read_text()) != os.getpgrp()  # a terminal's Ctrl-C is for a process group

    def test_ctrl_c_that_hits_a_program_before_it_is_apart_does_not_read_as_its_failure(self, tmp_path: Path) -> None:
        times = tmp_path / "times"
        dies_once = (
            "import os, signal, sys\n"
            "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
            f"open({str(times)!r}, 'a').write('x')\n"
            f"os.path.getsize({str(times)!r}) > 1 or os.kill(os.getpid(), getattr(signal, sys.argv[1]))"
        )
        assert unprivileged.run_apart([sys.executable, "-c", dies_once, "SIGINT"]).returncode == 0
        times.unlink()
        killed = unprivileged.run_apart([sys.executable, "-c", dies_once, "SIGKILL"])
        assert killed.returncode == -signal.SIGKILL, "that was no Ctrl-C"

    def test_without_user_namespaces_it_runs_as_an_existing_user(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)
            home = folder / "postgres"
            home.mkdir()
            found = unprivileged.as_user(unprivileged._user(), _programs(), home)
            made = subprocess.run(
                found.command("initdb", "-D", str(home / "data"), "-U", "postgres", "-A", "trust", "--no-sync"),
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
            assert found.user is not None
            assert (home / "data").stat().st_uid == found.user.pw_uid != 0

    def test_without_user_namespaces_a_closed_folder_is_named_and_left_closed(self, empty: Path) -> None:
        empty.mkdir()
        empty.parent.chmod(0o700)
        with pytest.raises(ConfigError, match=r"may not enter .*STOCKTAKE_DATA_DIR"):
            unprivileged.as_user(unprivileged._user(), _programs(), empty)
        assert empty.parent.stat().st_mode & 0o777 == 0o700

    def test_programs_that_the_user_cannot_reach_are_put_beside_the_data(self) -> None:
        with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as closed:
            Path(name).chmod(0o755)
            home = Path(name) / "postgres"
            home.mkdir()
            package = _programs().parents[1]
            for source in (package, package.with_name(package.name + ".libs")):  # the programs load libraries from both
                if source.is_dir():
                    shutil.copytree(source, Path(closed) / source.name, ignore=shutil.ignore_patterns("include"))
            there = Path(closed) / _programs().relative_to(package.parent)
            found = unprivileged.as_user(unprivileged._user(), there, home)
            assert found.binaries.is_relative_to(home)
            for program in ("postgres", "initdb", "pg_ctl"):
                version = subprocess.run(
                    found.command(program, "--version"), capture_output=True, text=True, check=True
                )
                assert "PostgreSQL" in version.stdout
