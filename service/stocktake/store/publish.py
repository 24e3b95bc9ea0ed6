"""Publishing: what a scan saw becomes versions and changes, in set-based SQL, unchanged assets untouched.

Every function runs inside a transaction that its caller opened and fenced (store.claims.fence).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import psycopg
from sqlalchemy import Connection, text

from stocktake.core import canonical, diff
from stocktake.core.assets import Asset, Category, ChangeType, Difference, Kind, Lifecycle
from stocktake.core.words import words
from stocktake.store.claims import Claim

#: A creation seen through a permission filter counts only if the source's own time is younger than the last look,
#: by this margin for clocks that differ: otherwise the asset may merely have become visible.
_CLOCK_MARGIN = "1 hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """An asset on its way in: parsed, redacted, in canonical form."""

    asset: Asset
    document: bytes
    aside: bytes | None
    raw_digest: bytes
    observed_at: datetime


_STAGE = (
    ("kind", "text"), ("key", "text"), ("partition", "text"), ("digest", "bytea"), ("raw_digest", "bytea"),
    ("observed_at", "timestamptz"), ("lifecycle", "text"), ("name", "text"), ("state", "text"), ("owner", "text"),
    ("parent", "text"), ("run", "text"), ("created_at", "timestamptz"), ("started_at", "timestamptz"),
    ("ended_at", "timestamptz"), ("artifact_uri", "text"), ("code_version", "text"), ("data_version", "text"),
    ("params_digest", "text"), ("document", "text"), ("aside", "text"), ("actor", "text"),
)  # fmt: skip

_VERSION_COLUMNS = (
    "digest, lifecycle, partition, name, state, owner, parent, run, created_at, started_at, ended_at,"
    " artifact_uri, code_version, data_version, params_digest, document, aside"
)


def prepare(connection: Connection) -> None:
    """Make this session's temporary tables: `seen` (assets met since the last flush) and `stage`."""
    columns = ", ".join(f"{name} {kind}" for name, kind in _STAGE)
    connection.execute(text("CREATE TEMP TABLE IF NOT EXISTS seen (asset_id bigint NOT NULL)"))
    connection.execute(
        text(
            f"CREATE TEMP TABLE IF NOT EXISTS stage ({columns}, asset_id bigint, previous timestamptz,"
            " not_before timestamptz, what text)"
        )
    )
    connection.execute(text("TRUNCATE seen, stage"))


def unchanged(connection: Connection, claim: Claim, kind: Kind, digests: Mapping[str, bytes]) -> set[str]:
    """Mark the known keys of a page as seen and return those whose raw bytes are what they were.

    `digests` maps key to keyed raw digest. One look-up in the index asset_key per item.
    """
    stored = {canonical.escape(key): key for key in digests}
    rows = _raw(connection).execute(
        """
        WITH page AS (SELECT * FROM unnest(%(keys)s::text[], %(raws)s::bytea[]) AS p (key, raw)),
        hit AS (
            SELECT a.asset_id, p.key,
                   a.raw_digest = p.raw AND a.epoch = %(epoch)s AND a.gone_at IS NULL AS same
            FROM page p JOIN asset a ON a.workspace_id = %(wid)s AND a.kind = %(kind)s AND a.key = p.key
        ),
        mark AS (INSERT INTO seen SELECT asset_id FROM hit)
        SELECT key FROM hit WHERE same
        """,
        {
            "keys": list(stored),
            "raws": list(digests.values()),
            "epoch": claim.epoch,
            "wid": claim.workspace_id,
            "kind": kind,
        },
    )
    return {stored[key] for (key,) in rows}


