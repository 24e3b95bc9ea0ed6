"""After a pass: the source's log of who did what is read on from where it was read to, and names actors of changes.

It is read last, so that it covers every look of the pass. That it cannot be read is noted, and is nobody's trouble but
the actors': no scope and no scan is less complete for it. Lines arrive late, so the last hour is read again each time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from stocktake.core.actors import CLOCKS, Line
from stocktake.core.errors import SourceError, Stopped
from stocktake.core.redact import Redactor
from stocktake.sources.protocol import Acts
from stocktake.store import acts, claims
from stocktake.store.acts import Read

log = logging.getLogger(__name__)

#: How late a line may arrive. Azure speaks of 3 to 20 minutes, and promises nothing.
LATE = timedelta(hours=1)
#: How long Azure keeps its log: 90 days. The last of them may go while we read.
KEPT = timedelta(days=89)
#: What is read as one: a day whose pages did not all come is asked for again.
_PART = timedelta(days=1)
#: Pages after which what is left of a long time is left to the next pass.
_PAGES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Reads the log for one pass."""

    connection: Connection
    claim: claims.Claim
    clock: Callable[[], datetime]
    redactor: Redactor
    stop: Callable[[], bool]

    def name(self, source: Acts) -> None:
        """Read on, and name whom the log names."""
        now = self.clock()
        with self.connection.begin():
            before = acts.read(self.connection, self.claim)
            begin = self._begin(before, now)
        known_from = before.since if before is not None and begin <= before.until else begin
        pages = 0
        try:
            while begin < now:
                end = min(begin + _PART, now)
                for lines in source(begin - CLOCKS, min(end + CLOCKS, now)):  # never into the future: Azure may mind
                    if self.stop():
                        raise Stopped
                    self._keep(lines)
                    pages += 1
                so_far = Read(since=known_from, until=max(end, before.until) if before is not None else end)
                with self.connection.begin():
                    claims.fence(self.connection, self.claim)
                    acts.was_read(self.connection, self.claim, so_far, self.clock())
                    acts.name(self.connection, self.claim, so_far, begin)
                begin = end
                if pages >= _PAGES:
                    break
        except SourceError as exc:
            if self.stop():
                raise Stopped from exc  # it was us who cut the request off
            self._failed(exc)

    def _begin(self, before: Read | None, now: datetime) -> datetime:
        """Where to read on. The first time: where the oldest change begins that the log can still tell of, and before
        this pass: a listing that was cut in one before is complete as of that one's beginning."""
        if before is None:
            unknown = acts.oldest(self.connection, self.claim, now - KEPT)
            began = self.claim.began_at - LATE
            return min(began, unknown) if unknown is not None else began
        return max(before.until - LATE, now - KEPT)

    def _keep(self, lines: Sequence[Line]) -> None:
        clean = [
            line._replace(caller=self.redactor.text(line.caller), key=self.redactor.remembered.text(line.key))
            for line in lines
        ]
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            acts.keep(self.connection, self.claim, clean)

    def _failed(self, exc: SourceError) -> None:
        error = self.redactor.text(exc.what)
        with self.connection.begin():
            claims.fence(self.connection, self.claim)
            new = acts.not_read(self.connection, self.claim, exc, error, self.clock())
        log.log(
            logging.WARNING if new else logging.DEBUG,  # a right that is missing is missing in every pass
            "the log of who did what could not be read: actors stay unknown",
            extra={
                "action": "acts_not_read",
                "workspace": self.claim.workspace,
                "trouble": str(exc.trouble),
                "error": error,
                "next_step": exc.next_step,
            },
        )
