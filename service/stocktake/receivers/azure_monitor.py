"""Azure Monitor: a custom event for each finding that opened or is over, in Application Insights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stocktake.core.alerting import Told
from stocktake.core.errors import SendError
from stocktake.core.message_text import cut, facts, heading, steps
from stocktake.core.messages import Item, Message
from stocktake.telemetry import exporters
from stocktake.telemetry.direct_events import DirectEvents, NotTaken

#: Of one property Application Insights keeps so many characters.
_LONGEST = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureMonitorConfig:
    """Which resource, and as whom (an azure-core TokenCredential; None: by the key)."""

    name: str
    connection_string: str = field(repr=False)
    credential: Any = field(default=None, repr=False)


class AzureMonitor:
    """Writes custom events."""

    def __init__(self, config: AzureMonitorConfig) -> None:
        self._whose = f"receiver {config.name!r} (Azure Monitor)"
        self._events = DirectEvents(
            exporters.AzureMonitorConfig(connection_string=config.connection_string, credential=config.credential)
        )

    def send(self, message: Message) -> int | None:
        """Write the events of a message, all in one request."""
        try:
            self._events.write([(event(item), properties(item, message)) for item in message.items], at=message.at)
        except NotTaken as exc:
            raise SendError(
                f"{self._whose} did not take the events ({exc})",
                recoverable=True,
                next_step="Check the connection string, the role Monitoring Metrics Publisher, and the daily cap.",
            ) from exc
        return None

    def close(self) -> None:
        """Release what is held."""
        self._events.close()


def event(item: Item) -> str:
    """The name of the event."""
    return "stocktake.finding.opened" if item.status is Told.FIRING else "stocktake.finding.resolved"


def properties(item: Item, message: Message) -> Mapping[str, str]:
    """What a query can filter by, and what a person wants to read."""
    told: dict[str, Any] = {
        "fingerprint": item.key,
        "finding": str(item.finding),
        "rule": item.rule,
        "severity": item.severity,
        "workspace": item.workspace,
        "kind": item.kind,
        "asset": item.asset,
        "name": item.name or "",
        "owner": item.owner or "",
        "title": item.title,
        "what": str(message.what),
        "alert": message.key,
        "alert_title": heading(message),
        "since": item.since.isoformat(),
        "first_seen": item.first_seen.isoformat(),
        "over": item.over or "",
        "runbook": item.runbook,
        "link": item.link or "",
        "facts": json.dumps(facts(item), ensure_ascii=False),
        "steps": json.dumps(steps(item), ensure_ascii=False),
        "digest": str(message.digest).lower(),
    }
    return {name: cut(value, _LONGEST) for name, value in told.items() if value}
