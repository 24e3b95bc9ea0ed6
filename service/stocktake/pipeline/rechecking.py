"""Judging single findings anew, so that nobody who repaired something waits for the next sweep.

Asked for by somebody, a scan lists only what that finding needs, all of it; and a hot pass lists, beside its own, the
experiments that open critical findings need. Either way a finding moves only by a complete look: what was not seen
now, or is not complete from before, leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stocktake.core.assets import PARTITIONED, Asset, Kind, Mode
from stocktake.core.rules import StateRule
from stocktake.pipeline.judging import Judging
from stocktake.sources.protocol import Identity, Item, KindFacts, Known, Listing, Source, Traffic
from stocktake.store import rechecking
from stocktake.store.rechecking import Asked, Needs

#: What a hot pass rereads for critical findings at most: so many findings, experiments of so many runs.
_FINDINGS = 100
_EXPERIMENTS = 20
_RUNS = 10_000

#: What must be listed before a kind can be, in the same pass.
BEFORE: Mapping[Kind, Kind] = {
    **dict.fromkeys(PARTITIONED, Kind.EXPERIMENT),
    Kind.MODEL_VERSION: Kind.REGISTERED_MODEL,
    Kind.CHILD_JOB: Kind.JOB,
    Kind.ONLINE_DEPLOYMENT: Kind.ONLINE_ENDPOINT,
    Kind.BATCH_DEPLOYMENT: Kind.BATCH_ENDPOINT,
    Kind.DATA_VERSION: Kind.DATA,
    Kind.ENVIRONMENT_VERSION: Kind.ENVIRONMENT,
    Kind.COMPONENT_VERSION: Kind.COMPONENT,
}


@dataclass(slots=True, kw_only=True)
class Rechecking:
    """The findings that one scan judges anew. `finding`: the one that somebody asked for; the scan is for it alone."""

    judging: Judging
    finding: int | None = None
    experiments: frozenset[str] = frozenset()  # what a hot pass lists besides
    _asked: Sequence[Asked] = field(default_factory=tuple)

    def begin(self) -> None:
        """Find out which, and what they need."""
        connection, claim, rules = self.judging.connection, self.judging.claim, self.judging.ruleset.rules
        with connection.begin():
            if self.finding is not None:
                found = rechecking.asked(connection, self.finding, rules)
                self._asked = [found] if found is not None else []
            elif claim.mode == Mode.HOT:
                pressing = list(rechecking.pressing(connection, claim.workspace_id, rules, most=_FINDINGS))
                named = frozenset(one for each in pressing for one in each.needs.experiments or ())
                sizes = rechecking.sizes(connection, claim.workspace_id, named) if named else {}
                small = sorted((many, one) for one, many in sizes.items() if many <= _RUNS)
                self.experiments = frozenset(one for _, one in small[:_EXPERIMENTS])
                self._asked = [
                    one
                    for one in pressing
                    if (needed := one.needs.experiments) is not None and needed <= self.experiments
                ]

    def narrowed(self, source: Source) -> Source:
        """The source, showing no more than what is needed where a scan is for one finding alone."""
        if self.finding is None or not self._asked or self._asked[0].needs.everything:
            return source
        return Narrowed(source, self._asked[0].needs)

    def judge(self, scan_id: int) -> None:
        """After everything else was judged: those of them that this scan's ordinary judging could not speak of."""
        for one in self._asked:
            if isinstance(one.rule, StateRule) and not one.rule.of_ledger:
                self._again(one.rule, one, scan_id)

    def _again(self, rule: StateRule, one: Asked, scan_id: int) -> None:
        connection, claim, since = self.judging.connection, self.judging.claim, self.judging.claim.began_at
        with connection.begin():
            if rechecking.judged_since(connection, claim.workspace_id, rule, one.held.subject.kind, since):
                return
            if rechecking.not_seen(connection, claim.workspace_id, rule, one.needs, since):
                return
        self.judging.once(rule, one.held.subject, one.fingerprint, scan_id)


class Narrowed:
    """A source that lists some kinds completely, and of runs those of some experiments; and what must come before."""

    acts = None  # who did it is read by the next pass

    def __init__(self, inner: Source, needs: Needs) -> None:
        self.name = inner.name
        self.kinds: Mapping[Kind, KindFacts] = inner.kinds
        self.traffic: Traffic = inner.traffic
        self._inner = inner
        self._partitions = needs.partitions
        self._wanted = {Kind.WORKSPACE, *needs.kinds}
        for kind in needs.kinds:
            while (before := BEFORE.get(kind)) is not None:
                self._wanted.add(before)
                kind = before

    def identify(self) -> Identity:
        """Say who we are."""
        return self._inner.identify()

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:  # noqa: ARG002 - what is listed is whole
        """Yield those of a sweep's scopes that are needed."""
        left = set(self._wanted & self._inner.kinds.keys())
        for listing in self._inner.listings(Mode.SWEEP, known):
            kind, covers = listing.scope.kind, listing.scope.covers
            if kind not in self._wanted:
                continue
            some = self._partitions.get(kind)
            if some is None or not covers or some & set(covers):
                yield listing
            if kind not in PARTITIONED:  # those come in many scopes
                left.discard(kind)
                if not left:
                    return

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        """Turn one raw item into an asset."""
        return self._inner.parse(kind, raw)

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        """Ask for assets by id."""
        return self._inner.confirm(kind, keys)

    def close(self) -> None:
        """Release connections."""
        self._inner.close()
