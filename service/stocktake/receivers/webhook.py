"""Any HTTP address: a CloudEvent 1.0 for each delivery, or Azure's common alert schema.

A delivery that is sent again has the same id, so that whoever counts can tell.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from stocktake.core.alerting import Told
from stocktake.core.message_text import cut, heading, line, plain
from stocktake.core.messages import Message
from stocktake.receivers.posting import Poster

_SEVERITIES = {"critical": "Sev1", "warning": "Sev2", "info": "Sev4"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Where to, and in which form."""

    name: str
    url: str = field(repr=False)
    schema: Literal["cloudevents", "azure"] = "cloudevents"
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    source: str = "stocktake"  # what events say they are from


class Webhook:
    """Posts JSON."""

    def __init__(self, config: WebhookConfig) -> None:
        self._config = config
        self._poster = Poster(
            whose=f"receiver {config.name!r} (webhook)",
            headers={"authorization": f"Bearer {config.token}"} if config.token else {},
            ca_file=config.ca_file,
            secrets=[config.url, config.token or ""],
        )

    def send(self, message: Message) -> int | None:
        """Post a message."""
        if self._config.schema == "azure":
            return self._poster.post(self._config.url, json.dumps(common_alert(message)).encode()).status
        body = json.dumps(cloud_event(message, self._config.source)).encode()
        return self._poster.post(self._config.url, body, "application/cloudevents+json; charset=utf-8").status

    def close(self) -> None:
        """Cut what is under way."""
        self._poster.close()


def identity(message: Message) -> str:
    """What a delivery is known by, however often it is sent."""
    return f"{message.key}/{message.at.isoformat()}/{message.what}/{message.part}"


def cloud_event(message: Message, source: str) -> dict[str, Any]:
    """A CloudEvent in structured mode."""
    return {
        "specversion": "1.0",
        "id": identity(message),
        "source": source,
        "type": f"io.stocktake.alert.{message.what}",
        "subject": message.key,
        "time": message.at.isoformat(),
        "datacontenttype": "application/json",
        "data": message.document(),
    }


def common_alert(message: Message) -> dict[str, Any]:
    """The common alert schema of Azure Monitor."""
    fired = message.status is Told.FIRING
    since = (message.since or min((item.first_seen for item in message.items), default=message.at)).isoformat()
    rules = sorted({item.rule for item in message.items})
    essentials: dict[str, Any] = {
        "alertId": f"/providers/stocktake/alerts/{message.key}",
        "originAlertId": message.key,
        "alertRule": rules[0] if len(rules) == 1 else "stocktake",
        "severity": _SEVERITIES.get(message.severity, "Sev3"),
        "signalType": "Log",
        "monitorCondition": "Fired" if fired else "Resolved",
        "monitoringService": "stocktake",
        "alertTargetIDs": [f"{item.workspace}/{item.kind}/{item.asset}" for item in message.items],
        "configurationItems": sorted({item.workspace for item in message.items}),
        "firedDateTime": since,
        "description": cut(heading(message), 1000),
        "essentialsVersion": "1.0",
        "alertContextVersion": "1.0",
    }
    if not fired:
        essentials["resolvedDateTime"] = message.at.isoformat()
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {
            "essentials": essentials,
            "alertContext": message.document(),
            "customProperties": {
                "key": message.key,
                "runbook": message.items[0].runbook if message.items else "",
                "text": cut(plain(message), 8000),
                **{f"label {line(name)}": value for name, value in message.labels},
            },
        },
    }
