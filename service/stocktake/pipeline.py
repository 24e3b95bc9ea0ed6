"""One scan, from claim to ledger: list, compare, publish, judge what is missing. Start reading at `scan`.

What was seen is published as the scan goes; absence is concluded at the end marker of a completely listed scope,
confirmed by id, and withheld where it is too much to believe at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine

from stocktake.core import canonical
from stocktake.core.assets import Asset, Kind, Mode, ScanState, ScopeState
from stocktake.core.errors import UNOBSERVABLE, SourceError, Trouble
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.sources.protocol import Identity, Item, Listing, Page, Source, Traffic
from stocktake.store import claims, ledger, publish
from stocktake.store.engine import DatabaseClock
from stocktake.store.known import StoreKnown

log = logging.getLogger(__name__)

#: What one publishing transaction holds at most.
_BATCH_DOCUMENTS = 50_000
_BATCH_BYTES = 24 * 2**20
_BATCH_SCOPES = 200
_CONFIRM = 500

#: Troubles after which asking this server for more is pointless in this scan.
_HOPELESS = frozenset({Trouble.UNREACHABLE, Trouble.TLS, Trouble.AUTHENTICATION})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeLine:
    """A scope of a finished scan, for people."""

    kind: str
    partition: str
    state: str
    reason: str | None
    listed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """What a scan did."""

    workspace: str
    mode: Mode
    state: ScanState
    scan_id: int
    began_at: datetime
    finished_at: datetime
    counts: Mapping[str, int]
    scopes: Sequence[ScopeLine]
    traffic: Traffic
    redactions: Mapping[Kind, int]
    identity: str | None = None
    trouble: str | None = None
    error: str | None = None
    next_step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a scan is: told after every page."""

    workspace: str
    mode: Mode
    kind: Kind
    partition: str
    seen: int
    expected: int | None  # assets known of before this scan; None at first sight


class Stopped(Exception):
    """The scan was asked to stop; what was published stands."""


@dataclass(slots=True)
class _Ended:
    """A scope whose pages are through, waiting for its block to be published."""

    listing: Listing
    began_at: datetime
    state: ScopeState
    reason: str | None
    listed: int
    ended: bool  # the pages came to their end, whatever was on them


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
    owner: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ScanReport:
    """Take stock of one workspace once.

    Raises Busy when another process is at it, Fenced when one took over, Stopped when `stop` said so, ConfigError
    when the workspace points elsewhere now, and SQLAlchemy's errors when the database goes away. Whatever the
    source does is a state in the report.
    """
    epoch = _epoch(redactor)
    with claims.claimed(engine, name=workspace, source=source_name, uri=uri, mode=mode, epoch=epoch) as (conn, claim):
        clock = DatabaseClock(conn)
        source = make_source(clock)
        try:
            one = _Pass(
                connection=conn,
                claim=claim,
                source=source,
                clock=clock,
                redactor=redactor,
                raw_key=_raw_key(key, epoch),
                guard=guard,
                owner=owner,
                progress=progress,
                stop=stop,
            )
            return one.run()
        finally:
            source.close()


def _epoch(redactor: Redactor) -> int:
    """Number the way we normalise: another canonical form or another redaction policy is another epoch."""
    name = f"{canonical.NORMALISATION}/{redactor.policy}".encode()
    return int.from_bytes(canonical.digest(name)[:4], "big") >> 1


def _raw_key(key: bytes, epoch: int) -> bytes:
    return canonical.raw_digest(b"raw digests of epoch %d" % epoch, key)


