"""The life of a finding, as a state machine over what its rule said, whether that was completely seen, and the time.

Pure. It opens and resolves on a complete look alone; where nobody could look, it waits, and after a while it is stale:
never resolved for want of data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from stocktake.core import canonical


class State(StrEnum):
    """Where a finding stands."""

    PENDING = "pending"  # it holds, and not yet for as many complete looks as its rule asks
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"  # a person took it on, or, of a change, took note of it
    RESOLVED = "resolved"  # a complete look showed otherwise
    WAIVED = "waived"  # an exception, until a time
    STALE = "stale"  # open, acknowledged or waived, but nobody could look for long


#: States in which somebody may still have to do something.
LIVE = (State.PENDING, State.OPEN, State.ACKNOWLEDGED, State.WAIVED, State.STALE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long things last, for every rule."""

    stale_after: timedelta = timedelta(days=2)
    reopen_within: timedelta = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """For how many complete looks a rule must say so before its finding opens, and before it resolves."""

    opens_after: int = 1
    resolves_after: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a rule said this time. `complete`: what it needs was completely seen, or it speaks of a change.

    `again`: it tells of something that happened, not of how things stand. `first`: nobody looked before.
    """

    complete: bool
    holds: bool = False
    evidence: Mapping[str, Any] | None = None
    again: bool = False
    first: bool = False
    looked_at: datetime | None = None  # the last complete look, this one or an earlier one


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule says about an asset."""

    state: State
    since: datetime  # it stands so
    first_seen: datetime
    last_seen: datetime  # the last complete look that showed it, of those that wrote something
    evidence: Mapping[str, Any]
    inherited: bool = False  # it was so when we began to look
    held: int = 0  # complete looks in a row that showed it, while it is pending
    clear: int = 0  # complete looks in a row that did not, until it is resolved
    opened_at: datetime | None = None
    resolved_at: datetime | None = None
    acknowledged_at: datetime | None = None
    waived_until: datetime | None = None

    def rest(self, now: datetime) -> State:
        """The state of one that was opened, from what people decided about it."""
        if self.waived_until is not None and self.waived_until > now:
            return State.WAIVED
        return State.ACKNOWLEDGED if self.acknowledged_at is not None else State.OPEN


def step(
    finding: Finding | None, said: Said, now: datetime, patience: Patience, policy: Policy | None = None
) -> Finding | None:
    """What becomes of a finding. None: there is none. The same object: nothing is to be written."""
    if not said.complete:
        return _unseen(finding, said, now, policy or Policy())
    if said.holds:
        return _holds(finding, said, now, patience)
    return _clear(finding, said, now, patience)


def comes_back(finding: Finding, now: datetime, policy: Policy | None = None) -> bool:
    """Whether what is found again is this finding, rather than another one."""
    return finding.resolved_at is None or now - finding.resolved_at <= (policy or Policy()).reopen_within


def _unseen(finding: Finding | None, said: Said, now: datetime, policy: Policy) -> Finding | None:
    if finding is None or finding.state not in (State.OPEN, State.ACKNOWLEDGED, State.WAIVED):
        return finding
    if now - max(said.looked_at or finding.last_seen, finding.last_seen) > policy.stale_after:
        return replace(finding, state=State.STALE, since=now)
    return _to(finding, finding.rest(now), now)


def _holds(finding: Finding | None, said: Said, now: datetime, patience: Patience) -> Finding:
    evidence = said.evidence or {}
    if finding is None:
        made = Finding(
            state=State.PENDING, since=now, first_seen=now, last_seen=now, evidence=evidence, inherited=said.first
        )
        return _waits(made, now, patience)
    if finding.state in (State.PENDING, State.RESOLVED):
        was = replace(finding, evidence=evidence, last_seen=now, clear=0)
        if finding.state == State.RESOLVED:  # it comes back, with its history; nobody's word about it holds any more
            was = replace(
                was,
                state=State.PENDING,
                since=now,
                held=0,
                inherited=said.first,
                resolved_at=None,
                acknowledged_at=None,
            )
        return _waits(was, now, patience)
    news = evidence != finding.evidence
    if news and said.again:  # something more happened: it was acknowledged without knowing of this
        finding = replace(finding, acknowledged_at=None)
    made = _to(finding, finding.rest(now), now)
    if news or made.clear:
        made = replace(made, evidence=evidence, last_seen=now, clear=0)
    return made


