"""The heads of what a page may hold: which raw digests are published, read once a scope and compared in memory.

Reading the heads of a scope in one COPY and looking digests up here costs a tenth of a statement a page. 34 bytes a
head are held, for one scope at a time, so that an experiment of a million runs takes 34 MB.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import Kind
from stocktake.store.claims import Claim
from stocktake.store.engine import driver

# A row of a binary COPY of (bytea of 16 bytes, bigint): field count, length, digest, length, id. All of one size.
_HEADER = 19
_ROW = 34
_DIGEST = slice(6, 22)
_ID = struct.Struct(">q")


class Heads:
    """The published heads of one scope. `meet` says whether a raw digest is one of them, and remembers that."""

    __slots__ = ("_count", "_met", "_rows")

    def __init__(self, rows: bytes) -> None:
        self._rows = rows
        self._count = len(rows) // _ROW
        self._met = bytearray(self._count)

    def __len__(self) -> int:
        return self._count

    def meet(self, digest: bytes) -> bool:
        """Say whether an item with these raw bytes is published as it is."""
        index = self._find(digest)
        if index is None:
            return False
        self._met[index] = 1
        return True

    def met(self) -> int:
        """How many were met."""
        return self._met.count(1)

    def ids(self, *, met: bool) -> array[int]:
        """The ids of those that were met, or of those that were not."""
        return array("q", (self._id(index) for index, flag in enumerate(self._met) if flag == met))

    def superseded(self, later: Heads) -> array[int]:
        """The ids of those that were met here, but are published in another state by now."""
        if self._rows == later._rows:
            return array("q")
        return array(
            "q",
            (
                self._id(index)
                for index, flag in enumerate(self._met)
                if flag and later._find(self._digest(index)) is None
            ),
        )

    def _find(self, digest: bytes) -> int | None:
        index = bisect_left(range(self._count), digest, key=self._digest)
        return index if index < self._count and self._digest(index) == digest else None

    def _digest(self, index: int) -> bytes:
        start = index * _ROW
        return self._rows[start + _DIGEST.start : start + _DIGEST.stop]

    def _id(self, index: int) -> int:
        number: int = _ID.unpack_from(self._rows, index * _ROW + _ROW - 8)[0]
        return number


def of_scope(connection: Connection, claim: Claim, kind: Kind, partitions: Sequence[str]) -> Heads:
    """Read the live heads of some partitions. Relies on the index asset_live."""
    rows = bytearray()
    with (
        driver(connection).cursor() as cursor,
        cursor.copy(
            "COPY (SELECT CASE length(raw_digest) WHEN 16 THEN raw_digest ELSE decode(repeat('00', 16), 'hex') END,"
            " asset_id FROM asset WHERE workspace_id = %s AND kind = %s AND partition = ANY(%s) AND gone_at IS NULL"
            " ORDER BY 1) TO STDOUT (FORMAT BINARY)",
            (claim.workspace_id, str(kind), [canonical.escape(partition) for partition in partitions]),
        ) as copy,
    ):
        for block in copy:
            rows += block
    return Heads(bytes(memoryview(rows)[_HEADER:-2]))


def by_key(connection: Connection, claim: Claim, kind: Kind, digests: Mapping[str, bytes]) -> Mapping[str, int]:
    """Return, of a page of items from anywhere, those that are published as they are: key -> asset id.

    `digests` maps key to raw digest. One look-up in the index asset_key an item: for pages that belong to no scope.
    """
    stored = {canonical.escape(key): key for key in digests}
    rows = driver(connection).execute(
        """
        SELECT a.key, a.asset_id FROM unnest(%(keys)s::text[], %(raws)s::bytea[]) AS p (key, raw)
        JOIN asset a ON a.workspace_id = %(wid)s AND a.kind = %(kind)s AND a.key = p.key
        WHERE a.raw_digest = p.raw AND a.epoch = %(epoch)s AND a.gone_at IS NULL
        """,
        {
            "keys": list(stored),
            "raws": list(digests.values()),
            "epoch": claim.epoch,
            "wid": claim.workspace_id,
            "kind": kind,
        },
    )
    return {stored[key]: asset_id for key, asset_id in rows}


def others_published(connection: Connection, claim: Claim, since: datetime) -> bool:
    """Say whether another pass over this workspace may have published since a time: a hot pass during a sweep."""
    return bool(
        connection.execute(
            text(
                "SELECT EXISTS (SELECT 1 FROM scan WHERE workspace_id = :wid AND scan_id <> :scan"
                " AND (state = 'running' OR coalesce(last_finished_at, finished_at) >= :since))"
            ),
            {"wid": claim.workspace_id, "scan": claim.scan_id, "since": since},
        ).scalar()
    )


def keys(connection: Connection, ids: Sequence[int]) -> list[tuple[int, str]]:
    """Return the keys of some assets that are still there, with their ids."""
    rows: list[tuple[int, Any]] = (
        driver(connection)
        .execute(
            "SELECT asset_id, key FROM asset WHERE asset_id = ANY(%s) AND gone_at IS NULL ORDER BY asset_id",
            (list(ids),),
        )
        .fetchall()
    )
    return [(asset_id, canonical.unescape(key)) for asset_id, key in rows]
