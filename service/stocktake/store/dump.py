"""The whole inventory in one file, from one database into another: written in one snapshot, loaded in one transaction.

The file is a header of fixed size (JSON: format, revision, and for each table its columns, rows, bytes and SHA-256),
then the tables one after the other as Postgres' binary COPY wrote them, in the order of their keys. What was loaded is
read back in the same order and must have the same digests. The installation key is in none of it, only the value that
a key is recognised by. Claims and heartbeats stay behind: they belong to processes of the old database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import psycopg
from psycopg import errors
from sqlalchemy import Connection, Engine, Table, Text

from stocktake.core.assets import ScanState
from stocktake.store import migrate
from stocktake.store.engine import driver
from stocktake.store.tables import METADATA

MAGIC = "stocktake dump"
FORMAT = 1
HEADER = 16_384
_CHUNK = 262_144
_LEFT_OUT = ("claim", "heartbeat")
_LOCK_SECONDS = 10


class DumpError(Exception):
    """A dump is not whole, or does not fit; the message says which and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table in a dump."""

    table: str
    columns: list[str]
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a dump says of itself."""

    revision: str
    made_by: str  # the version of stocktake
    made_at: str
    server: int  # the major version of Postgres
    key_check: str  # what the installation key is recognised by (store/installation.py), or ""
    sections: list[Section]
    sequences: dict[str, list[Any]]  # "table.column": last value, whether it was used

    @property
    def bytes(self) -> int:
        """How much of the file belongs to tables."""
        return sum(section.bytes for section in self.sections)

    @property
    def rows(self) -> int:
        """How many rows there are in all tables."""
        return sum(section.rows for section in self.sections)


Tell = Callable[[str, int], None]  # a table, and bytes of it that went through since the last call


def tables() -> list[Table]:
    """The tables of a dump: whatever refers to another comes after it."""
    return [table for table in METADATA.sorted_tables if table.name not in _LEFT_OUT]


def write(engine: Engine, file: BinaryIO, *, made_by: str, tell: Tell = lambda *_: None) -> Header:
    """Write a dump into an empty, seekable file. Streams; one snapshot of the database, others go on meanwhile."""
    with (
        engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection,
        connection.begin(),
    ):
        raw = _quiet(connection)
        file.write(b" " * HEADER)
        sections = [_write_table(raw, table, file, tell) for table in tables()]
        check = raw.execute("SELECT encode(key_check, 'hex') FROM installation").fetchone()
        now = raw.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')").fetchone()
        header = Header(
            revision=migrate.current(connection) or "",
            made_by=made_by,
            made_at=now[0] if now else "",
            server=migrate.server_version(connection),
            key_check=check[0] if check else "",
            sections=sections,
            sequences={
                f"{table}.{column}": list(raw.execute(f"SELECT last_value, is_called FROM {name}").fetchone() or ())
                for table, column, name in _sequences(raw)
            },
        )
    file.seek(0)
    file.write(_encoded(header))
    return header


def read_header(file: BinaryIO, size: int) -> Header:
    """Read the header and judge the file by it. Raises DumpError."""
    raw = file.read(HEADER)
    magic, _, rest = raw.partition(b"\n")
    words = magic.decode("ascii", "replace").split(" ")
    if words[:-1] != MAGIC.split(" ") or not words[-1].isdigit():
        raise DumpError("This is no dump of stocktake: it does not begin like one. `stocktake db dump FILE` makes one.")
    if int(words[-1]) != FORMAT:
        raise DumpError(
            f"This dump has format {words[-1]}; this version of stocktake reads format {FORMAT}. Restore it with the"
            " version that made it, or with a later one."
        )
    if len(raw) < HEADER:
        raise DumpError(f"This dump is not whole: it ends within its header, at {size:,} bytes. Copy it again.")
    try:
        given = json.loads(rest)
        header = Header(**given | {"sections": [Section(**section) for section in given["sections"]]})
    except (ValueError, TypeError, KeyError) as exc:
        raise DumpError("The header of this dump is damaged. Take another copy of it, or dump again.") from exc
    if size != HEADER + header.bytes:
        raise DumpError(
            f"This dump is not whole: it should have {HEADER + header.bytes:,} bytes and has {size:,}. Copy it again,"
            " or dump again."
        )
    return header


def check_revision(header: Header) -> None:
    """Raise DumpError where another version of the code must restore it."""
    if header.revision == migrate.newest():
        return
    if header.revision in migrate.revisions():
        raise DumpError(
            f"This dump is of revision {header.revision}, older than this version of stocktake"
            f" ({migrate.newest()}). Restore it with stocktake {header.made_by}, which made it; then upgrade that"
            " database with `stocktake db upgrade` of this version. Or upgrade the old database first, and dump again."
        )
    raise DumpError(
        f"This dump is of revision {header.revision}, which this version of stocktake does not know: stocktake"
        f" {header.made_by} made it. Upgrade stocktake here, then restore."
    )


