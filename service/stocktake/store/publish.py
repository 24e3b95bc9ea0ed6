"""Publishing: what a scan saw becomes versions and changes, in set-based SQL, unchanged assets untouched.

Every function runs inside a transaction that its caller opened and fenced (store.claims.fence). A document is sent to
the database once, straight into `version`: what is judged in SQL is a narrow stage of keys and digests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from sqlalchemy import Connection

from stocktake.core import canonical, diff
from stocktake.core.assets import PIECEMEAL, Asset, Category, ChangeType, Difference, Kind, Lifecycle
from stocktake.core.chain import LIFTED, Row, Sort, What, micros, version_body
from stocktake.store import chain
from stocktake.store.claims import Claim
from stocktake.store.engine import copy_rows, driver

#: A creation seen through a permission filter counts only if the source's own time is younger than the last look,
#: by this margin for clocks that differ: otherwise the asset may merely have become visible.
_CLOCK_MARGIN = "1 hour"

_NAME, _PARENT, _CREATED_AT = (LIFTED.index(name) for name in ("name", "parent", "created_at"))


class Staged(msgspec.Struct, frozen=True, gc=False):
    """An asset on its way in: redacted, in canonical form, every text as Postgres can hold it."""

    kind: str
    key: str
    partition: str
    whole: bytes  # the whole digest of the document
    raw_digest: bytes
    observed_at: datetime
    lifecycle: str
    lifted: tuple[Any, ...]
    document: bytes
    aside: bytes | None
    actor: str | None  # who made it, as the client claimed
    answered_at: datetime  # the state held at some moment between observed_at and this
    confirmed: bool = False  # it was asked for by id, alone: what it shows is believed

    @property
    def digest(self) -> bytes:
        """The digest that heads compare."""
        return self.whole[:16]


def staged(
    asset: Asset, document: bytes, aside: bytes | None, raw_digest: bytes, observed_at: datetime,
    answered_at: datetime | None = None,
) -> Staged:  # fmt: skip
    """Make an asset ready to be published; its document is already redacted and in canonical form."""
    texts: tuple[str | None, ...] = (
        asset.key, asset.partition, asset.name, asset.state, asset.owner, asset.parent, asset.run,
        asset.artifact_uri, asset.code_version, asset.data_version, diff.author(asset.document),
    )  # fmt: skip
    if canonical.escape(joined := "".join(filter(None, texts))) != joined:
        texts = tuple(text and canonical.escape(text) for text in texts)
    key, partition, name, state, owner, parent, run, artifact_uri, code_version, data_version, author = texts
    return Staged(
        str(asset.kind), key or "", partition or "", canonical.whole_digest(document), raw_digest, observed_at,
        str(asset.lifecycle),
        (name, state, owner, parent, run, asset.created_at, asset.started_at, asset.ended_at, artifact_uri,
         code_version, data_version, asset.params_digest),
        document, aside, author, answered_at or observed_at,
    )  # fmt: skip


@dataclass(slots=True)
class Published:
    """What became of a batch: counts by change type (and "baseline", "rebased"), and the assets known before."""

    counts: Counter[str] = field(default_factory=Counter)
    known: set[int] = field(default_factory=set)


_STAGE = (
    ("n", "int4"), ("kind", "text"), ("key", "text"), ("partition", "text"), ("digest", "bytea"),
    ("raw_digest", "bytea"), ("observed_at", "timestamptz"), ("lifecycle", "text"), ("created_at", "timestamptz"),
)  # fmt: skip
_VERSION = (
    ("asset_id", "int8"), ("valid_from", "timestamptz"), ("workspace_id", "int4"), ("kind", "text"),
    ("scan_id", "int8"), ("digest", "bytea"), ("lifecycle", "text"), ("partition", "text"),
    *((name, "timestamptz" if name.endswith("_at") else "text") for name in LIFTED),
    ("document", "text"), ("aside", "text"),
)  # fmt: skip
_CHANGE = (
    ("workspace_id", "int4"), ("asset_id", "int8"), ("kind", "text"), ("scan_id", "int8"), ("at", "timestamptz"),
    ("not_before", "timestamptz"), ("not_after", "timestamptz"), ("type", "text"), ("category", "text"),
    ("name", "text"), ("actor", "text"), ("actor_source", "text"), ("fields", "text"), ("story_kind", "text"),
    ("story_key", "text"), ("story_type", "text"),
)  # fmt: skip


def publish(
    connection: Connection, claim: Claim, batch: Sequence[Staged], clean: Callable[[Any], Any] = lambda one: one
) -> Published:
    """Write new and changed assets. `clean` takes out of their predecessors what was removed since (a redaction that
    was cut short leaves some of it): a value that is gone must not come back as what a field was before."""
    done = Published()
    if not batch:
        return done
    raw = driver(connection)
    raw.execute(_MAKE_STAGE)
    copy_rows(raw, "stage", _STAGE, ((n, s.kind, s.key, s.partition, s.digest, s.raw_digest, s.observed_at, s.lifecycle,
                                  s.lifted[_CREATED_AT]) for n, s in enumerate(batch)))  # fmt: skip
    given = {"wid": claim.workspace_id, "epoch": claim.epoch, "scan": claim.scan_id, "margin": _CLOCK_MARGIN,
             "piecemeal": sorted(PIECEMEAL)}  # fmt: skip
    raw.execute("ANALYZE stage")
    raw.execute(_JUDGE_KNOWN, given)
    for partitioned in (False, True):  # experiments before what lies in them
        raw.execute(_JUDGE_NEW, given | {"partitioned": partitioned})
    done.known |= {asset_id for (asset_id,) in raw.execute("SELECT asset_id FROM stage WHERE what IS DISTINCT FROM"
                   " 'created' AND what IS DISTINCT FROM 'baseline' AND asset_id IS NOT NULL")}  # fmt: skip
    if done.known:
        raw.execute(_RENEW_HEADS, given)
        _renew_asides(raw, batch)
    raw.execute("DELETE FROM stage WHERE what IN ('stale', 'same', 'renewed')")
    raw.execute(_INSERT_ASSETS, given)
    first = _last_change(raw)
    judged = [
        (batch[n], asset_id, not_before, what)
        for n, asset_id, not_before, what in raw.execute(
            "SELECT n, asset_id, not_before, what FROM stage ORDER BY asset_id"
        )
    ]
    done.counts.update(what for *_, what in judged if what in ("baseline", "rebased", "created"))
    members = list[Row]()
    created = (_created(claim, s, asset_id, at) for s, asset_id, at, what in judged if what == "created")
    _copy_changes(raw, created, members)
    compared = {a: (s, at) for s, a, at, what in judged if what in _COMPARED}
    counts, doubted = _write_differences(raw, claim, compared, clean, members)
    done.counts += counts
    if doubted:  # as if it had not been seen: a scope that ends asks for it by id
        raw.execute("DELETE FROM stage WHERE asset_id = ANY(%s)", (list(doubted),))
        done.known -= doubted
        judged = [one for one in judged if one[1] not in doubted]
    if done.known:
        raw.execute("UPDATE version v SET valid_to = s.observed_at FROM stage s WHERE v.asset_id = s.asset_id"
                    " AND v.valid_from = s.previous AND v.valid_to IS NULL")  # fmt: skip
        raw.execute(_ADVANCE_HEADS, given)
        raw.execute("DELETE FROM withheld w USING stage s WHERE w.asset_id = s.asset_id")
    copy_rows(raw, "version", _VERSION, (_version(claim, s, asset_id) for s, asset_id, _, _ in judged))
    members += _members(claim, ((s, asset_id) for s, asset_id, _, _ in judged))
    chain.append(raw, claim.workspace_id, What.PUBLISHED, members, key=claim.salts, scan=claim.scan_id)
    tell_stories(raw, claim, first)
    raw.execute("TRUNCATE stage")
    return done


_COMPARED = ("changed", "restored")

# A temporary table of the session, made when there is something to judge: most scans find nothing, and would only write
# the catalogue.
_MAKE_STAGE = f"""
CREATE TEMP TABLE IF NOT EXISTS stage ({", ".join(f"{name} {kind}" for name, kind in _STAGE)},
    asset_id bigint, previous timestamptz, not_before timestamptz, what text)
