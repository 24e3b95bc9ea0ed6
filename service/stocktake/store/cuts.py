"""Where a listing was cut, and what it had shown by then: the next scan takes it up, and claims only what both saw.

A scope that was listed in parts is complete as of the time when its first part began, as if one long scan had listed
it: what is in neither part is asked for by id, as ever.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from stocktake.core import canonical
from stocktake.core.assets import Kind
from stocktake.store.claims import Claim
from stocktake.store.engine import driver

#: A listing is spread over so long at most: a place in a list does not stay valid for ever, and who would know for how
#: long. One that turns out stale costs one failed request, and the list is begun anew.
_LONGEST = "1 day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A listing that was cut. `place` is the source's own word for where it goes on."""

    place: str
    began_at: datetime
    listed: int  # items, in all the parts until here
    problem: str | None  # the first that there was
    seen: array[int]  # the ids of the assets that the parts until here showed


def save(connection: Connection, claim: Claim, kind: Kind, cut: Cut) -> None:
    """Remember a cut. In the fenced transaction after which all that it has seen is published."""
    driver(connection).execute(
        "INSERT INTO cut_listing (workspace_id, kind, place, began_at, scan_id, epoch, listed, problem, seen)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (workspace_id, kind) DO UPDATE SET"
        " place = excluded.place, began_at = excluded.began_at, saved_at = clock_timestamp(),"
        " scan_id = excluded.scan_id, epoch = excluded.epoch, listed = excluded.listed, problem = excluded.problem,"
        " seen = excluded.seen",
        (
            claim.workspace_id, str(kind), canonical.escape(cut.place), cut.began_at, claim.scan_id, claim.epoch,
            cut.listed, canonical.escape(cut.problem) if cut.problem else None, cut.seen.tobytes(),
        ),
    )  # fmt: skip


def find(connection: Connection, claim: Claim, kind: Kind) -> Cut | None:
    """The cut that this scan may take up: not an old one, none of another normalisation, and none that another scan
    may be taking up at this moment."""
    row = (
        driver(connection)
        .execute(
            "SELECT place, began_at, listed, problem, seen FROM cut_listing c WHERE workspace_id = %(wid)s"
            " AND kind = %(kind)s AND epoch = %(epoch)s"
            f" AND began_at > clock_timestamp() - interval '{_LONGEST}' AND NOT EXISTS (SELECT 1 FROM scan s"
            " WHERE s.workspace_id = c.workspace_id AND s.scan_id <> %(scan)s AND s.state = 'running')",
            {"wid": claim.workspace_id, "kind": str(kind), "epoch": claim.epoch, "scan": claim.scan_id},
        )
        .fetchone()
    )
    if row is None:
        return None
    place, began_at, listed, problem, raw = row
    seen = array("q")
    seen.frombytes(raw)
    return Cut(place=canonical.unescape(place), began_at=began_at, listed=listed, problem=problem, seen=seen)


def forget(connection: Connection, claim: Claim, kinds: Collection[Kind]) -> None:
    """Drop the cuts of listings that came to their end, or cannot be taken up."""
    driver(connection).execute(
        "DELETE FROM cut_listing WHERE workspace_id = %s AND kind = ANY(%s)",
        (claim.workspace_id, sorted(kinds)),
    )
