"""Judging: after a scan has published, a second transaction lets the rules say what that means.

It reads the changes behind a cursor of its own and the published state, and writes findings, their history and the
cursor together: killed anywhere, the next judging goes on where this one would have, and says nothing twice. A rule
that fails, fails alone: its findings stay as they are, and why it failed is kept beside its cursor.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, islice, starmap
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from stocktake.core.errors import Fenced
from stocktake.core.findings import Patience, Policy, Said, State, comes_back, fingerprint, happened, step
from stocktake.core.rules import ChangeRule, Rule, Seen, Severity, StateRule, Words
from stocktake.pipeline.governing import Governing
from stocktake.store import claims, findings, judging
from stocktake.store.findings import Differs, Draft, Held, Malformed
from stocktake.store.judging import Look, Standing, Unit

log = logging.getLogger(__name__)

#: Changes judged, and findings written, in one go.
_BATCH = 5_000


_NO_WORDS = Words(**dict.fromkeys(Words.__slots__, ""))
_SomeRule = TypeVar("_SomeRule", ChangeRule, StateRule)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """What a workspace is judged by."""

    rules: Sequence[Rule]
    policy: Policy = field(default_factory=Policy)
    timeout: timedelta = timedelta(seconds=30)  # of one statement
    broken: Mapping[str, str] = field(default_factory=dict)  # rules whose file is wrong, and what is
    off: Mapping[str, str] = field(default_factory=dict)  # rules that are switched off, and by what
    unread: str | None = None  # operators' rules could not be looked for: none of them is gone
    only: Collection[str] | None = None  # of all these, judge by these alone this time

    def asked(self, sort: type[_SomeRule]) -> list[_SomeRule]:
        """The rules of a sort that are asked this time."""
        return [one for one in self.rules if isinstance(one, sort) and (self.only is None or one.id in self.only)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Judges one workspace, under the claim of the scan that has just published."""

    engine: Engine  # rules are asked on a connection of their own, which cannot write
    connection: Connection
    claim: claims.Claim
    clock: Callable[[], datetime]
    ruleset: RuleSet
    key: bytes
    clean: Callable[[Any], Any]  # takes out what was removed since it was published
    governing: Governing
    words: Callable[[str], str] = str  # the same of an error's words
    stop: Callable[[], bool] = lambda: False
    moves: Counter[str] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)  # of rules that failed this time

    def enrol(self) -> None:
        """Let rules that are new to this workspace begin here: before anything is published, so that whatever this
        scan brings is judged, be it by a later one; and behind what happened before anybody asked. The findings of
        rules that are asked no more end here."""
        rules = self.ruleset.rules
        with self.connection.begin():
            known = judging.standings(self.connection, self.claim)
            wanted = {unit: rule for rule in rules for unit in judging.units(rule)}
            gone = {unit: self._why_gone(unit) for unit in known.keys() - wanted.keys() if self._is_gone(unit)}
            lighter = [
                rule for unit, rule in wanted.items() if unit in known and known[unit].severity != str(rule.severity)
            ]
            unreadable = self.ruleset.broken.keys() - {unit.rule for unit in known}
            if not (gone or lighter or unreadable or wanted.keys() - known.keys()):
                return
            claims.fence(self.connection, self.claim)
            if gone:
                ended = findings.end(self.connection, self.claim, gone, now=self.clock())
                judging.dismiss(self.connection, self.claim, gone)
                self.moves.update({"resolved": ended} if ended else {})
            if lighter:
                judging.weigh(self.connection, self.claim, lighter)
            judging.enrol(self.connection, self.claim, rules, unreadable)

    def _is_gone(self, unit: Unit) -> bool:
        if unit.rule in self.ruleset.broken:
            return False  # it is there, and cannot be read: nothing is known of it
        known = any(rule.id == unit.rule for rule in self.ruleset.rules)
        return known or unit.rule in self.ruleset.off or self.ruleset.unread is None

    def _why_gone(self, unit: Unit) -> str:
        if (why := self.ruleset.off.get(unit.rule)) is not None:
            said = f"the rule is switched off ({why})"
        elif any(rule.id == unit.rule for rule in self.ruleset.rules):
            said = f"the rule is about {unit.kind} no more" if unit.kind else "the rule is another one now"
        else:
            said = "there is no such rule any more"
        return f"{said}; nothing is said of the asset"

    def judge(self, scan_id: int) -> None:
        """Judge what changed, then how things stand. Where the claim was taken over, whoever has it will judge; where
        somebody asks to stop, the next scan goes on."""
        self.errors.update(self.ruleset.broken)
        with contextlib.suppress(Fenced):
            self.governing.begin(scan_id)
            while not self.stop() and self._changes(scan_id):
                pass
            self._states(scan_id)
            self._note_failures()
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

    # ---- changes ---------------------------------------------------------------------------------------------------

    def _changes(self, scan_id: int) -> bool:
        """Judge the next changes behind the cursors; say whether there may be more."""
        with self.connection.begin():
            if not self._behind()[0]:
                return False
            claims.fence(self.connection, self.claim)
            behind, cursors, last = self._behind()  # another pass may have judged them meanwhile
            if not behind:
                return False
            start = min(cursors[rule.id] for rule in behind)
            seen, reached = judging.changes_after(
                self.connection, self.claim.workspace_id, self.claim.workspace, start, last, behind, _BATCH
            )
            asked = [
                (rule, one, self._fingerprint(rule, one.kind, one.key))
                for one, _ in seen
                for rule in behind
                if cursors[rule.id] < one.id and rule.about(one)
            ]
            now = self.clock()
            held = findings.held(self.connection, {which for *_, which in asked}, now, self._reopen)
            drafts: dict[bytes, Draft] = {}
            for rule, one, which in asked:  # in the order of changes: a later one sees what an earlier one said
                if rule.id not in self.errors:
                    self._change(rule, one, which, held.get(which), drafts, now)
            well = [draft for draft in drafts.values() if draft.rule.id not in self.errors]
            self._write(well, now, scan_id)
            judging.advance(
                self.connection, self.claim, [rule.id for rule in behind if rule.id not in self.errors], reached
            )
            return reached < last

    def _behind(self) -> tuple[list[ChangeRule], dict[str, int], int]:
        """The rules that have changes to judge, or failed the last time; all cursors, and the last change."""
        rules = [one for one in self.ruleset.asked(ChangeRule) if one.id not in self.errors]
        cursors, failed = judging.cursors(self.connection, self.claim)
        last = judging.last_change(self.connection, self.claim)
        there = [one for one in rules if one.id in cursors]  # another version, without it, may have dismissed a rule
        return [one for one in there if cursors[one.id] < last or one.id in failed], cursors, last

    def _change(
        self,
        rule: ChangeRule,
        change: Seen,
        which: bytes,
        known: Held | None,
        drafts: dict[bytes, Draft],
        now: datetime,
    ) -> None:
        """Let a rule say what a change means. One that fails is asked no more, and nothing that it said is written."""
        draft = drafts.get(which) or self._draft(rule, _subject(change), which, known, now)
        at = draft.finding
        live = at is not None and at.state != State.RESOLVED
        try:
            verdict = rule.check(change, at.evidence if at is not None and live else None)
            if verdict is None:
                return
            evidence = self.clean(verdict.evidence)
            said = Said(complete=True, holds=verdict.holds, evidence=evidence, again=True)
            self._step(draft, said, now)
        except Exception as exc:  # noqa: BLE001 - a rule of an operator may raise anything
            self.errors[rule.id] = f"fails on change {change.id}: {type(exc).__name__}: {exc}"
            return
        drafts[which] = draft

    # ---- how things stand ------------------------------------------------------------------------------------------

    def _states(self, scan_id: int) -> None:
        """Ask every rule what it yields, one query each, in a transaction that cannot write; write where it differs."""
        todo = [one for one in self.ruleset.asked(StateRule) if one.id not in self.errors]
        if not (todo or self.ruleset.broken or self.ruleset.unread):
            return
        quiet: list[tuple[str, Look]] = []
        blind: dict[Unit, datetime | None] = {}  # what could not be looked at or not be asked, and when it last was
        now = self.clock()
        while todo and not self.stop():
            with judging.reading(self.engine, self.ruleset.timeout) as reader:
                standing = judging.standings(reader, self.claim)
                complete = judging.complete_kinds(reader, self.claim.workspace_id)
                while todo and not self.stop():
                    rule = todo.pop(0)
                    looks = judging.looks(rule, standing, complete, self.claim.epoch, now)
                    due = [one for one in looks if one.due]
                    asked = not due or self._asked(reader, rule, due, now, scan_id, quiet)
                    unseen = [one for one in looks if not one.due] if asked else looks
                    blind |= {Unit(rule=rule.id, kind=one.kind): one.before for one in unseen}
                    if not asked:
                        break  # its transaction is over
        self._wait(blind, now, scan_id, quiet)

    def _asked(
        self,
        reader: Connection,
        rule: StateRule,
        due: Sequence[Look],
        now: datetime,
        scan_id: int,
        quiet: list[tuple[str, Look]],
    ) -> bool:
        """Ask one rule; say whether it could be asked."""
        try:
            differs = findings.ask(reader, self.claim, rule, [one.kind for one in due], now, self._reopen)
            first = next(differs, None)
            if first is None:
                quiet += [(rule.id, one) for one in due]
                return True
            with self.connection.begin():
                claims.fence(self.connection, self.claim)
                if judging.still(self.connection, self.claim, rule.id, due):
                    self._stand(rule, due, chain([first], differs), now, scan_id)
                    judging.looked(self.connection, self.claim, [(rule.id, one) for one in due], now)
        except Malformed as exc:
            self.errors[rule.id] = str(exc)
            return False
        return True

    def _stand(
        self, rule: StateRule, due: Sequence[Look], differs: Iterator[Differs], now: datetime, scan_id: int
    ) -> None:
        first = {one.kind: one.first for one in due}
        holding: set[int] = set()
        while block := list(islice(differs, _BATCH)):
            known = findings.by_number(self.connection, [one.finding for one in block if one.finding is not None])
            prints = [self._fingerprint(rule, one.subject.kind, one.subject.key) for one in block]
            lost = {which for which, one in zip(prints, block, strict=True) if one.finding is None}
            held = findings.held(self.connection, lost, now, self._reopen)  # its key is another one there: redacted
            drafts = []
            for which, one in sorted(zip(prints, block, strict=True), key=lambda pair: pair[1].evidence is None):
                at: Held | None = held.get(which)
                if one.finding is not None:
                    if one.finding not in known:
                        continue
                    which, at = known[one.finding]
                if one.evidence is not None:
                    said = Said(
                        complete=True,
                        holds=True,
                        evidence=self.clean(one.evidence),
                        first=first.get(one.subject.kind, False),
                    )
                    holding |= {at.id} if at is not None else set()
                elif at is None or at.id in holding:
                    continue
                else:
                    said = Said(complete=True)
                draft = self._draft(rule, at.subject if at is not None else one.subject, which, at, now)
                self._step(draft, said, now)
                drafts.append(draft)
            self._write(drafts, now, scan_id)

    def _wait(
        self,
        blind: dict[Unit, datetime | None],
        now: datetime,
        scan_id: int,
        quiet: Sequence[tuple[str, Look]],
    ) -> None:
        """Note the looks of which nothing came; and let what nobody could look at become stale."""
        rules: dict[str, Rule] = {rule.id: rule for rule in self.ruleset.rules}
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            judging.looked(self.connection, self.claim, quiet, now)
            if self.ruleset.broken or self.ruleset.unread:
                for unit, at in judging.standings(self.connection, self.claim).items():
                    if unit.rule in rules and rules[unit.rule].words != _NO_WORDS:
                        continue
                    self.errors.setdefault(unit.rule, self.ruleset.unread or "its file cannot be read")
                    if unit.kind:
                        blind[unit] = at.looked_at
                        rules[unit.rule] = _unreadable(unit, at)
            stale_after = self.ruleset.policy.stale_after
            waiting = findings.waiting(self.connection, self.claim, blind, now, stale_after)
            for unit, numbers in waiting.items():
                drafts = []
                for which, held in findings.by_number(self.connection, numbers).values():
                    draft = self._draft(rules[unit.rule], held.subject, which, held, now)
                    self._step(draft, Said(complete=False, looked_at=blind[unit]), now)
                    drafts.append(draft)
                self._write(drafts, now, scan_id)

    def once(self, rule: StateRule, subject: findings.Subject, which: bytes, scan_id: int) -> None:
        """Judge one finding alone: the caller knows that all it needs was completely seen, if not by everybody."""
        now = self.clock()
        try:
            with judging.reading(self.engine, self.ruleset.timeout) as reader:
                asked = findings.ask(reader, self.claim, rule, [subject.kind], now, self._reopen)
                found = next((one for one in asked if one.subject == subject), None)
        except Malformed as exc:
            self.errors[rule.id] = str(exc)
            return
        if found is None:  # it stands as it did
            return
        with contextlib.suppress(Fenced), self.connection.begin():
            claims.fence(self.connection, self.claim)
            held = findings.held(self.connection, {which}, now, self._reopen).get(which)
            if held is None or not held.live:
                return
            evidence = self.clean(found.evidence) if found.evidence is not None else None
            draft = self._draft(rule, subject, which, held, now)
            self._step(draft, Said(complete=True, holds=evidence is not None, evidence=evidence), now)
            self._write([draft], now, scan_id)

    def _note_failures(self) -> None:
        """Keep why rules failed, for `stocktake rules list` and whoever reads what was found."""
        if not self.errors:
            return
        errors = {rule: self.words(error) for rule, error in self.errors.items()}
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            known = {unit.rule: at.error for unit, at in judging.standings(self.connection, self.claim).items()}
            judging.failed(self.connection, self.claim, errors, self.clock())
        for rule, error in errors.items():
            if known.get(rule) is None:  # told once, when it begins
                log.warning(
                    "rule could not be judged",
                    extra={
                        "action": "rule_failed",
                        "workspace": self.claim.workspace,
                        "rule": rule,
                        "error": error,
                        "next_step": "Its findings stay as they are. `stocktake rules check` says what is wrong.",
                    },
                )

    # ---- one finding -----------------------------------------------------------------------------------------------

    def _draft(self, rule: Rule, subject: findings.Subject, which: bytes, known: Held | None, now: datetime) -> Draft:
        if known is not None and not comes_back(known.finding, now, self.ruleset.policy):
            known = None
        return Draft(
            rule=rule,
            subject=subject,
            fingerprint=which,
            known=known,
            finding=known.finding if known is not None else None,
        )

    def _step(self, draft: Draft, said: Said, now: datetime) -> None:
        """Let the state machine say what becomes of a finding."""
        before = draft.finding
        patience = Patience(opens_after=draft.rule.opens_after, resolves_after=draft.rule.resolves_after)
        after = step(before, said, now, patience, self.ruleset.policy)
        if after is before:
            return
        draft.finding = after
        if after is not None:
            draft.events.append((before, after))

    def _write(self, drafts: Iterable[Draft], now: datetime, scan_id: int) -> None:
        moved = [one for one in drafts if one.events or (one.known is not None and one.finding is None)]
        for one in moved:
            states = [before.state if before is not None else None for before, _ in one.events]
            self.moves.update(
                str(after.state) for before, (_, after) in zip(states, one.events, strict=True) if before != after.state
            )
            self.moves.update(["dropped"] if one.finding is None else [])
        if moved:
            findings.write(self.connection, self.claim, moved, now=now, scan_id=scan_id)
            same = {one.known.id for one in moved if one.known is not None and not any(starmap(happened, one.events))}
            self.governing.settle({one.rule.id for one in moved}, now, scan_id, same)

    def _fingerprint(self, rule: Rule, kind: str, key: str) -> bytes:
        return fingerprint(rule.id, self.claim.workspace, kind, key, secret=self.key)

    @property
    def _reopen(self) -> timedelta:
        return self.ruleset.policy.reopen_within


def _unreadable(unit: Unit, at: Standing) -> StateRule:
    """What is known of a rule whose file cannot be read: enough to let its findings become stale."""
    severity = Severity(at.severity) if at.severity else Severity.WARNING
    return StateRule(id=unit.rule, severity=severity, words=_NO_WORDS, statement="")


def _subject(change: Seen) -> findings.Subject:
    return findings.Subject(kind=change.kind, key=change.key)