@dataclass(slots=True, kw_only=True)
class _Pass:
    connection: Connection
    claim: claims.Claim
    source: Source
    clock: DatabaseClock
    redactor: Redactor
    raw_key: bytes
    guard: Guard
    owner: str | None  # of assets that name none themselves
    progress: Callable[[Progress], None] | None
    stop: Callable[[], bool]
    staged: dict[tuple[Kind, str], publish.Staged] = field(default_factory=dict)
    staged_bytes: int = 0
    ended: list[_Ended] = field(default_factory=list)
    results: list[ledger.ScopeResult] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    redactions: Counter[Kind] = field(default_factory=Counter)
    live: dict[Kind, int] = field(default_factory=dict)
    missed: Counter[Kind] = field(default_factory=Counter)
    identity: Identity | None = None

    def run(self) -> ScanReport:
        """The story of a scan."""
        failure: SourceError | None = None
        with self.connection.begin():
            publish.prepare(self.connection)
        known = StoreKnown(self.connection, self.claim, self.flush)
        try:
            self.identity = self.source.identify()
            for kind in self.source.kinds:
                with self.connection.begin():
                    self.live[kind] = publish.live(
                        self.connection, self.claim, kind, sees_deleted=self.source.kinds[kind].sees_deleted
                    )
            for listing in self.source.listings(self.claim.mode, known):
                trouble = self._take(listing)
                if trouble is not None and trouble.trouble in _HOPELESS:
                    failure = trouble
                    break
        except SourceError as exc:
            failure = exc
        self.flush()
        return self._finish(failure)

    def _take(self, listing: Listing) -> SourceError | None:
        """List one scope to its end, staging what is new or changed. A page that fails makes it partial."""
        began_at = self.clock()
        listed, problems, failure = 0, list[str](), None
        try:
            for page in listing.pages:
                if self.stop():
                    raise Stopped
                problems += self._digest(listing.scope.kind, page)
                listed += len(page.items)
                self.counts["seen"] += len(page.items)
                problems += page.problems
                if self.progress is not None:
                    self._tell(listing)
                if len(self.staged) >= _BATCH_DOCUMENTS or self.staged_bytes >= _BATCH_BYTES:
                    with self.connection.begin():  # scopes that ended wait: forget_seen must not fall into this one
                        claims.fence(self.connection, self.claim)
                        self._publish_staged()
        except SourceError as exc:
            failure = exc
        state, reason = listing.promise, None
        if failure is not None:
            state = ScopeState.UNOBSERVABLE if failure.trouble in UNOBSERVABLE else ScopeState.PARTIAL
            reason = str(failure)
        elif problems:
            state = ScopeState.PARTIAL
            reason = problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
        self.ended.append(
            _Ended(listing, began_at, state, self.redactor.text(reason) if reason else None, listed, failure is None)
        )
        if len(self.ended) >= _BATCH_SCOPES:
            self.flush()
        return failure

    def _digest(self, kind: Kind, page: Page) -> Iterator[str]:
        """Stage the items of a page that differ from their heads; yield what was not understood."""
        items = {item.key: item for item in page.items}
        if not items:
            return
        digests = {item.key: canonical.raw_digest(item.raw, self.raw_key) for item in items.values()}
        with self.connection.begin():
            same = publish.unchanged(self.connection, self.claim, kind, digests)
        for item in items.values():
            if item.key in same:
                # It is as published again: what an earlier page of this scan said is older.
                if (older := self.staged.pop((kind, item.key), None)) is not None:
                    self.staged_bytes -= len(older.document)
                continue
            try:
                self._stage(self._parse(kind, item, digests[item.key], page.requested_at))
            except SourceError as exc:
                yield exc.what

    def _parse(self, kind: Kind, item: Item, digest: bytes, at: datetime) -> publish.Staged:
        asset = self.source.parse(kind, item.raw)
        document, redactions = self.redactor.redact(asset.document, item.raw)
        aside, more = self.redactor.redact(asset.aside, None) if asset.aside else (asset.aside, ())
        if redactions or more:
            self.redactions[kind] += len(redactions) + len(more)
            asset = _clean(replace(asset, document=document, aside=aside), self.redactor)
        if asset.owner is None and self.owner is not None:
            asset = replace(asset, owner=self.owner)
        return publish.Staged(
            asset=asset,
            document=canonical.encode(asset.document),
            aside=canonical.encode(asset.aside) if asset.aside else None,
            raw_digest=digest,
            observed_at=at,
        )

    def _stage(self, item: publish.Staged) -> None:
        self.staged[item.asset.kind, item.asset.key] = item
        self.staged_bytes += len(item.document)

    def flush(self) -> None:
        """Publish what is staged, and judge what is missing in the scopes that ended. One or two transactions."""
        ended, self.ended = self.ended, []
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            self._publish_staged()
            gone = {id(one): self._missing(one) for one in ended}
            if not any(gone.values()):
                self._record([self._result(one) for one in ended])
                if ended:
                    publish.forget_seen(self.connection)
                return
        # Somebody is missing: ask for them by id, outside any transaction, then end what is confirmed gone.
        answers = {id(one): self._confirm(one, gone[id(one)]) for one in ended}
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            self._publish_staged()  # those that answered
            self._record([self._end(one, answers[id(one)]) for one in ended])
            self._publish_staged()  # those now marked deleted
            publish.forget_seen(self.connection)

    def _publish_staged(self) -> None:
        staged, self.staged, self.staged_bytes = self.staged, {}, 0
        if staged:
            self.counts.update(publish.publish(self.connection, self.claim, staged.values()))

    def _missing(self, one: _Ended) -> list[publish.Missing]:
        """Absence is looked for in a scope that was listed to its end, filtered or not; never in an unfinished one."""
        if one.state not in (ScopeState.COMPLETE, ScopeState.FILTERED):
            return []
        kind = one.listing.scope.kind
        return publish.missing(
            self.connection,
            self.claim,
            kind,
            [(partition, one.began_at) for partition in one.listing.scope.covers],
            sees_deleted=self.source.kinds[kind].sees_deleted,
        )

    def _confirm(self, one: _Ended, gone: Sequence[publish.Missing]) -> tuple[list[publish.Missing], int, datetime]:
        """Ask for missing assets by id. Returns those confirmed gone, how many are carried, and when we asked."""
        if not gone:
            return [], 0, one.began_at
        if one.state == ScopeState.FILTERED:
            return [], len(gone), one.began_at
        kind, asked_at, confirmed, carried = one.listing.scope.kind, self.clock(), [], 0
        for start in range(0, len(gone), _CONFIRM):
            block = gone[start : start + _CONFIRM]
            at = self.clock()
            answer = self.source.confirm(kind, [m.key for m in block])
            for m in block:
                if m.key not in answer:
                    carried += 1
                elif (item := answer[m.key]) is None:
                    confirmed.append(m)
                else:
                    carried += not self._stage_answer(kind, item, at)
        return confirmed, carried, asked_at

    def _stage_answer(self, kind: Kind, item: Item, at: datetime) -> bool:
        try:
            self._stage(self._parse(kind, item, canonical.raw_digest(item.raw, self.raw_key), at))
        except SourceError:
            return False
        return True

    def _end(self, one: _Ended, answer: tuple[list[publish.Missing], int, datetime]) -> ledger.ScopeResult:
        """End what is confirmed gone, unless it is more than the guard believes at once."""
        confirmed, carried, asked_at = answer
        kind, held = one.listing.scope.kind, 0
        if confirmed:
            self.missed[kind] += len(confirmed)
            in_scope = one.listed + len(confirmed) + carried
            if self.guard.withholds(len(confirmed), in_scope) or self.guard.withholds(
                self.missed[kind], self.live.get(kind, 0)
            ):
                ready = publish.withhold(self.connection, self.claim, confirmed, counts=self.claim.mode == Mode.SWEEP)
                held = len(confirmed) - len(ready)
                confirmed = [m for m in confirmed if m.asset_id in ready]
        purged = 0
        if confirmed and self.source.kinds[kind].sees_deleted:
            purged = publish.purge(self.connection, self.claim, confirmed, at=asked_at)
            self.counts["purged"] += purged
        elif confirmed:
            for item in publish.as_deleted(self.connection, confirmed, at=asked_at):
                self._stage(item)
        self.counts["carried"] += carried
        self.counts["withheld"] += held
        result = self._result(one)
        reason = result.reason
        if held:
            reason = (
                f"{held} removals are withheld: too many at once to believe."
                f" The next sweep judges them again, or: stocktake scope accept {self.claim.workspace} {kind}"
            )
        elif carried and one.state == ScopeState.COMPLETE:
            reason = f"{carried} missing could not be confirmed by id"
        return replace(
            result,
            state=ScopeState.PARTIAL if carried and one.state == ScopeState.COMPLETE else one.state,
            reason=reason,
            missing=len(answer[0]) + carried,
            purged=purged,
            carried=carried,
            withheld=held,
        )

    def _result(self, one: _Ended) -> ledger.ScopeResult:
        return ledger.ScopeResult(
            scope=one.listing.scope,
            state=one.state,
            began_at=one.began_at,
            finished_at=self.clock(),
            reason=one.reason,
            listed=one.listed,
            ended=one.ended,
        )

    def _record(self, results: list[ledger.ScopeResult]) -> None:
        if results:
            ledger.record_scopes(self.connection, self.claim, results, ordinal=len(self.results))
            self.results += results

    def _finish(self, failure: SourceError | None) -> ScanReport:
        states = {result.state for result in self.results}
        good = states & {ScopeState.COMPLETE, ScopeState.INCREMENTAL, ScopeState.FILTERED}
        bad = states & {ScopeState.PARTIAL, ScopeState.UNOBSERVABLE, ScopeState.FILTERED}
        state = ScanState.COMPLETE
        if failure is not None or bad:
            state = ScanState.PARTIAL if good else ScanState.FAILED
        first = next((r for r in self.results if r.state in (ScopeState.PARTIAL, ScopeState.UNOBSERVABLE)), None)
        trouble = error = next_step = None
        if failure is not None:
            trouble, error, next_step = str(failure.trouble), failure.what, failure.next_step
        elif first is not None:
            trouble, error = str(first.state), f"{first.scope.kind}: {first.reason}"
            next_step = "The other scopes are not affected; the next scan reads this one again."
        traffic = self.source.traffic
        self.counts.update(
            requests=traffic.requests,
            bytes_read=traffic.bytes,
            throttled=traffic.throttled,
            redacted=self.redactions.total(),
        )
        outcome = ledger.Outcome(
            state=state,
            identity=self.identity.name if self.identity else None,
            filtered=self.identity.filtered if self.identity else False,
            counts=self.counts,
            trouble=trouble,
            error=self.redactor.text(error) if error else None,
            next_step=next_step,
            unobservable=state == ScanState.FAILED,
        )
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            scan_id, finished_at = ledger.finish(self.connection, self.claim, outcome)
        return ScanReport(
            workspace=self.claim.workspace,
            mode=self.claim.mode,
            state=state,
            scan_id=scan_id,
            began_at=self.claim.began_at,
            finished_at=finished_at,
            counts=dict(self.counts),
            scopes=[
                ScopeLine(
                    kind=r.scope.kind, partition=r.scope.partition, state=r.state, reason=r.reason, listed=r.listed
                )
                for r in self.results
            ],
            traffic=traffic,
            redactions=dict(self.redactions),
            identity=outcome.identity,
            trouble=trouble,
            error=outcome.error,
            next_step=next_step,
        )

    def _tell(self, listing: Listing) -> None:
        if self.progress is not None:
            expected = sum(self.live.values())
            self.progress(
                Progress(
                    workspace=self.claim.workspace,
                    mode=self.claim.mode,
                    kind=listing.scope.kind,
                    partition=listing.scope.partition,
                    seen=self.counts["seen"],
                    expected=expected or None,
                )
            )


def _clean(asset: Asset, redactor: Redactor) -> Asset:
    """Redact the fields that were lifted out of a document in which a secret was found.

    An owner that the redacted document no longer holds was one of the secrets, whatever it looks like. The
    digest of the parameters is made anew: over a weak secret it could be guessed.
    """
    left = set(_strings(asset.document))

    def verbatim(value: str | None) -> str | None:
        return value if value is None or value in left else f"[redacted:lifted:{redactor.fingerprint(value)}]"

    def text(value: str | None) -> str | None:
        return redactor.text(value) if value else value

    params = asset.document.get("params")
    return replace(
        asset,
        name=text(asset.name),
        owner=verbatim(text(asset.owner)),
        artifact_uri=text(asset.artifact_uri),
        code_version=text(asset.code_version),
        data_version=text(asset.data_version),
        params_digest=canonical.digest(canonical.encode(params)).hex() if asset.params_digest and params else None,
    )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