"""

# Known assets: older news than what is published is refused, equal documents change nothing. The look before the
# change is the last complete listing of the partition, or the published observation, whichever is later. Of what is
# read parent by parent no listing is a look at each.
_JUDGE_KNOWN = """
UPDATE stage s SET
    asset_id = a.asset_id,
    previous = CASE WHEN a.gone_at IS NULL THEN a.observed_at END,
    not_before = greatest(a.observed_at, a.gone_at, CASE WHEN a.kind <> ALL(%(piecemeal)s) THEN c.last_complete_at END),
    what = CASE
        WHEN a.observed_at >= s.observed_at OR a.gone_at >= s.observed_at THEN 'stale'
        -- A complete look that began later has seen it since, and found it as it is published.
        WHEN a.kind <> ALL(%(piecemeal)s)
            AND greatest(c.last_complete_at, c.last_listed_at) > s.observed_at THEN 'stale'
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
# A filtered look that did not show it says nothing of when it began: only a complete one is a look before.
_JUDGE_NEW = """
UPDATE stage s SET
    asset_id = nextval('asset_asset_id_seq'),
    what = CASE
        WHEN greatest(d.last_complete_at, d.last_listed_at) > s.observed_at THEN 'stale'
        -- First met as deleted, and older than the last look: it may merely be that nobody showed deleted ones before.
        WHEN s.lifecycle = 'deleted' AND s.created_at <= d.last_complete_at - %(margin)s::interval THEN 'baseline'
        WHEN d.first_complete_at IS NOT NULL OR d.parent_created THEN 'created'
        WHEN d.first_listed_at IS NOT NULL AND s.created_at > d.last_listed_at - %(margin)s::interval THEN 'created'
        ELSE 'baseline' END,
    not_before = coalesce(d.last_complete_at, CASE WHEN d.parent_created THEN d.parent_not_before END,
                          d.last_listed_at - %(margin)s::interval)
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

_INSERT_ASSETS = """
INSERT INTO asset (asset_id, workspace_id, kind, key, partition, digest, raw_digest, epoch, observed_at, first_seen,
                   lifecycle, baseline)
