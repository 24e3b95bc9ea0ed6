"""An installation of alerts over a real Postgres, whose receivers are loopback and whose clock is ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from sqlalchemy import Engine, text

from stocktake.alerting import Alerting
from stocktake.core.redact import Redactor
from stocktake.pipeline.alerting import Outcome
from stocktake.rules import RULES
from stocktake.settings import Settings
from tests.integration.scripted import KEY

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(slots=True)
class Desk:
    """Plans and sends at a time of ours."""

    engine: Engine
    alerting: Alerting
    now: datetime
    outcomes: list[Outcome] = field(default_factory=list)

    def after(self, span: timedelta = timedelta()) -> tuple[Counter[str], Counter[str]]:
        """Let time go by, plan, and send to everybody: what was planned, and what became of attempts."""
        self.now += span
        planned = self.alerting.plan(self.now)
        sent: Counter[str] = Counter()
        for name in self.alerting.receivers:
            sent += self.alerting.send(name, stop=lambda: False, now=self.now)
        return planned, sent

    def over(self, span: timedelta, step: timedelta) -> Counter[str]:
        """The same, step by step; what became of attempts."""
        found: Counter[str] = Counter()
        end = self.now + span
        while self.now < end:
            found += self.after(step)[1]
        return found

    def deliveries(self, *columns: str) -> list[Any]:
        """The outbox, oldest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(text(f"SELECT {', '.join(columns)} FROM delivery ORDER BY delivery_id"))
            return [tuple(row) if len(columns) > 1 else row[0] for row in rows]


def desk(engine: Engine, words: str, environ: Mapping[str, str] | None = None, workspaces: Sequence[Any] = ()) -> Desk:
    """An installation with these alerts."""
    settings = Settings.model_validate({"alerts": yaml.safe_load(words), "workspaces": list(workspaces)})
    assert settings.alerts is not None
    made = Desk(engine=engine, alerting=None, now=datetime.now(UTC).replace(hour=12, minute=0))  # type: ignore[arg-type]
    made.alerting = Alerting(
        settings,
        settings.alerts,
        environ or {},
        engine=engine,
        redactor=Redactor(KEY),
        key=KEY,
        rules=lambda: RULES,
        workspaces=lambda: settings.workspaces,
        told=made.outcomes.append,
    )
    return made


def plant(
    engine: Engine,
    count: int = 1,
    *,
    rule: str = "access-lost",
    severity: str = "critical",
    workspace: str = "w",
    state: str = "open",
    **columns: Any,
) -> list[int]:
    """Findings as judging writes them, with their first event."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO workspace (name, source, uri) VALUES (:name, 'mlflow_rest', 'http://mlflow:5000')"
                " ON CONFLICT DO NOTHING"
            ),
            {"name": workspace},
        )
        given = {
            "workspace": workspace, "rule": rule, "severity": severity, "state": state, "count": count, "kind": "run",
            "inherited": False, "owner": "ada", "evidence": "{}", **columns,
        }  # fmt: skip
        numbers = connection.execute(
            text(
                "INSERT INTO finding (fingerprint, workspace_id, rule, severity, kind, key, owner, state, since,"
                " inherited, first_seen, last_seen, opened_at, held, clear, evidence, scan_id)"
                " SELECT decode(md5(:rule || :workspace || n || clock_timestamp()), 'hex'), workspace_id, :rule,"
                " :severity, :kind, 'key' || n, :owner, :state, now(), :inherited, now(), now(), now(), 0, 0,"
                " :evidence, 0 FROM workspace, generate_series(1, :count) n WHERE name = :workspace"
                " RETURNING finding_id"
            ),
            given,
        ).scalars()
        made = sorted(numbers)
        connection.execute(
            text(
                "INSERT INTO finding_event (finding_id, at, after, evidence)"
                " SELECT unnest(CAST(:made AS bigint[])), now(), :state, '{}'"
            ),
            {"made": made, "state": state},
        )
    return made


def move(engine: Engine, numbers: Sequence[int], state: str, *, at: datetime | None = None) -> None:
    """Findings change their state, with an event for each."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "WITH was AS (SELECT finding_id, state FROM finding WHERE finding_id = ANY(:numbers)),"
                " done AS (UPDATE finding SET state = :state, since = coalesce(:at, now()),"
                "  resolved_at = CASE WHEN :state = 'resolved' THEN coalesce(:at, now()) END"
                "  WHERE finding_id = ANY(:numbers))"
                " INSERT INTO finding_event (finding_id, at, before, after, evidence)"
                " SELECT finding_id, coalesce(:at, now()), state, :state, '{}' FROM was"
            ),
            {"numbers": list(numbers), "state": state, "at": at},
        )
