"""A long listing is saved as it goes: a scan that is cut (budget, stop, kill, throttling) loses nothing of it. The
next one goes on from the last place, and what both saw is one scope."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.store.cuts import Cut
from stocktake.store.heads import Heads

_EVERY = timedelta(seconds=60)
#: After one of these the place is as good as before; after any other, a list that was taken up is begun anew.
_WAITS = frozenset({Trouble.UNREACHABLE, Trouble.TLS, Trouble.AUTHENTICATION, Trouble.THROTTLED, Trouble.BUDGET})


@dataclass(slots=True)
class Part:
    """A listing, or the part of one that this scan lists."""

    kind: Kind
    began_at: datetime  # the whole
    saved_at: datetime
    heads: Heads | None  # as they were when this part began; None where absence is not judged
    listed: int
    problems: list[str]
    place: str | None = None  # where the list goes on behind the last page, if it can be taken up there
    saved: bool = False

    @classmethod
    def begin(cls, kind: Kind, heads: Heads | None, cut: Cut | None, now: datetime) -> Part:
        """The first part, or the one that takes up what was cut."""
        if cut is None:
            return cls(kind, now, now, heads, 0, [])
        if heads is not None:
            heads.meet_again(cut.seen)
        problems = [cut.problem] if cut.problem is not None else []
        return cls(kind, cut.began_at, now, heads, cut.listed, problems, saved=True)

    def due(self, now: datetime) -> bool:
        """Whether it is time to save it."""
        return self.place is not None and now - self.saved_at >= _EVERY

    def so_far(self, known: Iterable[int], redacted: Callable[[str], str]) -> Cut:
        """What is to be saved. `known` are the assets that were seen in another state than was published."""
        assert self.place is not None
        seen = self.heads.ids(met=True) if self.heads is not None else array("q")
        seen.extend(known)
        problem = redacted(self.problems[0]) if self.problems else None
        return Cut(place=self.place, began_at=self.began_at, listed=self.listed, problem=problem, seen=seen)

    def over(self, failure: SourceError | None) -> bool:
        """Whether what was saved of it is of no use any more: it came to its end (what another scan saved of it is
        older news now), or its place is no place any more."""
        if failure is None:
            return self.saved or self.heads is not None
        first = self.place is None or failure.trouble is Trouble.TRUNCATED  # who goes round in circles gets nowhere
        return self.saved and first and failure.trouble not in _WAITS
