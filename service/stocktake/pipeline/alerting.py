"""Alerts: from the events of findings to deliveries, and from the outbox to receivers.

Planning is one transaction: what it took from the queue, what was told, and the deliveries. Sending is one transaction
for each delivery, which holds its row until the answer came: killed in between, it is sent again, with the same key.
"""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from msgspec import MsgspecError
from sqlalchemy import Connection, Engine

from stocktake.core import canonical
from stocktake.core.alerting import Alert, Flushed, Member, Quiet, attach, begun, flush
from stocktake.core.errors import ConfigError, SendError
from stocktake.core.messages import Wording, decoded, message
from stocktake.core.redact import Redactor
from stocktake.core.routing import Destination, Policy, Traits, destinations
from stocktake.core.rules import ChangeRule
from stocktake.core.waiting import backoff
from stocktake.receivers.protocol import Receiver
from stocktake.store import alerts, outbox, redactions
from stocktake.store.alerts import Kept

log = logging.getLogger(__name__)

#: Events, and alerts that are due, of one transaction.
_EVENTS = 5_000
_ALERTS = 200

#: After a failure a receiver, and a delivery, is left alone: seconds, doubled each time, and no longer than this.
_FIRST, _MOST = 2.0, 300.0
_LONGEST = 3600.0  # that a receiver may ask to be left alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Plans what is due, for a whole installation."""

    engine: Engine
    policy: Policy
    wording: Callable[[], Wording]  # asked for when there is something to say: it reads every rule
    redactor: Redactor
    key: bytes
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of workspaces

    def plan(self, now: datetime | None = None) -> Counter[str]:
        """Plan everything that happened and is due. Returns deliveries by what they are for; nothing where another
        process plans already."""
        found: Counter[str] = Counter()
        while (more := self._events(now)) is True:
            pass
        if more is None:
            return found
        while (made := self._due(now)) is not None:
            found += made[0]
            if made[1] < _ALERTS:
                break
        if found:
            log.info("alerts planned", extra={"action": "alerts_planned", "counts": dict(found)})
        return found

    def _events(self, now: datetime | None) -> bool | None:
        """Take in the next events. Whether there may be more; None: somebody else is at it."""
        with self.engine.begin() as connection:
            if not alerts.claim(connection):
                return None
            queue = alerts.unplanned(connection, _EVENTS)
            if queue.events:
                self._attach(connection, queue, now or alerts.clock(connection))
                alerts.planned(connection, queue.events)
            return len(queue.events) == _EVENTS

    def _attach(self, connection: Connection, queue: alerts.Unplanned, now: datetime) -> None:
        subjects = alerts.subjects(connection, queue.news.keys(), self.labels)
        places = {
            number: {self._key(to): to for to in destinations(self.policy, one.labels, quiet=one.quiet)}
            for number, one in subjects.items()
        }
        kept = alerts.alerts(connection, {key for one in places.values() for key in one}, subjects.keys())
        known = alerts.members(connection, [one.id for one in kept.values()], subjects.keys())
        part_of: dict[int, set[str]] = {}
        for key, one in kept.items():
            for number in known.get(one.id, ()):
                part_of.setdefault(number, set()).add(key)
        changed = {key: one.alert for key, one in kept.items()}
        members: dict[tuple[str, int], Member] = {}
        for number, subject in subjects.items():
            for key in {**places[number], **dict.fromkeys(part_of.get(number, ()))}:
                alert = self._alert(changed.get(key), key, places[number].get(key))
                before = known.get(kept[key].id, {}).get(number) if key in kept else None
                alert, made = attach(alert, before, subject, queue.news[number], self.policy, now)
                if made is None:
                    continue
                changed[key] = alert
                if made != before:
                    members[key, number] = made
        written = [one for key, one in changed.items() if key not in kept or kept[key].alert != one]
        numbers = {key: one.id for key, one in kept.items()} | alerts.keep(connection, written)
        alerts.keep_members(connection, [(numbers[key], one) for (key, _), one in members.items()], subjects)

    @staticmethod
    def _alert(known: Alert | None, key: str, to: Destination | None) -> Alert:
        """An alert with the pace that its route has now."""
        if known is None:
            assert to is not None
            return begun(key, to)
        return known if to is None or known.pace == to.pace else replace(known, pace=to.pace)

    def _key(self, to: Destination) -> str:
        """What a receiver knows an alert by: of what its findings have in common, so that it outlives any change of the
        tree; keyed, for labels may be anybody's names."""
        words = json.dumps([to.receiver, to.digest, to.labels]).encode()
        return f"stocktake-{canonical.raw_digest(words, self.key).hex()}"

    def _due(self, now: datetime | None) -> tuple[Counter[str], int] | None:
        """Look at the alerts that are due. Returns what was planned and how many alerts were looked at."""
        with self.engine.begin() as connection:
            if not alerts.claim(connection):
                return None
            at = now or alerts.clock(connection)
            due = alerts.due(connection, at, _ALERTS)
            if not due:
                return Counter(), 0
            members = alerts.members(connection, [one.id for one in due])
            numbers = {number for one in members.values() for number in one}
            subjects = alerts.subjects(connection, numbers, self.labels)
            sources = [one.source for one in self.policy.inhibitions]
            places = {one.labels["workspace"] for one in subjects.values()}
            quiet = Quiet(
                silences=alerts.silences(connection, at),
                inhibitors=alerts.inhibitors(connection, sources, places, self.labels),
                inhibitions=self.policy.inhibitions,
            )
            done = [
                (
                    one,
                    flush(
                        one.alert,
                        members.get(one.id, {}).values(),
                        subjects,
                        lambda subject: quiet.why(subject, at),
                        self.policy,
                        at,
                        queued=one.queued,
                    ),
                )
                for one in due
            ]
            alerts.keep(connection, [flushed.alert for _, flushed in done])
            changed = [(one.id, member) for one, flushed in done for member in flushed.members.values()]
            alerts.keep_members(connection, changed, subjects)
            outbox.queue(connection, self._worded(connection, done, at), at)
            return Counter(str(one.what) for _, flushed in done for one in flushed.deliveries), len(due)

    def _worded(
        self, connection: Connection, done: Sequence[tuple[Kept, Flushed]], now: datetime
    ) -> Iterator[outbox.Queued]:
        """The deliveries in words, without what people had removed meanwhile."""
        told = {number for _, one in done for planned in one.deliveries for number, _ in planned.tells}
        if not told:
            return
        clean = self.redactor.remembering(redactions.remembered(connection)).remembered.document
        wording = self.wording()
        details = alerts.details(connection, told, _needs(wording))
        first = alerts.told_labels(connection, [kept.id for kept, _ in done], told)
        for kept, flushed in done:
            alert, labels = flushed.alert, first.get(kept.id, {})
            traits = self.policy.receivers.get(alert.receiver)
            gone = None if traits is not None else f"The configuration has no receiver {alert.receiver!r} any more."
            for planned in flushed.deliveries:
                known = {
                    number: replace(details[number], labels=labels.get(number, {}))
                    for number, _ in planned.tells
                    if number in details
                }
                made = message(alert, planned, known, wording, each=(traits or Traits()).each, now=now)
                yield outbox.Queued(
                    alert=kept.id,
                    receiver=alert.receiver,
                    key=alert.key,
                    what=planned.what,
                    message=made.encoded(clean(made.document())),
                    findings=len(planned.tells),
                    error=gone,
                )


