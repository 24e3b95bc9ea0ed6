"""What there is to show of one asset: states, changes, the rows of the ledger behind them, where in the chain they are.

Reads only, in a transaction of one snapshot that its caller opened. Rows stream; of members only their places are held.
Texts stay as Postgres holds them: what is shown is what was digested.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from sqlalchemy import Connection

from stocktake.core import canonical, chain
from stocktake.core.assets import Kind
from stocktake.core.chain import LIFTED, RECORD, Link, Sort, What
from stocktake.store import chain as written
from stocktake.store.engine import driver

_BLOCK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The asset that is asked about."""

    workspace_id: int
    workspace: str
    source: str
    asset_id: int
    kind: str
    key: str
    partition: str
    first_seen: datetime
    baseline: bool
    gone_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the chain holds a row."""

    seq: int
    index: int


def subject(connection: Connection, workspace: str, kind: Kind, key: str) -> Subject | None:
    """Find an asset by its key."""
    row = (
        driver(connection)
        .execute(
            "SELECT w.workspace_id, w.name, w.source, a.asset_id, a.kind, a.key, a.partition, a.first_seen, a.baseline,"
            " a.gone_at FROM asset a JOIN workspace w USING (workspace_id) WHERE w.name = %s AND a.kind = %s"
            " AND a.key = %s",
            (workspace, str(kind), canonical.escape(key)),
        )
        .fetchone()
    )
    return Subject(**dict(zip(Subject.__slots__, row, strict=True))) if row is not None else None


def settle(connection: Connection, workspace_id: int, key: bytes) -> None:
    """Take into the chain what the last passes added to their row: they vouch for how things stand now."""
    raw = driver(connection)
    raw.execute("SELECT 1 FROM workspace WHERE workspace_id = %s FOR NO KEY UPDATE", (workspace_id,))
    written.settle_all(raw, workspace_id, key)


def states(connection: Connection, one: Subject, until: datetime) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the states that were known until a time, oldest first, with their documents as they are stored."""
    names = ("asset_id", "valid_from", "scan_id", "kind", "key", "partition", "lifecycle", *LIFTED, "sha256")
    statement = written.statement(Sort.VERSION).replace(
        " AS document FROM", " AS document, v.valid_to, v.document FROM"
    )
    for _, *values, valid_to, document in _stream(
        connection,
        "states",
        f"{statement} WHERE v.asset_id = %s AND v.valid_from <= %s ORDER BY v.valid_from",
        (one.asset_id, until),
    ):
        values[-1] = values[-1].hex()
        ended = valid_to if valid_to is not None and valid_to <= until else None
        yield _named(names, values) | {"valid_to": _time(ended)}, document


def changes(connection: Connection, one: Subject, until: datetime) -> Iterator[dict[str, Any]]:
    """Yield the changes until a time, oldest first."""
    for _, *values in _stream(
        connection,
        "changes",
        f"{written.statement(Sort.CHANGE)} WHERE c.asset_id = %s AND c.at <= %s ORDER BY c.at, c.change_id",
        (one.asset_id, until),
    ):
        yield _named(written.CHANGE[1:], values[1:])


def scans(connection: Connection, one: Subject, until: datetime) -> list[int]:
    """The scans behind what is shown: those that saw a state or a change, those that a finding names, and the last
    that listed its place completely. One that is still under way vouches for nothing yet."""
    raw = driver(connection)
    found = raw.execute(
        "SELECT s.scan_id FROM scan s WHERE s.state <> 'running' AND s.scan_id IN ("
        " SELECT scan_id FROM version WHERE asset_id = %(id)s AND valid_from <= %(until)s"
        " UNION SELECT scan_id FROM change WHERE asset_id = %(id)s AND at <= %(until)s"
        " UNION SELECT e.scan_id FROM finding_event e JOIN finding f USING (finding_id)"
        "  WHERE f.workspace_id = %(wid)s AND f.kind = %(kind)s AND f.key = %(key)s AND e.at <= %(until)s)",
        {"id": one.asset_id, "until": until, "wid": one.workspace_id, "kind": one.kind, "key": one.key},
    )
    numbers = {number for (number,) in found}
    last = last_look(connection, one, until)
    return sorted(numbers | ({last} if last is not None else set()))


def last_look(connection: Connection, one: Subject, until: datetime) -> int | None:
    """The last scan that listed the place of an asset completely, and had begun by then."""
    row = (
        driver(connection)
        .execute(
            "SELECT s.scan_id FROM scan s WHERE s.workspace_id = %s AND s.state <> 'running' AND s.began_at <= %s"
            " AND EXISTS (SELECT 1 FROM scope_scan l WHERE l.scan_id = s.scan_id AND l.kind = %s"
            " AND l.state = 'complete' AND %s = ANY(l.covers)) ORDER BY s.scan_id DESC LIMIT 1",
            (one.workspace_id, until, one.kind, one.partition),
        )
        .fetchone()
    )
    return row[0] if row is not None else None


