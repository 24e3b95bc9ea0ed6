"""A real Alertmanager takes what we post, keeps it while it fires, and lets it go when it is over; amtool sees it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from tests.integration.alerting import MINUTE, desk, move, plant
from tests.integration.test_cli import configured
from tests.needs import need_command
from tests.servers.alertmanager import alertmanager
from tests.servers.hooks import Hooks, hooks

CONFIG = """
route:
  receiver: hook
  group_by: [alertname, workspace]
  group_wait: 0s
  group_interval: 1s
receivers:
  - name: hook
    webhook_configs: [{{url: "{0}/am", send_resolved: true}}]
"""


@pytest.fixture
def hook() -> Iterator[Hooks]:
    with hooks() as made:
        yield made


@pytest.fixture
def url(tmp_path: Path, hook: Hooks) -> Iterator[str]:
    with alertmanager(tmp_path / "am", CONFIG.format(hook.url)) as made:
        yield made


def words(url: str) -> str:
    return f'receivers: [{{name: am, alertmanager: {{url: "{url}"}}}}]\nreceiver: am\ntime_zone: UTC'


def known(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
    return found


def test_findings_fire_there_are_posted_again_and_are_over(engine: Engine, url: str) -> None:
    made = desk(engine, words(url))
    numbers = plant(engine, 3, evidence=json.dumps({"fields": [{"path": "p", "before": None, "after": 'x"\n\u2028'}]}))
    made.after()
    assert made.after(MINUTE)[1] == {"sent": 1}
    found = known(url)
    assert len(found) == 3
    assert {one["labels"]["alertname"] for one in found} == {"access-lost"}
    assert len({one["fingerprint"] for one in found}) == 3
    ends = {datetime.fromisoformat(one["endsAt"]) for one in found}
    assert min(ends) > datetime.now(UTC) + timedelta(days=3)
    before = {one["fingerprint"]: one["updatedAt"] for one in found}
    assert made.after(20 * MINUTE) == ({"refresh": 1}, {"sent": 1})
    assert {one["fingerprint"] for one in known(url)} == set(before)
    assert all(one["updatedAt"] > before[one["fingerprint"]] for one in known(url))
    assert made.deliveries("what") == ["fire"]  # what only refreshes leaves nothing
    move(engine, numbers[:2], "resolved")
    made.after()
    made.after(10 * MINUTE)
    assert [one["labels"]["asset"] for one in known(url)] == ["key3"]
    amtool = need_command("amtool", "prometheus-alertmanager")
    seen = subprocess.run(
        [amtool, f"--alertmanager.url={url}", "alert", "query", "alertname=access-lost", "-o", "json"],
        capture_output=True, check=True, text=True, timeout=30,
    )  # fmt: skip
    assert [one["labels"]["workspace"] for one in json.loads(seen.stdout)] == ["w"]


def test_an_alertmanager_that_is_started_anew_hears_of_what_fires_again(
    engine: Engine, tmp_path: Path, hook: Hooks
) -> None:
    with alertmanager(tmp_path / "one", CONFIG.format(hook.url)) as url:
        made = desk(engine, words(url))
        plant(engine)
        made.after()
        made.after(MINUTE)
        assert len(known(url)) == 1
    made.after(20 * MINUTE)  # it is away
    assert made.deliveries("what", "state") == [("fire", "sent"), ("refresh", "failed")]
    with alertmanager(tmp_path / "two", CONFIG.format(hook.url), int(url.rpartition(":")[2])) as url:
        assert known(url) == []
        made.over(10 * MINUTE, MINUTE)
        assert len(known(url)) == 1


def test_what_waits_for_the_digest_carries_a_label_to_route_it_by(engine: Engine, url: str) -> None:
    made = desk(engine, words(url))
    plant(engine, severity="warning")
    plant(engine, workspace="v", inherited=True)
    made.over(timedelta(hours=20), timedelta(hours=1))
    assert known(url) == []  # 8 o'clock
    made.over(timedelta(hours=2), timedelta(hours=1))
    assert [one["labels"]["digest"] for one in known(url)] == ["true", "true"]


def test_a_sample_is_sent_by_the_command(tmp_path: Path, url: str, hook: Hooks) -> None:
    indented = words(url).replace("\n", "\n  ")
    cli = configured(tmp_path, f"database: postgresql://nobody@127.0.0.1:1/none\nalerts:\n  {indented}\n")
    answer = cli("alerts", "test", "am", "-o", "json")
    assert answer.code == 0, answer
    assert [(one["what"], one["taken"], one["status"]) for one in answer.json()] == [
        ("fire", True, 200), ("resolve", True, 200),
    ]  # fmt: skip
