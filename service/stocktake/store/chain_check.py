"""Checking the ledger's chain against what stands in the database: links, members, and the rows that they stand for.

Streams. Members are put into a temporary table and joined by the database with the rows as they are; nothing is held
here but the salts of a few links, and nothing but that table is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

import psycopg
from sqlalchemy import Connection

from stocktake.core import canonical, chain
from stocktake.core.chain import Link, Sort
from stocktake.store import chain as written
from stocktake.store.engine import copy_rows, driver

_BLOCK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as it was published."""

    workspace: str
    where: str
    what: str


@dataclass(slots=True, kw_only=True)
class Checked:
    """What a check of one workspace's chain found. `problems` holds the first ones, `wrong` counts all."""

    workspace: str
    links: int = 0
    head: str | None = None
    since: datetime | None = None  # when the chain began
    last_before: int = 0  # the last scan before it
    states: int = 0
    changes: int = 0
    scans: int = 0
    redacted: int = 0  # rows that a redaction rewrote
    dropped: int = 0  # rows that retention dropped
    before: int = 0  # rows from before the chain began
    waiting: int = 0  # rows of the ledger to which equal passes are still added
    wrong: int = 0
    problems: list[Problem] = field(default_factory=list)

    def wrongs(self, where: str, what: str, *, most: int = 20) -> None:
        """Note a problem."""
        self.wrong += 1
        if len(self.problems) < most:
            self.problems.append(Problem(workspace=self.workspace, where=where, what=what))


Heads = Callable[[str], Mapping[int, str]]  # of a workspace: digests of published heads by number


def heads(connection: Connection) -> dict[str, tuple[int, str]]:
    """The head of each workspace's chain."""
    return {
        canonical.unescape(name): (seq, digest)
        for name, seq, digest in driver(connection).execute(
            "SELECT DISTINCT ON (w.name) w.name, l.seq, encode(l.digest, 'hex') FROM ledger_link l"
            " JOIN workspace w USING (workspace_id) ORDER BY w.name, l.seq DESC"
        )
    }


def workspaces(connection: Connection) -> list[tuple[int, str]]:
    """Workspaces by id and name."""
    return list(driver(connection).execute("SELECT workspace_id, name FROM workspace ORDER BY name"))


def links(raw: psycopg.Connection[Any], wid: int, name: str) -> Iterator[tuple[Link, bytes, bytes, bytes]]:
    """Read a chain: links as their columns say they are, with nonce, members, and the digest that is kept."""
    with raw.cursor(name="links") as cursor:
        cursor.itersize = 5  # members may be megabytes
        cursor.execute(
            "SELECT seq, at, what, scan_id, count, root, before, nonce, members, digest FROM ledger_link"
            " WHERE workspace_id = %s ORDER BY seq",
            (wid,),
        )
        for seq, at, what, scan, count, root, before, nonce, members, digest in cursor:
            link = Link(workspace=name, seq=seq, at=at, what=what, scan=scan, count=count, root=root, before=before)
            yield link, nonce, members, digest


def check(connection: Connection, wid: int, name: str, key: bytes, published: Mapping[int, str]) -> Checked:
    """Check one workspace, in a transaction of one snapshot. `published` are heads that were published, by number."""
    raw, done = driver(connection), Checked(workspace=name)
    raw.execute(_MEMBERS)
    raw.execute("TRUNCATE evidence_member")
    _follow(raw, wid, done, published)
    if not done.links:
        row = raw.execute(
            "SELECT count(*) FROM scan WHERE workspace_id = %s AND chained < 2 AND state <> 'running'", (wid,)
        ).fetchone()
        if row and row[0]:
            done.wrongs("chain", "there is none, though scans ended that would have begun it")
        for seq in published:
            done.wrongs(f"link {seq}", "was published, and the chain is gone")
        return done
    raw.execute("CREATE INDEX IF NOT EXISTS evidence_member_key ON evidence_member (sort, id, at, seq)")
    raw.execute("ANALYZE evidence_member")
    expected = _Expected(raw, wid, key)
    _states(done, expected)
    _changes(done, expected)
    _ledger(done, expected)
    return done


_MEMBERS = """
CREATE TEMP TABLE IF NOT EXISTS evidence_member
    (sort text NOT NULL, id bigint NOT NULL, at bigint NOT NULL, seq bigint NOT NULL, n int NOT NULL,
     leaf bytea NOT NULL)
"""
_COLUMNS = (("sort", "text"), ("id", "int8"), ("at", "int8"), ("seq", "int8"), ("n", "int4"), ("leaf", "bytea"))
#: What links say of a row that is in the database, and what of one that retention dropped.
_DROPS = {Sort.DROPPED_VERSION: Sort.VERSION, Sort.DROPPED_CHANGE: Sort.CHANGE}


