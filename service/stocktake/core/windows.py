"""Approved change windows: what changes inside one was announced, is recorded with its name, and does not page. Pure.

When a change was made is known between two looks alone, so both of them must lie in the window, widened by a margin:
what may have been done long before or after is not covered by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from stocktake.core.covering import About, Covering


@dataclass(frozen=True, slots=True, kw_only=True)
class Weekly:
    """The same hours of some days of every week, by a zone's clock; past midnight where the end comes first."""

    days: frozenset[int]  # Monday is 0
    begins: time
    ends: time
    zone: tzinfo

    def around(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The windows that may touch a time."""
        day = start.astimezone(self.zone).date() - timedelta(days=2)
        last = end.astimezone(self.zone).date() + timedelta(days=1)
        while day <= last:
            if day.weekday() in self.days:
                until = day if self.ends > self.begins else day + timedelta(days=1)
                yield (
                    datetime.combine(day, self.begins, tzinfo=self.zone).astimezone(UTC),
                    datetime.combine(until, self.ends, tzinfo=self.zone).astimezone(UTC),
                )
            day += timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """One window."""

    begins: datetime
    ends: datetime

    def around(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:  # noqa: ARG002
        """Itself."""
        yield self.begins, self.ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When who may change what."""

    name: str
    covering: Covering
    when: Weekly | Once
    owner: str
    ticket: str | None = None
    margin: timedelta = timedelta(hours=1)

    def holds(self, not_before: datetime, not_after: datetime) -> bool:
        """Whether what happened between two looks happened inside, give or take the margin."""
        return any(
            begins - self.margin <= not_before and not_after <= ends + self.margin and not_before <= ends
            and not_after >= begins
            for begins, ends in self.when.around(not_before - self.margin, not_after + self.margin)
        )  # fmt: skip


def inside(
    windows: Iterable[Window], about: About, not_before: datetime | None, not_after: datetime | None
) -> Window | None:
    """The first window that a change lies in. What nobody looked at before may have happened at any time: in none."""
    if not_before is None or not_after is None:
        return None
    return next((one for one in windows if one.covering.covers(about) and one.holds(not_before, not_after)), None)
