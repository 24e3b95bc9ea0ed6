"""A message as text: in full for mail, and in lines that a card or a chat puts together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stocktake.core.alerting import Told, What
from stocktake.core.messages import Item, Message, moment

#: What a watched server wrote must neither move a cursor nor turn the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def safe(text: str) -> str:
    """Text without control characters."""
    return _CONTROL.sub("\ufffd", text)


def line(text: str) -> str:
    """The same in one line."""
    return " ".join(safe(text).split())


def cut(text: str, limit: int) -> str:
    """Text that is no longer than a receiver takes."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def where(item: Item) -> str:
    """The asset of a finding."""
    named = f" ({item.name})" if item.name and item.name != item.asset else ""
    return line(f"{item.workspace}: {item.kind} {item.asset}{named}")


def facts(item: Item) -> list[tuple[str, str]]:
    """What is known of a finding, name by name."""
    told = [("Where", where(item)), ("Severity", item.severity), ("Owner", line(item.owner or "unknown"))]
    if item.status is Told.FIRING:
        told.append(("Since", moment(item.since)))
    else:
        told += [("First seen", moment(item.first_seen)), ("Over", f"{item.over}, {moment(item.ended)}")]
    told += [("Found", line(one)) for one in item.values]
    told += [("Seen", line(one)) for one in item.confidence]
    if item.money:
        told.append(("Money", line(item.money)))
    return told


def steps(item: Item) -> list[tuple[str, str]]:
    """What to do about it."""
    told = [("Why", item.why), *((f"Inspect ({name})", words) for name, words in item.inspect)]
    told += [("Open", item.link)]
    if item.status is Told.FIRING:
        told += [("Fix", item.fix), ("Go back", item.rollback), ("Signal", item.signal)]
    return [(name, safe(words)) for name, words in [*told, ("Runbook", item.runbook)] if words]


def heading(message: Message) -> str:
    """One line that says it all."""
    mark = {Told.FIRING: f"[{message.severity.upper()}]", Told.RESOLVED: "[OVER]"}[message.status]
    if message.what in (What.DIGEST, What.TEST, What.ACKNOWLEDGE):
        mark = f"[{message.what.upper()}]"
    part = f" ({message.part} of {message.parts})" if message.parts > 1 else ""
    return line(f"{mark} {message.title}{part}")


def rest(message: Message) -> str | None:
    """What is said of the findings that are not told one by one."""
    if not message.more:
        return None
    return f"And {message.more:,} more; `stocktake alerts list` and `stocktake finding list` have them all."


def plain(message: Message) -> str:
    """The whole message for people who read text."""
    return "\n".join(_plain(message)) + "\n"


def _plain(message: Message) -> Iterator[str]:
    yield heading(message)
    if len(message.items) > 1 or message.more:
        yield ""
        yield from (f"  {number:>6,}  {line(what)}" for what, number in message.counts)
    for item in message.items:
        yield ""
        yield f"* {line(item.title)} ({item.rule})"
        yield from (f"  {name}: {words}" for name, words in facts(item))
        for name, words in steps(item):
            yield f"  {name}: " + "\n    ".join(words.splitlines())
    if more := rest(message):
        yield ""
        yield more
    yield ""
    yield f"Key: {message.key}"
