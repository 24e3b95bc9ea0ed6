"""Removing a value from everything that is stored, and remembering how to recognise it. The value is never sent.

Rows are read out and searched here, not in SQL: a statement's parameters may stand in the server's log. What is
remembered comes first, and takes the claims of scans that do not know it yet; then the rows are rewritten, block by
block, under the locks that publishing takes. Cut short anywhere, it is done again from the beginning, and finds less.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine

from stocktake.core import canonical
from stocktake.core.chain import LIFTED, Sort, What
from stocktake.core.remembered import Remembered, Sought, Text
from stocktake.store import alerts, chain
from stocktake.store.engine import driver

_BLOCK = 500
_EXAMPLES = 10
#: A value inside more different words than this is a part of ordinary words.
MOST_WORDS = 1000
NO_DIGEST = b"\0" * 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value may stand: a table, its columns of text, of JSON and of lists, and what an asset is named by."""

    table: str
    texts: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    where: str = "true"

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, in one order."""
        return (*self.texts, *self.documents, *self.lists)


_LIFTED_TEXTS = tuple(name for name in LIFTED if not name.endswith(("_at", "_digest")))
VERSION = Place("version", ("partition", *_LIFTED_TEXTS), ("document", "aside"))
CHANGE = Place("change", ("name", "actor", "actor_source", "story_key"), ("fields",))
#: Every place that is rewritten; a test holds it against the tables. An asset that is gone may lose its key.
PLACES = (
    VERSION,
    CHANGE,
    Place("asset", ("key", "partition"), where="gone_at IS NOT NULL"),
    Place("withheld", ("partition", "accepted_by")),
    Place("scan", ("identity", "error", "next_step")),
    Place("scope_scan", ("partition", "reason"), lists=("covers",)),
    Place("scope", ("partition", "reason")),
    Place("former_scope", ("partition",)),
    Place("cut_listing", ("place", "problem")),
    Place("workspace", ("error", "next_step")),
    Place("fetched", ("key", "place", "error", "identity", "operator")),
    Place("discovered", ("why", "next_step"), ("tags",)),
    Place("discovery_scope", ("why", "next_step")),
    Place("discovery_event", ("why",)),
    Place("act", ("key", "caller")),
    Place("act_log", ("error", "next_step")),
    Place("finding", ("key", "name", "owner"), ("evidence",)),  # it is recognised by its fingerprint, whatever its key
    Place("finding_event", ("actor", "reason"), ("evidence",)),
    Place("judging", ("error",)),
    Place("alert", (), ("labels",)),
    Place("alert_finding", (), ("labels",)),
    Place("delivery", ("error",), ("message",)),
    Place("receiver", ("error",)),
    Place("silence", ("actor", "reason", "ended_by"), ("matchers",)),
)
#: Where it cannot be removed: what something that is still there is known by.
FIXED = (
    Place("asset", ("key", "partition"), where="gone_at IS NULL"),
    Place("workspace", ("name", "uri")),
)


@dataclass(slots=True)
class Survey:
    """Where a value stands: counts and names, never the value."""

    versions: int = 0
    changes: int = 0
    others: int = 0
    assets: set[int] = field(default_factory=set)
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)  # assets by workspace and kind
    examples: list[tuple[str, str, str]] = field(default_factory=list)  # workspace, kind, key
    fixed: Counter[str] = field(default_factory=Counter)  # rows that are known by it, by table
    words: dict[bytes, Text] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows would be rewritten."""
        return self.versions + self.changes + self.others


def remembered(connection: Connection) -> list[Text]:
    """What was removed so far, as intake recognises it."""
    rows = driver(connection).execute("SELECT mac, core, lead, length, trail, fingerprint, cuts FROM redacted_text")
    return [
        Text(mac, core, lead, length, trail, _pairs(cuts), fingerprint)
        for mac, core, lead, length, trail, fingerprint, cuts in rows
    ]