def _needs(wording: Wording) -> dict[str, Sequence[str]]:
    return {
        name: [str(kind) for kind in (*rule.kinds, *(() if isinstance(rule, ChangeRule) else rule.needs))]
        for name, rule in wording.rules.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one attempt."""

    receiver: str
    what: str
    result: str  # sent, failed (it is tried again) or dead
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Sends what waits for one receiver. Several of them, in several processes, share the work."""

    engine: Engine
    name: str
    receiver: Receiver
    give_up_after: timedelta = timedelta(days=3)
    told: Callable[[Outcome], None] = lambda _: None
    chance: Callable[[], float] = random.random

    def send_all(self, *, stop: Callable[[], bool] = lambda: False, now: datetime | None = None) -> Counter[str]:
        """Send until nothing more can be sent now. Returns attempts by their result."""
        found: Counter[str] = Counter()
        while not stop() and (done := self.send_one(now)) is not None:
            found[done.result] += 1
        return found

    def send_one(self, now: datetime | None = None) -> Outcome | None:
        """Send the next delivery. None: there is none now."""
        with self.engine.begin() as connection:
            at = now or alerts.clock(connection)
            taken = outbox.take(connection, self.name, at)
            if taken is None:
                return None
            try:
                status = self._handed_over(taken)
            except SendError as exc:
                done = self._failed(connection, taken, exc, now or alerts.clock(connection))
            else:
                outbox.sent(connection, taken, self.name, now or alerts.clock(connection), status=status)
                done = Outcome(receiver=self.name, what=taken.what, result="sent", status=status)
        self._tell(taken, done)
        return done

    def _handed_over(self, taken: outbox.Taken) -> int | None:
        """Send it. Whatever goes wrong is a SendError, or one delivery would hold up all others for ever."""
        try:
            made = decoded(taken.text)
        except (ValueError, MsgspecError) as exc:
            raise SendError(
                f"delivery {taken.id} was written by a version whose messages this one cannot read",
                recoverable=False,
                next_step="What is still open is told again after its next change, or `repeat`.",
            ) from exc
        try:
            return self.receiver.send(made)
        except SendError:
            raise
        except ConfigError as exc:
            step = exc.next_step or "Correct the configuration."
            raise SendError(exc.what.rstrip("."), recoverable=True, next_step=step) from exc
        except Exception as exc:
            log.exception("a receiver broke", extra={"action": "receiver_broke", "receiver": self.name})
            raise SendError(
                f"receiver {self.name!r} broke ({type(exc).__name__})",
                recoverable=True,
                next_step="This is a bug; please report it with the log.",
            ) from exc

    def _failed(self, connection: Connection, taken: outbox.Taken, why: SendError, now: datetime) -> Outcome:
        again = None
        if why.recoverable:
            wait = backoff(taken.receiver_tries, first=_FIRST, most=_MOST, chance=self.chance())
            rested = now + timedelta(seconds=max(wait, min(why.after or 0.0, _LONGEST)))
            outbox.rest(connection, self.name, now, until=rested, error=str(why))
            if now - taken.created_at < self.give_up_after:
                wait = backoff(taken.tries, first=_FIRST, most=_MOST, chance=self.chance())
                again = max(rested, now + timedelta(seconds=wait))
        outbox.failed(connection, taken, now, error=str(why), status=why.status, again=again)
        return Outcome(
            receiver=self.name, what=taken.what, result="failed" if again is not None else "dead", status=why.status
        )

    def _tell(self, taken: outbox.Taken, done: Outcome) -> None:
        self.told(done)
        level = {"sent": logging.INFO, "failed": logging.WARNING, "dead": logging.ERROR}[done.result]
        words = {"sent": "alert delivered", "failed": "alert not delivered yet", "dead": "alert given up"}[done.result]
        log.log(
            level,
            words,
            extra={
                "action": f"alert_{done.result}",
                "receiver": done.receiver,
                "what": done.what,
                "delivery": taken.id,
                "key_of_alert": taken.key,
                "status": done.status,
                "tries": taken.tries + 1,
            },
        )


def give_up(engine: Engine, receivers: Sequence[str], *, after: timedelta) -> int:
    """Give up deliveries to receivers that left the configuration, as late as those to one that fails: another process
    may have read a newer configuration already."""
    with engine.begin() as connection:
        now = alerts.clock(connection)
        gone = outbox.give_up(connection, receivers=receivers, before=now - after, now=now)
    if gone:
        log.error("alerts given up", extra={"action": "alerts_given_up", "deliveries": gone})
    return gone


def prune(engine: Engine, *, keep: timedelta) -> dict[str, int]:
    """Drop deliveries that ended long ago, and what need not be remembered of findings that are over."""
    dropped = {"delivery": 0, "alert_finding": 0}
    for table in dropped:
        while True:
            with engine.begin() as connection:
                now = alerts.clock(connection)
                gone = (
                    outbox.prune(connection, keep=keep, now=now, limit=_EVENTS)
                    if table == "delivery"
                    else alerts.forget(connection, before=now - alerts.REMEMBERED, limit=_EVENTS)
                )
            dropped[table] += gone
            if gone < _EVENTS:
                break
    return dropped