def publish(connection: Connection, claim: Claim, staged: Iterable[Staged]) -> Counter[str]:
    """Write new and changed assets. Returns counts by change type, plus "baseline" and "rebased"."""
    raw = _raw(connection)
    if not _copy_stage(raw, staged):
        return Counter()
    given = {"wid": claim.workspace_id, "epoch": claim.epoch, "scan": claim.scan_id, "margin": _CLOCK_MARGIN}
    raw.execute("ANALYZE stage")
    raw.execute(_JUDGE_KNOWN, given)
    for partitioned in (False, True):  # experiments before what lies in them
        raw.execute(_JUDGE_NEW, given | {"partitioned": partitioned})
    raw.execute(_RENEW_HEADS, given)
    raw.execute(_RENEW_ASIDE)
    raw.execute("INSERT INTO seen SELECT asset_id FROM stage WHERE what IN ('same', 'renewed')")
    raw.execute("DELETE FROM stage WHERE what IN ('stale', 'same', 'renewed')")
    counts: Counter[str] = Counter()
    for what, number in raw.execute("SELECT what, count(*) FROM stage GROUP BY what"):
        if what in ("baseline", "rebased", "created"):
            counts[what] += number
    first = _last_change(raw)
    raw.execute(_INSERT_ASSETS, given)
    raw.execute("UPDATE stage s SET asset_id = a.asset_id FROM asset a WHERE s.asset_id IS NULL"
                " AND a.workspace_id = %(wid)s AND a.kind = s.kind AND a.key = s.key", given)  # fmt: skip
    raw.execute("INSERT INTO seen SELECT asset_id FROM stage")
    raw.execute(_CREATIONS, given)
    for found in _write_differences(connection, claim):
        counts[found] += 1
    raw.execute("UPDATE version v SET valid_to = s.observed_at FROM stage s WHERE v.asset_id = s.asset_id"
                " AND v.valid_from = s.previous AND v.valid_to IS NULL")  # fmt: skip
    raw.execute(
        f"INSERT INTO version (asset_id, valid_from, workspace_id, kind, scan_id, {_VERSION_COLUMNS})"
        f" SELECT asset_id, observed_at, %(wid)s, kind, %(scan)s, {_VERSION_COLUMNS} FROM stage",
        given,
    )
    raw.execute(_ADVANCE_HEADS, given)
    raw.execute("DELETE FROM withheld w USING stage s WHERE w.asset_id = s.asset_id")
    _tell_stories(raw, claim, first)
    raw.execute("TRUNCATE stage")
    return counts


# Known assets: older news than what is published is refused, equal documents change nothing. The look before the
# change is the last complete listing of the partition, or the published observation, whichever is later.
_JUDGE_KNOWN = """
UPDATE stage s SET
    asset_id = a.asset_id,
    previous = CASE WHEN a.gone_at IS NULL THEN a.observed_at END,
    not_before = greatest(a.observed_at, a.gone_at, c.last_complete_at),
    what = CASE
        WHEN a.observed_at >= s.observed_at OR a.gone_at >= s.observed_at THEN 'stale'
        -- A complete look that began later has seen it since, and found it as it is published.
        WHEN greatest(c.last_complete_at, c.last_listed_at) > s.observed_at THEN 'stale'
        WHEN a.gone_at IS NOT NULL THEN 'restored'
        WHEN a.digest = s.digest THEN CASE WHEN a.epoch = %(epoch)s THEN 'same' ELSE 'renewed' END
        WHEN a.epoch <> %(epoch)s AND a.lifecycle = s.lifecycle THEN 'rebased'
        ELSE 'changed' END
FROM asset a
LEFT JOIN scope c ON c.workspace_id = a.workspace_id AND c.kind = a.kind AND c.partition = a.partition
WHERE a.workspace_id = %(wid)s AND a.kind = s.kind AND a.key = s.key
"""