def survey(connection: Connection, sought: Sought) -> Survey:
    """Look for a value everywhere. Streams; reads only."""
    found = Survey()
    raw = driver(connection)
    for place in PLACES:
        with closing(_found(raw, place, sought)) as rows:
            for _, asset_id, values in rows:
                if len(found.words) <= MOST_WORDS:
                    found.words.update((word.mac, word) for word in sought.words(values))
                found.versions += place is VERSION
                found.changes += place is CHANGE
                found.others += place not in (VERSION, CHANGE)
                if asset_id is not None:
                    found.assets.add(asset_id)
    for place in FIXED:
        with closing(_found(raw, place, sought)) as rows:
            found.fixed[place.table] += sum(1 for _ in rows)
    ids = sorted(found.assets)
    for start in range(0, len(ids), 10_000):
        for workspace, kind, key in raw.execute(
            "SELECT w.name, a.kind, a.key FROM asset a JOIN workspace w USING (workspace_id)"
            " WHERE asset_id = ANY(%s) ORDER BY asset_id",
            (ids[start : start + 10_000],),
        ):
            found.by_kind[workspace, kind] += 1
            if len(found.examples) < _EXAMPLES and not sought.stands_in(canonical.unescape(key)):
                found.examples.append((workspace, kind, canonical.unescape(key)))
    return found


def unfinished(connection: Connection, fingerprint: str) -> int | None:
    """The redaction of this value that was cut short, if there is one."""
    rows = driver(connection).execute(
        "SELECT redaction_id FROM redaction WHERE fingerprint = %s AND finished_at IS NULL", (fingerprint,)
    )
    return next((number for (number,) in rows), None)


def removed(connection: Connection, fingerprint: str) -> datetime | None:
    """When this value was last removed, if it is still kept out as it was found then."""
    rows = driver(connection).execute(
        "SELECT max(finished_at) FROM redaction WHERE fingerprint = %s"
        " AND fingerprint IN (SELECT fingerprint FROM redacted_text)",
        (fingerprint,),
    )
    return next((at for (at,) in rows), None)


def redact(
    engine: Engine,
    sought: Sought,
    known: Remembered,
    words: Iterable[Text],
    *,
    actor: str,
    reason: str,
    tell: Callable[[int], None] = lambda _: None,
) -> int:
    """Remove a value from everything, and remember it. Returns the number of the redaction's row.

    `words` are what the survey found it in; `tell` is told of the rows that were rewritten.
    """
    with engine.connect() as reading, engine.connect() as writing:
        with writing.begin():
            raw = driver(writing)
            _lock(raw)
            number = unfinished(writing, sought.fingerprint) or _begin(raw, sought, actor, reason)
            job = _Job(raw, sought, known.with_texts(remembered(writing)), number, tell)
            job.remember(words)
        # What was published meanwhile from rows that were not rewritten yet is found by another round.
        while sum(_round(reading, writing, job)):
            pass
        with writing.begin():
            driver(writing).execute(
                "UPDATE redaction SET finished_at = clock_timestamp(), assets = assets + %s WHERE redaction_id = %s",
                (len(job.assets), number),
            )
            for place in PLACES:  # the planner's statistics hold samples of columns
                driver(writing).execute(f"ANALYZE {place.table}")
    return number


def _begin(raw: psycopg.Connection[Any], sought: Sought, actor: str, reason: str) -> int:
    row = raw.execute(
        "INSERT INTO redaction (actor, reason, fingerprint) VALUES (%s, %s, %s) RETURNING redaction_id",
        (canonical.escape(actor), canonical.escape(reason), sought.fingerprint),
    ).fetchone()
    assert row is not None
    return int(row[0])


def _round(reading: Connection, writing: Connection, job: _Job) -> Iterator[int]:
    for place in PLACES:
        with reading.begin(), closing(_found(driver(reading), place, job.sought)) as rows:
            while block := [address for address, _, _ in itertools.islice(rows, _BLOCK)]:
                with writing.begin():
                    yield job.rewrite(place, block)


