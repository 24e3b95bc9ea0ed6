"""MLflow's backend database, opened so that nothing can be written: PostgreSQL and SQLite behind one small interface.

Every question is asked between `begin` and `end`. In PostgreSQL that is one REPEATABLE READ, READ ONLY transaction
with limits of its own (set inside it, so that a pooler in between cannot lose them); in SQLite a short one on a file
that was opened with mode=ro: a reader there keeps the server's writers waiting, so it must end with every page.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

import psycopg

from stocktake.core.errors import SourceError, Trouble

Row = tuple[Any, ...]

#: How long the server may find us idle inside a transaction before it ends our session, in milliseconds.
_IDLE = 600_000
_LOCK = 10_000


class Gone(SourceError):
    """The connection went away: the same question may be asked again over a new one."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(
            Trouble.UNREACHABLE,
            f"{place} ended the connection: {reason}",
            next_step="The next scan tries again. If it stays so, ask whoever runs that database server.",
        )


class Backend(Protocol):
    """One database. `rows` takes SQL with :names; a `:names` that stands for a list is put by `among`."""

    name: str  # "postgresql" or "sqlite"
    place: str  # what is read, without a secret
    holds: bool  # whether a transaction may stay open between two pages

    def begin(self) -> None: ...

    def rows(self, sql: str, params: Mapping[str, Any]) -> list[Row]: ...

    def end(self) -> None: ...

    def user(self) -> str: ...

    def among(self, column: str, name: str) -> str:
        """SQL that says that a column is one of a list."""
        ...

    def close(self) -> None:
        """Release the connection, from any thread; a question under way fails soon."""
        ...


def open_backend(url: str, *, password: str | None, timeout: float) -> Backend:
    """Make the backend of an address. Nothing is opened yet."""
    if url.startswith("sqlite:"):
        return Sqlite(url, timeout=timeout)
    return Postgres(url, password=password, timeout=timeout)