# New assets: created, if their scope had been listed completely before, or their experiment was itself seen to be
# created; through a permission filter only if the source says that it is younger than the last look; else baseline.
_JUDGE_NEW = """
UPDATE stage s SET
    what = CASE
        WHEN greatest(d.last_complete_at, d.last_listed_at) > s.observed_at THEN 'stale'
        WHEN d.first_complete_at IS NOT NULL OR d.parent_created THEN 'created'
        WHEN d.first_listed_at IS NOT NULL AND s.created_at > d.last_listed_at - %(margin)s::interval THEN 'created'
        ELSE 'baseline' END,
    not_before = coalesce(d.last_complete_at, d.last_listed_at, d.parent_not_before)
FROM (
    SELECT p.kind, p.partition, c.first_complete_at, c.first_listed_at, c.last_complete_at, c.last_listed_at,
           e.asset_id IS NOT NULL OR x.key IS NOT NULL AS parent_created,
           coalesce(x.not_before, (SELECT h.not_before FROM change h WHERE h.asset_id = e.asset_id
            AND h.type = 'created' ORDER BY h.at DESC LIMIT 1)) AS parent_not_before
    FROM (SELECT DISTINCT kind, partition FROM stage
          WHERE asset_id IS NULL AND (partition <> '') = %(partitioned)s) p
    LEFT JOIN stage x ON x.kind = 'experiment' AND x.key = p.partition AND x.what = 'created' AND p.partition <> ''
    LEFT JOIN scope c ON c.workspace_id = %(wid)s AND c.kind = p.kind AND c.partition = p.partition
    LEFT JOIN asset e ON e.workspace_id = %(wid)s AND e.kind = 'experiment' AND e.key = p.partition
        AND NOT e.baseline AND p.partition <> ''
) d
WHERE s.asset_id IS NULL AND s.kind = d.kind AND s.partition = d.partition
"""

# Equal documents after a change of our own normalisation: the head learns the new digests, nothing else happens.
_RENEW_HEADS = """
UPDATE asset a SET epoch = %(epoch)s, raw_digest = s.raw_digest
FROM stage s WHERE s.what IN ('same', 'renewed') AND a.asset_id = s.asset_id
"""

# What only this source can know is kept beside the open version; it is not compared and makes no new one.
_RENEW_ASIDE = """
UPDATE version v SET aside = s.aside
FROM stage s WHERE s.what IN ('same', 'renewed') AND s.aside IS NOT NULL
    AND v.asset_id = s.asset_id AND v.valid_from = s.previous AND v.aside IS DISTINCT FROM s.aside
"""

_INSERT_ASSETS = """
INSERT INTO asset (workspace_id, kind, key, partition, digest, raw_digest, epoch, observed_at, first_seen, lifecycle,
                   baseline)
SELECT %(wid)s, kind, key, partition, digest, raw_digest, %(epoch)s, observed_at, observed_at, lifecycle,
       what = 'baseline'
FROM stage WHERE asset_id IS NULL
ORDER BY kind, key
"""

_CREATIONS = """
INSERT INTO change (workspace_id, asset_id, kind, scan_id, at, not_before, not_after, type, category, name, actor,
                    actor_source, fields)
SELECT %(wid)s, asset_id, kind, %(scan)s, observed_at, not_before, observed_at, 'created', 'identity', name, actor,
       CASE WHEN actor IS NOT NULL THEN 'user_id, as the client claimed' END, '[]'
FROM stage WHERE what = 'created'
ORDER BY asset_id
"""

_ADVANCE_HEADS = """
UPDATE asset a SET digest = s.digest, raw_digest = s.raw_digest, epoch = %(epoch)s, observed_at = s.observed_at,
    partition = s.partition, lifecycle = s.lifecycle, gone_at = NULL
FROM stage s WHERE a.asset_id = s.asset_id AND s.what NOT IN ('created', 'baseline')
"""


