"""Writing the ledger's chain: what a transaction published, or took away, is one more link of its workspace's chain.

Every function runs inside a transaction that its caller opened, and that holds the lock of the workspace's row: links
are made one after the other. A link is written with what it is about or not at all.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg

from stocktake.core import chain
from stocktake.core.assets import Mode, ScanState
from stocktake.core.chain import LIFTED, Link, Row, Sort, What
from stocktake.core.words import words

CHANGE = words(
    "workspace_id asset_id kind scan_id at not_before not_after type category name actor actor_source fields"
)
SCAN = words(
    "scan_id mode state source identity filtered epoch began_at finished_at created updated deleted restored purged"
    " baseline carried withheld redacted trouble error next_step"
)
#: What a pass that finds what the one before found adds to that one's row.
LOOKS = words("scan_id passes last_began_at last_finished_at seen requests bytes_read throttled")
LISTING = words(
    "scan_id ordinal kind partition covers state reason ended began_at finished_at listed missing purged carried"
    " withheld"
)
REDACTION = words("redaction_id began_at actor reason fingerprint")


def _columns(alias: str, names: Iterable[str]) -> str:
    return ", ".join(f"{alias}.{name}" for name in names)


# Each statement yields a workspace's id, and what `row_of` makes a row of.
_SELECT = {
    Sort.VERSION: "SELECT v.workspace_id, v.asset_id, v.valid_from, v.scan_id, v.kind, a.key, v.partition, v.lifecycle,"
    f" {_columns('v', LIFTED)}, sha256(convert_to(v.document, 'UTF8')) AS document"
    " FROM version v JOIN asset a USING (asset_id)",
    Sort.CHANGE: f"SELECT c.workspace_id, {_columns('c', CHANGE)} FROM change c",
    Sort.SCAN: f"SELECT s.workspace_id, {_columns('s', SCAN)} FROM scan s",
    Sort.LOOKS: f"SELECT s.workspace_id, {_columns('s', LOOKS)} FROM scan s",
    Sort.LISTING: f"SELECT s.workspace_id, {_columns('l', LISTING)} FROM scope_scan l JOIN scan s USING (scan_id)",
    Sort.REDACTION: f"SELECT 0, {_columns('r', REDACTION)} FROM redaction r",
}


def statement(sort: Sort) -> str:
    """The statement that reads rows as `row_of` takes them; a condition may follow."""
    return _SELECT[sort]


def row_of(sort: Sort, values: Sequence[Any]) -> Row:
    """Make a row out of what `statement` yields, without the workspace's id."""
    match sort:
        case Sort.VERSION:
            asset_id, valid_from, scan_id, kind, key, partition, lifecycle, *lifted, document = values
            said = chain.version_body(
                asset_id, valid_from.astimezone(UTC), scan_id, kind, key, partition, lifecycle, tuple(lifted), document
            )
            return (sort, asset_id, chain.micros(valid_from), said)
        case Sort.CHANGE:
            return change_row(values)
        case Sort.LISTING:
            return (sort, values[0], values[1], chain.body("listing", *values))
        case Sort.LOOKS:
            return (sort, values[0], 0, chain.body("looks", *values))
        case Sort.SCAN:
            return (sort, values[0], 0, chain.body("scan", *values))
        case _:
            return (sort, values[0], 0, chain.body("redaction", *values))


def change_row(values: Sequence[Any]) -> Row:
    """The row of a change, of its columns as they are written (a workspace's id first; others may follow)."""
    return (
        Sort.CHANGE,
        values[1],
        chain.micros(values[4]),
        chain.body("change", *values[1 : len(CHANGE)]),
    )  # the number of a workspace is this database's own


def rows(raw: psycopg.Connection[Any], sort: Sort, condition: str, given: Any) -> Iterator[tuple[int, Row]]:
    """Read rows of one kind, with their workspaces' ids."""
    for wid, *values in raw.execute(f"{_SELECT[sort]} WHERE {condition}", given):
        yield wid, row_of(sort, values)


def begin(raw: psycopg.Connection[Any], wid: int, key: bytes) -> None:
    """Let a workspace's chain begin, unless it has: the first link says up to which scan nothing is in it."""
    if _last(raw, wid) is None:
        found = raw.execute("SELECT coalesce(max(scan_id), 0) FROM scan WHERE workspace_id = %s", (wid,)).fetchone()
        last = int(found[0]) if found else 0
        append(raw, wid, What.GENESIS, [(Sort.BEGINNING, last, 0, chain.beginning(last))], key=key)


def append(
    raw: psycopg.Connection[Any], wid: int, what: What, rows: Sequence[Row], *, key: bytes, scan: int | None = None
) -> None:
    """Write a link. Without rows there is nothing to write."""
    if rows:
        nonce = os.urandom(16)
        _write(raw, wid, what, scan, nonce, len(rows), chain.packed(key, nonce, rows))


