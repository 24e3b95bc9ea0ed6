"""`stocktake alerts` as people and programs use it, and the worker that plans and sends on its own."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from stocktake.cli import rows
from tests.integration.alerting import HOUR, MINUTE, Desk, desk, move, plant
from tests.integration.registry import found
from tests.integration.test_cli import Cli, configured
from tests.servers.hooks import Hooks, Says, hooks
from tests.servers.mlflow_server import free_port

WORDS = 'receivers: [{{name: hook, webhook: {{url: "{0}/hook"}}}}]\nreceiver: none\npages: hook'


@pytest.fixture
def hook() -> Iterator[Hooks]:
    with hooks() as made:
        yield made


@pytest.fixture
def cli(tmp_path: Path, database_url: str, hook: Hooks) -> Cli:
    indented = WORDS.format(hook.url).replace("\n", "\n  ")
    return configured(tmp_path, f'database: "{database_url}"\nalerts:\n  {indented}\n')


@pytest.fixture
def installed(engine: Engine, hook: Hooks) -> Desk:
    return desk(engine, WORDS.format(hook.url))


def test_alerts_are_listed_as_a_table_and_for_programs(cli: Cli, engine: Engine, installed: Desk, hook: Hooks) -> None:
    assert "Nothing fires" in cli("alerts", "list").err
    hook.says(Says(status=400, body=b"no \x1b[31m"))
    plant(engine, 2)
    plant(engine, 1, workspace="v")
    installed.after()
    hook.answer = lambda posted: Says(status=503 if b'"v"' in posted.body else 400, body=b"no \x1b[31m")
    installed.after(MINUTE)
    made = cli("alerts", "list", "-o", "json").json()
    assert all(tuple(one) == rows.ALERT for one in made)
    counts = ("state", "findings", "waiting", "dead")
    assert {one["labels"]["workspace"]: tuple(one[name] for name in counts) for one in made} == {
        "w": ("firing", 2, 0, 1), "v": ("firing", 1, 1, 0),
    }  # fmt: skip
    table = cli("alerts", "list")
    assert "1 given up" in table.out
    assert "hook takes nothing since" in table.err
    assert "Dead letters" in table.err
    assert cli("alerts", "list", "-o", "tsv").out.count("\n") == 3
    (dead,) = cli("alerts", "deliveries", "--state", "dead", "-o", "json").json()
    assert tuple(dead) == rows.DELIVERY
    assert dead["title"] == "A workspace cannot be looked at (2 findings) in w"
    shown = cli("alerts", "deliveries")
    assert "status 400: no " in shown.out
    assert "\x1b" not in shown.out
    assert cli("alerts", "deliveries", "-o", "tsv").out.count("\n") == 3
    checks = [one for one in cli("doctor", "-o", "json").json() if one["check"] == "alerts to hook"]
    assert [one["level"] for one in checks] == ["warn", "warn"]
    assert "takes nothing since" in checks[0]["message"]
    assert "1 deliveries were given up" in checks[1]["message"]
    assert cli("alerts", "retry", "4711").code == 7
    assert "1 queued again" in cli("alerts", "retry").err
    assert cli("alerts", "deliveries", "--state", "dead", "-o", "json").json() == []


def test_an_alert_is_taken_on_with_all_of_its_findings(cli: Cli, engine: Engine, installed: Desk) -> None:
    numbers = plant(engine, 2)
    installed.after()
    installed.after(MINUTE)
    (one,) = cli("alerts", "list", "-o", "json").json()
    assert cli("alerts", "ack", str(one["id"]), "--reason", " ").code == 2
    assert cli("alerts", "ack", "4711", "--reason", "r").code == 7
    answer = cli("alerts", "ack", str(one["id"]), "--reason", "at it, TICKET-1")
    assert answer.code == 0, answer
    assert {row.state for row in found(engine, "access-lost")} == {"acknowledged"}
    shown = cli("finding", "show", str(numbers[0]), "-o", "json").json()[0]
    assert shown["history"][-1]["reason"] == "at it, TICKET-1"
    move(engine, numbers, "resolved")
    installed.over(HOUR, MINUTE)
    answer = cli("alerts", "ack", str(one["id"]), "--reason", "r")
    assert answer.code == 8
    assert "nothing to take on" in answer.err


def test_a_silence_is_made_listed_and_ended(cli: Cli, engine: Engine, installed: Desk, hook: Hooks) -> None:
    assert cli("alerts", "silence", "nonsense=1", "--for", "2h", "--reason", "r").code == 2
    assert cli("alerts", "silence", "rule=access-lost", "--reason", "r").code == 2
    assert cli("alerts", "silence", "rule=access-lost", "--for", "soon", "--reason", "r").code == 2
    assert cli("alerts", "silence", "rule=access-lost", "--until", "2020-01-01", "--reason", "r").code == 2
    answer = cli(
        "alerts", "silence", "rule=access-lost", "workspace=w", "workspace=x*", "--for", "60d", "--reason",
        "a move, TICKET-2", "-o", "json",
    )  # fmt: skip
    assert answer.code == 0, answer
    (one,) = answer.json()
    assert tuple(one) == rows.SILENCE
    assert one["matchers"] == {"rule": ["access-lost"], "workspace": ["w", "x*"]}
    with engine.begin() as connection:  # the clock of this test goes ahead of the database's
        connection.execute(text("UPDATE silence SET starts_at = starts_at - interval '2 days'"))
    plant(engine)
    installed.over(HOUR, 10 * MINUTE)
    assert hook.posted == []
    assert "TICKET-2" in cli("alerts", "silences").out
    assert cli("alerts", "expire", "4711").code == 7
    assert cli("alerts", "expire", str(one["id"]), "-o", "json").json()[0]["holds"] is False
    again = cli("alerts", "expire", str(one["id"]))
    assert (again.code, "over already" in again.err) == (8, True)
    assert cli("alerts", "silences", "-o", "json").json() == []
    assert len(cli("alerts", "silences", "--all", "-o", "json").json()) == 1
    installed.now += timedelta(days=1)
    installed.over(HOUR, 10 * MINUTE)
    assert len(hook.posted) == 1


def test_a_sample_needs_no_database_and_says_what_was_not_taken(tmp_path: Path, hook: Hooks) -> None:
    words = WORDS.format(hook.url).replace("\n", "\n  ")
    cli = configured(tmp_path, f"database: postgresql://nobody@127.0.0.1:1/none\nalerts:\n  {words}\n")
    answer = cli("alerts", "test", "hook", "-o", "tsv")
    assert answer.code == 0, answer
    assert [one.json()["type"] for one in hook.posted] == ["io.stocktake.alert.fire", "io.stocktake.alert.resolve"]
    assert len({one.json()["subject"] for one in hook.posted}) == 1
    hook.says(Says(status=403))
    answer = cli("alerts", "test", "hook")
    assert answer.code == 4
    assert "Check the secret" in answer.out
    answer = cli("alerts", "test", "hok")
    assert (answer.code, "Did you mean hook?" in answer.err) == (7, True)
    bare = configured(tmp_path / "bare", "")
    assert bare("alerts", "test", "hook").code == 2


def test_a_worker_that_is_killed_before_it_could_say_so_sends_again_and_one_that_is_stopped_stops(
    tmp_path: Path, database_url: str, engine: Engine, hook: Hooks
) -> None:
    words = (WORDS.format(hook.url) + "\npace: {wait: 1s, interval: 1s}").replace("\n", "\n  ")
    cli = configured(
        tmp_path,
        f'database: "{database_url}"\nweb: {{port: 0}}\nalerts:\n  {words}\n'
        f'workspaces:\n  - {{name: dead, mlflow: {{uri: "http://127.0.0.1:{free_port()}"}}}}\n',
    )
    plant(engine)
    killed = cli.start("worker")

    def dies(_: object) -> Says:
        killed.kill()
        return Says(drop=True)  # it took it, and nobody heard

    hook.answer = dies
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert len(hook.posted) == 1
    hook.says(Says())
    process = cli.start("worker")
    assert process.stderr is not None
    lines = list[str]()
    for line in process.stderr:
        lines.append(line)
        if '"alert_sent"' in line:
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    err = "".join(lines) + err
    assert process.returncode == 0, err
    assert "Traceback" not in err
    first, second = hook.posted
    assert first.json()["subject"] == second.json()["subject"]
    assert first.json()["id"] == second.json()["id"]
    (told,) = [json.loads(line) for line in err.splitlines() if '"alert_sent"' in line]
    assert (told["receiver"], told["what"], told["status"]) == ("hook", "fire", 200)
    (row,) = cli("alerts", "deliveries", "-o", "json").json()
    assert (row["state"], row["what"]) == ("sent", "fire")


def test_a_receiver_that_hangs_does_not_hold_up_the_end_of_the_worker(
    tmp_path: Path, database_url: str, engine: Engine, hook: Hooks
) -> None:
    asked, released = threading.Event(), threading.Event()

    def hangs(_: object) -> Says:
        asked.set()
        return Says(hang=released)

    hook.answer = hangs
    words = (WORDS.format(hook.url) + "\npace: {wait: 1s}").replace("\n", "\n  ")
    cli = configured(
        tmp_path,
        f'database: "{database_url}"\nweb: {{port: 0}}\nalerts:\n  {words}\n'
        f'workspaces:\n  - {{name: dead, mlflow: {{uri: "http://127.0.0.1:{free_port()}"}}}}\n',
    )
    plant(engine)
    process = cli.start("worker")
    assert asked.wait(120)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    released.set()
    assert process.returncode == 0, err
    assert "cut off by our shutdown" in cli("alerts", "deliveries", "-o", "json").json()[0]["error"], err
    assert "Traceback" not in err