def _copy_stage(raw: psycopg.Connection[Any], staged: Iterable[Staged]) -> int:
    names = ", ".join(name for name, _ in _STAGE)
    written = 0
    with raw.cursor() as cursor, cursor.copy(f"COPY stage ({names}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([kind for _, kind in _STAGE])
        for item in staged:
            copy.write_row(_row(item))
            written += 1
    return written


def _row(item: Staged) -> tuple[Any, ...]:
    a = item.asset
    return (
        str(a.kind), canonical.escape(a.key), canonical.escape(a.partition), canonical.digest(item.document),
        item.raw_digest, item.observed_at, str(a.lifecycle), _text(a.name), _text(a.state), _text(a.owner),
        _text(a.parent), _text(a.run), a.created_at, a.started_at, a.ended_at, _text(a.artifact_uri),
        _text(a.code_version), _text(a.data_version), a.params_digest, item.document.decode(),
        item.aside.decode() if item.aside else None, _text(diff.author(a.document)),
    )  # fmt: skip


def _text(value: str | None) -> str | None:
    return None if value is None else canonical.escape(value)


def _write_differences(connection: Connection, claim: Claim) -> Iterator[str]:
    """Compare changed documents with their predecessors in pure code, and write the changes. Streams both ways."""
    raw = _raw(connection)
    with raw.cursor(name="pairs") as cursor:
        cursor.itersize = 500
        cursor.execute(
            """
            SELECT s.asset_id, s.kind, s.partition, s.parent, s.observed_at, s.not_before, s.name, s.document,
                   s.lifecycle, s.what, v.document AS before, v.lifecycle AS was
            FROM stage s LEFT JOIN version v ON v.asset_id = s.asset_id AND v.valid_from = s.previous
            WHERE s.what IN ('changed', 'restored')
            """
        )
        while rows := cursor.fetchmany(500):
            changes = []
            for aid, kind, partition, parent, at, not_before, name, after, now, what, before, was in rows:
                found = (
                    Difference(type=ChangeType.RESTORED, category=Category.STATE, fields=())
                    if what == "restored"
                    else diff.difference(
                        canonical.decode(before), canonical.decode(after), was=Lifecycle(was), now=Lifecycle(now)
                    )
                )
                if found is None:  # equal once decoded: nothing to report, the new bytes are published all the same
                    yield "rebased"
                    continue
                yield str(found.type)
                told = diff.story(Kind(kind), found, partition=partition, parent=parent)
                changes.append(_change(claim, aid, kind, at, not_before, name, found, told))
            _copy_changes(raw, changes)


def _change(
    claim: Claim, asset_id: int, kind: str, at: datetime, not_before: datetime | None, name: str | None,
    found: Difference, told: diff.Story | None,
) -> tuple[Any, ...]:  # fmt: skip
    fields = [{"path": f.path, "before": f.before, "after": f.after} for f in found.fields]
    return (
        claim.workspace_id, asset_id, kind, claim.scan_id, at, not_before, at, str(found.type), str(found.category),
        name, canonical.encode({"fields": fields})[len('{"fields":') : -1].decode(),
        str(told.kind) if told else None, told.key if told else None, str(told.type) if told else None,
    )  # fmt: skip


def _copy_changes(raw: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> None:
    columns = (
        "workspace_id, asset_id, kind, scan_id, at, not_before, not_after, type, category, name, fields,"
        " story_kind, story_key, story_type"
    )
    with raw.cursor() as cursor, cursor.copy(f"COPY change ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(
            words("int4 int8 text int8 timestamptz timestamptz timestamptz text text text text text text text")
        )
        for row in rows:
            copy.write_row(row)


def _last_change(raw: psycopg.Connection[Any]) -> int:
    row = raw.execute("SELECT coalesce(max(change_id), 0) FROM change").fetchone()
    return int(row[0]) if row else 0


def _tell_stories(raw: psycopg.Connection[Any], claim: Claim, after: int) -> None:
    """Fold a change into the larger one that explains it, if that one happened since this asset was last looked at."""
    raw.execute(
        """
        UPDATE change c SET part_of = (
            SELECT p.change_id FROM asset o JOIN change p ON p.asset_id = o.asset_id
            WHERE o.workspace_id = c.workspace_id AND o.kind = c.story_kind AND o.key = c.story_key
              AND p.type = c.story_type AND p.at <= c.at AND (c.not_before IS NULL OR p.at >= c.not_before)
              AND (p.type <> 'updated' OR p.scan_id = c.scan_id)
            ORDER BY p.at DESC LIMIT 1)
        WHERE c.scan_id = %(scan)s AND c.change_id > %(after)s AND c.story_kind IS NOT NULL
        """,
        {"scan": claim.scan_id, "after": after},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """An asset that a completely listed scope did not show."""

    asset_id: int
    kind: Kind
    key: str
    partition: str
    not_before: datetime


def missing(
    connection: Connection, claim: Claim, kind: Kind, covers: Sequence[tuple[str, datetime]], *, sees_deleted: bool
) -> list[Missing]:
    """Return live assets of the covered partitions that were not seen, and were known before their listing began.

    `covers` pairs each partition with the time its listing began. Relies on the index asset_live.
    """
    rows = _raw(connection).execute(
        """
        SELECT a.asset_id, a.key, a.partition, coalesce(w.not_before, greatest(a.observed_at, c.last_complete_at))
        FROM unnest(%(partitions)s::text[], %(begans)s::timestamptz[]) AS s (partition, began)
        JOIN asset a ON a.workspace_id = %(wid)s AND a.kind = %(kind)s AND a.partition = s.partition
            AND a.gone_at IS NULL
        LEFT JOIN scope c ON c.workspace_id = a.workspace_id AND c.kind = a.kind AND c.partition = a.partition
        LEFT JOIN withheld w ON w.asset_id = a.asset_id
        WHERE a.observed_at < s.began AND (%(sees)s OR a.lifecycle <> 'deleted')
          AND NOT EXISTS (SELECT 1 FROM seen WHERE seen.asset_id = a.asset_id)
        ORDER BY a.asset_id
        """,
        {
            "partitions": [canonical.escape(partition) for partition, _ in covers],
            "begans": [began for _, began in covers],
            "wid": claim.workspace_id,
            "kind": kind,
            "sees": sees_deleted,
        },
    )
    return [
        Missing(asset_id=asset_id, kind=kind, key=canonical.unescape(key), partition=partition, not_before=not_before)
        for asset_id, key, partition, not_before in rows
    ]


def purge(connection: Connection, claim: Claim, gone: Sequence[Missing], *, at: datetime) -> int:
    """End assets that are confirmed gone. Those published anew since they were found missing are left alone."""
    raw = _raw(connection)
    first = _last_change(raw)
    ended = raw.execute(
        """
        WITH gone AS (
            SELECT * FROM unnest(%(ids)s::bigint[], %(befores)s::timestamptz[]) AS g (asset_id, not_before)),
        ended AS (
            UPDATE asset a SET gone_at = %(at)s FROM gone g
            WHERE a.asset_id = g.asset_id AND a.gone_at IS NULL AND a.observed_at <= g.not_before
            RETURNING a.asset_id, a.kind, a.observed_at, g.not_before)
        UPDATE version v SET valid_to = %(at)s FROM ended e
        WHERE v.asset_id = e.asset_id AND v.valid_from = e.observed_at AND v.valid_to IS NULL
        RETURNING v.asset_id, v.kind, e.not_before, v.name, v.partition, v.parent
        """,
        {"ids": [m.asset_id for m in gone], "befores": [m.not_before for m in gone], "at": at},
    ).fetchall()
    found = Difference(type=ChangeType.PURGED, category=Category.IDENTITY, fields=())
    _copy_changes(
        raw,
        [
            _change(
                claim, asset_id, kind, at, before, name, found,
                diff.story(Kind(kind), found, partition=partition, parent=parent),
            )
            for asset_id, kind, before, name, partition, parent in sorted(ended)
        ],
    )  # fmt: skip
    raw.execute("DELETE FROM withheld WHERE asset_id = ANY(%s)", ([row[0] for row in ended],))
    _tell_stories(raw, claim, first)
    return len(ended)


def as_deleted(connection: Connection, gone: Sequence[Missing], *, at: datetime) -> list[Staged]:
    """Make the deleted state of assets whose source shows no deleted ones: their last document, marked deleted."""
    rows = connection.execute(
        text("SELECT v.*, a.key FROM version v JOIN asset a USING (asset_id)"
             " WHERE v.asset_id = ANY(:ids) AND v.valid_to IS NULL"),
        {"ids": [m.asset_id for m in gone]},
    )  # fmt: skip
    staged = []
    for row in rows:
        document = dict(canonical.decode(row.document), lifecycle_stage=str(Lifecycle.DELETED))
        asset = Asset(
            kind=Kind(row.kind),
            key=canonical.unescape(row.key),
            document=document,
            partition=canonical.unescape(row.partition),
        )
        lifted = words(
            "name state owner parent run created_at started_at ended_at artifact_uri code_version data_version "
            "params_digest"
        )  # fmt: skip
        asset = replace(
            asset, lifecycle=Lifecycle.DELETED, **{column: _original(getattr(row, column)) for column in lifted}
        )
        staged.append(
            Staged(
                asset=asset,
                document=canonical.encode(document),
                aside=row.aside.encode() if row.aside else None,
                raw_digest=b"\0" * 16,
                observed_at=at,
            )
        )
    return staged


def _original(value: Any) -> Any:
    return canonical.unescape(value) if isinstance(value, str) else value


def live(connection: Connection, claim: Claim, kind: Kind, *, sees_deleted: bool) -> int:
    """Count the assets of a kind whose absence could be noticed."""
    row = (
        _raw(connection)
        .execute(
            "SELECT count(*) FROM asset WHERE workspace_id = %s AND kind = %s AND gone_at IS NULL"
            " AND (%s OR lifecycle <> 'deleted')",
            (claim.workspace_id, kind, sees_deleted),
        )
        .fetchone()
    )
    return int(row[0]) if row else 0


def withhold(connection: Connection, claim: Claim, gone: Sequence[Missing], *, counts: bool) -> set[int]:
    """Remember removals that are too many to believe at once. Returns those that may be published now:
    confirmed by id in two sweeps (`counts`: this scan is one), or accepted by an operator."""
    rows = _raw(connection).execute(
        """
        INSERT INTO withheld AS w (asset_id, workspace_id, kind, partition, since, not_before, scan_id, confirmations)
        SELECT g.asset_id, %(wid)s, %(kind)s, g.partition, clock_timestamp(), g.not_before, %(scan)s, %(one)s
        FROM unnest(%(ids)s::bigint[], %(partitions)s::text[], %(befores)s::timestamptz[])
            AS g (asset_id, partition, not_before)
        ORDER BY g.asset_id
        ON CONFLICT (asset_id) DO UPDATE SET scan_id = excluded.scan_id,
            confirmations = w.confirmations + CASE WHEN w.scan_id = excluded.scan_id THEN 0 ELSE %(one)s END
        RETURNING asset_id, confirmations >= 2 OR accepted_at IS NOT NULL
        """,
        {
            "wid": claim.workspace_id,
            "kind": gone[0].kind,
            "scan": claim.scan_id,
            "one": 1 if counts else 0,
            "ids": [m.asset_id for m in gone],
            "partitions": [m.partition for m in gone],
            "befores": [m.not_before for m in gone],
        },
    )
    return {asset_id for asset_id, ready in rows if ready}


def forget_seen(connection: Connection) -> None:
    """Drop the withheld removals of assets that were seen after all, and start a new block of scopes."""
    raw = _raw(connection)
    raw.execute("DELETE FROM withheld w USING seen s WHERE w.asset_id = s.asset_id")
    raw.execute("TRUNCATE seen")


def _raw(connection: Connection) -> psycopg.Connection[Any]:
    """Return the psycopg connection under a SQLAlchemy one: COPY and server-side cursors live there."""
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)
