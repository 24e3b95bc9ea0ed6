"""What a source is: it lists pages of raw items scope by scope, and parses one raw item into one asset.

`listings` does the I/O and nothing clever; `parse` does no I/O. A source never decides that something is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec

from stocktake.core.actors import Line
from stocktake.core.assets import Asset, Kind, Mode, Scope, ScopeState
from stocktake.core.errors import SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """What a source can know about a kind."""

    sees_deleted: bool  # whether deleted items are listed; where not, absence means "deleted", never "bytes are gone"
    partitioned: bool = False  # whether assets are partitioned by experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who we are at the source, and whether the source hides things from us."""

    name: str  # "anonymous", a user name, a client id; never a secret
    filtered: bool = False  # lists are silently filtered by permission: absence proves nothing
    note: str = ""  # how we know, for the ledger and for doctor


class Item(msgspec.Struct, frozen=True, gc=False):
    """One item as it came: its immutable id and its raw bytes (JSON)."""

    key: str
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some items of one scope. `requested_at` is when the request was sent, by the clock that was handed in, and
    `answered_at` when its answer was whole: what is on the page was so at some moment between the two. None where
    the page shows one known moment, `requested_at` itself (a snapshot).

    `problems` says in plain words what was not understood on this page: one is enough to make the scope partial.
    """

    items: Sequence[Item]
    requested_at: datetime
    problems: Sequence[str] = ()
    answered_at: datetime | None = None
    onward: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One scope and its pages. Exhausting `pages` is the end marker; a SourceError raised by it makes it partial.

    `promise` is the state that the scope takes when the pages end well: COMPLETE, FILTERED, INCREMENTAL, or
    UNSUPPORTED (no pages: this server does not offer the kind). `apart`: that it cannot be read, whyever, says nothing
    about the scopes that follow (they come from elsewhere, or the source itself leaves out what would fail too).
    `remains`: what is published and not on the pages stands as it is, though the scope was seen completely: the source
    knows that it cannot have changed since it was read, unless its parent is gone (then it is asked for by id).
    `below`: the pages show what belongs to the assets of that kind that this pass has listed, so the scope is complete
    as of when those began to be listed: what belongs to one that came after is not on them.
    `taken_up`: the pages begin where an earlier scan was cut (Known.cut); what that one saw belongs to this scope too.
    """

    scope: Scope
    pages: Iterator[Page]
    promise: ScopeState = ScopeState.COMPLETE
    apart: bool = False
    remains: bool = False
    below: Kind | None = None
    taken_up: bool = False


def failing(error: SourceError) -> Iterator[Page]:
    """The pages of a scope that cannot be read: none, and an error instead of an end."""
    yield from ()
    raise error


class Known(Protocol):
    """What the inventory already knows of this workspace; asked lazily, while a scan is under way."""

    def partition_sizes(self, kind: Kind) -> Mapping[str, int]:
        """Live (not purged) assets of a kind by partition."""
        ...

    def changed(self, kind: Kind) -> frozenset[str]:
        """Keys of a kind published as new or changed (lifecycle, name...) by this scan so far."""
        ...

    def last_look(self, kind: Kind) -> datetime | None:
        """When the last pass began that ended with every scope of this kind complete, filtered or incremental; where
        a listing was taken up in it, when that one's first part did."""
        ...

    def document(self, kind: Kind, key: str) -> Mapping[str, Any] | None:
        """The published document of one asset; None where there is none."""
        ...

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        """Published aliases: registered model name -> alias -> version."""
        ...

    def among(self, kind: Kind, keys: Sequence[str]) -> frozenset[str]:
        """Which of some keys are published assets of a kind, and not purged."""
        ...

    def unfinished(self, kind: Kind, ended: frozenset[str]) -> Sequence[str]:
        """Keys of the active assets of a kind whose published state is none of those that are an end."""
        ...

    def cut(self, kind: Kind) -> str | None:
        """Where an earlier listing of this kind was cut (its last page's `onward`), if it may be taken up there."""
        ...

    def parents_due(self, ended: frozenset[str], childless: frozenset[str], since: datetime | None) -> Sequence[str]:
        """Keys of the jobs whose children may be other than published: those that have not ended, and those whose
        state was published at or after `since` (None: at any time) and none of whose children was published after it.
        Left out are jobs of the types in `childless`. What this scan found so far is reckoned in.
        """
        ...


class NothingKnown:
    """An inventory that knows nothing yet: a source then begins at the beginning."""

    def partition_sizes(self, kind: Kind) -> Mapping[str, int]:  # noqa: ARG002 - the protocol's names
        """Nothing."""
        return {}

    def changed(self, kind: Kind) -> frozenset[str]:  # noqa: ARG002
        """Nothing."""
        return frozenset()

    def last_look(self, kind: Kind) -> datetime | None:  # noqa: ARG002
        """Never."""
        return None

    def document(self, kind: Kind, key: str) -> Mapping[str, Any] | None:  # noqa: ARG002
        """None."""
        return None

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        """None."""
        return {}

    def among(self, kind: Kind, keys: Sequence[str]) -> frozenset[str]:  # noqa: ARG002
        """None."""
        return frozenset()

    def unfinished(self, kind: Kind, ended: frozenset[str]) -> Sequence[str]:  # noqa: ARG002
        """None."""
        return ()

    def cut(self, kind: Kind) -> str | None:  # noqa: ARG002
        """Nowhere."""
        return None

    def parents_due(self, ended: frozenset[str], childless: frozenset[str], since: datetime | None) -> Sequence[str]:  # noqa: ARG002
        """None."""
        return ()


@dataclass(slots=True)
class Traffic:
    """What a source asked of the watched server so far in this scan."""

    requests: int = 0
    bytes: int = 0
    throttled: int = 0  # 429 and 503 answers
    retries: int = 0
    seconds: float = 0.0  # time spent waiting for answers
    waited: float = 0.0  # time spent waiting for a turn, before asking
    budget_used: float | None = None  # share of the scan's budget of requests; None where there is none
    by_status: dict[str, int] = field(default_factory=dict)
    #: Told of every request: status (None: no answer), seconds, bytes read, whether it was a retry. Any thread.
    observer: Callable[[int | None, float, int, bool], None] | None = None


#: The pages of a log that says who did what, from a time until a time by that log's own clock. Raises SourceError.
Acts = Callable[[datetime, datetime], Iterator[Sequence[Line]]]


class Source(Protocol):
    """One watched place. An instance is made for one scan (by wiring), used by one thread, and closed after it."""

    name: str  # the adapter's name: "mlflow_rest", ...
    kinds: Mapping[Kind, KindFacts]
    traffic: Traffic

    @property
    def acts(self) -> Acts | None:
        """Reads the log of who did what; None where there is none, or where it is not to be read."""
        ...

    def identify(self) -> Identity:
        """Say who we are. Raises SourceError when the place cannot be reached or entered."""
        ...

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        """Yield the scopes of a pass, each to be consumed before the next is asked for. Raises SourceError."""
        ...

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        """Turn one raw item into an asset. Raises SourceError(SHAPE) when it is not understood. No I/O."""
        ...

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        """Ask for assets by id: an Item where it is there, None where the source says it does not exist.

        A key that could not be asked about is left out of the answer. Never raises for a single key.
        """
        ...

    def close(self) -> None:
        """Release connections."""
        ...
