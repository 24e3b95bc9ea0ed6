"""PagerDuty, Events API v2: an alert is one incident under one key for its life: triggered, acknowledged, resolved."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from stocktake.core.alerting import Told, What
from stocktake.core.message_text import cut, facts, heading, line, rest, steps, where
from stocktake.core.messages import Message
from stocktake.receivers.posting import Poster

#: What the documented API takes: of a summary, of a key, and of a whole event.
_SUMMARY, _KEY, _EVENT = 1024, 255, 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PagerDutyConfig:
    """Whose integration key, and where."""

    name: str
    routing_key: str = field(repr=False)
    base_url: str = "https://events.pagerduty.com"


class PagerDuty:
    """Posts to /v2/enqueue."""

    def __init__(self, config: PagerDutyConfig) -> None:
        self._config = config
        self._poster = Poster(whose=f"receiver {config.name!r} (PagerDuty)", secrets=[config.routing_key])

    def send(self, message: Message) -> int | None:
        """Trigger, acknowledge or resolve."""
        body = event(message, self._config.routing_key)
        return self._poster.post(f"{self._config.base_url}/v2/enqueue", body).status

    def close(self) -> None:
        """Cut what is under way."""
        self._poster.close()


def event(message: Message, routing_key: str) -> bytes:
    """The event as bytes, with as many findings as it may hold."""
    shown = len(message.items)
    while True:
        body = json.dumps(_event(message, routing_key, shown), ensure_ascii=False).encode("utf-8", "replace")
        if len(body) <= _EVENT or not shown:
            return body
        shown //= 2


def _event(message: Message, routing_key: str, shown: int) -> dict[str, Any]:
    action = {What.ACKNOWLEDGE: "acknowledge"}.get(message.what, "trigger")
    if message.status is Told.RESOLVED:
        action = "resolve"
    told: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": cut(message.key, _KEY),
    }
    if action != "trigger":
        return told
    first = message.items[0] if message.items else None
    details: dict[str, Any] = {"counts": {line(what): number for what, number in message.counts}}
    details["findings"] = [
        {"finding": line(f"{item.title}: {where(item)}"), **_named(facts(item)), **_named(steps(item))}
        for item in message.items[:shown]
    ]
    if more := rest(message):
        details["more"] = more
    links = [
        {"href": href, "text": words}
        for item in message.items[: min(shown, 5)]
        for href, words in ((item.runbook, f"Runbook: {item.rule}"), (item.link, line(where(item))))
        if href and href.startswith(("http://", "https://"))
    ]
    payload: dict[str, Any] = {
        "summary": cut(heading(message), _SUMMARY),
        "source": line(first.workspace) if first else "stocktake",
        "severity": message.severity if message.severity in ("critical", "warning", "info") else "error",
        "timestamp": message.at.isoformat(),
        "component": line(where(first)) if first else "stocktake",
        "group": dict(message.labels).get("workspace") or "stocktake",
        "class": first.rule if first else "stocktake",
        "custom_details": details,
    }
    return told | {"payload": payload, "links": links, "client": "stocktake"}


def _named(lines: list[tuple[str, str]]) -> dict[str, str]:
    """Lines by their name, those of one name together."""
    found: dict[str, str] = {}
    for name, words in lines:
        found[name] = f"{found[name]}\n{words}" if name in found else words
    return found
