"""The heads of what a page may hold: which raw digests are published, read once a scope and compared in memory.

Reading the heads of a scope at once and looking digests up here costs a tenth of a statement a page. 24 bytes a head
are held, for one scope at a time, so that an experiment of a million runs takes 24 MB.
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

# A head in the block that the database makes: 16 bytes of raw digest, 8 of id, sorted by digest.
_DIGEST = 16
_ROW = 24
_ID = struct.Struct(">q")
#: Up to so many heads are indexed by a dictionary (about 150 bytes each); more are searched by halving.
_INDEXED = 50_000


class Heads:
    """The published heads of one scope. `meet` says whether a raw digest is one of them, and remembers that."""

    __slots__ = ("_count", "_index", "_met", "_rows")

    def __init__(self, rows: bytes) -> None:
        self._rows = rows
        self._count = len(rows) // _ROW
        self._met = bytearray(self._count)
        few = range(self._count if self._count <= _INDEXED else 0)
        self._index = {rows[i * _ROW : i * _ROW + _DIGEST]: i for i in few}

    def __len__(self) -> int:
        return self._count

    def meet(self, digest: bytes) -> bool:
        """Say whether an item with these raw bytes is published as it is."""
        index = self._find(digest)
        if index is None:
            return False
        self._met[index] = 1
        return True

    def meet_again(self, ids: Sequence[int]) -> None:
        """Remember those as met that an earlier part of the same listing showed."""
        wanted = frozenset(ids)
        for index in range(self._count):
            if self._id(index) in wanted:
                self._met[index] = 1

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
        if self._count <= _INDEXED:
            return self._index.get(digest)
        index = bisect_left(range(self._count), digest, key=self._digest)
        return index if index < self._count and self._digest(index) == digest else None

    def _digest(self, index: int) -> bytes:
        return self._rows[index * _ROW : index * _ROW + _DIGEST]

    def _id(self, index: int) -> int:
        number: int = _ID.unpack_from(self._rows, index * _ROW + _DIGEST)[0]
        return number


def of_scope(connection: Connection, claim: Claim, kind: Kind, partitions: Sequence[str]) -> Heads:
    """Read the live heads of some partitions. Relies on the index asset_live."""
    with driver(connection).cursor(binary=True) as cursor:
        row = cursor.execute(
            "SELECT string_agg(head, ''::bytea ORDER BY head) FROM ("
            " SELECT CASE length(raw_digest) WHEN 16 THEN raw_digest ELSE decode(repeat('00', 16), 'hex') END"
            "  || int8send(asset_id) AS head FROM asset"
            " WHERE workspace_id = %s AND kind = %s AND partition = ANY(%s) AND gone_at IS NULL) live",
            (claim.workspace_id, str(kind), [canonical.escape(partition) for partition in partitions]),
        ).fetchone()
    return Heads(row[0] if row is not None and row[0] is not None else b"")


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
