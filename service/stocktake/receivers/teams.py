"""Microsoft Teams: an Adaptive Card, by the address of a workflow ("When a Teams webhook request is received")."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from stocktake.core.alerting import Told
from stocktake.core.message_text import cut, facts, heading, line, rest, steps
from stocktake.core.messages import Item, Message
from stocktake.receivers.posting import Poster

#: What Teams takes of one message.
_LARGEST = 28 * 1024
_TEXT = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamsConfig:
    """The address, which is the secret."""

    name: str
    url: str = field(repr=False)


class Teams:
    """Posts a card."""

    def __init__(self, config: TeamsConfig) -> None:
        self._config = config
        self._poster = Poster(whose=f"receiver {config.name!r} (Teams)", secrets=[config.url])

    def send(self, message: Message) -> int | None:
        """Post a message."""
        return self._poster.post(self._config.url, body(message)).status

    def close(self) -> None:
        """Cut what is under way."""
        self._poster.close()


def body(message: Message) -> bytes:
    """The message as bytes, with as many findings as it may hold."""
    shown = len(message.items)
    while True:
        made = json.dumps(_message(message, shown), ensure_ascii=False).encode("utf-8", "replace")
        if len(made) <= _LARGEST or not shown:
            return made
        shown //= 2


def _message(message: Message, shown: int) -> dict[str, Any]:
    color = "good" if message.status is Told.RESOLVED else {"critical": "attention", "warning": "warning"}.get(
        message.severity, "default"
    )  # fmt: skip
    blocks: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": _plain(cut(heading(message), _TEXT)), "wrap": True, "weight": "bolder",
         "size": "medium", "color": color}
    ]  # fmt: skip
    if len(message.items) > 1 or message.more:
        counts = [{"title": f"{number:,}", "value": _plain(cut(what, 200))} for what, number in message.counts[:20]]
        blocks.append({"type": "FactSet", "facts": counts})
    for item in message.items[:shown]:
        blocks += _item(item)
    left = len(message.items) - shown
    if left > 0 or message.more:
        words = rest(message) if not left else f"And {left + message.more:,} more; `stocktake alerts list` has them."
        blocks.append({"type": "TextBlock", "text": words, "wrap": True})
    blocks.append({"type": "TextBlock", "text": message.key, "isSubtle": True, "size": "small", "wrap": True})
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
        "msteams": {"width": "Full"},
    }
    if message.items and (link := message.items[0].link):
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open", "url": link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _item(item: Item) -> list[dict[str, Any]]:
    told = [*facts(item), *steps(item)]
    return [
        {"type": "TextBlock", "text": _plain(line(item.title)), "wrap": True, "weight": "bolder", "separator": True},
        {"type": "FactSet", "facts": [{"title": name, "value": _plain(cut(words, _TEXT))} for name, words in told]},
    ]


def _plain(text: str) -> str:
    """Cards read some Markdown: nothing that a watched server wrote becomes a link or a list."""
    return re.sub(r"([\\`*_\[\]~])", r"\\\1", text)
