"""Found workspaces in the worker and on the command line: they come and go without a restart, and every command knows
them by the names they were given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from apscheduler.schedulers.background import BackgroundScheduler

from stocktake.core.assets import Mode
from stocktake.demo.azure.content import TINY
from stocktake.demo.azure.estate import Estate
from stocktake.settings import load_settings
from stocktake.wiring import App, open_app
from stocktake.worker import Duty, Watch
from tests.azure.server import AzureServer, served
from tests.integration.test_cli import Cli, configured

TOKEN = "LOOPBACK_TOKEN"


@dataclass
class Scene:
    """A loopback Azure with one tagged workspace, and a configuration that looks for such."""

    azure: AzureServer
    cli: Cli

    def add(self, name: str, **tags: str) -> None:
        self.azure.estate.add_workspace(name, size=TINY, tags=tags)

    @contextmanager
    def app(self) -> Iterator[App]:
        with open_app(load_settings(self.cli.config)) as app:
            yield app


@pytest.fixture
def scene(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with served(Estate()) as azure:
        azure.credential.lifetime = timedelta(days=60)
        azure.estate.add_workspace("fraud", size=TINY, tags={"stocktake": "yes"})
        azure.estate.add_workspace("hidden", size=TINY, subscription=1, tags={"stocktake": "yes"})
        shut = list(azure.estate.subscriptions)[1]
        azure.estate.deny(f"/subscriptions/{shut}")
        entry = {
            "name": "platform",
            "subscriptions": list(azure.estate.subscriptions),
            "tags": ["stocktake=yes"],
            "owner": "ml-platform",
            "azureml": {
                "custom_cloud": {"resource_manager": azure.arm, "data_hosts": ["localhost"]},
                "credential": "token",
                "token_env": TOKEN,
                "ca_file": str(azure.ca_file),
            },
        }
        monkeypatch.setenv(TOKEN, azure.token())
        monkeypatch.setenv("STOCKTAKE_DATA_DIR", str(tmp_path / "data"))
        words = yaml.safe_dump({"database": database_url, "discovery": [entry]})
        yield Scene(azure, configured(tmp_path, words))


@contextmanager
def standing_still() -> Iterator[BackgroundScheduler]:
    """A scheduler that keeps jobs and runs none."""
    scheduler = BackgroundScheduler(timezone=UTC)
    scheduler.start(paused=True)
    try:
        yield scheduler
    finally:
        scheduler.shutdown(wait=False)


def test_the_worker_begins_and_ends_watching_what_comes_and_goes(scene: Scene) -> None:
    with scene.app() as app, standing_still() as scheduler:
        watch = Watch(app, scheduler, Duty(app, threading.Event()))
        watch.follow(datetime.now(UTC))

        def jobs() -> set[str]:
            return {job.id for job in scheduler.get_jobs()}

        assert jobs() == set()
        watch.discover("platform")
        assert jobs() == {"fraud/hot", "fraud/sweep"}
        before = {job.id: job.next_run_time for job in scheduler.get_jobs()}
        scene.add("ranking", stocktake="yes")
        watch.discover("platform")
        assert jobs() == {"fraud/hot", "fraud/sweep", "ranking/hot", "ranking/sweep"}
        assert {job.id: job.next_run_time for job in scheduler.get_jobs()}.items() >= before.items()  # left as they are
        assert app.scan("fraud", Mode.SWEEP).state == "complete"
        scene.azure.estate.workspace("fraud").soft_delete()
        scene.azure.estate.tick(15 * 24 * 3600)
        scene.azure.estate.workspace("ranking").edit_workspace(tags={"stocktake": "no"})
        watch.discover("platform")
        assert jobs() == {"fraud/hot", "fraud/sweep", "last pass of fraud"}
        (last,) = [job for job in scheduler.get_jobs() if job.id == "last pass of fraud"]
        last.func(*last.args)
        assert jobs() == {"last pass of fraud"}
        metrics = app.telemetry.prometheus().decode()
    assert 'stocktake_discovery_workspaces{standing="deleted"} 1.0' in metrics
    assert 'stocktake_discovery_workspaces{standing="unselected"} 1.0' in metrics
    assert "stocktake_discovery_scopes_not_looked_at 1.0" in metrics
    told = scene.cli("changes", "-w", "fraud", "-o", "json").json()
    (change,) = [one for one in told if one["kind"] == "workspace" and one["type"] == "deleted"]
    assert change["workspace"] == "fraud"
    everything = scene.cli("changes", "-o", "json").json()
    ranking = [(one["type"], one["fields"]) for one in everything if one["workspace"] == "ranking"]
    standing = {"path": "discovery.standing", "before": "watched", "after": "unselected"}
    assert ranking == [("created", []), ("updated", [standing])]
    narrowed = scene.cli("changes", "--kind", "workspace", "--type", "created", "--limit", "5", "-o", "json").json()
    assert [one["workspace"] for one in narrowed] == ["ranking"]
    jobs_left = scene.cli("list", "job", "-w", "fraud", "-o", "json").json()
    assert len(jobs_left) == TINY.jobs  # its children are not purged


def test_a_look_that_breaks_stops_neither_the_worker_nor_the_watching(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(TOKEN)
    with scene.app() as app, standing_still() as scheduler:
        Watch(app, scheduler, Duty(app, threading.Event())).discover("platform")
    (record,) = [one for one in caplog.records if getattr(one, "action", "") == "discovery_broke"]
    assert "token_env of discovery 'platform'" in record.error  # type: ignore[attr-defined]


def test_discover_says_what_is_there_and_what_was_not_looked_at(scene: Scene) -> None:
    dry = scene.cli.process("discover", "--dry-run", "-o", "json")
    assert dry.code == 3, dry.err
    assert scene.cli("status", "-o", "json").json() == []
    answer = scene.cli.process("discover", "-o", "json")
    assert (dry.code, answer.code) == (3, 3)
    found, shut = answer.json()
    assert (found["workspace"], found["standing"], found["tags"]) == ("fraud", "watched", {"stocktake": "yes"})
    assert (found["how"], found["resource_group"], found["region"]) == ("resource-graph", "ml", "westeurope")
    assert (shut["workspace"], shut["standing"]) == (None, "not-looked-at")
    assert shut["scope"] == f"/subscriptions/{list(scene.azure.estate.subscriptions)[1]}"
    assert [one["workspace"] for one in dry.json()] == ["fraud", None]
    table = scene.cli.process("discover")
    assert "NOT LOOKED AT /subscriptions/" in table.out
    assert "platform: 1 known, 0 new; 1 of 2 scopes looked at" in table.out
    head, *lines = scene.cli.process("discover", "-o", "tsv").out.splitlines()
    assert head.split("\t")[:3] == ["entry", "workspace", "standing"]
    assert len(lines) == 2


def test_every_command_knows_what_was_found(scene: Scene) -> None:
    scanned = scene.cli.process("scan", "-o", "json")  # looks first, since nobody has yet
    (report,) = scanned.json()
    assert (report["workspace"], report["state"]) == ("fraud", "complete"), scanned.err
    (status,) = scene.cli("status", "-o", "json").json()
    assert (status["configured"], status["found_by"], status["standing"]) == (True, "platform", "watched")
    assert "found by       platform: watched" in scene.cli("status", "--workspace", "fraud").out
    assert scene.cli("list", "job", "-o", "json").json()
    assert scene.cli.process("scan", "nobody").code == 7
    again = scene.cli.process("scan", "fraud", "--hot")
    assert again.code == 0, again.err
    checks = scene.cli.process("doctor", "-w", "fraud", "-o", "json").json()
    assert {one["check"] for one in checks if one["workspace"] == "fraud"} >= {"reach", "schedule"}


def test_a_found_workspace_that_was_not_scanned_yet_stands_in_the_status(scene: Scene) -> None:
    scene.cli.process("discover")
    told = scene.cli("status", "-o", "json")
    assert told.code == 0, told.err
    (status,) = told.json()
    assert (status["name"], status["state"], status["found_by"]) == ("fraud", "never scanned", "platform")


def test_discover_without_an_entry_says_what_to_write(tmp_path: Path) -> None:
    answer = configured(tmp_path, "workspaces: []\n")("discover")
    assert answer.code == 2
    assert "Add an entry under `discovery`" in answer.err
