"""What alerts are planned from, and what was told before. Every function runs in a transaction that its caller opened.

The events of findings are the queue: those that were not planned yet are found by an index of their own, never by a
cursor over their numbers, which are not committed in order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.alerting import Alert, Member, News, Silence, Subject, Told
from stocktake.core.findings import State
from stocktake.core.messages import Confidence, Details
from stocktake.core.routing import LABEL, Matcher, Pace, matchers

#: pg_advisory_xact_lock of "alerts are planned", of which there is one at a time; a redaction takes it as well.
LOCK = 0x73746B0A

_FIRING = (State.OPEN, State.ACKNOWLEDGED, State.STALE)

#: The change that a finding was about when something happened to it: another one is news to whoever was told. NULL
#: where it is about none.
_ABOUT = "substring(CAST({}.evidence AS jsonb) ->> 'change' FROM '^[0-9]+$')"


def claim(connection: Connection) -> bool:
    """Whether this transaction may plan: nobody else does."""
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}).scalar_one())


def clock(connection: Connection) -> datetime:
    """The database's time."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplanned:
    """Events of findings that no alert was made of yet, and what they come to."""

    events: Sequence[int]
    news: Mapping[int, News]  # by finding, in the order of their first event


def unplanned(connection: Connection, limit: int) -> Unplanned:
    """The next events. Reads the index finding_event_unplanned."""
    rows = connection.execute(
        text(
            "SELECT e.event_id, e.finding_id, e.at, e.before, e.after,"
            f" e.after = ANY(:firing) AND coalesce({_ABOUT.format('e')} <> (SELECT {_ABOUT.format('p')}"
            "  FROM finding_event p WHERE p.finding_id = e.finding_id AND p.event_id < e.event_id"
            "  AND p.after = ANY(:firing) ORDER BY p.event_id DESC LIMIT 1), false) AS more"
            " FROM finding_event e WHERE NOT e.planned ORDER BY e.event_id LIMIT :limit"
        ),
        {"limit": limit, "firing": [str(one) for one in _FIRING]},
    ).all()
    news: dict[int, News] = {}
    for row in rows:
        known = news.get(row.finding_id, News())
        was, fires = row.before in _FIRING, row.after in _FIRING
        news[row.finding_id] = News(
            opened=known.opened or (fires and not was),
            more=row.after != State.ACKNOWLEDGED and (known.more or row.more),
            moves=(*known.moves, row.at) if was != fires else known.moves,
        )
    return Unplanned(events=[row.event_id for row in rows], news=news)


def planned(connection: Connection, events: Sequence[int]) -> None:
    """Take events off the queue."""
    if events:
        connection.execute(
            text("UPDATE finding_event SET planned = true WHERE event_id = ANY(:events)"), {"events": list(events)}
        )


_SUBJECT = """
SELECT f.finding_id, encode(f.fingerprint, 'hex') AS print, w.name AS workspace, f.rule, f.severity, f.kind, f.key,
    f.owner, f.state, f.inherited, f.change_window, a.partition, v.parent,
    CASE WHEN f.rule = 'access-lost' THEN f.evidence END AS blind
FROM finding f JOIN workspace w USING (workspace_id)
LEFT JOIN asset a ON a.workspace_id = f.workspace_id AND a.kind = f.kind AND a.key = f.key
LEFT JOIN LATERAL (SELECT parent FROM version o WHERE o.asset_id = a.asset_id ORDER BY valid_from DESC LIMIT 1) v
    ON true
WHERE """


def subjects(
    connection: Connection, findings: Collection[int], labels: Mapping[str, Mapping[str, str]]
) -> dict[int, Subject]:
    """Findings as they stand. `labels` are those of workspaces, out of the configuration."""
    if not findings:
        return {}
    return _subjects(connection, "f.finding_id = ANY(:findings)", {"findings": list(findings)}, labels)


