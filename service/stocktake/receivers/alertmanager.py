"""Prometheus Alertmanager, v2 API: every finding is an alert of its own there, and is posted again while it fires.

Alertmanager forgets what is not posted again before it ends, and takes that for over. So an end is set well beyond the
next look: by far later than stocktake posts again, for a worker that is down must not resolve anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from stocktake.core.alerting import Told
from stocktake.core.message_text import facts, line, safe, steps, where
from stocktake.core.messages import Item, Message
from stocktake.receivers.posting import Poster


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertmanagerConfig:
    """Where it is. `holds` is more than three intervals between scans."""

    name: str
    url: str
    holds: timedelta
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None


class Alertmanager:
    """Posts to /api/v2/alerts."""

    def __init__(self, config: AlertmanagerConfig, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._config = config
        self._now = now
        self._poster = Poster(
            whose=f"receiver {config.name!r} (Alertmanager)",
            headers={"authorization": f"Bearer {config.token}"} if config.token else {},
            auth=(config.username, config.password or "") if config.username else None,
            ca_file=config.ca_file,
            secrets=[config.token or "", config.password or ""],
        )

    def send(self, message: Message) -> int | None:
        """Post the findings of a message."""
        alerts = [self._alert(item, message) for item in message.items]
        if not alerts:
            return None
        return self._poster.post(f"{self._config.url}/api/v2/alerts", json.dumps(alerts).encode()).status

    def close(self) -> None:
        """Cut what is under way."""
        self._poster.close()

    def _alert(self, item: Item, message: Message) -> dict[str, Any]:
        now = self._now()
        firing = item.status is Told.FIRING
        started = min(item.first_seen, now)
        return {
            "labels": labels(item, message),
            "annotations": _annotations(item, message),
            "startsAt": _rfc3339(started),
            "endsAt": _rfc3339(now + self._config.holds if firing else max(now, started)),
            **({"generatorURL": item.link} if item.link else {}),
        }


def labels(item: Item, message: Message) -> dict[str, str]:
    """What Alertmanager knows an alert by: as it was first told, whatever became of its owner or severity since."""
    first: Mapping[str, str] = dict(item.labels)
    made = {
        "alertname": item.rule,
        "finding": item.key,
        "workspace": item.workspace,
        "kind": item.kind,
        "asset": item.asset,
        "severity": first.get("severity", item.severity),
        "owner": first.get("owner", item.owner or ""),
        "stocktake": message.key,
        "digest": "true" if message.digest else "",
    }
    made |= {f"label_{_name(name[6:])}": value for name, value in first.items() if name.startswith("label.")}
    return {name: safe(value) for name, value in made.items() if value}


def _name(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", text)


def _annotations(item: Item, message: Message) -> dict[str, str]:
    told = {
        "summary": line(f"{item.title}: {where(item)}"),
        "description": "\n".join(f"{name}: {words}" for name, words in facts(item)),
        "runbook_url": item.runbook,
        "what": str(message.what),
    }
    return told | {_name(name.lower()): words for name, words in steps(item) if name != "Runbook"}


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
