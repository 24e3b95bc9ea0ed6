"""A sample of what a receiver is sent: an alert about nothing, and that it is over. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from stocktake.core.alerting import Alert, Planned, Told, What
from stocktake.core.messages import Confidence, Details, Message, Wording, message
from stocktake.core.routing import Pace

_RULE = "stocktake-test"


def sample(receiver: str, wording: Wording, asker: str, now: datetime) -> Iterator[Message]:
    """The two messages."""
    alert = Alert(
        key=f"stocktake-test-{receiver}-{int(now.timestamp())}",
        receiver=receiver,
        labels=(("rule", _RULE),),
        digest=False,
        pace=Pace(),
        since=now - timedelta(minutes=1),
    )
    details = Details(
        finding=0,
        fingerprint=f"{int(now.timestamp()):032x}",
        rule=_RULE,
        severity="info",
        state="open",
        workspace="stocktake",
        source="stocktake",
        uri=None,
        kind="workspace",
        key="stocktake",
        name=None,
        owner=asker,
        partition=None,
        since=now - timedelta(minutes=1),
        first_seen=now - timedelta(minutes=1),
        last_seen=now,
        resolved_at=None,
        waived_until=None,
        actor=None,
        evidence={"what": f"this is a test by {asker}; nothing happened, and nothing is to be done"},
        labels={"severity": "info", "owner": asker},
        confidence=[Confidence(kind="workspace", scopes=1, complete=1, oldest=now)],
    )
    pages = replace(wording, runbook=wording.runbook.replace("{rule}", "README"))  # no rule's: where all of them are
    for told in (Told.FIRING, Told.RESOLVED):
        what = What.FIRE if told is Told.FIRING else What.RESOLVE
        planned = Planned(what=what, tells=((0, told),), firing=int(told is Told.FIRING))
        known = details if told is Told.FIRING else replace(details, state="resolved", resolved_at=now)
        made = message(alert, planned, {0: known}, pages, each=True, now=now)
        yield replace(made, title=f"test of stocktake's receiver {receiver}: {told}")