def inhibitors(
    connection: Connection,
    sources: Sequence[Sequence[Matcher]],
    workspaces: Collection[str],
    labels: Mapping[str, Mapping[str, str]],
) -> list[Subject]:
    """Live findings that may go before others of these workspaces: by their rule, as far as their source names any."""
    likes: set[str] = set()
    for source in sources:
        named = [one for one in source if one.label == "rule"]
        wanted = [word for one in named for word in one.patterns if not word.startswith("!")]
        likes |= {_like(word) for word in wanted} if wanted else {"%"}
    if not likes or not workspaces:
        return []
    where = (
        "f.state IN ('open', 'acknowledged', 'stale') AND f.rule LIKE ANY(:likes) AND f.workspace_id IN"
        " (SELECT workspace_id FROM workspace WHERE name = ANY(:workspaces))"
    )
    given = {"likes": sorted(likes), "workspaces": list(workspaces)}
    return list(_subjects(connection, where, given, labels).values())


def _like(pattern: str) -> str:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def _subjects(
    connection: Connection, where: str, given: Mapping[str, Any], labels: Mapping[str, Mapping[str, str]]
) -> dict[int, Subject]:
    return {row.finding_id: _subject(row, labels) for row in connection.execute(text(_SUBJECT + where), given)}


def _subject(row: Any, labels: Mapping[str, Mapping[str, str]]) -> Subject:
    kind, key = row.kind, canonical.unescape(row.key)
    own = {f"{LABEL}{name}": value for name, value in labels.get(row.workspace, {}).items()}
    return Subject(
        finding=row.finding_id,
        labels={
            "workspace": row.workspace,
            "rule": row.rule,
            "severity": row.severity,
            "kind": kind,
            "key": key,
            "owner": canonical.unescape(row.owner or ""),
            "finding": row.print,
            **own,
        },
        state=State(row.state),
        inherited=row.inherited,
        window=row.change_window,
        parents=frozenset(_parents(kind, key, row.partition, row.parent)),
        kinds=_kinds(canonical.decode(row.blind)) if row.blind is not None else frozenset(),
    )


def _kinds(evidence: Mapping[str, Any]) -> frozenset[str]:
    """The kinds that cannot be looked at; none where it is the whole workspace that cannot."""
    kinds = evidence.get("kinds")
    return frozenset(kinds) if not evidence.get("whole") and isinstance(kinds, list) else frozenset()


#: Kinds whose key begins with that of what they lie in.
_BELOW = {
    "model_version": "registered_model",
    "online_deployment": "online_endpoint",
    "batch_deployment": "batch_endpoint",
    "data_version": "data",
    "environment_version": "environment",
    "component_version": "component",
}