def _waits(finding: Finding, now: datetime, patience: Patience) -> Finding:
    finding = replace(finding, held=finding.held + 1)
    if finding.held < patience.opens_after:
        return finding
    return replace(finding, state=finding.rest(now), since=now, held=0, opened_at=finding.opened_at or now)


def _clear(finding: Finding | None, said: Said, now: datetime, patience: Patience) -> Finding | None:
    if finding is None or finding.state == State.RESOLVED:
        return finding
    if finding.state == State.PENDING:  # one that was open before goes back to where it was
        if finding.opened_at is None:
            return None
        return replace(finding, state=State.RESOLVED, since=now, resolved_at=now, held=0)
    clear = finding.clear + 1
    if clear < patience.resolves_after:
        return replace(_to(finding, finding.rest(now), now), clear=clear)
    evidence = said.evidence if said.evidence is not None else finding.evidence
    return replace(finding, state=State.RESOLVED, since=now, resolved_at=now, clear=0, evidence=evidence)


def _to(finding: Finding, state: State, now: datetime) -> Finding:
    return finding if finding.state == state else replace(finding, state=state, since=now)


def happened(before: Finding | None, after: Finding) -> bool:
    """Whether a move tells of something that happened: it opened, or says something else now. What was stale and is
    seen again, or was not seen once, happened when it did."""
    return before is None or before.state in (State.PENDING, State.RESOLVED) or before.evidence != after.evidence


def quiet(finding: Finding, evidence: Mapping[str, Any], now: datetime) -> bool:
    """Whether a finding that holds, with this evidence, stays as it is: what the database leaves out when it is asked
    for what differs (store/findings.ask says the same in SQL; tests hold the two together, and to `step`)."""
    return (
        finding.state in (State.OPEN, State.ACKNOWLEDGED, State.WAIVED)
        and finding.state == finding.rest(now)
        and finding.clear == 0
        and finding.evidence == evidence
    )


def close(finding: Finding, now: datetime) -> Finding:
    """End a finding whose rule is asked no more: that says nothing about the asset, and its event says so."""
    return replace(finding, state=State.RESOLVED, since=now, resolved_at=now, held=0, clear=0)


def acknowledge(finding: Finding, now: datetime) -> Finding | None:
    """A person takes it on. None where there is nothing to take on: it is resolved, or did not open yet."""
    if finding.state in (State.PENDING, State.RESOLVED):
        return None
    if finding.acknowledged_at is not None:
        return finding
    taken = replace(finding, acknowledged_at=now)
    return taken if finding.state == State.STALE else _to(taken, taken.rest(now), now)


def waive(finding: Finding, until: datetime, now: datetime) -> Finding | None:
    """Make an exception of it until a time. None where there is nothing to except, or the time is over."""
    if finding.state in (State.PENDING, State.RESOLVED) or until <= now:
        return None
    excepted = replace(finding, waived_until=until)
    return excepted if finding.state == State.STALE else _to(excepted, State.WAIVED, now)


def fingerprint(rule: str, workspace: str, kind: str, key: str, *, secret: bytes) -> bytes:
    """What a finding is recognised by for its whole life. Of the immutable key, so that a rename changes nothing;
    keyed, because a key that was redacted must not be guessed from it."""
    return canonical.raw_digest("\0".join((rule, workspace, kind, key)).encode("utf-8", "surrogatepass"), secret)
