"""Judging: after a scan has published, a second transaction lets the rules say what that means.

It reads the changes behind a cursor of its own and the published state, and writes findings, their history and the
cursor together: killed anywhere, the next judging goes on where this one would have, and says nothing twice.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from stocktake.core.errors import Fenced
from stocktake.core.findings import Patience, Said, comes_back, fingerprint, step
from stocktake.core.rules import ChangeRule, Rule, Seen, StateRule
from stocktake.pipeline.governing import Governing
from stocktake.store import claims, findings
from stocktake.store.findings import Held

log = logging.getLogger(__name__)

#: Changes judged in one transaction.
_BATCH = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Judges one workspace, under the claim of the scan that has just published."""

    connection: Connection
    claim: claims.Claim
    clock: Callable[[], datetime]
    rules: Sequence[Rule]
    key: bytes
    clean: Callable[[Any], Any]  # takes out what was removed since it was published
    governing: Governing
    moves: Counter[str] = field(default_factory=Counter)

    def enrol(self) -> None:
        """Let rules that are new to this workspace begin here: before anything is published, so that whatever this
        scan brings is judged, be it by a later one; and behind what happened before anybody asked."""
        with self.connection.begin():
            if findings.new_to(self.connection, self.claim, self.rules):
                claims.fence(self.connection, self.claim)
                findings.enrol(self.connection, self.claim, self.rules)

    def judge(self, scan_id: int) -> None:
        """Judge what changed, then how things stand. Where the claim was taken over, whoever has it will judge."""
        with contextlib.suppress(Fenced):
            self.governing.begin(scan_id)
            while self._changes(scan_id):
                pass
            for rule in self.rules:
                if isinstance(rule, StateRule):
                    self._state(rule, scan_id)
        if self.moves:
            log.info(
                "findings moved",
                extra={
                    "action": "findings_moved",
                    "workspace": self.claim.workspace,
                    "scan": scan_id,
                    "counts": dict(self.moves),
                },
            )

    def _changes(self, scan_id: int) -> bool:
        """Judge the next changes behind the cursors; say whether there may be more."""
        rules = [rule for rule in self.rules if isinstance(rule, ChangeRule)]
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            cursors = findings.cursors(self.connection, self.claim)
            last = findings.last_change(self.connection, self.claim)
            behind = [rule for rule in rules if cursors[rule.id] < last]
            if not behind:
                return False
            start = min(cursors[rule.id] for rule in behind)
            seen, reached = findings.changes_after(self.connection, self.claim, start, last, behind, _BATCH)
            asked = [
                (rule, one, self._fingerprint(rule, one.kind, one.key))
                for one in seen
                for rule in behind
                if cursors[rule.id] < one.id and rule.about(one)
            ]
            now = self.clock()
            held = findings.held(self.connection, [which for *_, which in asked], now)
            for rule, one, which in asked:  # in the order of changes: a later one sees what an earlier one said
                known = held.get(which)
                verdict = rule.check(one, known.finding.evidence if known is not None and known.live else None)
                if verdict is not None:
                    said = Said(complete=True, holds=verdict.holds, evidence=self.clean(verdict.evidence), again=True)
                    self._write(rule, known, said, now, scan_id, held, which, _subject(one))
            findings.advance(self.connection, self.claim, [rule.id for rule in behind], reached)
            self.governing.settle(now, scan_id)
            return reached < last

    def _state(self, rule: StateRule, scan_id: int) -> None:
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            now = self.clock()
            looks = findings.looks(self.connection, self.claim, rule, now)
            due = [one for one in looks if one.due]
            yielded = findings.ask(self.connection, self.claim, rule, now) if due else {}
            for look in looks:
                live = findings.held_by(self.connection, self.claim, rule.id, look.kind, now)
                if not look.due:
                    said = Said(complete=False, looked_at=look.before)
                    for which, known in list(live.items()):
                        self._write(rule, known, said, now, scan_id, live, which, known.subject)
                    continue
                found = {
                    self._fingerprint(rule, kind, key): (findings.Subject(kind=kind, key=key), evidence)
                    for (kind, key), evidence in yielded.items()
                    if kind == look.kind
                }
                for which, (subject, evidence) in found.items():
                    said = Said(
                        complete=True,
                        holds=True,
                        evidence=self.clean(evidence),
                        first=look.first,
                    )
                    self._write(rule, live.get(which), said, now, scan_id, live, which, subject)
                for which in live.keys() - found.keys():
                    known = live[which]
                    self._write(rule, known, Said(complete=True), now, scan_id, live, which, known.subject)
                findings.looked(self.connection, self.claim, rule.id, look.kind, now)
            self.governing.settle(now, scan_id)

    def _write(
        self,
        rule: Rule,
        known: Held | None,
        said: Said,
        now: datetime,
        scan_id: int,
        held: dict[bytes, Held],
        which: bytes,
        subject: findings.Subject,
    ) -> None:
        if known is not None and not comes_back(known.finding, now):
            known = None
        before = known.finding if known is not None else None
        after = step(before, said, now, Patience(opens_after=rule.opens_after, resolves_after=rule.resolves_after))
        if after is before:
            return
        if before is None or after is None or after.state != before.state:
            self.moves[str(after.state) if after is not None else "dropped"] += 1
        if after is None:
            assert known is not None
            findings.drop(self.connection, known)
            held.pop(which, None)
            return
        self.governing.touch(rule.id)
        held[which] = findings.write(
            self.connection, self.claim, rule, which, known, after, subject, now=now, scan_id=scan_id
        )

    def _fingerprint(self, rule: Rule, kind: str, key: str) -> bytes:
        return fingerprint(rule.id, self.claim.workspace, kind, key, secret=self.key)


def _subject(change: Seen) -> findings.Subject:
    return findings.Subject(kind=change.kind, key=change.key)