def restore(engine: Engine, file: BinaryIO, header: Header, *, tell: Tell = lambda *_: None) -> None:
    """Load a dump into an empty database at the same revision: all of it or nothing. Raises DumpError.

    `file` stands behind the header.
    """
    ours = {table.name: [column.name for column in table.columns] for table in tables()}
    if ours != {section.table: section.columns for section in header.sections}:
        raise DumpError("The tables of this dump are not those of its revision: it is damaged. Dump again.")
    with engine.connect() as connection, connection.begin():
        raw = _quiet(connection)
        _empty(raw)
        by_name = {section.table: section for section in header.sections}
        for table in tables():
            _load_table(raw, table, by_name[table.name], file, tell)
        for table in tables():
            _verify(raw, table, by_name[table.name])
        for name, column, sequence in _sequences(raw):
            last, used = header.sequences[f"{name}.{column}"]
            raw.execute("SELECT setval(%s::regclass, %s, %s)", (sequence, last, used))
        # The process that was at it has another database.
        raw.execute(
            "UPDATE scan SET state = %s, finished_at = clock_timestamp(), error = 'the database was moved while this"
            " scan was under way' WHERE state = 'running'",
            (ScanState.ABANDONED,),
        )
        for table in tables():
            raw.execute(f"ANALYZE {table.name}")


def _quiet(connection: Connection) -> psycopg.Connection[Any]:
    """The driver's connection in a transaction, set so that a stream is the same on every server."""
    raw = driver(connection)
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    raw.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    raw.execute("SET LOCAL client_encoding = 'UTF8'")
    raw.execute("SET LOCAL enable_sort = off")  # by the index of the key: nothing is sorted on the server's disk
    return raw


def _encoded(header: Header) -> bytes:
    fields = {name: getattr(header, name) for name in Header.__slots__}
    fields["sections"] = [{name: getattr(one, name) for name in Section.__slots__} for one in header.sections]
    raw = f"{MAGIC} {FORMAT}\n{json.dumps(fields, indent=1)}".encode()
    assert len(raw) < HEADER
    return raw + b" " * (HEADER - len(raw) - 1) + b"\n"


def _select(table: Table) -> str:
    order = ", ".join(
        f'{column.name} COLLATE "C"' if isinstance(column.type, Text) else column.name for column in table.primary_key
    )
    columns = ", ".join(column.name for column in table.columns)
    return f"COPY (SELECT {columns} FROM {table.name} ORDER BY {order}) TO STDOUT (FORMAT BINARY)"


def _stream(raw: psycopg.Connection[Any], table: Table, take: Callable[[bytes], object]) -> Section:
    """Read a table in the order of its key."""
    digest, size = hashlib.sha256(), 0
    with raw.cursor() as cursor:
        with cursor.copy(_select(table)) as copy:
            for data in copy:
                digest.update(data)
                take(bytes(data))
                size += len(data)
        rows = cursor.rowcount
    columns = [column.name for column in table.columns]
    return Section(table=table.name, columns=columns, rows=rows, bytes=size, sha256=digest.hexdigest())


def _write_table(raw: psycopg.Connection[Any], table: Table, file: BinaryIO, tell: Tell) -> Section:
    def take(data: bytes) -> None:
        file.write(data)
        tell(table.name, len(data))

    return _stream(raw, table, take)


def _empty(raw: psycopg.Connection[Any]) -> None:
    """Keep everybody else from writing, and see that nobody has. Raises DumpError."""
    names = [table.name for table in METADATA.sorted_tables]
    raw.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
    try:
        raw.execute(f"LOCK TABLE {', '.join(names)} IN EXCLUSIVE MODE")
    except errors.LockNotAvailable as exc:
        raise DumpError("Somebody else uses this database. Stop its workers, then restore.") from exc
    for name in names:
        if name in (*_LEFT_OUT, "installation"):
            raw.execute(f"DELETE FROM {name}")
        elif raw.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() is not None:
            raise DumpError(
                f"The database is not empty: there are rows in `{name}`. A dump is restored into a new database only;"
                " create one, and name it under `database` in the configuration."
            )


def _load_table(raw: psycopg.Connection[Any], table: Table, section: Section, file: BinaryIO, tell: Tell) -> None:
    digest, left = hashlib.sha256(), section.bytes
    damaged = DumpError(f"The table `{table.name}` of this dump is damaged. Take another copy of it, or dump again.")
    with raw.cursor() as cursor:
        try:
            with cursor.copy(f"COPY {table.name} ({', '.join(section.columns)}) FROM STDIN (FORMAT BINARY)") as copy:
                while left:
                    data = file.read(min(_CHUNK, left))
                    if not data:
                        raise damaged
                    digest.update(data)
                    copy.write(data)
                    left -= len(data)
                    tell(table.name, len(data))
                if digest.hexdigest() != section.sha256:
                    raise damaged
        except (errors.DataError, errors.IntegrityError) as exc:
            if isinstance(exc, errors.UntranslatableCharacter):
                raise DumpError("The database's encoding cannot hold this. Create it with ENCODING 'UTF8'.") from exc
            raise damaged from exc
        if cursor.rowcount != section.rows:
            raise damaged


def _verify(raw: psycopg.Connection[Any], table: Table, section: Section) -> None:
    """Read back what was loaded."""
    found = _stream(raw, table, lambda _: None)
    if (found.rows, found.sha256) != (section.rows, section.sha256):
        raise DumpError(
            f"What was loaded into `{table.name}` is not what the dump holds ({found.rows:,} rows of {section.rows:,})."
            " Nothing was kept. Please report this."
        )


def _sequences(raw: psycopg.Connection[Any]) -> Sequence[tuple[str, str, str]]:
    """Tables with a number of their own, its column, and the sequence that gives it."""
    found = []
    for table in tables():
        for column in table.columns:
            if column.identity is not None:
                row = raw.execute("SELECT pg_get_serial_sequence(%s, %s)", (table.name, column.name)).fetchone()
                assert row is not None
                found.append((table.name, column.name, str(row[0])))
    return found
