"""The judging of absence: what a complete listing did not show is asked for by id, and ended only if that is believed.

A list alone proves nothing: pages move under us, and servers leave things out. What is confirmed gone is still
withheld where it is too much at once.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection

from stocktake.core.assets import Kind, Mode, ScopeState
from stocktake.core.guard import Guard
from stocktake.sources.protocol import Item, Listing, Source
from stocktake.store import absence, heads
from stocktake.store.claims import Claim
from stocktake.store.heads import Heads
from stocktake.store.ledger import ScopeResult
from stocktake.store.publish import Staged

_CONFIRM = 500


@dataclass(slots=True, kw_only=True)
class Ended:
    """A scope whose pages are through, waiting for its block to be published."""

    listing: Listing
    began_at: datetime
    state: ScopeState
    reason: str | None
    listed: int
    ended: bool  # the pages came to their end, whatever was on them
    heads: Heads | None  # as they were when the listing began; None where absence is not judged
    over: bool = False  # nothing that was saved of the listing is of use any more

    @property
    def kind(self) -> Kind:
        """The kind that was listed."""
        return self.listing.scope.kind

    def result(self, finished_at: datetime) -> ScopeResult:
        """The scope's row in the ledger, as long as nothing is missing."""
        return ScopeResult(
            scope=self.listing.scope,
            state=self.state,
            began_at=self.began_at,
            finished_at=finished_at,
            reason=self.reason,
            listed=self.listed,
            ended=self.ended,
        )


@dataclass(slots=True)
class Question:
    """What must be asked by id about one scope, and what came of it."""

    missing: array[int]
    #: Met as it was published when the listing began, but another pass has published another state since.
    superseded: array[int]
    confirmed: array[int] = field(default_factory=lambda: array("q"))
    carried: int = 0
    asked_at: datetime | None = None
    answered_at: datetime | None = None  # when the last answer had come

    def __bool__(self) -> bool:
        return bool(self.missing or self.superseded)