def _follow(raw: psycopg.Connection[Any], wid: int, done: Checked, published: Mapping[int, str]) -> None:
    before, seq, missing = chain.NOTHING, 0, set(published)
    for link, _, members, digest in links(raw, wid, done.workspace):
        where = f"link {link.seq}"
        if link.seq != seq + 1:
            done.wrongs(where, f"follows link {seq}: what was between is gone")
        elif link.before != before:
            done.wrongs(where, "names another link before it than the one that is there")
        if link.digest != digest:
            done.wrongs(where, "says something else than what its digest was made of")
        if len(members) != link.count * chain.RECORD or chain.root(members) != link.root:
            done.wrongs(where, "has other members than those it was made of")
        if link.seq in missing:
            missing.remove(link.seq)
            if digest.hex() != published[link.seq]:
                done.wrongs(where, "is not the one that was published as a head")
        _keep(raw, link, members, done)
        before, seq = digest, link.seq
        done.links += 1
        done.head = digest.hex()
    for number in sorted(missing) if done.links else ():
        done.wrongs(f"link {number}", "was published as a head, and is gone")


def _keep(raw: psycopg.Connection[Any], link: Link, members: bytes, done: Checked) -> None:
    first = link.seq == 1

    def rows() -> Iterator[tuple[Any, ...]]:
        for n, one in enumerate(chain.unpacked(members)):
            if one.sort is Sort.BEGINNING:
                if first:
                    done.since, done.last_before = link.at, one.id
                else:
                    done.wrongs(f"link {link.seq}", "says that the chain begins, and it is not the first")
                continue
            sort = _DROPS.get(one.sort)
            if sort is not None and one.leaf != chain.open_leaf(one.sort, one.id, one.at):
                done.wrongs(f"link {link.seq}", "has a member that is not what it says")
                continue
            done.redacted += link.what == chain.What.REDACTED and one.sort is not Sort.REDACTION
            # A row that was dropped is known by an empty digest.
            yield str(sort or one.sort), one.id, one.at, link.seq, n, b"" if sort else one.leaf

    if first and link.what != chain.What.GENESIS:
        done.wrongs("link 1", "is not the beginning of a chain")
    try:
        copy_rows(raw, "evidence_member", _COLUMNS, list(rows()))
    except ValueError:
        done.wrongs(f"link {link.seq}", "has members of a kind that nobody knows")


class _Expected:
    """Judges rows by what was last said of them in the chain."""

    def __init__(self, raw: psycopg.Connection[Any], wid: int, key: bytes) -> None:
        self._raw, self._wid, self._key = raw, wid, key
        self._salts = lru_cache(maxsize=64)(self._read)

    def _read(self, seq: int) -> bytes:
        row = self._raw.execute(
            "SELECT nonce, count FROM ledger_link WHERE workspace_id = %s AND seq = %s", (self._wid, seq)
        ).fetchone()
        assert row is not None
        return chain.salts(self._key, row[0], row[1])

    def fits(self, seq: int, n: int, leaf: bytes, body: bytes) -> bool:
        """Whether a member stands for a row that says this."""
        return chain.leaf(self._salts(seq)[n * chain.SALT : (n + 1) * chain.SALT], body) == leaf

    def newest(self, sort: Sort, select: str, on: str) -> Iterator[tuple[Any, ...]]:
        """Yield, of each member and each row, the newest member (id, at, seq, n, leaf) and the row behind it."""
        statement = (
            "SELECT m.id, m.at, m.seq, m.n, m.leaf, r.* FROM"
            f" (SELECT DISTINCT ON (id, at) id, at, seq, n, leaf FROM evidence_member WHERE sort = '{sort}'"
            f" ORDER BY id, at, seq DESC, n DESC) m FULL JOIN ({select}) r ON {on}"
        )
        with self._raw.cursor(name=f"rows_{sort.name.lower()}") as cursor:
            cursor.itersize = _BLOCK
            cursor.execute(statement, {"wid": self._wid})
            yield from cursor


def _micros(column: str) -> str:
    return f"(extract(epoch FROM {column}) * 1000000)::bigint"


def _judge(done: Checked, expected: _Expected, sort: Sort, row: tuple[Any, ...], *, scan: int) -> str | None:
    """Judge one row of the join; `scan` is the place of the scan's number among its columns. None: it is in order,
    or its problem was told; else whose row it is."""
    id_, at, seq, n, leaf, wid, *values = row
    if seq is None:
        if values[scan] <= done.last_before:
            done.before += 1
        else:
            return "was not published by any scan: no link knows of it"
    elif wid is None:
        if leaf:
            return f"is gone, and nobody dropped it (asset {id_}, {chain.moment(at)})"
        done.dropped += 1
    elif not leaf:
        return "is there again, though retention dropped it"
    elif not expected.fits(seq, n, leaf, written.row_of(sort, values)[3]):
        return f"is not as link {seq} holds it"
    return None


