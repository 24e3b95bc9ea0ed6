"""The story of one scan: claim, list, compare, publish, judge what is missing, close the ledger's row, find.

What was seen is published as the scan goes; absence is concluded at the end marker of a completely listed scope,
confirmed by id, and withheld where it is too much to believe at once.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import Connection, Engine

from stocktake.core.assets import Kind, Mode, ScopeState
from stocktake.core.errors import UNOBSERVABLE, ConfigError, SourceError, Stopped, Trouble
from stocktake.core.governance import NOTHING_AGREED, Governance
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.pipeline.absence import Ended, Judge
from stocktake.pipeline.actors import Naming
from stocktake.pipeline.beside import Beside
from stocktake.pipeline.cutting import Part
from stocktake.pipeline.governing import Governing
from stocktake.pipeline.intake import Intake, epoch
from stocktake.pipeline.judging import Judging, RuleSet
from stocktake.pipeline.rechecking import Rechecking
from stocktake.pipeline.report import Progress, ScanReport, outcome, report
from stocktake.rules import RULES
from stocktake.sources.protocol import Identity, Item, Listing, Page, Source, Traffic
from stocktake.store import claims, cuts, heads, ledger, publish, redactions, statistics
from stocktake.store.engine import DatabaseClock
from stocktake.store.known import StoreKnown

#: What one publishing transaction holds at most.
_BATCH_DOCUMENTS = 50_000
_BATCH_BYTES = 8 * 2**20
_BATCH_SCOPES = 200
_BATCH_HEADS = 500_000

#: Troubles after which asking this server for more is pointless in this scan.
_HOPELESS = frozenset({Trouble.UNREACHABLE, Trouble.TLS, Trouble.AUTHENTICATION})


#: By what a workspace is judged where nobody says otherwise.
_SHIPPED = RuleSet(rules=RULES)


def scan(
    engine: Engine,
    make_source: Callable[[Callable[[], datetime]], Source],
    *,
    workspace: str,
    source_name: str,
    uri: str,
    mode: Mode,
    redactor: Redactor,
    key: bytes,
    guard: Guard,
    judged_by: RuleSet = _SHIPPED,
    governance: Governance = NOTHING_AGREED,
    finding: int | None = None,
    owner: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ScanReport:
    """Take stock of one workspace once; in the mode RECHECK of no more than `finding` needs.

    Raises Busy when another process is at it, Fenced when one took over, Stopped when `stop` said so, and
    SQLAlchemy's errors when the database goes away. Whatever the source does is a state in the report, and so is what
    keeps a scan from beginning: a workspace that points elsewhere now, a secret that is missing.
    """
    number = epoch(redactor)
    with claims.claimed(engine, name=workspace, source=source_name, uri=uri, mode=mode, epoch=number, key=key) as (
        conn,
        claim,
    ):
        clock = DatabaseClock(conn)
        with conn.begin():  # after the claim: a redaction that comes later takes the claim away
            redactor = redactor.remembering(redactions.remembered(conn))
        clean = redactor.remembered.document
        judging = Judging(
            engine=engine,
            connection=conn,
            claim=claim,
            clock=clock,
            ruleset=judged_by,
            key=key,
            clean=clean,
            governing=Governing(connection=conn, claim=claim, governance=governance, clean=clean),
            words=redactor.text,
            stop=stop,
        )
        judging.enrol()
        again = Rechecking(judging=judging, finding=finding)
        again.begin()
        try:
            claims.settle(conn, claim, source_name, uri)
            source = again.narrowed(make_source(clock))
        except (ConfigError, SourceError) as exc:
            refused = _refused(conn, claim, exc, redactor)
            judging.judge(refused.scan_id)
            return refused
        try:
            one = _Pass(
                engine=engine,
                connection=conn,
                claim=claim,
                source=source,
                clock=clock,
                intake=Intake(source, redactor, key, owner),
                redactor=redactor,
                guard=guard,
                progress=progress,
                stop=stop,
                experiments=again.experiments,
            )
            with contextlib.closing(one.beside):
                done = one.run()
            judging.judge(done.scan_id)
            again.judge(done.scan_id)
            return done
        finally:
            source.close()


def _refused(
    connection: Connection, claim: claims.Claim, why: ConfigError | SourceError, redactor: Redactor
) -> ScanReport:
    """End a scan that could not begin: in the ledger, in the figures and for people it is one that saw nothing."""
    if isinstance(why, ConfigError):
        why = SourceError(Trouble.CONFIG, why.what, next_step=why.next_step or "Put the configuration right.")
    done = outcome((), why, identity=None, counts=Counter(), redactor=redactor)
    with connection.begin():
        claims.fence(connection, claim)
        scan_id, finished_at = ledger.finish(connection, claim, done)
    return report(claim, done, (), scan_id=scan_id, finished_at=finished_at, traffic=Traffic(), redactions=Counter())


@dataclass(slots=True, kw_only=True)
class _Pass:
    engine: Engine
    connection: Connection
    claim: claims.Claim
    source: Source
    clock: DatabaseClock
    intake: Intake
    redactor: Redactor
    guard: Guard
    progress: Callable[[Progress], None] | None
    stop: Callable[[], bool]
    experiments: frozenset[str]  # what a hot pass lists though it did not change
    staged: dict[tuple[str, str], publish.Staged] = field(default_factory=dict)
    staged_bytes: int = 0
    inserted: int = 0  # new assets since the planner's statistics were renewed
    ended: list[Ended] = field(default_factory=list)
    known: set[int] = field(default_factory=set)  # assets seen since the last flush in another state than published
    glimpsed: set[tuple[Kind, str]] = field(default_factory=set)  # keys on the lists of what is new or moving
    began: dict[Kind, datetime] = field(default_factory=dict)  # when the last listing of a kind began, its first part
    results: list[ledger.ScopeResult] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    identity: Identity | None = None
    inventory: StoreKnown = field(init=False)  # as it is known to the source
    judge: Judge = field(init=False)
    beside: Beside = field(init=False)

    def __post_init__(self) -> None:
        self.beside = Beside(self.engine, self._write)
        self.inventory = StoreKnown(self.connection, self.claim, self.flush, self.experiments)
        self.judge = Judge(
            connection=self.connection,
            claim=self.claim,
            source=self.source,
            guard=self.guard,
            clock=self.clock,
            accept=self._accept,
        )

    def run(self) -> ScanReport:
        """Take stock."""
        failure: SourceError | None = None
        try:
            self.identity = self.source.identify()
            self.judge.begin()
            for listing in self.source.listings(self.claim.mode, self.inventory):
                trouble = self._take(listing)
                if trouble is not None and trouble.trouble in _HOPELESS and not listing.apart:
                    failure = trouble
                    break
        except SourceError as exc:
            failure = exc
        if failure is not None and self.stop():
            raise Stopped  # it was us who cut the request off: that says nothing about the server
        self.flush()
        if failure is None and (log := self.source.acts) is not None:
            self._naming.name(log)
        return self._finish(failure)

    def _take(self, listing: Listing) -> SourceError | None:
        """List one scope to its end, staging what is new or changed. A page that fails makes it partial."""
        now = self.clock()
        if listing.below is not None:
            now = min(now, self.began.get(listing.below, now))
        cut = self.inventory.taken.pop(listing.scope.kind) if listing.taken_up else None
        part = Part.begin(listing.scope.kind, self._heads(listing), cut, now)
        self.began[part.kind] = part.began_at
        problems, failure = part.problems, None
        try:
            for page in listing.pages:
                if self.stop():
                    raise Stopped
                problems += self._compare(part.kind, page, part.heads)
                problems += page.problems
                part.listed += len(page.items)
                part.place = page.onward
                self._tell(listing)
                self._spill()
                if part.due(self.clock()):
                    self._save(part)
        except SourceError as exc:
            failure = exc
            self._save(part)
        except Stopped:
            self._save(part)
            raise
        if (failure is not None or problems) and self.stop():
            raise Stopped
        state, reason = listing.promise, None
        if failure is not None:
            state = ScopeState.UNOBSERVABLE if failure.trouble in UNOBSERVABLE else ScopeState.PARTIAL
            reason = str(failure)
        elif problems:
            state = ScopeState.PARTIAL
            reason = problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
        self.ended.append(
            Ended(
                listing=listing,
                began_at=part.began_at,
                state=state,
                reason=self.redactor.text(reason) if reason else None,
                listed=part.listed,
                ended=failure is None,
                heads=part.heads,
                over=part.over(failure),
            )
        )
        if len(self.ended) >= _BATCH_SCOPES or sum(len(one.heads or ()) for one in self.ended) >= _BATCH_HEADS:
            self.flush()
        return failure

    def _save(self, part: Part) -> None:
        """Publish what was seen until here, and remember where the listing goes on, if it can be taken up there."""
        if part.place is None:
            return
        self._settle()
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            self._publish(self._unstage())
            cuts.save(self.connection, self.claim, part.kind, part.so_far(self.known, self.redactor.text))
        part.saved, part.saved_at = True, self.clock()

    def _heads(self, listing: Listing) -> heads.Heads | None:
        """What is published of a scope; None where the listing only shows what is new or moving."""
        if not listing.scope.covers or listing.remains:
            return None
        with self.connection.begin():
            return heads.of_scope(self.connection, self.claim, listing.scope.kind, listing.scope.covers)

    def _compare(self, kind: Kind, page: Page, published: heads.Heads | None) -> Iterator[str]:
        """Stage the items of a page that differ from their heads; yield what was not understood."""
        items = {item.key: item for item in page.items}
        known = {} if published is not None else {key: self.intake.digest(one.raw) for key, one in items.items()}
        same = self._same(kind, known)
        for key, item in items.items():
            digest = known.get(key) or self.intake.digest(item.raw)  # right before it is parsed: while it is at hand
            first = published is not None or (kind, key) not in self.glimpsed
            if published is None:
                self.glimpsed.add((kind, key))
            elif self.glimpsed and (kind, key) in self.glimpsed:
                first = False
            if key in same or (published is not None and published.meet(digest)):
                # It is as published again: what an earlier page of this scan said is older.
                if (older := self.staged.pop((kind, key), None)) is not None:
                    self.staged_bytes -= len(older.document)
                elif first:
                    self.counts["seen"] += 1
                continue
            self.counts["seen"] += first and (kind, key) not in self.staged
            try:
                self._stage(self.intake.stage(kind, item.raw, digest, page.requested_at, page.answered_at))
            except SourceError as exc:
                yield exc.what

    def _same(self, kind: Kind, digests: dict[str, bytes]) -> frozenset[str]:
        """Which items of a page that belongs to no scope are published as they are."""
        if not digests:
            return frozenset()
        with self.connection.begin():
            found = heads.by_key(self.connection, self.claim, kind, digests)
        self.known.update(found.values())
        return frozenset(found)

    def _stage(self, item: publish.Staged) -> None:
        self.staged[item.kind, item.key] = item
        self.staged_bytes += len(item.document)

    def _accept(self, kind: Kind, item: Item, at: datetime, answered_at: datetime) -> bool:
        """Stage what was answered when an asset was asked for by id; say whether it was understood."""
        try:
            answer = self.intake.stage(kind, item.raw, self.intake.digest(item.raw), at, answered_at)
            self._stage(replace(answer, confirmed=True))
        except SourceError:
            return False
        return True

    def flush(self) -> None:
        """Publish what is staged, and judge what is missing in the scopes that ended. One or two transactions."""
        ended, self.ended = self.ended, []
        self._settle()
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            self._publish(self._unstage())
            questions = self.judge.questions(ended, self.known)
            asked = any(question for _, question in questions)
            if not asked:
                self._close(ended, [one.result(self.clock()) for one in ended])
        self._renew_statistics(self.connection)
        if not asked:
            return
        # Somebody is missing: ask for them by id, outside any transaction, then end what is confirmed gone.
        for one, question in questions:
            for _ in self.judge.ask(one, question):
                if self.stop():
                    raise Stopped
                self._spill()
        self._settle()
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            self._publish(self._unstage())  # those that answered
            results = []
            for result, counts in self.judge.end(questions, self._publish):
                results.append(result)
                self.counts += counts
            self._close(ended, results)

    def _spill(self) -> None:
        """Publish what is staged when it is much, beside what follows; scopes that ended wait for `flush`."""
        if len(self.staged) >= _BATCH_DOCUMENTS or self.staged_bytes >= _BATCH_BYTES:
            self._settle()
            self.beside.publish(self._unstage())

    def _settle(self) -> None:
        """Wait for the batch that is published beside, and reckon it in."""
        self._reckon(self.beside.settle())

    def _write(self, connection: Connection, batch: Sequence[publish.Staged]) -> publish.Published:
        """Publish a batch on a connection that is not the scan's, in a thread of its own: it touches nothing of ours
        that moves but `inserted`, which nobody else does until the batch is settled."""
        self._renew_statistics(connection)
        with connection.begin():
            claims.fence(connection, self.claim)
            return publish.publish(connection, self.claim, batch, self.redactor.remembered.document)

    def _renew_statistics(self, connection: Connection) -> None:
        with connection.begin():
            if statistics.renew(connection, self.inserted):
                self.inserted = 0

    def _unstage(self) -> list[publish.Staged]:
        staged, self.staged, self.staged_bytes = self.staged, {}, 0
        return list(staged.values())

    def _publish(self, batch: Sequence[publish.Staged]) -> None:
        self._reckon(publish.publish(self.connection, self.claim, batch, self.redactor.remembered.document))

    def _reckon(self, done: publish.Published) -> None:
        self.counts.update(done.counts)
        self.inserted += done.counts["created"] + done.counts["baseline"]
        self.known |= done.known

    def _close(self, ended: list[Ended], results: list[ledger.ScopeResult]) -> None:
        """Write the ended scopes into the ledger, and begin a new block."""
        if results:
            ledger.record_scopes(self.connection, self.claim, results, ordinal=len(self.results))
            self.results += results
        if over := {one.kind for one in ended if one.over}:
            cuts.forget(self.connection, self.claim, over)
        self.judge.seen_after_all(ended, self.known)
        self.known = set()

    def _finish(self, failure: SourceError | None) -> ScanReport:
        traffic = self.source.traffic
        self.counts.update(
            requests=traffic.requests,
            bytes_read=traffic.bytes,
            throttled=traffic.throttled,
            redacted=self.intake.redactions.total(),
        )
        done = outcome(self.results, failure, identity=self.identity, counts=self.counts, redactor=self.redactor)
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            scan_id, finished_at = ledger.finish(self.connection, self.claim, done)
        return report(
            self.claim,
            done,
            self.results,
            scan_id=scan_id,
            finished_at=finished_at,
            traffic=traffic,
            redactions=self.intake.redactions,
        )

    @property
    def _naming(self) -> Naming:
        return Naming(
            connection=self.connection, claim=self.claim, clock=self.clock, redactor=self.redactor, stop=self.stop
        )

    def _tell(self, listing: Listing) -> None:
        if self.progress is not None:
            self.progress(
                Progress(
                    workspace=self.claim.workspace,
                    mode=self.claim.mode,
                    kind=listing.scope.kind,
                    partition=listing.scope.partition,
                    seen=self.counts["seen"],
                    expected=sum(self.judge.live.values()) or None,
                )
            )