@dataclass(slots=True)
class _Job:
    """One redaction under way."""

    raw: psycopg.Connection[Any]
    sought: Sought
    known: Remembered
    number: int
    tell: Callable[[int], None]
    assets: set[int] = field(default_factory=set)

    def remember(self, words: Iterable[Text]) -> None:
        """Let intake recognise these words from now on. Scans under way do not know them: they lose their claims."""
        new = {word.mac: word for word in words if not self.known.knows(word)}
        if not new:
            return
        with self.raw.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO redacted_text (mac, core, lead, length, trail, fingerprint, cuts)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [
                    (w.mac, w.core, w.lead, w.length, w.trail, w.fingerprint, [at for cut in w.cuts for at in cut])
                    for w in new.values()
                ],
            )
        self.raw.execute("UPDATE claim SET token = gen_random_uuid()")
        self.known = self.known.with_texts(new.values())

    def rewrite(self, place: Place, addresses: Sequence[str]) -> int:
        """Rewrite the rows at these addresses, as far as the value still stands in them. In a transaction."""
        _lock(self.raw)
        names = (*place.columns, *_EXTRA.get(place.table, ()))
        rows = self.raw.execute(
            f"SELECT ctid, {', '.join(names)} FROM {place.table}"
            f" WHERE ctid = ANY(%s::text[]::tid[]) AND {place.where} FOR UPDATE",
            (list(addresses),),
        ).fetchall()
        updates, heads, written = [], [], []
        for address, *values in rows:
            before = dict(zip(names, values, strict=True))
            if not any(self.sought.stands_in(_read(place, name, before[name])) for name in place.columns):
                continue
            self.remember(
                word for name in place.columns for word in self.sought.words(_read(place, name, before[name]))
            )
            after = {name: self._written(place, name, before[name]) for name in place.columns}
            if place is VERSION:
                after |= _digests(before, after)
                heads.append((after["digest"], NO_DIGEST, before["asset_id"], before["digest"]))
            if "asset_id" in before:
                self.assets.add(before["asset_id"])
            updates.append((*after.values(), address))
            columns = tuple(after)
            written.append(before)
        if not updates:
            return 0
        with self.raw.cursor() as cursor:
            assigned = ", ".join(f"{name} = %s" for name in columns)
            cursor.executemany(f"UPDATE {place.table} SET {assigned} WHERE ctid = %s::text::tid", updates)
            # The head is looked at again by the next scan: no raw bytes have this digest.
            cursor.executemany(
                "UPDATE asset SET digest = %s, raw_digest = %s WHERE asset_id = %s AND digest = %s", heads
            )
        self._amend(place, written)
        counted = {"version": "versions", "change": "changes"}.get(place.table, "others")
        self.raw.execute(
            f"UPDATE redaction SET {counted} = {counted} + %s WHERE redaction_id = %s", (len(updates), self.number)
        )
        self.tell(len(updates))
        return len(updates)

    def _amend(self, place: Place, written: Sequence[Mapping[str, Any]]) -> None:
        """Say in the chain of the ledger what the rewritten rows say now, and why."""
        if place.table not in _IN_CHAIN:
            return
        sort, condition, names = _IN_CHAIN[place.table]
        because = [row for _, row in chain.rows(self.raw, Sort.REDACTION, "redaction_id = %s", (self.number,))]
        given = [[row[name] for row in written] for name in names]
        chain.amend(self.raw, What.REDACTED, sort, condition, given, key=self.known.salts, because=because)

    def _written(self, place: Place, name: str, value: Any) -> Any:
        read = _read(place, name, value)
        clean = self.known.document(read)
        if clean is read:
            return value
        if self.sought.stands_in(clean):
            raise AssertionError(f"a value could not be removed from {place.table}.{name}")
        if name in place.documents:
            return canonical.encode({"": clean})[len('{"":') : -1].decode()
        return canonical.escape(clean) if isinstance(clean, str) else [canonical.escape(one) for one in clean]