OVERRIDING SYSTEM VALUE
SELECT asset_id, %(wid)s, kind, key, partition, digest, raw_digest, %(epoch)s, observed_at, observed_at, lifecycle,
       what = 'baseline'
FROM stage WHERE what IN ('created', 'baseline')
ORDER BY asset_id
"""

_ADVANCE_HEADS = """
UPDATE asset a SET digest = s.digest, raw_digest = s.raw_digest, epoch = %(epoch)s, observed_at = s.observed_at,
    partition = s.partition, lifecycle = s.lifecycle, gone_at = NULL
FROM stage s WHERE a.asset_id = s.asset_id AND s.what NOT IN ('created', 'baseline')
"""

# What only this source can know is kept beside the open version; it is not compared and makes no new one.
_RENEW_ASIDE = """
UPDATE version v SET aside = g.aside
FROM unnest(%(ns)s::int[], %(asides)s::text[]) AS g (n, aside) JOIN stage s ON s.n = g.n
WHERE s.what IN ('same', 'renewed') AND v.asset_id = s.asset_id AND v.valid_from = s.previous
    AND v.aside IS DISTINCT FROM g.aside
"""


def _renew_asides(raw: psycopg.Connection[Any], batch: Sequence[Staged]) -> None:
    asides = [(n, s.aside.decode()) for n, s in enumerate(batch) if s.aside is not None]
    if asides:
        ns, texts = zip(*asides, strict=True)
        raw.execute(_RENEW_ASIDE, {"ns": list(ns), "asides": list(texts)})


def _version(claim: Claim, s: Staged, asset_id: int) -> tuple[Any, ...]:
    return (
        asset_id, s.observed_at, claim.workspace_id, s.kind, claim.scan_id, s.digest, s.lifecycle, s.partition,
        *s.lifted, s.document.decode(), s.aside.decode() if s.aside is not None else None,
    )  # fmt: skip


def _members(claim: Claim, published: Iterable[tuple[Staged, int]]) -> Iterator[Row]:
    """What the chain holds of states."""
    scan_id, before, at, sort = claim.scan_id, None, 0, Sort.VERSION
    for s, asset_id in published:
        if s.observed_at is not before:  # the items of a page share it
            before = s.observed_at
            at, valid_from = micros(before), before.astimezone(UTC)
        yield (
            sort, asset_id, at,
            version_body(asset_id, valid_from, scan_id, s.kind, s.key, s.partition, s.lifecycle, s.lifted, s.whole),
        )  # fmt: skip


def _created(claim: Claim, s: Staged, asset_id: int, not_before: datetime | None) -> tuple[Any, ...]:
    source = "user_id, as the client claimed" if s.actor is not None else None
    return (
        claim.workspace_id, asset_id, s.kind, claim.scan_id, s.observed_at, not_before, s.answered_at,
        str(ChangeType.CREATED), str(Category.IDENTITY), s.lifted[_NAME], s.actor, source, "[]", None, None, None,
    )  # fmt: skip


def _write_differences(
    raw: psycopg.Connection[Any], claim: Claim, compared: dict[int, tuple[Staged, datetime | None]],
    clean: Callable[[Any], Any], members: list[Row],
) -> tuple[Counter[str], set[int]]:  # fmt: skip
    """Compare changed documents with their predecessors in pure code, and write the changes. Streams both ways.

    Returns counts by type, and the assets whose new state is doubted: nothing is written of those.
    """
    counts, doubted = Counter[str](), set[int]()
    if not compared:
        return counts, doubted
    with raw.cursor(name="pairs") as cursor:
        cursor.itersize = 500
        cursor.execute(
            "SELECT s.asset_id, s.what, v.document, v.lifecycle FROM stage s"
            " LEFT JOIN version v ON v.asset_id = s.asset_id AND v.valid_from = s.previous"
            " WHERE s.what IN ('changed', 'restored') ORDER BY s.asset_id"
        )
        while rows := cursor.fetchmany(500):
            changes = []
            for asset_id, what, before, was in rows:
                s, not_before = compared[asset_id]
                found = (
                    Difference(type=ChangeType.RESTORED, category=Category.STATE, fields=())
                    if what == "restored"
                    else diff.difference(
                        clean(canonical.decode(before)),
                        canonical.decode(s.document),
                        was=Lifecycle(was),
                        now=Lifecycle(s.lifecycle),
                    )
                )
                if found is None:  # equal once decoded: nothing to report, the new bytes are published all the same
                    counts["rebased"] += 1
                    continue
                if not s.confirmed and diff.torn(Kind(s.kind), found):
                    doubted.add(asset_id)
                    continue
                counts[str(found.type)] += 1
                told = diff.story(Kind(s.kind), found, partition=s.partition, parent=s.lifted[_PARENT])
                changes.append(
                    change(
                        claim, asset_id, s.kind, s.observed_at, not_before, s.answered_at, s.lifted[_NAME], found, told
                    )
                )
            _copy_changes(raw, changes, members)
    return counts, doubted


def change(
    claim: Claim, asset_id: int, kind: str, at: datetime, not_before: datetime | None, not_after: datetime,
    name: str | None, found: Difference, told: diff.Story | None,
) -> tuple[Any, ...]:  # fmt: skip
    """Make the row of a change."""
    fields = [{"path": f.path, "before": f.before, "after": f.after} for f in found.fields]
    return (
        claim.workspace_id, asset_id, kind, claim.scan_id, at, not_before, not_after, str(found.type),
        str(found.category), name, None, None, canonical.encode({"fields": fields})[len('{"fields":') : -1].decode(),
        str(told.kind) if told else None, told.key if told else None, str(told.type) if told else None,
    )  # fmt: skip


def write_changes(raw: psycopg.Connection[Any], claim: Claim, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write changes, and fold those that a larger one explains."""
    first, members = _last_change(raw), list[Row]()
    _copy_changes(raw, rows, members)
    chain.append(raw, claim.workspace_id, What.PUBLISHED, members, key=claim.salts, scan=claim.scan_id)
    tell_stories(raw, claim, first)


def _copy_changes(raw: psycopg.Connection[Any], rows: Iterable[tuple[Any, ...]], members: list[Row]) -> None:
    """Write changes, and note what the chain holds of them."""

    def noted() -> Iterator[tuple[Any, ...]]:
        for row in rows:
            members.append(chain.change_row(row))
            yield row

    copy_rows(raw, "change", _CHANGE, noted())


def _last_change(raw: psycopg.Connection[Any]) -> int:
    row = raw.execute("SELECT coalesce(max(change_id), 0) FROM change").fetchone()
    return int(row[0]) if row else 0


def tell_stories(raw: psycopg.Connection[Any], claim: Claim, after: int) -> None:
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
