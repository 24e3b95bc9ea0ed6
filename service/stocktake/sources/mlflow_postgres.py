"""MLflow's backend in PostgreSQL, read in REPEATABLE READ, READ ONLY transactions with limits of their own.

The limits are set inside each transaction, so that a pooler in between cannot lose them. Row-level security must not
hide rows in silence: with row_security off it is an error instead.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import psycopg

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.mlflow_backends import OVER_HTTP, Gone, Row

#: How long the server may find us idle inside a transaction before it ends our session, in milliseconds.
_IDLE = 600_000
_LOCK = 10_000


class Postgres:
    """One connection to a PostgreSQL server; its transaction may stay open between pages: readers block no writers."""

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
        self._closed = threading.Event()

    def among(self, column: str, name: str) -> str:
        return f"{column} = ANY(:{name})"

    def begin(self) -> None:
        if self._closed.is_set():
            raise Gone(self.place, "it was closed")
        if self._connection is None:
            self._connection = self._connect()
            if self._closed.is_set():  # while we were at the door
                self._drop()
                raise Gone(self.place, "it was closed")
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

    def may_write(self) -> bool:
        return bool(self.rows("SELECT has_table_privilege('runs', 'INSERT, UPDATE, DELETE')", {})[0][0])

    def close(self) -> None:
        self._closed.set()
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
            raise SourceError(Trouble.SHAPE, what, next_step=OVER_HTTP) from exc

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
            return SourceError(Trouble.SHAPE, what, next_step=OVER_HTTP)
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
