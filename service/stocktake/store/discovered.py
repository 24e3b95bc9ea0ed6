"""What discovery found, as the database keeps it: names that never change, how each stands, what was not looked at.

A look is recorded in one transaction, one at a time; one that is overtaken by a later one ends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.discovery import (
    SCANNED,
    Confirmation,
    Event,
    Known,
    Look,
    Place,
    Standing,
    Verdict,
    judge,
    names,
    selected,
)

#: The advisory lock of recording, for the length of a transaction.
_LOCK = 0x73746B06


#: Events as changes of the workspace itself, in the columns of a change. What its own scans tell (it is deleted, it was
#: brought back, it cannot be seen) is not told twice.
AS_CHANGES = """
    SELECT -e.event_id AS id, e.at, e.not_before, e.at AS not_after, 'unknown' AS actor,
        CAST(NULL AS text) AS actor_source, e.name AS workspace, 'workspace' AS kind, 'workspace' AS key, e.name,
        CASE e.event WHEN 'appeared' THEN 'created' ELSE 'updated' END AS type,
        CASE e.event WHEN 'moved' THEN 'identity' ELSE 'state' END AS category, CAST(NULL AS bigint) AS scan,
        CASE e.event WHEN 'appeared' THEN '[]' ELSE json_build_array(json_build_object(
            'path', 'discovery.standing', 'before', e.before, 'after', e.after))::text END AS fields,
        CAST(NULL AS bigint) AS part_of, CAST(NULL AS json) AS includes
    FROM discovery_event e
    WHERE e.event IN ('appeared', 'unselected', 'moved')
        OR (e.event = 'returned' AND e.before IN ('unselected', 'moved'))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A found workspace with all that is known of it."""

    name: str
    entry: str
    place: Place
    how: str
    standing: Standing
    since: datetime
    first_seen: datetime
    last_seen: datetime
    judged_at: datetime
    why: str
    next_step: str

    @property
    def known(self) -> Known:
        """What judging needs of it."""
        return Known(name=self.name, entry=self.entry, place=self.place, standing=self.standing)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeRow:
    """A scope of an entry, as it was last asked."""

    entry: str
    path: str
    asked_at: datetime
    last_looked_at: datetime | None
    looked: bool
    why: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One thing that happened to a found workspace."""

    name: str
    event: Event
    before: str | None
    after: str
    why: str
    baseline: bool = False  # met at first sight: no change


def found(connection: Connection) -> list[Found]:
    """Every workspace that was ever found, in the order of their names."""
    rows = connection.execute(text("SELECT * FROM discovered ORDER BY name"))
    return [_found(row) for row in rows]


def to_look_at_once_more(connection: Connection) -> set[str]:
    """Workspaces that discovery found deleted, and that no scan has looked at since: their own history, and what the
    rules say of them, must tell how they ended. Of one that was moved, where a scan took it for deleted meanwhile."""
    rows = connection.execute(
        text(
            "SELECT d.name FROM discovered d JOIN workspace w ON w.name = d.name WHERE (d.standing = 'deleted'"
            " OR d.standing = 'moved' AND EXISTS (SELECT 1 FROM finding f WHERE f.workspace_id = w.workspace_id"
            " AND f.rule = 'workspace-deleted' AND f.state <> 'resolved'))"
            " AND EXISTS (SELECT 1 FROM scan s WHERE s.workspace_id = w.workspace_id)"
            " AND NOT EXISTS (SELECT 1 FROM scan s WHERE s.workspace_id = w.workspace_id"
            " AND coalesce(s.last_began_at, s.began_at) > d.since AND s.state NOT IN ('running', 'abandoned'))"
        )
    )
    return set(rows.scalars())


def has_events(connection: Connection) -> bool:
    """Whether anything ever happened to a found workspace."""
    return connection.execute(text("SELECT 1 FROM discovery_event LIMIT 1")).first() is not None


def scopes(connection: Connection) -> list[ScopeRow]:
    """Every scope as it was last asked."""
    rows = connection.execute(
        text(
            "SELECT entry, path, asked_at, last_looked_at, looked, why, next_step FROM discovery_scope"
            " ORDER BY entry, path"
        )
    )
    return [ScopeRow(**row._asdict()) for row in rows]


def last_look(connection: Connection, entry: str) -> datetime | None:
    """When an entry was last asked about, by the database's clock."""
    at: datetime | None = connection.execute(
        text("SELECT max(asked_at) FROM discovery_scope WHERE entry = :entry"), {"entry": entry}
    ).scalar()
    return at