def ledger(connection: Connection, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield rows of the ledger, with what equal passes added to them."""
    looks = [name for name in written.LOOKS if name != "scan_id"]
    for *values, chained in _stream(
        connection,
        "scans",
        f"SELECT {', '.join((*written.SCAN, *looks))}, chained FROM scan s WHERE scan_id = ANY(%s) ORDER BY scan_id",
        (list(numbers),),
    ):
        yield _named((*written.SCAN, *looks), values) | {"passes_in_chain": chained == 2}


def listings(connection: Connection, one: Subject, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield how those scans listed the place of the asset."""
    for _, *values in _stream(
        connection,
        "listings",
        f"{written.statement(Sort.LISTING)} WHERE l.scan_id = ANY(%s) AND l.kind = %s"
        " AND (%s = ANY(l.covers) OR l.covers = '{}') ORDER BY l.scan_id, l.ordinal",
        (list(numbers), one.kind, one.partition),
    ):
        yield _named(written.LISTING, values)


# ---- the chain -------------------------------------------------------------------------------------------------------


def links(connection: Connection, one: Subject) -> Iterator[Link]:
    """Yield the links of a workspace, without their members."""
    for seq, at, what, scan, count, root, before in _stream(
        connection,
        "chain",
        "SELECT seq, at, what, scan_id, count, root, before FROM ledger_link WHERE workspace_id = %s ORDER BY seq",
        (one.workspace_id,),
    ):
        yield Link(workspace=one.workspace, seq=seq, at=at, what=what, scan=scan, count=count, root=root, before=before)


def beginning(connection: Connection, one: Subject) -> int | None:
    """The last scan before the chain began; None where there is no chain yet."""
    row = (
        driver(connection)
        .execute("SELECT members FROM ledger_link WHERE workspace_id = %s AND seq = 1", (one.workspace_id,))
        .fetchone()
    )
    return next(chain.unpacked(row[0])).id if row is not None else None


def places(
    connection: Connection, one: Subject, wanted: Sequence[tuple[Sort, int, int]], numbers: Sequence[int]
) -> dict[tuple[Sort, int, int], Place]:
    """Where the chain last spoke of some rows. What scans published stands in their own links; the words of others
    came later."""
    found: dict[tuple[Sort, int, int], Place] = {}
    needles = {chain.address(*address): address for address in wanted}
    for seq, members in _stream(
        connection,
        "members",
        "SELECT seq, members FROM ledger_link WHERE workspace_id = %s AND (scan_id = ANY(%s) OR what = ANY(%s))"
        " ORDER BY seq",
        (one.workspace_id, list(numbers), [str(What.SCANNED), str(What.NAMED), str(What.REDACTED)]),
        block=1,  # a link may have megabytes
    ):
        for needle, index in _met(members, needles):
            found[needles[needle]] = Place(seq=seq, index=index)
    return found


def _met(members: bytes, needles: Collection[bytes]) -> Iterator[tuple[bytes, int]]:
    """Which members are looked for, by whatever is quicker: going through the one or through the other."""
    if len(members) <= 4 * RECORD * len(needles):
        for start in range(0, len(members), RECORD):
            if (head := members[start : start + chain.ADDRESS]) in needles:
                yield head, start // RECORD
        return
    for needle in needles:
        if (index := _index(members, needle)) is not None:
            yield needle, index


def _index(members: bytes, needle: bytes) -> int | None:
    at = members.find(needle)
    while at >= 0 and at % RECORD:
        at = members.find(needle, at + 1)
    return at // RECORD if at >= 0 else None


class Proofs:
    """Shows that a row is where the chain holds it. Holds the members of one link at a time."""

    def __init__(self, connection: Connection, one: Subject, key: bytes) -> None:
        self._raw, self._wid, self._key = driver(connection), one.workspace_id, key
        self._seq, self._members, self._salts = 0, b"", b""

    def of(self, place: Place) -> dict[str, Any]:
        """The proof of one row: its link, its number, its salt, and the nodes from it up to the root."""
        if self._seq != place.seq:
            self._seq, self._members, self._salts = place.seq, *self._read(self._raw, place.seq)
        at = place.index * chain.SALT
        return {
            "link": place.seq,
            "index": place.index,
            "salt": self._salts[at : at + chain.SALT].hex(),
            "proof": chain.proof(self._members, place.index),
        }

    def _read(self, raw: psycopg.Connection[Any], seq: int) -> tuple[bytes, bytes]:
        row = raw.execute(
            "SELECT members, nonce, count FROM ledger_link WHERE workspace_id = %s AND seq = %s", (self._wid, seq)
        ).fetchone()
        assert row is not None
        return row[0], chain.salts(self._key, row[1], row[2])


def _stream(
    connection: Connection, name: str, statement: str, given: Sequence[Any], *, block: int = _BLOCK
) -> Iterator[tuple[Any, ...]]:
    with driver(connection).cursor(name=f"evidence_{name}") as cursor:
        cursor.itersize = block
        cursor.execute(statement, given)
        yield from cursor


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {name: _time(value) for name, value in zip(names, values, strict=True)}


def _time(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
