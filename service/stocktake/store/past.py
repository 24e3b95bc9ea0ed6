"""The public views as they stood at a time, for asking a rule what it would have said then.

Each view that the rule reads is made once more, as a temporary view of the session, with its tables replaced by what
of them was known at the time; the whole is rolled back in the end. So views that come later are covered without a word
here, and the views that everybody reads stay as they are. What is no table of history has no past: such a rule is
refused, not answered from the present.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, text

from stocktake.core.rules import StateRule
from stocktake.core.statements import at_time, in_schema, moved
from stocktake.core.words import words
from stocktake.store.engine import driver

_AT = "CAST(current_setting('stocktake.as_of') AS timestamptz)"
_HERE = "workspace_id = CAST(current_setting('stocktake.workspace') AS integer)"


@dataclass(frozen=True, slots=True)
class Table:
    """What of a table was known at a time: which of its rows, and what stood in the columns that were written later."""

    rows: str
    then: Mapping[str, str]


def _until(column: str) -> str:
    return f"CASE WHEN {column} <= {_AT} THEN {column} END"


#: Of `version` there are two: what was open then, which has no end, for views that ask for open ones; and what had
#: begun by then. Both are plain, so that the planner finds them by the indexes that the views rely on (of what is open
#: still by version_open, of what ended since by version_closed, one asset's by the primary key).
_OPEN = "version_open"
_TABLES = {
    _OPEN: Table(
        f"{_HERE} AND valid_from <= {_AT} AND (valid_to IS NULL OR valid_to > {_AT})",
        {"valid_to": "CAST(NULL AS timestamptz)"},
    ),
    "version": Table(f"{_HERE} AND valid_from <= {_AT}", {"valid_to": _until("valid_to")}),
    "asset": Table(f"{_HERE} AND first_seen <= {_AT}", {"gone_at": _until("gone_at")}),
    "workspace": Table(_HERE, {"unobservable_since": _until("unobservable_since")}),
    "scan": Table(
        f"{_HERE} AND began_at <= {_AT}",
        {
            "state": f"CASE WHEN finished_at <= {_AT} THEN state ELSE 'running' END",
            "finished_at": _until("finished_at"),
            "last_began_at": f"least(last_began_at, {_AT})",
            "last_finished_at": f"least(last_finished_at, {_AT})",
        },
    ),
    "scope_scan": Table(f"finished_at <= {_AT} AND scan_id IN (SELECT scan_id FROM public.scan WHERE {_HERE})", {}),
    "change": Table(f"{_HERE} AND recorded_at <= {_AT}", {}),
    "act": Table(f"{_HERE} AND seen_at <= {_AT}", {}),
    "horizon": Table(_HERE, {}),
    # How a found workspace stood before it came to stand as it does is not told here: then nothing is said of it.
    "discovered": Table(f"name = (SELECT name FROM public.workspace WHERE {_HERE}) AND since <= {_AT}", {}),
}

# How each scope stood is told by the ledger. A hot pass that repeated the one before extended its row: until its last
# time it was repeated. Scopes of experiments of which nothing was left are forgotten, as a sweep forgets them.
_SCOPE = f"""
SELECT l.workspace_id, l.kind, l.partition,
    (array_agg(l.state ORDER BY l.finished_at DESC, l.scan_id DESC))[1] AS state,
    (array_agg(l.reason ORDER BY l.finished_at DESC, l.scan_id DESC))[1] AS reason,
    min(l.finished_at) FILTER (WHERE l.state IN ('complete', 'permission-filtered')) AS first_listed_at,
    max(l.began_at) FILTER (WHERE l.state IN ('complete', 'permission-filtered')) AS last_listed_at,
    min(l.finished_at) FILTER (WHERE l.state = 'complete') AS first_complete_at,
    max(l.began_at) FILTER (WHERE l.state = 'complete') AS last_complete_at,
    (array_agg(l.scan_id ORDER BY l.finished_at DESC, l.scan_id DESC))[1] AS last_scan
FROM (
    SELECT s.workspace_id, c.kind, p.partition, c.state, c.reason, c.scan_id, c.finished_at,
        CASE WHEN s.passes > 1 THEN greatest(c.began_at, least(s.last_began_at, {_AT})) ELSE c.began_at END AS began_at
    FROM public.scope_scan c JOIN public.scan s USING (scan_id)
        CROSS JOIN LATERAL unnest(CASE WHEN c.covers = '{{}}' THEN ARRAY[''] ELSE c.covers END) AS p (partition)
    WHERE s.{_HERE} AND c.finished_at <= {_AT} AND c.state <> 'incremental'
        AND (c.covers <> '{{}}' OR c.state = 'unsupported')
) l WHERE l.partition = '' OR EXISTS (
    SELECT 1 FROM pg_temp.past_asset a WHERE a.gone_at IS NULL AND a.workspace_id = l.workspace_id
        AND (a.kind = 'experiment' AND a.key = l.partition OR a.kind = l.kind AND a.partition = l.partition))
