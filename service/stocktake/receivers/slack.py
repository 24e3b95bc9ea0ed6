"""Slack, by the address of an incoming webhook, which is the secret."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from stocktake.core.message_text import cut, facts, heading, line, rest, steps
from stocktake.core.messages import Item, Message
from stocktake.receivers.posting import Poster

#: What Slack takes: blocks of a message, characters of a header and of a text.
_BLOCKS, _HEADER, _TEXT = 50, 150, 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackConfig:
    """The address."""

    name: str
    url: str = field(repr=False)


class Slack:
    """Posts blocks."""

    def __init__(self, config: SlackConfig) -> None:
        self._config = config
        self._poster = Poster(whose=f"receiver {config.name!r} (Slack)", secrets=[config.url])

    def send(self, message: Message) -> int | None:
        """Post a message."""
        return self._poster.post(self._config.url, json.dumps(body(message)).encode()).status

    def close(self) -> None:
        """Cut what is under way."""
        self._poster.close()


def body(message: Message) -> dict[str, Any]:
    """The message as Slack takes it. `text` is what a notification shows."""
    title = heading(message)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": cut(title, _HEADER), "emoji": False}}
    ]
    if len(message.items) > 1 or message.more:
        blocks.append(_section("\n".join(f"• {number:,}  {_escaped(line(what))}" for what, number in message.counts)))
    for item in message.items:
        blocks += [{"type": "divider"}, _section(_item(item))]
    blocks = blocks[: _BLOCKS - 2]
    if more := rest(message):
        blocks.append(_section(_escaped(more)))
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"`{_escaped(message.key)}`"}]})
    return {"text": _escaped(cut(title, _TEXT)), "blocks": blocks, "unfurl_links": False}


def _item(item: Item) -> str:
    rows = [f"*{_escaped(line(item.title))}*"]
    rows += [f"*{name}:* {_escaped(words)}" for name, words in facts(item)]
    rows += [f"*{name}:* {_escaped(line(words))}" for name, words in steps(item)]
    return "\n".join(rows)


def _section(words: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": cut(words, _TEXT) or " "}}


def _escaped(text: str) -> str:
    """Nothing that a watched server wrote is read as a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
