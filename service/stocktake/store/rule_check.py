"""Whether a rule's statement can be asked, and reads nothing but the public views: as Postgres itself understands it.

The statement is made a temporary view in a transaction that is rolled back, and what Postgres parsed is looked at:
which relations it reads, which functions it calls, which columns of which types it yields. Then it is asked once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from stocktake.core.rules import StateRule
from stocktake.core.statements import asks_now, at_time, bindable
from stocktake.store.engine import driver
from stocktake.store.findings import reason
from stocktake.store.judging import reading

_VIEW = "CREATE TEMPORARY VIEW asked_rule AS\n"
_NOW = "TIMESTAMPTZ '2026-01-01 00:00:00+00'"
_COLUMNS = ("workspace", "kind", "key", "evidence")
_CLOCKS = ("now", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "timeofday")
# What may run SQL of its own, look into the server, or write: besides everything volatile.
_REFUSED = re.compile(r"pg_.*|.*_to_xml.*|txid_.*|has_.*_privilege|inet_.*_(?:addr|port)|current_setting|ts_stat")
_HARMLESS = ("pg_typeof", "pg_column_size")
_ASKED = 1_000  # rows that are looked at


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a statement, and in which of its lines."""

    what: str
    line: int | None = None


def flaw(engine: Engine, rule: StateRule) -> Flaw | None:
    """What keeps a rule from being asked, the first that is found; None where nothing does. It is not asked yet."""
    with engine.connect() as connection:
        try:
            return _parsed(connection, rule)
        finally:
            connection.rollback()


def _parsed(connection: Connection, rule: StateRule) -> Flaw | None:
    statement = at_time(rule.statement, _NOW)
    connection.execute(text("SELECT set_config('search_path', 'inventory', true)"))
    raw = driver(connection)
    try:
        raw.execute((_VIEW + statement).encode(), binary=True)  # binary: one statement, whatever is written behind it
    except psycopg.errors.InsufficientPrivilege as exc:
        return Flaw(f"cannot be checked: {exc.diag.message_primary}. Grant TEMPORARY on the database to our user")
    except psycopg.Error as exc:
        if raw.closed:
            raise
        position = int(exc.diag.statement_position or 0) - len(_VIEW)
        line = statement.count("\n", 0, position - 1) + 1 if position > 0 else None
        hint = f" ({exc.diag.message_hint})" if exc.diag.message_hint else ""
        return Flaw(f"{exc.diag.message_primary or type(exc).__name__}{hint}", line)
    return _yields(connection) or _reads(connection, statement)


def _yields(connection: Connection) -> Flaw | None:
    rows = connection.execute(
        text(
            "SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute"
            " WHERE attrelid = 'pg_temp.asked_rule'::regclass AND attnum > 0 ORDER BY attnum"
        )
    ).all()
    types = {row.name: row.type for row in rows}
    for name in _COLUMNS:
        wanted = "jsonb" if name == "evidence" else "text"
        if name not in types:
            return Flaw(f"yields no column `{name}`: it must yield {', '.join(_COLUMNS)}")
        if types[name] != wanted:
            return Flaw(f"yields `{name}` as {types[name]}: it must be {wanted}. Write CAST(... AS {wanted})")
    if extra := [name for name in types if name not in _COLUMNS]:
        return Flaw(f"yields `{extra[0]}` besides: put it into the evidence, jsonb_build_object('{extra[0]}', ...)")
    return None


def _reads(connection: Connection, statement: str) -> Flaw | None:
    tree = str(
        connection.execute(
            text("SELECT CAST(ev_action AS text) FROM pg_rewrite WHERE ev_class = 'pg_temp.asked_rule'::regclass")
        ).scalar_one()
    )

    def numbers(pattern: str) -> list[int]:
        return sorted({int(one) for one in re.findall(pattern, tree)})

    def line(word: str) -> int | None:
        found = re.search(rf"\b{re.escape(word)}\b", statement, re.IGNORECASE)
        return statement.count("\n", 0, found.start()) + 1 if found else None

    relations = connection.execute(
        text(
            "SELECT CAST(relnamespace AS regnamespace)::text AS schema, relname AS name FROM pg_class"
            " WHERE oid = ANY(CAST(:oids AS oid[])) AND oid <> 'pg_temp.asked_rule'::regclass ORDER BY relname"
        ),
        {"oids": numbers(r":relid (\d+)")},
    )
    for one in relations:
        if one.schema != "inventory":
            return Flaw(
                f"reads {one.schema}.{one.name}: a rule reads the views of the schema inventory, and nothing else",
                line(one.name),
            )
    if ":op" in tree and re.search(r"\{SQLVALUEFUNCTION ", tree):
        return Flaw(
            "asks Postgres for the time or the user (CURRENT_...): write :now for the time at which it is judged",
            line("current_timestamp") or line("current_date"),
        )
    functions: Any = connection.execute(
        text(
            "SELECT CAST(pronamespace AS regnamespace)::text AS schema, proname AS name, provolatile AS volatility,"
            " pronargs AS arguments"
            " FROM pg_proc WHERE oid = ANY(CAST(:oids AS oid[])) ORDER BY proname"
        ),
        {"oids": numbers(r":(?:funcid|opfuncid|aggfnoid|winfnoid) (\d+)")},
    )
    for one in functions:
        if one.name in _CLOCKS or (one.name == "age" and one.arguments == 1):
            instead = ":now for the time at which it is judged" if one.name != "age" else "age(:now, ...)"
            return Flaw(f"calls {one.name}(), which asks Postgres for the time: write {instead}", line(one.name))
        refused = _REFUSED.fullmatch(one.name) and one.name not in _HARMLESS
        if one.schema not in ("pg_catalog", "inventory") or one.volatility == "v" or refused:
            return Flaw(
                f"calls {one.name}(): a rule may call functions that only compute, of Postgres itself and of the"
                " schema inventory",
                line(one.name),
            )
    return None


def trial(engine: Engine, rule: StateRule, timeout: timedelta) -> Flaw | None:
    """Ask a rule whose statement has no flaw, of all workspaces, and look at some of what it yields."""
    statement = f"SELECT * FROM (\n{bindable(rule.statement)}) AS yielded LIMIT {_ASKED}"
    try:
        with reading(engine, timeout) as reader:
            now = reader.execute(text("SELECT clock_timestamp()")).scalar_one()
            rows = reader.execute(text(statement), {"now": now} if asks_now(rule.statement) else {}).all()
    except DBAPIError as exc:
        if exc.connection_invalidated:
            raise
        return Flaw(reason(exc))
    kinds = {str(kind) for kind in rule.kinds or ("workspace",)}
    for row in rows:
        if row.key is None or row.workspace is None:
            return Flaw("yields a row without a key or without a workspace")
        if row.kind not in kinds:
            return Flaw(f"yields the kind {row.kind!r}, which `kinds` does not name")
        if not isinstance(row.evidence, dict):
            return Flaw("yields evidence that is no object: make it with jsonb_build_object('name', value, ...)")
    return None
