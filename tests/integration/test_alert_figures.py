"""What telemetry tells of alerts: counted as they are sent, and read from the outbox into memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, text

from stocktake import wiring
from stocktake.settings import Settings
from stocktake.store import alert_list
from stocktake.wiring import App
from stocktake.worker import run_worker
from tests.integration.alerting import MINUTE, move, plant
from tests.integration.ingestion import ingestion
from tests.integration.registry import Registry, look
from tests.integration.scripted import KEY
from tests.servers.hooks import Hooks, Says, hooks

ALERTS = """
receivers:
  - {{name: hook, webhook: {{url: "{0}"}}}}
  - {{name: quiet, webhook: {{url: "{0}"}}}}
receiver: hook
pages: hook
"""


@pytest.fixture
def hook() -> Iterator[Hooks]:
    with hooks() as made:
        yield made


@contextmanager
def opened(
    database_url: str, folder: Path, alerts: str, environ: Mapping[str, str] | None = None, **more: Any
) -> Iterator[App]:
    made = Settings.model_validate(
        {
            "database": database_url.replace("+psycopg", ""),
            "web": {"port": 0},
            "alerts": yaml.safe_load(alerts),
            **more,
        }
    )
    made._data_dir = folder
    environ = {"STOCKTAKE_REDACTION_KEY": KEY.hex(), **(environ or {})}
    with wiring.open_app(made, migrate_database=False, environ=environ) as app:
        yield app


def told(app: App) -> dict[str, float]:
    """What a scrape says of deliveries, by the sample without its quotation marks."""
    lines = app.telemetry.prometheus().decode().splitlines()
    found = (line.replace('"', "").rsplit(" ", 1) for line in lines if "receiver=" in line)
    return {name.removeprefix("stocktake_"): float(value) for name, value in found}


def test_what_becomes_of_deliveries_is_counted_and_what_waits_is_measured(
    engine: Engine, database_url: str, tmp_path: Path, hook: Hooks
) -> None:
    hook.says(Says(status=503))
    one = plant(engine)
    with opened(database_url, tmp_path, ALERTS.format(hook.url)) as app:
        alerting = app.alerting()
        assert alerting is not None
        now = datetime.now(UTC) - timedelta(hours=2)

        def go_on(span: timedelta) -> dict[str, float]:
            nonlocal now
            for _ in range(int(span / MINUTE)):
                now += MINUTE
                alerting.plan(now)
                alerting.send("hook", stop=lambda: False, now=now)
            app.refresh_outbox()
            return told(app)

        assert "delivery_waiting{receiver=hook}" not in told(app)  # nobody looked yet
        down = go_on(10 * MINUTE)
        failed = down["delivery_attempts_total{outcome=failed,receiver=hook}"]
        assert failed == len(hook.posted) > 1
        assert down["delivery_waiting{receiver=hook}"] == 1
        assert 110 * 60 < down["delivery_oldest_age_seconds{receiver=hook}"] < 120 * 60  # by the database's clock
        assert down["receiver_resting{receiver=hook}"] == 1
        assert down["delivery_dead{receiver=hook}"] == 0
        assert {value for name, value in down.items() if "receiver=quiet" in name} == {0.0}

        hook.says(Says(status=400))  # refused as it is: given up at once
        refused = go_on(10 * MINUTE)
        assert refused["delivery_attempts_total{outcome=dead,receiver=hook}"] == 1
        assert refused["delivery_dead{receiver=hook}"] == 1
        assert refused["delivery_waiting{receiver=hook}"] == refused["delivery_oldest_age_seconds{receiver=hook}"] == 0

        hook.says(Says())
        move(engine, one, "resolved")
        assert alert_list.revive(engine, None) == 1
        now = datetime.now(UTC)
        well = go_on(10 * MINUTE)
        assert well["delivery_attempts_total{outcome=sent,receiver=hook}"] == 2  # the page, and its end
        assert well["receiver_resting{receiver=hook}"] == well["delivery_dead{receiver=hook}"] == 0
        assert well["delivery_waiting{receiver=hook}"] == 0
        alerting.close()


def test_the_outbox_is_counted_without_reading_what_was_sent(engine: Engine, database_url: str, tmp_path: Path) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO alert (key, receiver, labels, digest, pace) VALUES ('k', 'hook', '[]', false, '{}')")
        )
        connection.execute(
            text(
                "INSERT INTO delivery (alert_id, receiver, key, what, state, message, findings, created_at, next_at,"
                " ended_at) SELECT alert_id, 'hook', 'k', 'fire', CASE WHEN n % 1000 = 0 THEN 'queued'"
                " WHEN n % 1000 = 1 THEN 'dead' ELSE 'sent' END, repeat('x', 500), 1, now(), now(),"
                " CASE WHEN n % 1000 <> 0 THEN now() END FROM alert, generate_series(1, 20000) n"
            )
        )
        connection.execute(text("ANALYZE delivery"))
    with engine.connect() as connection:
        one = alert_list.receivers(connection)["hook"]
        assert (one.waiting, one.dead) == (20, 20)
        scans = "SELECT seq_scan, idx_scan > 0 FROM pg_stat_xact_user_tables WHERE relname = 'delivery'"
        assert tuple(connection.execute(text(scans)).one()) == (0, True)


def test_a_worker_tells_of_what_it_plans_and_sends(
    engine: Engine, database_url: str, tmp_path: Path, hook: Hooks
) -> None:
    arrived = threading.Event()

    def answer(_: object) -> Says:
        arrived.set()
        return Says()

    hook.answer = answer
    plant(engine)
    stop, ready = threading.Event(), threading.Event()
    address: list[str] = []

    def on(url: str) -> None:
        address.append(url)
        ready.set()

    words = ALERTS.format(hook.url) + "pace: {wait: 1s}\n"
    with opened(database_url, tmp_path, words) as app:
        worker = threading.Thread(target=run_worker, args=(app,), kwargs={"stop": stop, "ready": on})
        worker.start()
        try:
            assert ready.wait(30)
            assert arrived.wait(60)
        finally:
            stop.set()
            worker.join(60)
        assert told(app)["delivery_attempts_total{outcome=sent,receiver=hook}"] == 1
        assert "delivery_waiting{receiver=hook}" in told(app)
        (planned,) = [
            line
            for line in app.telemetry.prometheus().decode().splitlines()
            if line.startswith("stocktake_alerts_planning_age_seconds ")
        ]
        assert 0 <= float(planned.rsplit(" ", 1)[1]) < 60


def test_where_azure_tells_people_nothing_is_said_of_deliveries(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    plant(engine)
    azure = {"connection_string_env": "AZURE", "findings": "alert"}
    with (
        ingestion() as received,
        opened(
            database_url,
            tmp_path,
            ALERTS.format("http://hook.invalid"),
            environ={"AZURE": received.connection_string},
            telemetry={"azure_monitor": azure},
        ) as app,
    ):
        assert app.alerting() is None
        assert told(app) == {}


def test_a_rule_that_fails_is_counted_apart_from_one_that_never_saw_what_it_needs(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    world = Registry()
    world.add_run("run0")
    look(engine, world)
    with opened(
        database_url,
        tmp_path,
        ALERTS.format("http://hook.invalid"),
        workspaces=[{"name": "w", "mlflow": {"uri": "https://x.invalid"}}],
    ) as app:

        def rules() -> dict[str, float]:
            app.refresh_figures("w")
            lines = app.telemetry.prometheus().decode().splitlines()
            found = (line.rsplit(" ", 1) for line in lines if line.startswith("stocktake_rules_"))
            return {name: float(value) for name, value in found}

        before = rules()
        assert before['stocktake_rules_failing{workspace="w"}'] == 0
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE judging SET error = 'cancelled', failed_since = now() WHERE rule = 'missing-owner'")
            )
        after = rules()
        assert after['stocktake_rules_failing{workspace="w"}'] == 1
        not_judged = 'stocktake_rules_not_judged{workspace="w"}'
        assert after[not_judged] == before[not_judged]