class Postgres:
    """PostgreSQL. Row-level security must not hide rows in silence: with row_security off it is an error instead."""

    name = "postgresql"
    holds = True

    def __init__(self, url: str, *, password: str | None, timeout: float) -> None:
        self._url = re.sub(r"^postgres(?:ql)?(?:\+\w+)?:", "postgresql:", url)
        self.place = f"the backend database {without_options(self._url)}"
        # An empty password is none, but keeps libpq from sending PGPASSWORD, which is for stocktake's own database.
        self._password = password or ""
        self._timeout = timeout
        limit = max(1, int(timeout * 1000))
        self._begin = (
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
            f" SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {min(limit, _LOCK)};"
            f" SET LOCAL idle_in_transaction_session_timeout = {_IDLE}; SET LOCAL row_security = off;"
            " SET LOCAL jit = off"
        )
        self._connection: psycopg.Connection[Row] | None = None
        self._closed = False

    def among(self, column: str, name: str) -> str:
        return f"{column} = ANY(:{name})"

    def begin(self) -> None:
        if self._closed:
            raise Gone(self.place, "it was closed")
        if self._connection is None:
            self._connection = self._connect()
        self._execute(self._connection, self._begin, None)

    def rows(self, sql: str, params: Mapping[str, Any]) -> list[Row]:
        if self._connection is None:
            raise Gone(self.place, "it was closed")
        return self._execute(self._connection, _percent(sql), params)

    def end(self) -> None:
        if self._connection is not None:
            try:
                self._connection.execute("ROLLBACK")
            except psycopg.Error:
                self._drop()

    def user(self) -> str:
        return str(self.rows("SELECT current_user", {})[0][0])

    def close(self) -> None:
        self._closed = True
        connection = self._connection
        if connection is None:
            return
        with suppress(psycopg.Error):
            if connection.info.transaction_status is psycopg.pq.TransactionStatus.ACTIVE:
                connection.cancel_safe(timeout=2.0)
        with suppress(psycopg.Error):
            connection.close()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _connect(self) -> psycopg.Connection[Row]:
        try:
            return psycopg.connect(
                self._url,
                password=self._password,
                autocommit=True,
                prepare_threshold=None,  # plans are made for the values at hand, and poolers need not know of them
                connect_timeout=10,
                client_encoding="UTF8",
                application_name="stocktake",
                keepalives_idle=20,
                keepalives_interval=10,
                keepalives_count=3,
                tcp_user_timeout=max(30_000, int(self._timeout * 1000)),
            )
        except psycopg.Error as exc:
            raise self._no_connection(exc) from exc
        except UnicodeError as exc:
            raise self._no_connection(psycopg.OperationalError(str(exc))) from exc

    def _execute(self, connection: psycopg.Connection[Row], sql: str, params: Mapping[str, Any] | None) -> list[Row]:
        try:
            cursor = connection.cursor(binary=params is not None)
            cursor.execute(sql.encode(), params)
            return cursor.fetchall() if cursor.description is not None else []
        except psycopg.Error as exc:
            raise self._error(exc) from exc
        except UnicodeDecodeError as exc:
            what = f"{self.place} holds text that is not UTF-8"
            raise SourceError(Trouble.SHAPE, what, next_step=_OVER_HTTP) from exc

    def _error(self, exc: psycopg.Error) -> SourceError:
        reason, state = _reason(exc), exc.sqlstate or ""
        if self._connection is not None and (
            self._connection.closed or (state[:2] in ("08", "57") and state != "57014")
        ):
            self._drop()
            return Gone(self.place, reason)
        if state == "42501":
            step = (
                "Grant the role SELECT on the tables named in docs/how-to/backend-database.md (with row-level"
                " security also BYPASSRLS)."
            )
            return SourceError(Trouble.PERMISSION, f"{self.place} refuses us: {reason}", next_step=step)
        if state in ("57014", "55P03", "40001", "40P01"):
            step = (
                "Raise `timeout`, or scan when the server is quiet. On a standby, hot_standby_feedback keeps it from"
                " cancelling readers."
            )
            return SourceError(Trouble.SERVER, f"{self.place} gave up on a question: {reason}", next_step=step)
        if state[:2] == "42":
            what = f"{self.place} is not as its schema revision says: {reason}"
            return SourceError(Trouble.SHAPE, what, next_step=_OVER_HTTP)
        step = "The next scan tries again. If it stays so, report it."
        return SourceError(Trouble.SERVER, f"{self.place} answered with an error: {reason}", next_step=step)

    def _no_connection(self, exc: psycopg.Error) -> SourceError:
        reason = _reason(exc)
        for pattern, trouble, step in _CONNECTING:
            if re.search(pattern, reason):
                return SourceError(trouble, f"{self.place} does not let us in: {reason}", next_step=step)
        step = "Check the address in `database`, and that the server runs and can be reached from here."
        return SourceError(Trouble.UNREACHABLE, f"{self.place} cannot be reached: {reason}", next_step=step)


#: What PostgreSQL says at the door (it gives no code there). Another language falls to "cannot be reached".
_CONNECTING = (
    (
        r"password authentication failed|no password supplied|role .* does not exist|authentication failed",
        Trouble.AUTHENTICATION,
        "Check the user in `database`, and the password in the variable that `password_env` names (or in .pgpass).",
    ),
    (r"database .* does not exist", Trouble.NOT_FOUND, "Check the name of the database in `database`."),
    (r"pg_hba\.conf|permission denied", Trouble.PERMISSION, "Let this host and role in (pg_hba.conf, GRANT CONNECT)."),
    (r"(?i)\bssl\b|certificate", Trouble.TLS, "Check `sslmode` and `sslrootcert` in the address."),
)
_OVER_HTTP = "Report this; until then name the server's address under `uri`."