def dropped(raw: psycopg.Connection[Any], members: Iterable[tuple[int, Sort, int, datetime]]) -> None:
    """Say which states and changes retention drops: workspace, kind of row, asset, time."""
    by_workspace = defaultdict[int, list[tuple[Sort, int, int]]](list)
    for wid, sort, asset_id, at in members:
        by_workspace[wid].append((sort, asset_id, chain.micros(at)))
    for wid, those in sorted(by_workspace.items()):
        if _last(raw, wid) is not None:  # else none of it was ever in a chain
            _write(raw, wid, What.DROPPED, None, b"", len(those), chain.packed_open(sorted(those)))


def settle(raw: psycopg.Connection[Any], wid: int, key: bytes, *, scan: int, closing: bool = True) -> None:
    """Take the ledger's rows into the chain: that of a scan which ended, and of those that were abandoned.

    What equal hot passes added to their row is taken in once no other can add to it (`closing`: this scan has a row of
    its own, so the row before is done).
    """
    found = raw.execute(
        "SELECT scan_id, chained, mode, state FROM scan WHERE workspace_id = %s AND chained < 2 AND state <> 'running'"
        " ORDER BY scan_id",
        (wid,),
    ).fetchall()
    new, whole = list[int](), list[int]()
    for scan_id, chained, mode, state in found:
        abandoned = state == ScanState.ABANDONED
        if chained == 0 and (scan_id == scan or abandoned):
            new.append(scan_id)
        elif chained == 0:  # nobody who knows the chain wrote it
            continue
        if abandoned or mode == Mode.SWEEP or (closing and scan_id != scan):
            whole.append(scan_id)
    _take(raw, wid, key, new, whole, scan)


def settle_all(raw: psycopg.Connection[Any], wid: int, key: bytes) -> None:
    """Take in what equal passes added until now, too: a head is about to be published."""
    found = raw.execute("SELECT scan_id FROM scan WHERE workspace_id = %s AND chained = 1", (wid,))
    _take(raw, wid, key, [], [scan_id for (scan_id,) in found], None)


def _take(
    raw: psycopg.Connection[Any], wid: int, key: bytes, new: list[int], whole: list[int], scan: int | None
) -> None:
    made = [row for _, row in rows(raw, Sort.SCAN, "scan_id = ANY(%s) ORDER BY scan_id", (new,))] if new else []
    if new:
        made += [row for _, row in rows(raw, Sort.LISTING, "l.scan_id = ANY(%s) ORDER BY scan_id, ordinal", (new,))]
    if whole:
        made += [row for _, row in rows(raw, Sort.LOOKS, "scan_id = ANY(%s) ORDER BY scan_id", (whole,))]
    append(raw, wid, What.SCANNED, made, key=key, scan=scan)
    if made:
        raw.execute(
            "UPDATE scan SET chained = CASE WHEN scan_id = ANY(%(whole)s) THEN 2 ELSE 1 END"
            " WHERE scan_id = ANY(%(all)s)",
            {"whole": whole, "all": [*new, *whole]},
        )


def amend(
    raw: psycopg.Connection[Any],
    what: What,
    sort: Sort,
    condition: str,
    given: Any,
    *,
    key: bytes,
    scan: int | None = None,
    because: Collection[Row] = (),
) -> None:
    """Say what rows say now that are in the chain already: an actor became known, a value was removed."""
    by_workspace = defaultdict[int, list[Row]](list)
    for wid, row in rows(raw, sort, condition, given):
        by_workspace[wid].append(row)
    for wid, those in sorted(by_workspace.items()):
        if _last(raw, wid) is not None:
            append(raw, wid, what, [*because, *those], key=key, scan=scan)


def _last(raw: psycopg.Connection[Any], wid: int) -> tuple[int, bytes] | None:
    return raw.execute(
        "SELECT seq, digest FROM ledger_link WHERE workspace_id = %s ORDER BY seq DESC LIMIT 1", (wid,)
    ).fetchone()


def _write(
    raw: psycopg.Connection[Any], wid: int, what: What, scan: int | None, nonce: bytes, count: int, members: bytes
) -> None:
    seq, before = _last(raw, wid) or (0, chain.NOTHING)
    found = raw.execute("SELECT name, clock_timestamp() FROM workspace WHERE workspace_id = %s", (wid,)).fetchone()
    assert found is not None
    name, at = found
    link = Link(
        workspace=name, seq=seq + 1, at=at, what=str(what), scan=scan, count=count, root=chain.root(members),
        before=before,
    )  # fmt: skip
    raw.execute(
        "INSERT INTO ledger_link (workspace_id, seq, at, what, scan_id, nonce, count, members, root, before, digest)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %b, %b, %b, %b)",
        (wid, link.seq, at, link.what, scan, nonce, count, members, link.root, before, link.digest),
    )
