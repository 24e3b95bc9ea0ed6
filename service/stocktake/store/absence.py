"""Absence: which heads a complete listing did not show, and what ends, waits or is marked deleted because of it.

Every function runs inside a transaction that its caller opened and fenced (store.claims.fence). Nothing here believes
a list alone: what may be ended was confirmed by id before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, text

from stocktake.core import canonical, diff
from stocktake.core.assets import PIECEMEAL, Category, ChangeType, Difference, Kind, Lifecycle
from stocktake.core.chain import LIFTED
from stocktake.store.claims import Claim
from stocktake.store.engine import driver
from stocktake.store.publish import Staged, change, write_changes

_BLOCK = 1_000

# The look before the removal: the last complete listing, or the published observation, whichever is later; for a
# removal that was withheld, the look before it was first noticed. A kind that is read piece by piece is completely seen
# though not every asset was looked at: there the published observation is the look.
_NOT_BEFORE = f"""
    FROM asset a
    LEFT JOIN scope c ON c.workspace_id = a.workspace_id AND c.kind = a.kind AND c.partition = a.partition
        AND c.kind NOT IN ({", ".join(f"'{kind}'" for kind in sorted(PIECEMEAL))})
    LEFT JOIN withheld w ON w.asset_id = a.asset_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Assets that one listing did not show, and that are confirmed gone: asked for at one time, answered by another."""

    ids: Sequence[int]
    began_at: datetime  # the listing
    at: datetime
    answered_at: datetime


def missing(connection: Connection, ids: Sequence[int], *, began_at: datetime, sees_deleted: bool) -> list[int]:
    """Return which of the unmet heads are missing: live, and known before the listing began."""
    rows = driver(connection).execute(
        "SELECT asset_id FROM asset WHERE asset_id = ANY(%s) AND gone_at IS NULL AND observed_at < %s"
        " AND (%s OR lifecycle <> 'deleted') ORDER BY asset_id",
        (list(ids), began_at, sees_deleted),
    )
    return [asset_id for (asset_id,) in rows]


def bereft(connection: Connection, claim: Claim, kind: Kind) -> list[int]:
    """Return the live assets of a kind whose parent, a job or a child of one, is gone."""
    rows = driver(connection).execute(
        "SELECT v.asset_id FROM asset p JOIN version v ON v.workspace_id = p.workspace_id AND v.kind = %(kind)s"
        " AND v.valid_to IS NULL AND v.parent = p.key"
        " WHERE p.workspace_id = %(wid)s AND p.kind IN ('job', 'child_job') AND p.gone_at IS NOT NULL"
        " ORDER BY v.asset_id",
        {"wid": claim.workspace_id, "kind": str(kind)},
    )
    return [asset_id for (asset_id,) in rows]


def purge(connection: Connection, claim: Claim, gone: Sequence[Gone]) -> list[int]:
    """End assets that are confirmed gone; return how many of each listing. Those published anew since their listing
    began are left alone."""
    raw = driver(connection)
    found = Difference(type=ChangeType.PURGED, category=Category.IDENTITY, fields=())
    counts = [0] * len(gone)
    each = ((asset_id, n) for n, one in enumerate(gone) for asset_id in one.ids)
    while block := dict(islice(each, _BLOCK)):
        ended = raw.execute(
            f"""
            WITH gone AS (
                SELECT a.asset_id, g.at, coalesce(w.not_before, greatest(a.observed_at, c.last_complete_at))
                       AS not_before
                {_NOT_BEFORE}
                JOIN unnest(%(ids)s::bigint[], %(begans)s::timestamptz[], %(ats)s::timestamptz[])
                     AS g (asset_id, began, at) ON g.asset_id = a.asset_id
                WHERE a.gone_at IS NULL AND a.observed_at < g.began),
            ended AS (
                UPDATE asset a SET gone_at = g.at FROM gone g WHERE a.asset_id = g.asset_id
                RETURNING a.asset_id, a.kind, a.observed_at, g.not_before, g.at)
            UPDATE version v SET valid_to = e.at FROM ended e
            WHERE v.asset_id = e.asset_id AND v.valid_from = e.observed_at AND v.valid_to IS NULL
            RETURNING v.asset_id, v.kind, e.not_before, v.name, v.partition, v.parent
            """,
            {
                "ids": list(block),
                "begans": [gone[n].began_at for n in block.values()],
                "ats": [gone[n].at for n in block.values()],
            },
        ).fetchall()
        changes = []
        for asset_id, kind, before, name, partition, parent in sorted(ended):
            one = gone[block[asset_id]]
            counts[block[asset_id]] += 1
            told = diff.story(Kind(kind), found, partition=partition, parent=parent)
            changes.append(change(claim, asset_id, kind, one.at, before, one.answered_at, name, found, told))
        write_changes(raw, claim, changes)
        raw.execute("DELETE FROM withheld WHERE asset_id = ANY(%s)", ([row[0] for row in ended],))
    return counts


def as_deleted(
    connection: Connection, ids: Sequence[int], *, at: datetime, answered_at: datetime
) -> Iterator[list[Staged]]:
    """Make the deleted state of assets whose source shows no deleted ones: their last document, marked deleted."""
    columns = ", ".join(f"v.{name}" for name in LIFTED)
    for start in range(0, len(ids), _BLOCK):
        rows = driver(connection).execute(
            f"SELECT v.kind, a.key, v.partition, v.document, v.aside, {columns}"
            " FROM version v JOIN asset a USING (asset_id) WHERE v.asset_id = ANY(%s) AND v.valid_to IS NULL",
            (list(ids[start : start + _BLOCK]),),
        )
        made = []
        for kind, key, partition, before, aside, *lifted in rows:
            document = canonical.encode(canonical.decode(before) | {"lifecycle_stage": str(Lifecycle.DELETED)})
            made.append(
                Staged(
                    kind, key, partition, canonical.whole_digest(document), b"\0" * 16, at, str(Lifecycle.DELETED),
                    tuple(lifted), document, aside.encode() if aside else None, None, answered_at,
                )
            )  # fmt: skip
        yield made


def live(connection: Connection, claim: Claim, kind: Kind, *, sees_deleted: bool) -> int:
    """Count the assets of a kind whose absence could be noticed."""
    row = (
        driver(connection)
        .execute(
            "SELECT count(*) FROM asset WHERE workspace_id = %s AND kind = %s AND gone_at IS NULL"
            " AND (%s OR lifecycle <> 'deleted')",
            (claim.workspace_id, kind, sees_deleted),
        )
        .fetchone()
    )
    return int(row[0]) if row else 0


def withhold(connection: Connection, claim: Claim, ids: Sequence[int], *, counts: bool) -> set[int]:
    """Remember removals that are too many to believe at once. Returns those that may be published now:
    confirmed by id in two sweeps (`counts`: this scan is one), or accepted by an operator."""
    rows = driver(connection).execute(
        f"""
        INSERT INTO withheld AS w (asset_id, workspace_id, kind, partition, since, not_before, scan_id, confirmations)
        SELECT a.asset_id, a.workspace_id, a.kind, a.partition, clock_timestamp(),
               coalesce(w.not_before, greatest(a.observed_at, c.last_complete_at)), %(scan)s, %(one)s
        {_NOT_BEFORE} WHERE a.asset_id = ANY(%(ids)s)
        ORDER BY a.asset_id
        ON CONFLICT (asset_id) DO UPDATE SET scan_id = excluded.scan_id,
            confirmations = w.confirmations + CASE WHEN w.scan_id = excluded.scan_id THEN 0 ELSE %(one)s END
        RETURNING asset_id, confirmations >= 2 OR accepted_at IS NOT NULL
        """,
        {"scan": claim.scan_id, "one": 1 if counts else 0, "ids": list(ids)},
    )
    return {asset_id for asset_id, ready in rows if ready}


def withheld(connection: Connection, claim: Claim) -> frozenset[int]:
    """Return the assets whose removal is withheld."""
    rows = connection.execute(
        text("SELECT asset_id FROM withheld WHERE workspace_id = :wid"), {"wid": claim.workspace_id}
    )
    return frozenset(rows.scalars())


def seen_after_all(connection: Connection, ids: Sequence[int]) -> None:
    """Drop the withheld removals of assets that were seen."""
    driver(connection).execute("DELETE FROM withheld WHERE asset_id = ANY(%s)", (list(ids),))