class Sqlite:
    """A file of SQLite, opened with mode=ro. One question may not take longer than `timeout`."""

    name = "sqlite"
    holds = False

    def __init__(self, url: str, *, timeout: float) -> None:
        self._path = Path(unquote(re.sub(r"^sqlite:///", "", url).partition("?")[0]))
        self.place = f"the backend database {self._path}"
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._deadline = 0.0
        self._lock = threading.Lock()

    def among(self, column: str, name: str) -> str:
        return f"{column} IN (SELECT value FROM json_each(:{name}))"

    def begin(self) -> None:
        if self._closed:
            raise Gone(self.place, "it was closed")
        if self._connection is None:
            self._connection = self._open()
        self.rows("BEGIN", {})

    def rows(self, sql: str, params: Mapping[str, Any]) -> list[Row]:
        given = {name: json.dumps(value) if isinstance(value, list) else value for name, value in params.items()}
        with self._lock:
            connection = self._connection
            if connection is None or self._closed:
                raise Gone(self.place, "it was closed")
            self._deadline = time.monotonic() + self._timeout
            try:
                return self._fetch(connection, sql, given)
            except (sqlite3.Error, UnicodeEncodeError) as exc:
                raise self._error(exc) from exc

    def end(self) -> None:
        with self._lock, suppress(sqlite3.Error):
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def user(self) -> str:
        return "reader of the file"

    def close(self) -> None:
        self._closed = True  # the progress handler sees it, and the question under way ends
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():
            step = "Check the path in `database`: four slashes begin an absolute one (sqlite:////data/mlflow.db)."
            raise SourceError(Trouble.NOT_FOUND, f"{self.place} is not there", next_step=step)
        try:
            connection = sqlite3.connect(
                f"file:{quote(str(self._path.absolute()))}?mode=ro",
                uri=True,
                timeout=min(self._timeout, 30.0),
                isolation_level=None,
                check_same_thread=False,  # pages are read ahead in a thread; the lock keeps them apart
            )
            connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error as exc:
            raise self._error(exc) from exc
        connection.set_progress_handler(self._too_long, 100_000)
        return connection

    def _fetch(self, connection: sqlite3.Connection, sql: str, params: Mapping[str, Any]) -> list[Row]:
        try:
            return connection.execute(sql, params).fetchall()
        except sqlite3.OperationalError as exc:
            if "decode to UTF-8" not in str(exc):
                raise
        # Somebody wrote text that is none; it is shown with its bytes escaped rather than taken for nothing.
        connection.text_factory = lambda value: value.decode("utf-8", "backslashreplace")
        return connection.execute(sql, params).fetchall()

    def _too_long(self) -> bool:
        return self._closed or time.monotonic() > self._deadline

    def _error(self, exc: Exception) -> SourceError:
        if self._closed:
            return Gone(self.place, "it was closed")
        reason, code = str(exc), getattr(exc, "sqlite_errorname", None) or ""
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_INTERRUPT")):
            what = f"{self.place} is kept busy by its server: {reason}"
            step = "The next scan tries again; raise `timeout`, or scan when the server is quiet."
            return SourceError(Trouble.SERVER, what, next_step=step)
        if code.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_READONLY", "SQLITE_IOERR")):
            step = (
                "Let this user read the file. In WAL mode SQLite also needs its -wal and -shm files beside it; after a"
                " crash, start the server once: a reader cannot finish what a writer began."
            )
            trouble = Trouble.PERMISSION if code != "SQLITE_IOERR" else Trouble.UNREACHABLE
            return SourceError(trouble, f"{self.place} cannot be opened: {reason}", next_step=step)
        if code in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            step = "Check the path in `database`; `sqlite3 FILE 'PRAGMA integrity_check'` says more."
            return SourceError(Trouble.SHAPE, f"{self.place} is no sound SQLite file: {reason}", next_step=step)
        what = f"{self.place} is not as its schema revision says: {reason}"
        return SourceError(Trouble.SHAPE, what, next_step=_OVER_HTTP)


def without_options(url: str) -> str:
    """An address without its query, which may hold anything, and without a password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{host}{parts.path}"


def _percent(sql: str) -> str:
    """:name as psycopg writes it, sent in binary: a list of a thousand keys is then not escaped one by one. The SQL
    of this room has neither casts (::) nor percent signs."""
    return re.sub(r":(\w+)", r"%(\1)b", sql)


def _reason(exc: psycopg.Error) -> str:
    """The first line of what PostgreSQL says, which names places and never values; of several attempts the last."""
    if exc.diag.message_primary:
        return exc.diag.message_primary
    lines: Sequence[str] = str(exc).strip().splitlines() or ["no reason given"]
    return next((line.strip() for line in lines if re.search("failed|FATAL", line)), lines[0].strip())