def _parents(kind: str, key: str, partition: str | None, parent: str | None) -> Iterable[tuple[str, str]]:
    if kind in _BELOW:
        yield _BELOW[kind], key.rpartition("/")[0]
    if kind in ("run", "logged_model", "trace") and partition:
        yield "experiment", canonical.unescape(partition)
    if kind in ("run", "child_job") and parent:
        yield ("run" if kind == "run" else "job"), canonical.unescape(parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An alert that there is."""

    id: int
    alert: Alert
    queued: bool = False  # something that it said did not arrive yet


def alerts(connection: Connection, keys: Collection[str], findings: Collection[int]) -> dict[str, Kept]:
    """The alerts with these keys, and those that these findings are a part of."""
    rows = connection.execute(
        text(
            "SELECT a.* FROM alert a WHERE a.key = ANY(:keys) OR a.alert_id IN"
            " (SELECT alert_id FROM alert_finding WHERE finding_id = ANY(:findings)"
            "  AND (told IS DISTINCT FROM 'resolved' OR opened))"
        ),
        {"keys": list(keys), "findings": list(findings)},
    )
    return {row.key: Kept(id=row.alert_id, alert=_alert(row)) for row in rows}


def due(connection: Connection, now: datetime, limit: int) -> list[Kept]:
    """Alerts that are to be looked at. Reads the index alert_due."""
    rows = connection.execute(
        text(
            "SELECT a.*, EXISTS (SELECT 1 FROM delivery d WHERE d.alert_id = a.alert_id"
            " AND d.state IN ('queued', 'failed')) AS queued"
            " FROM alert a WHERE a.due_at <= :now ORDER BY a.due_at, a.alert_id LIMIT :limit"
        ),
        {"now": now, "limit": limit},
    )
    return [Kept(id=row.alert_id, alert=_alert(row), queued=row.queued) for row in rows]


def _alert(row: Any) -> Alert:
    return Alert(
        key=row.key,
        receiver=row.receiver,
        labels=tuple((name, value) for name, value in canonical.decode(row.labels)),
        digest=row.digest,
        pace=msgspec.json.decode(row.pace, type=Pace),
        told=Told(row.told) if row.told is not None else None,
        since=row.since,
        told_at=row.told_at,
        acknowledged=row.acknowledged,
        due=row.due_at,
        news=row.news_at,
    )


def keep(connection: Connection, changed: Collection[Alert]) -> dict[str, int]:
    """Write alerts, new ones and others; returns their numbers by key."""
    if not changed:
        return {}
    rows = [
        {
            "key": one.key,
            "receiver": one.receiver,
            "labels": _encoded(one.labels),
            "digest": one.digest,
            "pace": msgspec.json.encode(one.pace).decode(),
            "told": one.told,
            "since": one.since,
            "told_at": one.told_at,
            "acknowledged": one.acknowledged,
            "due_at": one.due,
            "news_at": one.news,
        }
        for one in changed
    ]
    names = ", ".join(rows[0])
    kept = [name for name in rows[0] if name not in ("key", "receiver", "digest", "labels")]
    made = connection.execute(
        text(
            f"INSERT INTO alert ({names}) SELECT {names} FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r"
            " (key text, receiver text, labels text, digest boolean, pace text, told text, since timestamptz,"
            " told_at timestamptz, acknowledged boolean, due_at timestamptz, news_at timestamptz)"
            f" ON CONFLICT (key) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in kept)}"
            " RETURNING key, alert_id"
        ),
        {"rows": msgspec.json.encode(rows).decode()},
    )
    return {row.key: row.alert_id for row in made}


def _encoded(labels: Sequence[tuple[str, str]]) -> str:
    """Pairs, for their order is that of the route."""
    wrapped = canonical.encode({"": [list(pair) for pair in labels]}).decode()
    return wrapped[len('{"":') : -1]


def members(
    connection: Connection, numbers: Collection[int], findings: Collection[int] | None = None
) -> dict[int, dict[int, Member]]:
    """What was told of findings, by alert: all of which something is left to tell, or of these findings."""
    which = "told IS DISTINCT FROM 'resolved' OR opened" if findings is None else "finding_id = ANY(:findings)"
    rows = connection.execute(
        text(
            "SELECT alert_id, finding_id, told, told_at, opened, more, moves FROM alert_finding"
            f" WHERE alert_id = ANY(:numbers) AND ({which}) ORDER BY finding_id"
        ),
        {"numbers": list(numbers)} | ({"findings": list(findings)} if findings is not None else {}),
    )
    found: dict[int, dict[int, Member]] = {}
    for row in rows:
        found.setdefault(row.alert_id, {})[row.finding_id] = Member(
            finding=row.finding_id,
            told=Told(row.told) if row.told is not None else None,
            told_at=row.told_at,
            opened=row.opened,
            more=row.more,
            moves=tuple(row.moves),
        )
    return found


def keep_members(
    connection: Connection, changed: Iterable[tuple[int, Member]], subjects: Mapping[int, Subject]
) -> None:
    """Write what was told of findings. The labels that one is first told with stay: others know it by them."""
    rows = [
        {
            "alert_id": number,
            "finding_id": one.finding,
            "told": one.told,
            "told_at": one.told_at,
            "opened": one.opened,
            "more": one.more,
            "moves": one.moves,
            "labels": canonical.encode(subjects[one.finding].labels).decode()
            if one.told is not None and one.finding in subjects
            else None,
        }
        for number, one in changed
    ]
    if rows:
        connection.execute(
            text(
                "INSERT INTO alert_finding (alert_id, finding_id, told, told_at, opened, more, moves, labels)"
                " SELECT r.* FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (alert_id bigint, finding_id bigint,"
                " told text, told_at timestamptz, opened boolean, more boolean, moves timestamptz[], labels text)"
                " ON CONFLICT (alert_id, finding_id) DO UPDATE SET told = excluded.told, told_at = excluded.told_at,"
                " opened = excluded.opened, more = excluded.more, moves = excluded.moves,"
                " labels = coalesce(alert_finding.labels, excluded.labels)"
            ),
            {"rows": msgspec.json.encode(rows).decode()},
        )


def silences(connection: Connection, now: datetime) -> list[Silence]:
    """The silences that hold."""
    rows = connection.execute(
        text("SELECT matchers, starts_at, ends_at FROM silence WHERE ends_at > :now AND starts_at <= :now"),
        {"now": now},
    )
    return [
        Silence(match=matchers(canonical.decode(row.matchers)), starts=row.starts_at, ends=row.ends_at) for row in rows
    ]


_DETAILS = """
SELECT f.finding_id, encode(f.fingerprint, 'hex') AS fingerprint, f.rule, f.severity, f.state, w.name AS workspace,
    w.source, w.uri, f.kind, f.key, f.name, f.owner, a.partition, f.since, f.first_seen, f.last_seen, f.resolved_at,
    f.waived_until, f.evidence, CASE WHEN f.change_id IS NOT NULL THEN coalesce(c.actor, 'unknown') END AS actor
FROM finding f JOIN workspace w USING (workspace_id)
LEFT JOIN asset a ON a.workspace_id = f.workspace_id AND a.kind = f.kind AND a.key = f.key
LEFT JOIN change c ON c.change_id = f.change_id
WHERE f.finding_id = ANY(:findings)
"""


def details(
    connection: Connection, findings: Collection[int], needs: Mapping[str, Collection[str]]
) -> dict[int, Details]:
    """What messages tell of findings. `needs`: the kinds that a rule must have seen completely, by rule."""
    rows = connection.execute(text(_DETAILS), {"findings": list(findings)}).all()
    seen = _confidence(connection, sorted({row.workspace for row in rows}))
    names = set(Details.__slots__) - {"finding", "evidence", "labels", "confidence"}
    return {
        row.finding_id: Details(
            finding=row.finding_id,
            evidence=canonical.decode(row.evidence),
            labels={},
            confidence=[seen[row.workspace, kind] for kind in needs.get(row.rule, ()) if (row.workspace, kind) in seen],
            **{name: _text(getattr(row, name)) for name in names},
        )
        for row in rows
    }


def told_labels(
    connection: Connection, numbers: Collection[int], findings: Collection[int]
) -> dict[int, dict[int, dict[str, str]]]:
    """The labels that findings were first told with, by alert."""
    rows = connection.execute(
        text(
            "SELECT alert_id, finding_id, labels FROM alert_finding WHERE alert_id = ANY(:numbers)"
            " AND finding_id = ANY(:findings) AND labels IS NOT NULL"
        ),
        {"numbers": list(numbers), "findings": list(findings)},
    )
    found: dict[int, dict[int, dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row.alert_id, {})[row.finding_id] = canonical.decode(row.labels)
    return found


def _confidence(connection: Connection, workspaces: Sequence[str]) -> dict[tuple[str, str], Confidence]:
    rows = connection.execute(
        text(
            "SELECT w.name AS workspace, s.kind, count(*) AS scopes,"
            " count(*) FILTER (WHERE s.state = 'complete') AS complete, min(s.last_complete_at) AS oldest"
            " FROM scope s JOIN workspace w USING (workspace_id)"
            " WHERE w.name = ANY(:workspaces) AND s.state <> 'unsupported' GROUP BY w.name, s.kind"
        ),
        {"workspaces": list(workspaces)},
    )
    return {
        (row.workspace, row.kind): Confidence(
            kind=row.kind, scopes=row.scopes, complete=row.complete, oldest=row.oldest
        )
        for row in rows
    }


def _text(value: Any) -> Any:
    return canonical.unescape(value) if isinstance(value, str) else value


def forget(connection: Connection, *, before: datetime, limit: int) -> int:
    """Drop what is over and told, and whose openings and closings no longer count."""
    return connection.execute(
        text(
            "DELETE FROM alert_finding WHERE (alert_id, finding_id) IN (SELECT alert_id, finding_id FROM alert_finding"
            " WHERE told = 'resolved' AND NOT opened AND told_at < :before LIMIT :limit)"
        ),
        {"before": before, "limit": limit},
    ).rowcount


#: How long what was told of a finding is remembered after it was over.
REMEMBERED = timedelta(days=7)
