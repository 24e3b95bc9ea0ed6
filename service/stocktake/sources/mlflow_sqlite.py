"""MLflow's backend in a file of SQLite, opened with mode=ro.

A reader keeps the server's writers waiting, so a transaction must end with every page.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.mlflow_backends import OVER_HTTP, Gone, Row


class Sqlite:
    """A file of SQLite, opened with mode=ro. One question may not take longer than `timeout`."""

    name = "sqlite"
    holds = False

    def __init__(self, url: str, *, timeout: float) -> None:
        self._path = Path(unquote(re.sub(r"^sqlite:///", "", url).partition("?")[0]))
        self.place = f"the backend database {self._path}"
        self._timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._closed = threading.Event()
        self._deadline = 0.0
        self._lock = threading.Lock()

    def among(self, column: str, name: str) -> str:
        return f"{column} IN (SELECT value FROM json_each(:{name}))"

    def begin(self) -> None:
        if self._closed.is_set():
            raise Gone(self.place, "it was closed")
        if self._connection is None:
            self._connection = self._open()
        self.rows("BEGIN", {})

    def rows(self, sql: str, params: Mapping[str, Any]) -> list[Row]:
        given = {name: json.dumps(value) if isinstance(value, list) else value for name, value in params.items()}
        with self._lock:
            connection = self._connection
            if connection is None or self._closed.is_set():
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

    def may_write(self) -> bool:
        return False  # that is for the file's owner to say, and mode=ro has been asked for

    def close(self) -> None:
        self._closed.set()  # the progress handler sees it, and the question under way ends
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
        return self._closed.is_set() or time.monotonic() > self._deadline

    def _error(self, exc: Exception) -> SourceError:
        if self._closed.is_set():
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
        return SourceError(Trouble.SHAPE, what, next_step=OVER_HTTP)