def clock(connection: Connection) -> datetime:
    """The database's clock, which orders looks."""
    at: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return at


def record(
    connection: Connection,
    look: Look,
    *,
    entry: str,
    entries: Collection[str],
    wanted: Sequence[tuple[str, str | None]],
    naming: str,
    reserved: Mapping[str, str | None],
    confirmed: Mapping[str, Confirmation],
    tags: Callable[[Mapping[str, str]], Mapping[str, str]],
) -> list[Happened]:
    """Take a look into the database, in the caller's transaction. Returns what happened.

    `look.began_at` is by the database's clock. `reserved` are names that the configuration gives, with the key of what
    they name where it is a workspace of Azure: such a workspace is not ours to watch. `entries` are those of the
    configuration: what an entry found stays with it as long as it is there. `tags` takes secrets out of them.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    before = {one.place.key: one for one in found(connection)}
    configured = set(reserved.values())
    happened, fresh = list[Happened](), list[Place]()
    looked = _looked_before(connection, entry)
    for key, place in look.places.items():
        known = before.get(key)
        if known is None and key not in configured and selected(place.tags, wanted):
            fresh.append(place)
        elif known is not None and known.entry != entry and _free(known, entries) and selected(place.tags, wanted):
            before[key] = replace(known, entry=entry)
    for one in before.values():
        if one.entry != entry or one.judged_at > look.began_at:
            continue
        verdict = judge(one.known, look, wanted, confirmed.get(one.place.key))
        _update(connection, one, look, confirmed.get(one.place.key), verdict, tags)
        if verdict is not None:
            event = Happened(
                name=one.name, event=verdict.event, before=one.standing, after=verdict.standing, why=verdict.why
            )
            _tell(connection, one.place.key, entry, look, one.judged_at, event)
            happened.append(event)
    for place, name in _named(connection, fresh, naming, before.values(), reserved):
        _insert(connection, place, name, entry, look, tags)
        scope = look.scope_of(place)
        since = looked.get(scope.path.casefold()) if scope is not None else None
        event = Happened(name=name, event=Event.APPEARED, before=None, after=Standing.WATCHED, why="it was found")
        if since is not None:  # what is met in a scope at first sight was perhaps always there
            _tell(connection, place.key, entry, look, since, event)
        happened.append(replace(event, baseline=since is None))
    _scopes(connection, entry, look)
    return happened


def _free(known: Found, entries: Collection[str]) -> bool:
    """Whether another entry may take a workspace over."""
    return known.entry not in entries or known.standing not in SCANNED


def _looked_before(connection: Connection, entry: str) -> dict[str, datetime]:
    """The scopes of an entry that were looked at before, and when they were last."""
    rows = connection.execute(
        text("SELECT path, last_looked_at FROM discovery_scope WHERE entry = :entry AND last_looked_at IS NOT NULL"),
        {"entry": entry},
    )
    return {row.path.casefold(): row.last_looked_at for row in rows}


def _named(
    connection: Connection,
    fresh: Sequence[Place],
    naming: str,
    before: Iterable[Found],
    reserved: Mapping[str, str | None],
) -> list[tuple[Place, str]]:
    """Give new places their names. One that has a history already, named by hand until now, goes on under that."""
    history = {row.name: row.uri for row in connection.execute(text("SELECT name, uri FROM workspace"))}
    taken = {one.name for one in before} | set(reserved)
    by_address = {uri.casefold(): name for name, uri in history.items() if uri is not None and name not in taken}
    given = {place.key: by_address[place.key] for place in fresh if place.key in by_address}
    rest = [place for place in fresh if place.key not in given]
    given |= names(naming, rest, taken | set(history))
    return [(place, given[place.key]) for place in fresh]


def _insert(
    connection: Connection,
    place: Place,
    name: str,
    entry: str,
    look: Look,
    tags: Callable[[Mapping[str, str]], Mapping[str, str]],
) -> None:
    connection.execute(
        text(
            "INSERT INTO discovered (key, name, entry, subscription, resource_group, workspace, region, tags, guid,"
            " how, standing, since, first_seen, last_seen, judged_at, why, next_step) VALUES (:key, :name, :entry,"
            " :subscription, :group, :workspace, :region, :tags, :guid, :how, :standing, :at, :at, :at, :at, '', '')"
        ),
        {
            "key": place.key,
            "name": name,
            "entry": entry,
            "subscription": place.subscription,
            "group": place.resource_group,
            "workspace": place.workspace,
            "region": place.region,
            "tags": canonical.encode(tags(place.tags)).decode(),
            "guid": place.guid,
            "how": look.how[place.key],
            "standing": Standing.WATCHED,
            "at": look.began_at,
        },
    )


def _update(
    connection: Connection,
    one: Found,
    look: Look,
    confirmed: Confirmation | None,
    verdict: Verdict | None,
    tags: Callable[[Mapping[str, str]], Mapping[str, str]],
) -> None:
    """Bring a row to what was seen. How its address is written stays as it was: scans are known by it."""
    shown = look.places.get(one.place.key)
    place = shown or (confirmed.place if confirmed is not None else None)
    connection.execute(
        text(
            "UPDATE discovered SET entry = :entry, region = :region, tags = :tags, guid = :guid, how = :how,"
            " standing = :standing, since = CASE WHEN :changed THEN :at ELSE since END, judged_at = :at,"
            " last_seen = CASE WHEN :seen THEN :at ELSE last_seen END, why = :why, next_step = :step WHERE key = :key"
        ),
        {
            "key": one.place.key,
            "entry": one.entry,
            "region": (place or one.place).region or one.place.region,
            "tags": canonical.encode(tags((place or one.place).tags)).decode(),
            "guid": (place.guid if place is not None else None) or one.place.guid,
            "how": look.how.get(one.place.key, one.how),
            "standing": verdict.standing if verdict is not None else one.standing,
            "changed": verdict is not None,
            "seen": place is not None,
            "at": look.began_at,
            "why": verdict.why if verdict is not None else one.why,
            "step": verdict.next_step if verdict is not None else one.next_step,
        },
    )


def _tell(connection: Connection, key: str, entry: str, look: Look, since: datetime, event: Happened) -> None:
    connection.execute(
        text(
            "INSERT INTO discovery_event (key, name, entry, at, not_before, event, before, after, why)"
            " VALUES (:key, :name, :entry, :at, :since, :event, :before, :after, :why)"
        ),
        {
            "key": key,
            "name": event.name,
            "entry": entry,
            "at": look.began_at,
            "since": since,
            "event": event.event,
            "before": event.before,
            "after": event.after,
            "why": event.why,
        },
    )


def _scopes(connection: Connection, entry: str, look: Look) -> None:
    """Note what was looked at. A scope that the entry no longer names goes; what was found in it stays."""
    for scope in look.scopes:
        connection.execute(
            text(
                "INSERT INTO discovery_scope (entry, path, asked_at, first_looked_at, last_looked_at, looked, trouble,"
                " why, next_step) VALUES (:entry, :path, :at, CASE WHEN :looked THEN CAST(:at AS timestamptz) END,"
                " CASE WHEN :looked THEN CAST(:at AS timestamptz) END, :looked, :trouble, :why, :step)"
                " ON CONFLICT (entry, path) DO UPDATE SET asked_at = excluded.asked_at,"
                " first_looked_at = coalesce(discovery_scope.first_looked_at, excluded.first_looked_at),"
                " last_looked_at = coalesce(excluded.last_looked_at, discovery_scope.last_looked_at),"
                " looked = excluded.looked, trouble = excluded.trouble, why = excluded.why,"
                " next_step = excluded.next_step WHERE discovery_scope.asked_at <= excluded.asked_at"
            ),
            {
                "entry": entry,
                "path": scope.path,
                "at": look.began_at,
                "looked": scope.looked,
                "trouble": scope.trouble,
                "why": canonical.escape(scope.why),
                "step": scope.next_step,
            },
        )
    if look.whole:
        connection.execute(
            text("DELETE FROM discovery_scope WHERE entry = :entry AND asked_at < :at"),
            {"entry": entry, "at": look.began_at},
        )


def _found(row: Any) -> Found:
    return Found(
        name=row.name,
        entry=row.entry,
        place=Place(
            key=row.key,
            subscription=row.subscription,
            resource_group=row.resource_group,
            workspace=row.workspace,
            region=row.region,
            tags=canonical.decode(row.tags),
            guid=row.guid,
        ),
        how=row.how,
        standing=Standing(row.standing),
        since=row.since,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        judged_at=row.judged_at,
        why=row.why,
        next_step=row.next_step,
    )