GROUP BY l.workspace_id, l.kind, l.partition
"""

_RELATION = re.compile(r"\b(?P<schema>public|inventory)\.(?P<name>\w+)\b(?P<call>\()?(?:(?P<gap>\s+)(?P<next>\w+))?")
_NO_ALIAS = words(
    "JOIN LEFT RIGHT FULL CROSS INNER NATURAL WHERE ON USING GROUP ORDER LIMIT UNION HAVING EXCEPT INTERSECT WINDOW"
    " OFFSET FETCH FOR TABLESAMPLE"
)


class NoPast(Exception):
    """A rule reads what has no past; the message says what."""


@dataclass(frozen=True, slots=True)
class Past:
    """A connection on which `statement` can be asked as of a time."""

    connection: Connection
    statement: str

    def at(self, workspace_id: int, moment: datetime) -> None:
        """Go to a time of a workspace."""
        self.connection.execute(
            text("SELECT set_config('stocktake.as_of', :at, true), set_config('stocktake.workspace', :wid, true)"),
            {"at": moment.isoformat(), "wid": str(workspace_id)},
        )


@contextmanager
def past(engine: Engine, rule: StateRule, timeout: timedelta) -> Iterator[Past]:
    """Make the views that a rule reads as they stood at a time. Nothing of it stays. Raises NoPast."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        try:
            connection.execute(
                text(
                    "SELECT set_config('search_path', 'pg_catalog', true), set_config('statement_timeout', :timeout,"
                    " true)"
                ),
                {"timeout": f"{max(int(timeout.total_seconds() * 1000), 1)}ms"},
            )
            made: set[str] = set()
            for table in ("asset", "scope"):
                _shadow(connection, table, made)
            for view in _read(connection, rule):
                _view(connection, view, made)
            connection.execute(
                text(
                    "SELECT set_config('search_path', 'pg_temp, inventory', true),"
                    " set_config('transaction_read_only', 'on', true)"
                )
            )
            yield Past(connection, in_schema(rule.statement, "pg_temp"))
        finally:
            connection.rollback()


def _read(connection: Connection, rule: StateRule) -> list[str]:
    """The public views that a rule reads, as Postgres understands its statement."""
    connection.execute(text("SELECT set_config('search_path', 'inventory', true)"))
    statement = at_time(rule.statement, "TIMESTAMPTZ '2026-01-01 00:00:00+00'")
    driver(connection).execute(f"CREATE TEMPORARY VIEW asked_rule AS\n{statement}".encode(), binary=True)
    tree = str(
        connection.execute(
            text("SELECT CAST(ev_action AS text) FROM pg_rewrite WHERE ev_class = 'pg_temp.asked_rule'::regclass")
        ).scalar_one()
    )
    rows = connection.execute(
        text(
            "SELECT relname FROM pg_class WHERE relnamespace = 'inventory'::regnamespace"
            " AND oid = ANY(CAST(:oids AS oid[])) ORDER BY relname"
        ),
        {"oids": sorted({int(one) for one in re.findall(r":relid (\d+)", tree)})},
    ).scalars()
    views = list(rows)
    functions = connection.execute(
        text(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'inventory'::regnamespace"
            " AND oid = ANY(CAST(:oids AS oid[]))"
        ),
        {"oids": sorted({int(one) for one in re.findall(r":funcid (\d+)", tree)})},
    ).scalars()
    for function in list(functions):
        _refuse_reader(connection, function)
    connection.execute(text("DROP VIEW pg_temp.asked_rule"))
    connection.execute(text("SELECT set_config('search_path', 'pg_catalog', true)"))
    return views


def _view(connection: Connection, view: str, made: set[str]) -> None:
    """Make a view over what was known then."""
    if view in made:
        return
    definition = str(
        connection.execute(
            text("SELECT pg_get_viewdef(CAST(:name AS regclass))"), {"name": f"inventory.{view}"}
        ).scalar_one()
    )

    def put(hit: re.Match[str]) -> str:
        name, gap, word = hit["name"], hit["gap"] or "", hit["next"] or ""
        if hit["call"]:
            _refuse_reader(connection, name)
            return hit.group()
        if hit["schema"] == "inventory":
            _view(connection, name, made)
            return f"pg_temp.{name}{gap}{word}"
        named = bool(word) and word.upper() not in _NO_ALIAS
        alias = word if named else name
        table = _OPEN if name == "version" and f"{alias}.valid_to IS NULL" in definition else name
        _shadow(connection, table, made, view)
        return f"pg_temp.past_{table}{'' if named else f' {name}'}{gap}{word}"

    body = moved(definition.strip().rstrip(";"), _RELATION, put)
    made.add(view)
    connection.exec_driver_sql(f"CREATE TEMPORARY VIEW {view} AS {body}".replace("%", "%%"))


def _shadow(connection: Connection, name: str, made: set[str], view: str = "") -> None:
    """Make what was known then of a table."""
    if (shadow := f"past_{name}") in made:
        return
    if name == "scope":
        _shadow(connection, "asset", made)
        body = _SCOPE
    elif name not in _TABLES:
        raise NoPast(f"reads inventory.{view}, of which only the present is kept: it cannot be tried")
    else:
        source = "version" if name == _OPEN else name
        columns = connection.execute(
            text(
                "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:name AS regclass) AND attnum > 0"
                " AND NOT attisdropped ORDER BY attnum"
            ),
            {"name": f"public.{source}"},
        ).scalars()
        names = list(columns)
        table = _TABLES[name]
        then = ", ".join(f"{table.then[one]} AS {one}" if one in table.then else one for one in names)
        body = f"SELECT {then} FROM public.{source} WHERE {table.rows}"
    made.add(shadow)
    connection.exec_driver_sql(f"CREATE TEMPORARY VIEW {shadow} AS {body}")


def _refuse_reader(connection: Connection, function: str) -> None:
    """A function that reads tables of its own knows the present alone."""
    reads = connection.execute(
        text(
            "SELECT bool_or(prosrc ~ '(public|inventory)\\.\\w+\\M(?!\\()') FROM pg_proc WHERE proname = :name"
            " AND pronamespace = 'inventory'::regnamespace"
        ),
        {"name": function},
    ).scalar()
    if reads:
        raise NoPast(f"calls inventory.{function}(), which reads the present: it cannot be tried")