@dataclass(slots=True, kw_only=True)
class Judge:
    """Judges the absences of one pass. `accept` stages an answer and says whether it was understood."""

    connection: Connection
    claim: Claim
    source: Source
    guard: Guard
    clock: Callable[[], datetime]
    accept: Callable[[Kind, Item, datetime, datetime], bool]
    live: dict[Kind, int] = field(default_factory=dict)
    _missed: Counter[Kind] = field(default_factory=Counter)
    _withheld: frozenset[int] = frozenset()

    def begin(self) -> None:
        """Count what is there before the pass: the guard needs to know how much would vanish of how much."""
        for kind, facts in self.source.kinds.items():
            with self.connection.begin():
                self.live[kind] = absence.live(self.connection, self.claim, kind, sees_deleted=facts.sees_deleted)
        with self.connection.begin():
            self._withheld = absence.withheld(self.connection, self.claim)

    def questions(self, ended: Sequence[Ended], known: set[int]) -> list[tuple[Ended, Question]]:
        """Say what must be asked about ended scopes. `known` are the assets that were seen in another state."""
        since = min((one.began_at for one in ended if one.heads is not None), default=None)
        others = since is not None and heads.others_published(self.connection, self.claim, since)
        return [(one, self._question(one, known, others=others)) for one in ended]

    def _question(self, one: Ended, known: set[int], *, others: bool) -> Question:
        """`others`: another pass may have published since the scope was listed.

        Absence is looked for in a scope that was listed to its end, filtered or not; never in an unfinished one. Where
        what is not on the pages remains, those are asked for whose parent is gone.
        """
        question = Question(array("q"), array("q"))
        if one.heads is None:
            if one.listing.remains and one.state == ScopeState.COMPLETE:
                question.missing.extend(absence.bereft(self.connection, self.claim, one.kind))
            return question
        if others:
            later = heads.of_scope(self.connection, self.claim, one.kind, one.listing.scope.covers)
            question.superseded.extend(one.heads.superseded(later))
        unmet = [asset_id for asset_id in one.heads.ids(met=False) if asset_id not in known]
        if unmet and one.state in (ScopeState.COMPLETE, ScopeState.FILTERED):
            question.missing.extend(
                absence.missing(
                    self.connection,
                    unmet,
                    began_at=one.began_at,
                    sees_deleted=self.source.kinds[one.kind].sees_deleted,
                )
            )
        return question

    def ask(self, one: Ended, question: Question) -> Iterator[None]:
        """Ask by id, block by block, outside any transaction. Yields after each block."""
        question.asked_at = self.clock()
        if one.state == ScopeState.FILTERED:  # nothing that is hidden can be asked for
            question.carried = len(question.missing)
        else:
            for ids in _blocks(question.missing):
                self._confirm(one.kind, ids, question)
                yield
        for ids in _blocks(question.superseded):
            self._confirm(one.kind, ids, None)
            yield
        question.answered_at = self.clock()

    def _confirm(self, kind: Kind, ids: Sequence[int], question: Question | None) -> None:
        with self.connection.begin():
            keys = heads.keys(self.connection, ids)
        at = self.clock()
        answers = self.source.confirm(kind, [key for _, key in keys])
        answered_at = self.clock()
        for asset_id, key in keys:
            item = answers.get(key)
            if item is not None:
                understood = self.accept(kind, item, at, answered_at)
                if question is not None:
                    question.carried += not understood
            elif question is not None and key in answers:
                question.confirmed.append(asset_id)
            elif question is not None:
                question.carried += 1

    def end(
        self, asked: Sequence[tuple[Ended, Question]], publish: Callable[[list[Staged]], None]
    ) -> Iterator[tuple[ScopeResult, Counter[str]]]:
        """End what is confirmed gone, unless it is more than the guard believes at once. In a fenced transaction."""
        ready = [self._believed(one, question) for one, question in asked]
        shown = [self.source.kinds[one.kind].sees_deleted for one, _ in asked]
        purged = absence.purge(
            self.connection,
            self.claim,
            [gone if sees else replace(gone, ids=()) for (gone, _), sees in zip(ready, shown, strict=True)],
        )
        for (one, question), (gone, held), sees, ended in zip(asked, ready, shown, purged, strict=True):
            if not sees:
                for block in absence.as_deleted(self.connection, gone.ids, at=gone.at, answered_at=gone.answered_at):
                    publish(block)
            yield (
                self._result(one, question, purged=ended, held=held),
                Counter(purged=ended, carried=question.carried, withheld=held),
            )

    def _believed(self, one: Ended, question: Question) -> tuple[absence.Gone, int]:
        """What of the confirmed removals is believed now, and how many are withheld."""
        confirmed, held = list(question.confirmed), 0
        if confirmed:
            self._missed[one.kind] += len(confirmed)
            live = self.live.get(one.kind, 0)
            # What remains is not on the pages: all that is there is its scope.
            in_scope = one.listed + len(confirmed) + question.carried if one.heads is not None else live
            if self.guard.withholds(len(confirmed), in_scope) or self.guard.withholds(self._missed[one.kind], live):
                ready = absence.withhold(self.connection, self.claim, confirmed, counts=self.claim.mode == Mode.SWEEP)
                held = len(confirmed) - len(ready)
                confirmed = [asset_id for asset_id in confirmed if asset_id in ready]
        at = question.asked_at or one.began_at
        answered_at = question.answered_at or at
        return absence.Gone(ids=confirmed, began_at=one.began_at, at=at, answered_at=answered_at), held

    def _result(self, one: Ended, question: Question, *, purged: int, held: int) -> ScopeResult:
        result, state = one.result(self.clock()), one.state
        reason = result.reason
        if held:
            reason = (
                f"{held} removals are withheld: too many at once to believe."
                f" The next sweep judges them again, or: stocktake scope accept {self.claim.workspace} {one.kind}"
            )
        elif question.carried and state == ScopeState.COMPLETE:
            reason = f"{question.carried} missing could not be confirmed by id"
        if question.carried and state == ScopeState.COMPLETE:
            state = ScopeState.PARTIAL
        return replace(
            result,
            state=state,
            reason=reason,
            missing=len(question.confirmed) + question.carried,
            purged=purged,
            carried=question.carried,
            withheld=held,
        )

    def seen_after_all(self, ended: Sequence[Ended], known: set[int]) -> None:
        """Forget the withheld removals of what was seen, in whatever scope."""
        if not self._withheld:
            return
        seen = self._withheld & known
        for one in ended:
            if one.heads is not None:
                seen |= self._withheld & set(one.heads.ids(met=True))
        if seen:
            absence.seen_after_all(self.connection, sorted(seen))
            self._withheld -= seen


def _blocks(ids: array[int]) -> Iterator[Sequence[int]]:
    return (ids[start : start + _CONFIRM] for start in range(0, len(ids), _CONFIRM))
