"""Waivers and change windows, in the transactions that judge: a finding that is waived, or whose change was announced,
is so before anybody can be told of it.

Findings are written by judging alone; this only takes from them, or gives back, what people decided beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core.findings import State
from stocktake.core.governance import Governance
from stocktake.core.waivers import Waiver, judged
from stocktake.core.windows import inside
from stocktake.store import baselines, claims, waivers
from stocktake.store.waivers import Standing


@dataclass(slots=True, kw_only=True)
class Governing:
    """What was agreed on, applied to the findings of one workspace under the claim of its scan."""

    connection: Connection
    claim: claims.Claim
    governance: Governance = field(default_factory=Governance)
    clean: Callable[[Any], Any] = lambda value: value  # takes out what was removed since it was published

    def begin(self, scan_id: int) -> None:
        """Before the rules are asked: waive what a new waiver covers, open again what none covers any more, and reckon
        what is not as the baselines say."""
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            now = _now(self.connection)
            apply(self.connection, self.claim.workspace_id, self.governance, now, scan_id=scan_id)
            if self.governance.whole:  # else what differs stands as it was reckoned last
                found = baselines.differences(self.connection, self.claim.workspace, self.governance.baselines)
                baselines.keep(self.connection, self.claim.workspace_id, found, self.clean)

    def settle(self, rules: Collection[str], now: datetime, scan_id: int, same: Collection[int] = ()) -> None:
        """In a transaction in which findings of some rules were written at a time: look at those alone. Of the `same`
        nothing happened now: they stay in the window in which it did."""
        wid = self.claim.workspace_id
        agreed = agreed_now(self.connection, self.governance)
        windows: list[tuple[int, str | None]] = []
        looks: dict[tuple[str, str | None], datetime | None] = {}
        for one in waivers.moved(self.connection, wid, rules, now, scan_id):
            if (move := judged(one.held.finding, one.about, agreed, now, whole=self.governance.whole)) is not None:
                if move.finding.state == State.WAIVED:
                    waivers.write_over(self.connection, one, move, now)
                else:
                    waivers.write(self.connection, one, move, now, scan_id=scan_id)
            if one.held.id in same:
                continue
            if (name := self._window(one, now, scan_id, looks)) != one.change_window:
                windows.append((one.held.id, name))
        waivers.set_window(self.connection, windows)

    def _window(
        self, one: Standing, now: datetime, scan_id: int, looks: dict[tuple[str, str | None], datetime | None]
    ) -> str | None:
        """The window in which what a finding is about happened: between the looks of its change, or else between the
        last complete look that did not show it and this one."""
        if not self.governance.windows or one.held.finding.inherited:
            return None
        evidence = one.held.finding.evidence
        if one.of_change:
            not_before, not_after = _time(evidence.get("not_before")), _time(evidence.get("not_after"))
        else:
            place = (one.about.kind, one.partition)
            if place not in looks:
                looks[place] = waivers.look_before(
                    self.connection, self.claim.workspace_id, one.about.kind, one.partition, scan_id
                )
            not_before, not_after = looks[place], now
        found = inside(self.governance.windows, one.about, not_before, not_after)
        return found.name if found is not None else None


def agreed_now(connection: Connection, governance: Governance) -> list[Waiver]:
    """The waivers of the files, and those that were entered by command."""
    return [*governance.waivers, *waivers.running(connection)]


def apply(
    connection: Connection,
    workspace_id: int,
    governance: Governance,
    now: datetime,
    *,
    scan_id: int | None = None,
    ended: tuple[str, str] | None = None,
) -> int:
    """Bring what stands in line with the waivers that there are; return how many findings moved. The workspace is
    locked by the caller. `ended`: who has just ended a waiver before its time, and why."""
    agreed = [one for one in agreed_now(connection, governance) if one.runs(now)]
    named = {rule for one in agreed for rule in one.covering.rules}
    rules = None if any("*" in rule or "?" in rule for rule in named) else named
    moved = 0
    for one in waivers.standing(connection, workspace_id, rules):
        move = judged(one.held.finding, one.about, agreed, now, whole=governance.whole)
        if move is not None:
            if move.ended and ended is not None:
                move = replace(move, actor=ended[0], reason=ended[1])
            waivers.write(connection, one, move, now, scan_id=scan_id)
            moved += 1
    return moved


def _now(connection: Connection) -> datetime:
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def _time(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None