_EXTRA = {
    "version": ("asset_id", "valid_from", "digest", "params_digest"),
    "change": ("asset_id", "change_id"),
    "asset": ("asset_id",),
    "scan": ("scan_id",),
    "scope_scan": ("scan_id", "ordinal"),
}
# What the chain holds of a table: its kind of row, and which of those a rewritten row is about.
_IN_CHAIN = {
    "version": (
        Sort.VERSION,
        "(v.asset_id, v.valid_from) IN (SELECT * FROM unnest(%s::bigint[], %s::timestamptz[]))",
        ("asset_id", "valid_from"),
    ),
    "asset": (Sort.VERSION, "v.asset_id = ANY(%s)", ("asset_id",)),  # a state says what key its asset has
    "change": (Sort.CHANGE, "c.change_id = ANY(%s)", ("change_id",)),
    "scan": (Sort.SCAN, "s.scan_id = ANY(%s) AND s.chained > 0", ("scan_id",)),
    "scope_scan": (
        Sort.LISTING,
        "(l.scan_id, l.ordinal) IN (SELECT * FROM unnest(%s::bigint[], %s::int[])) AND s.chained > 0",
        ("scan_id", "ordinal"),
    ),
}


def _digests(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The digests of a rewritten document, made as intake makes them."""
    if after["document"] == before["document"] and after["aside"] == before["aside"]:
        return {name: before[name] for name in ("digest", "params_digest")}
    params = canonical.decode(after["document"]).get("params")
    return {
        "digest": canonical.digest(after["document"].encode()),
        "params_digest": canonical.params_digest(params) if before["params_digest"] and params else None,
    }


def _read(place: Place, name: str, value: Any) -> Any:
    """What a stored column says."""
    if value is None:
        return None
    if name in place.documents:
        return canonical.decode(value)
    return canonical.unescape(value) if isinstance(value, str) else [canonical.unescape(one) for one in value]


def _lock(raw: psycopg.Connection[Any]) -> None:
    """Keep every scan from publishing until this transaction ends: the locks of claims.fence, in its order."""
    raw.execute("SELECT 1 FROM claim ORDER BY workspace_id, mode FOR UPDATE")
    raw.execute("SELECT 1 FROM workspace ORDER BY workspace_id FOR NO KEY UPDATE")
    raw.execute("SELECT pg_advisory_xact_lock(%s)", (alerts.LOCK,))  # nor are messages made of what it held


def _found(
    raw: psycopg.Connection[Any], place: Place, sought: Sought
) -> Generator[tuple[str, int | None, list[Any]], None, None]:
    """Yield address, asset and values of the rows of a table in which a value stands. Streams.

    Whoever does not read to the end closes it: the connection is busy until then.
    """
    needles = [_copied(needle) for needle in sought.needles]
    asset = "asset_id" if place.table in ("version", "change", "asset", "withheld") else "NULL"
    wanted = [*place.texts, *place.documents, *(f"to_json({name})" for name in place.lists)]
    with raw.cursor() as cursor, cursor.copy(
        f"COPY (SELECT ctid, {asset}, {', '.join(wanted)} FROM {place.table} WHERE {place.where}) TO STDOUT"
    ) as copy:  # fmt: skip
        for line in copy:
            row = bytes(line)
            if not any(needle in row for needle in needles):
                continue
            address, asset_id, *texts = _parsed(row)
            values = [
                _read(place, name, text) if name not in place.lists else canonical.decode(text or "null")
                for name, text in zip(place.columns, texts, strict=True)
            ]
            if sought.stands_in(values):
                assert address is not None
                yield address, int(asset_id) if asset_id else None, values


_COPY_ESCAPES = {"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_COPY_UNESCAPES = {written[1]: char for char, written in _COPY_ESCAPES.items()}


def _copied(needle: bytes) -> bytes:
    """Bytes as COPY writes them."""
    return "".join(_COPY_ESCAPES.get(char, char) for char in needle.decode()).encode()


def _parsed(line: bytes) -> list[str | None]:
    return [
        None if text == "\\N" else re.sub(r"\\(.)", lambda hit: _COPY_UNESCAPES[hit[1]], text)
        for text in line.decode().removesuffix("\n").split("\t")
    ]


def _pairs(cuts: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(cuts[::2], cuts[1::2], strict=True))
