"""The demonstration as a newcomer runs it: one command, a first inventory, a first list of changes, and a clean end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from stocktake.demo import azure_world, changes
from stocktake.demo.world import child_environment
from tests.integration.test_demo_world import gone

pytest.importorskip("sklearn", reason="the demonstration needs the extra: pip install 'stocktake[demo]'")

pytestmark = pytest.mark.timeout(480)

WITHIN_SECONDS = 120.0  # what is promised, once installed, to somebody whose machine does nothing else
GIVE_UP_SECONDS = 360.0
FAKE_SECRET = "not-a-real-password"
STEPS: tuple[changes.Step | azure_world.AzureStep, ...] = (*changes.STEPS, *azure_world.STEPS)


@dataclass(slots=True)
class Seen:
    """What one demonstration showed, and what was left of it."""

    story: str = ""
    seconds: float = 0.0
    changes: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    status: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    followed: list[dict[str, Any]] = field(default_factory=list)  # the finding after its runbook was followed
    health: int = 0
    exit_code: int = -1
    errors: str = ""
    servers_gone: bool = False
    worlds_left: list[Path] = field(default_factory=list)


def ask(environment: dict[str, str], *arguments: str) -> str:
    """What somebody types in the terminal next door."""
    command = [sys.executable, "-m", "stocktake", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def follow(story: str, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Do what the story says to follow a finding to its end, and ask until a scan saw it."""
    back = re.search(r"^  curl -X POST (\S+) -H '[^']+' -d '([^']+)'$", story, re.MULTILINE)
    number = re.search(r"finding show (\d+)$", story, re.MULTILINE)
    assert back is not None, story
    assert number is not None
    httpx.post(back[1], json=json.loads(back[2]), trust_env=False).raise_for_status()
    while True:  # each question starts a program; the whole fixture is bounded
        shown: list[dict[str, Any]] = json.loads(ask(environment, "finding", "show", number[1], "--output", "json"))
        if shown[0]["state"] == "resolved":
            return shown


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("newcomer")
    # Another stocktake has the port that is configured: the demonstration takes a free one, and says which.
    taken = socket.create_server(("127.0.0.1", 0))
    config = folder / "stocktake.yaml"
    config.write_text(f"web: {{port: {taken.getsockname()[1]}}}\n")
    environment = child_environment() | {"STOCKTAKE_DATA_DIR": str(folder / "data")}
    environment.pop("STOCKTAKE_CONFIG", None)
    found = Seen()
    told: list[str] = []
    began = time.monotonic()
    errors = folder / "errors.txt"
    with errors.open("w") as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "stocktake", "--config", str(config), "up", "--demo"],
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
            text=True,
            encoding="utf-8",
        )
    assert process.stdout is not None
    guard = threading.Timer(GIVE_UP_SECONDS, process.kill)
    guard.start()

    try:
        for line in process.stdout:
            told.append(line)
            if line.startswith("Watching on"):
                break
        found.seconds = time.monotonic() - began
        assert process.poll() is None, "".join(told) + errors.read_text()
        advice = dict(re.findall(r"^  export (\w+)=(.*)$", "".join(told), re.MULTILINE))
        assert set(advice) == {"STOCKTAKE_DATA_DIR", "STOCKTAKE_CONFIG", azure_world.TOKEN}
        next_door = environment | advice
        found.changes = json.loads(ask(next_door, "changes", "--output", "json"))
        found.runs = json.loads(ask(next_door, "list", "run", "-w", "demonstration", "--output", "json"))
        found.status = json.loads(ask(next_door, "status", "--output", "json"))
        found.findings = json.loads(ask(next_door, "finding", "list", "--output", "json"))
        found.followed = follow("".join(told), next_door)
        endpoint = re.search(r"http://127.0.0.1:\d+(?=/readyz)", "".join(told))
        assert endpoint is not None
        found.health = httpx.get(f"{endpoint.group()}/healthz", trust_env=False).status_code
        process.send_signal(signal.SIGINT)
        told += process.stdout.readlines()
        found.exit_code = process.wait(60)
    finally:
        guard.cancel()
        taken.close()
        process.kill()
        process.wait()
        process.stdout.close()
    found.story = "".join(told)
    found.errors = errors.read_text()
    found.servers_gone = gone(str(folder))
    found.worlds_left = list((folder / "data" / "demo").glob("world-*"))
    return found


def told(change: dict[str, Any]) -> tuple[str, str, str]:
    return change["kind"], change["name"], change["type"]


def test_a_newcomer_sees_an_inventory_and_changes_within_two_minutes(seen: Seen) -> None:
    shared = max(1.0, os.getloadavg()[1] / (os.cpu_count() or 1))  # other tests run beside this one
    assert seen.seconds < WITHIN_SECONDS * shared
    assert seen.story.index("This is the inventory") < seen.story.index("This is what stocktake found out")
    for kind, count in (("experiment", 8), ("run", 55), ("registered model", 4), ("model version", 7)):
        assert re.search(rf"^{kind} +{count} ", seen.story, re.MULTILINE), seen.story
    assert "complete. This is the inventory" in seen.story