def _states(done: Checked, expected: _Expected) -> None:
    # A state ends when the next one begins, or when its asset was purged: both are in the chain.
    select = (
        written.statement(Sort.VERSION).replace(
            " AS document FROM",
            " AS document, v.valid_to, lead(v.valid_from) OVER (PARTITION BY v.asset_id ORDER BY v.valid_from) AS next,"
            " CASE WHEN v.valid_to IS NOT NULL THEN EXISTS (SELECT 1 FROM change c WHERE c.asset_id = v.asset_id"
            " AND c.at = v.valid_to AND c.type = 'purged') END AS purged FROM",
        )
        + " WHERE v.workspace_id = %(wid)s"
    )
    on = f"m.id = r.asset_id AND m.at = {_micros('r.valid_from')}"
    for row in expected.newest(Sort.VERSION, select, on):
        *judged, valid_to, following, purged = row
        kind, key, valid_from, scan_id = judged[9], judged[10], judged[7], judged[8]
        where = f"state of {kind} {key} since {valid_from}" if kind is not None else "state"
        done.states += kind is not None
        wrong = _judge(done, expected, Sort.VERSION, tuple(judged), scan=2)
        if wrong is None and kind is not None and scan_id > done.last_before:
            wrong = _end(valid_to, following, purged=bool(purged))
        if wrong is not None:
            done.wrongs(where, wrong)


def _end(valid_to: datetime | None, following: datetime | None, *, purged: bool) -> str | None:
    """What is wrong with the end of a state. One that was restored begins later than the one before ended."""
    if valid_to is None:
        return None if following is None else "has not ended, though another state follows"
    if purged:
        return None if following is None or following >= valid_to else "ended after the next began"
    if following is None:
        return "has ended, though nothing follows and its asset was not purged"
    return None if following == valid_to else "ended at another time than the next began"


def _changes(done: Checked, expected: _Expected) -> None:
    select = written.statement(Sort.CHANGE) + " WHERE c.workspace_id = %(wid)s"
    select = select.replace("SELECT c.workspace_id,", "SELECT c.workspace_id AS wid,", 1)
    for row in expected.newest(Sort.CHANGE, select, f"m.id = r.asset_id AND m.at = {_micros('r.at')}"):
        there = row[5] is not None
        done.changes += there
        if (wrong := _judge(done, expected, Sort.CHANGE, row, scan=3)) is not None:
            done.wrongs(f"change of {row[8]} (asset {row[7]}) at {row[10]}" if there else "change", wrong)


def _ledger(done: Checked, expected: _Expected) -> None:
    # What was abandoned claims nothing: the next scan takes it in.
    condition = (
        " WHERE s.workspace_id = %(wid)s AND s.state <> 'running' AND NOT (s.state = 'abandoned' AND s.chained = 0)"
    )
    for sort, on, what in (
        (Sort.SCAN, "m.id = r.scan_id", "row of scan"),
        (Sort.LISTING, "m.id = r.scan_id AND m.at = r.ordinal", "listing of scan"),
        (Sort.LOOKS, "m.id = r.scan_id", "passes of scan"),
    ):
        select = written.statement(sort).replace(" FROM", ", s.chained FROM", 1) + condition
        waiting, before = 0, done.before
        for row in expected.newest(sort, select, on):
            *judged, chained = row
            there = judged[5] is not None
            done.scans += there and sort is Sort.SCAN
            where = f"{what} {judged[6] if there else judged[0]}"
            if there and sort is Sort.LOOKS and chained == 1:
                waiting += 1
                continue
            if (wrong := _judge(done, expected, sort, tuple(judged), scan=0)) is not None:
                done.wrongs(where, "is gone" if judged[5] is None else wrong)
        done.waiting += waiting
        done.before = done.before if sort is Sort.SCAN else before
        if waiting > 1:
            done.wrongs("ledger", f"{waiting} rows wait for more passes; only the last can")
    redactions = written.statement(Sort.REDACTION)
    for row in expected.newest(Sort.REDACTION, redactions, "m.id = r.redaction_id"):
        if row[2] is None:  # it rewrote nothing of this workspace
            continue
        if row[5] is None:
            done.wrongs(f"redaction {row[0]}", "is gone from the record")
        elif not expected.fits(row[2], row[3], row[4], written.row_of(Sort.REDACTION, row[6:])[3]):
            done.wrongs(f"redaction {row[0]}", f"is not as link {row[2]} holds it")
