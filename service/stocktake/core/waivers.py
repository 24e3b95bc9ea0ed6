"""Waivers: approved exceptions to findings, each with an owner, a reason and an end. Pure.

A waiver has no other effect than on findings that it covers while it runs; what ended opens them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from stocktake.core.covering import About, Covering
from stocktake.core.findings import Finding, State, waive


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """An exception, until a time."""

    covering: Covering
    owner: str  # who approved it
    reason: str
    until: datetime
    source: str  # where it stands: "waiver 3", or a file and a line
    actor: str | None = None  # who entered it; None: whoever wrote the file

    def runs(self, now: datetime) -> bool:
        """Whether it is not over."""
        return self.until > now


def covering(waivers: Iterable[Waiver], about: About, now: datetime) -> Waiver | None:
    """The waiver of a finding: of those that run, the one that lasts longest."""
    found = [one for one in waivers if one.runs(now) and one.covering.covers(about)]
    return max(found, key=lambda one: (one.until, one.source), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a waiver, or its end, makes of a finding, and what its history says."""

    finding: Finding
    actor: str | None
    reason: str
    ended: bool = False  # somebody ended the waiver before its time


def judged(
    finding: Finding, about: About, waivers: Sequence[Waiver], now: datetime, *, whole: bool = True
) -> Move | None:
    """What becomes of a finding by the waivers that there are. None: nothing.

    `whole`: these are all of them. A file that could not be read may hold one: until it can, what is waived stays so
    to the end that was known.
    """
    if finding.state in (State.PENDING, State.RESOLVED):
        return None
    found = covering(waivers, about, now)
    if found is not None:
        if finding.waived_until == found.until and finding.state in (State.WAIVED, State.STALE):
            return None
        made = waive(finding, found.until, now)
        return Move(finding=made, actor=found.actor or found.owner, reason=told(found)) if made is not None else None
    until = finding.waived_until
    over = until is None or until <= now
    if finding.state != State.WAIVED and over:
        return None
    if not over and not whole:
        return None
    freed = replace(finding, waived_until=until if over else None)
    if finding.state == State.WAIVED:
        freed = replace(freed, state=freed.rest(now), since=now)
    why = f"its waiver ran until {until.isoformat()}" if until is not None and over else "its waiver was ended"
    return Move(finding=freed, actor=None, reason=why, ended=not over)


def told(waiver: Waiver) -> str:
    """A waiver in the history of a finding."""
    approved = f", approved by {waiver.owner}" if waiver.actor is not None and waiver.actor != waiver.owner else ""
    return f"{waiver.source}{approved}, until {waiver.until.isoformat()}: {waiver.reason}"