def test_every_change_behind_its_back_is_reported_and_no_other(seen: Seen) -> None:
    expected = {(one.kind, one.name, one.type) for step in STEPS for one in step.expected}
    assert sorted(told(change) for change in seen.changes) == sorted(expected)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.what)
def test_a_change_names_what_differs_and_between_which_looks(
    seen: Seen, step: changes.Step | azure_world.AzureStep
) -> None:
    reported = {told(change): change for change in seen.changes}
    for one in step.expected:
        change = reported[one.kind, one.name, one.type]
        paths = [item["path"] for item in change["fields"]]
        for word in one.fields:
            assert any(word in path for path in paths), (word, paths)
        assert change["includes"] == one.includes
        assert change["not_before"] < change["not_after"]
        assert change["actor"] == one.actor
        assert change["actor_source"] == (None if one.actor == "unknown" else "Azure activity log")
        assert change["name"] in seen.story


def test_what_somebody_must_look_at_is_told_and_what_was_so_before_is_not_news(seen: Seen) -> None:
    new = {(one["rule"], one["name"] or one["key"]) for one in seen.findings if not one["inherited"]}
    assert {
        ("model-alias-moved", "tumour-screening"),
        ("run-edited-after-finish", "boosted-depth-2"),
        ("run-edited-after-finish", "boosted-depth-3"),
        ("run-deleted", "knn-3"),
        ("experiment-deleted", "sandbox/onboarding"),
    } <= new
    told_as_news = seen.story.partition("somebody must look at this")[2]
    for rule, name in new:
        assert rule in told_as_news
        assert name in told_as_news


def test_a_finding_is_followed_by_its_runbook_to_its_end(seen: Seen) -> None:
    (finding,) = seen.followed
    assert (finding["rule"], finding["key"], finding["state"]) == ("model-alias-moved", "tumour-screening", "resolved")
    assert [event["after"] for event in finding["history"]] == ["open", "resolved"]
    assert "Set the alias back" in finding["words"]["rollback"]


def test_the_inventory_holds_what_a_team_leaves_behind(seen: Seen) -> None:
    runs = {run["name"]: run for run in seen.runs}
    assert {run["state"] for run in runs.values()} == {"FINISHED", "FAILED", "KILLED"}  # the running one finished
    deleted = {name for name, run in runs.items() if run["lifecycle"] == "deleted"}
    assert {"forest-wrong-labels", "svm-poly-1", "knn-3", "notebook-01", "exercise-12"} <= deleted
    assert sum(run["parent"] is not None for run in runs.values()) == 16
    assert runs["logreg-grid-03"]["parent"] == runs["logreg-grid"]["key"]
    assert "NaN" in json.dumps(runs["mlp-32-sgd"]["document"]["metrics"]["loss"])
    assert all(run["data_version"] and run["owner"] and run["code_version"] for run in runs.values())


def test_a_secret_never_reaches_the_inventory(seen: Seen) -> None:
    run = next(run for run in seen.runs if run["name"] == "elastic-net")
    assert "warehouse_password" in run["document"]["params"]
    assert FAKE_SECRET not in json.dumps(seen.runs) + json.dumps(seen.changes) + seen.story + seen.errors


def test_everything_was_seen_completely(seen: Seen) -> None:
    assert {workspace["name"] for workspace in seen.status} == {"demonstration", azure_world.NAME}
    for workspace in seen.status:
        assert workspace["state"] == "complete"
        assert workspace["configured"]
        assert not workspace["withheld"]


def test_it_goes_on_watching_with_health_over_http(seen: Seen) -> None:
    assert seen.health == 200


def test_ctrl_c_ends_it_and_every_server_of_it(seen: Seen) -> None:
    assert seen.exit_code == 0
    assert seen.servers_gone
    assert not seen.worlds_left
    assert "Traceback" not in seen.errors


def test_ctrl_c_while_it_still_starts_ends_everything_too(tmp_path: Path) -> None:
    environment = child_environment() | {"STOCKTAKE_DATA_DIR": str(tmp_path / "data")}
    environment.pop("STOCKTAKE_CONFIG", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "stocktake", "up", "--demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("A small team"):
                break
        os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert gone(str(tmp_path))
    assert not list((tmp_path / "data" / "demo").glob("world-*"))


def test_without_the_extra_one_clear_message_names_it(tmp_path: Path) -> None:
    program = (
        "import importlib.metadata as m, sys\n"
        "real = m.version\n"
        "def version(name):\n"
        "    if name in ('mlflow', 'scikit-learn'): raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.version = version\n"
        "from stocktake.cli.entry import run\n"
        "sys.exit(run(['up', '--demo']))\n"
    )
    environment = child_environment() | {"STOCKTAKE_DATA_DIR": str(tmp_path), "COLUMNS": "200"}
    environment.pop("STOCKTAKE_CONFIG", None)
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 2
    assert "pip install 'stocktake[demo]'" in answer.stderr
    assert "Traceback" not in answer.stderr
