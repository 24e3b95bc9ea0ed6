"""A workspace that is deleted where it was: no answer passes off as current what was in it, and none of before does."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, Lifecycle, ScanState
from stocktake.store import standing
from stocktake.store.deletion import deletions
from tests.contract.test_cli_reference import schema
from tests.integration.auditing import age
from tests.integration.azure_stock import stock
from tests.integration.stated import Stock, scan
from tests.integration.test_cli import Answer, Cli, configured
from tests.servers.json_schema import problems

#: Everything that shows what is in a workspace as it is now; the start of a span is put in by the test.
QUESTIONS = {
    "list": ("list", "job"),
    "show": ("show", "job", "train-1"),
    "history": ("history", "job", "train-1"),
    "changes": ("changes",),
    "diff": ("diff", "--from", "{since}"),
    "lineage": ("lineage", "online_endpoint", "shop"),
    "lineage of an alias": ("lineage", "alias", "fraud@champion"),
    "production": ("production", "--tz", "UTC"),
    "reconcile": ("reconcile", "--all"),
}
KINDS_OF_JSON = {"lineage": "--format", "lineage of an alias": "--format"}


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    return configured(tmp_path, f'database: "{database_url}"\n')


def now(engine: Engine) -> datetime:
    with engine.connect() as connection:
        at: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return at


def delete(world: Stock, state: str = "SoftDeleted") -> None:
    """It is gone, and nothing in it is listed any more."""
    world.change(Kind.WORKSPACE, "workspace", {"deletion": state}, state=state, lifecycle=Lifecycle.DELETED)
    world.assets = {Kind.WORKSPACE: world.assets[Kind.WORKSPACE]}


@pytest.fixture
def world() -> Stock:
    made = stock()
    made.change(Kind.MODEL_VERSION, "fraud/1", {"aliases": ["champion"]})
    return made


def seen_and_deleted(engine: Engine, world: Stock, state: str = "SoftDeleted") -> datetime:
    """Scan it, delete it, scan again; the time between the two."""
    assert scan(engine, world).state == ScanState.COMPLETE
    between = now(engine)
    delete(world, state)
    assert scan(engine, world).state == ScanState.COMPLETE
    return between


def ask(cli: Cli, question: str, since: datetime, *more: str) -> Answer:
    return cli(*(part.replace("{since}", since.isoformat()) for part in QUESTIONS[question]), *more)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_answer_opens_with_what_became_of_the_workspace(
    engine: Engine, cli: Cli, world: Stock, question: str
) -> None:
    between = seen_and_deleted(engine, world)
    answer = ask(cli, question, between)
    assert answer.code == 3, answer
    first, *others = answer.err.splitlines()
    assert first.startswith("Workspace ml was deleted (SoftDeleted) between ")
    assert ", recoverable for 14 days; what is told of it is as it was last seen at " in first
    assert not [line for line in others if "deleted" in line], "it is said once"
    as_json = ask(cli, question, between, KINDS_OF_JSON.get(question, "-o"), "json")
    assert (as_json.code, as_json.err.splitlines()[0]) == (3, first)


@pytest.mark.parametrize("question", sorted(set(QUESTIONS) - {"reconcile"}))
def test_of_a_time_before_the_deletion_nothing_is_said(engine: Engine, cli: Cli, world: Stock, question: str) -> None:
    between = seen_and_deleted(engine, world)
    option = {"history": "--until", "changes": "--until", "diff": "--to"}.get(question, "--at")
    answer = ask(cli, question, between, option, between.isoformat())
    assert "deleted" not in answer.err
    assert answer.code == 0 or question == "production", answer  # of which the day began before the first look
    assert answer.code in (0, 3)


def test_it_says_between_which_looks_and_when_all_was_last_seen(engine: Engine, cli: Cli, world: Stock) -> None:
    seen_and_deleted(engine, world)
    with engine.connect() as connection:
        (told,) = deletions(connection)
        first, second = connection.execute(text("SELECT began_at, finished_at FROM scan ORDER BY scan_id")).all()
    assert told.not_before is not None
    assert told.last_seen is not None
    assert first.began_at < told.not_before < told.last_seen == first.finished_at < told.not_after < second.finished_at
    assert told.recoverable_until == told.not_after + timedelta(days=14)
    written = {"state": "SoftDeleted", "not_before": told.not_before, "not_after": told.not_after,
               "last_seen": told.last_seen, "recoverable_until": told.recoverable_until}  # fmt: skip
    root = schema()
    answers = {
        "lineage": cli(*QUESTIONS["lineage"], "--format", "json").json(),
        "production": cli(*QUESTIONS["production"], "-o", "json").json(),
    }
    for name, those in answers.items():
        assert those
        for one in those:
            assert not list(problems(one, root["$defs"][name], root))
            assert read(one["workspace_deletion"]) == written
    (standing,) = cli("status", "-o", "json").json()
    assert read(standing["deletion"]) == written
    for question, column in (("production", "workspace_deletion"), ("status", "deletion")):  # a spreadsheet has it too
        (line, *_) = csv.DictReader(io.StringIO(cli(question, "-o", "tsv").out), delimiter="\t", quoting=csv.QUOTE_NONE)
        assert read(json.loads(line[column])) == written


def read(told: dict[str, str]) -> dict[str, Any]:
    return {name: value if name == "state" else datetime.fromisoformat(value) for name, value in told.items()}


def test_a_word_that_changes_is_the_same_deletion_and_no_longer_recoverable(
    engine: Engine, cli: Cli, world: Stock
) -> None:
    seen_and_deleted(engine, world)
    with engine.connect() as connection:
        (soft,) = deletions(connection)
    delete(world, "Deleted")
    scan(engine, world)
    with engine.connect() as connection:
        (gone,) = deletions(connection)
    assert (gone.state, gone.recoverable_until) == ("Deleted", None)
    assert (gone.not_before, gone.not_after, gone.last_seen) == (soft.not_before, soft.not_after, soft.last_seen)
    assert "deleted (Deleted) between" in cli("list", "job").err
    assert "recoverable" not in cli("list", "job").err


def test_after_fourteen_days_nobody_is_told_that_it_can_be_brought_back(engine: Engine, cli: Cli, world: Stock) -> None:
    seen_and_deleted(engine, world)
    age(engine, timedelta(days=15))
    told = cli("list", "job").err
    assert "deleted (SoftDeleted)" in told
    assert "recoverable" not in told


def test_a_workspace_that_came_back_is_answered_for_as_any_other(engine: Engine, cli: Cli, world: Stock) -> None:
    there = dict(world.assets)
    between = seen_and_deleted(engine, world)
    then = now(engine)
    world.assets = there
    world.put(Kind.WORKSPACE, "workspace", {})
    assert scan(engine, world).state == ScanState.COMPLETE
    for question in QUESTIONS:
        assert "was deleted" not in ask(cli, question, between).err
    assert cli("list", "job").code == 0
    assert cli("list", "job", "--at", then.isoformat()).code == 3


def test_about_workspaces_themselves_the_deletion_is_the_answer(engine: Engine, cli: Cli, world: Stock) -> None:
    seen_and_deleted(engine, world)
    for question in (("list", "workspace"), ("show", "workspace", "workspace"), ("history", "workspace", "workspace")):
        answer = cli(*question, "-o", "json")
        assert (answer.code, answer.err) == (0, "")
        assert answer.json()[-1]["state"] == "SoftDeleted"


def test_another_workspace_is_not_tainted_by_it(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, stock(), workspace="other")
    seen_and_deleted(engine, world)
    assert cli("list", "job", "-w", "other").code == 0
    assert cli("list", "job").code == 3
    assert {one["workspace"] for one in cli("list", "job", "-o", "json").json()} == {"ml", "other"}


def test_what_never_was_in_it_is_not_found_and_it_is_said_whose_list_that_is(
    engine: Engine, cli: Cli, world: Stock
) -> None:
    seen_and_deleted(engine, world)
    answer = cli("show", "job", "nobody")
    assert answer.code == 7
    assert answer.err.startswith("Workspace ml was deleted (SoftDeleted)")


def test_status_says_the_same(engine: Engine, cli: Cli, world: Stock) -> None:
    seen_and_deleted(engine, world)
    page = cli("status").out
    assert page.splitlines()[0].startswith("ml: not configured, so no longer scanned; last deleted since ")
    assert "deleted (SoftDeleted) between " in page
    assert ", recoverable for 14 days" in page
    scopes = cli("scope", "list")
    assert scopes.err.startswith("Workspace ml was deleted (SoftDeleted)")
    assert "the last look" in cli("history", "job", "train-1").out


def test_discovery_may_notice_first_and_is_believed_until_a_scan_has_looked(engine: Engine, world: Stock) -> None:
    scan(engine, world)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO discovery_event (key, name, entry, at, not_before, event, before, after, why)"
                " SELECT 'k', 'ml', 'all', clock_timestamp(), clock_timestamp() - interval '1 hour', 'deleted',"
                " 'watched', 'deleted', ''"
            )
        )
        (told,) = deletions(connection)
        assert (told.state, told.not_after - told.not_before if told.not_before else None) == (
            "Deleted",
            timedelta(hours=1),
        )
        assert deletions(connection, at=told.not_after - timedelta(seconds=1)) == []
        (ws,) = standing.status(connection)
        assert ws.state == "deleted"
    scan(engine, world)
    with engine.connect() as connection:
        assert deletions(connection) == [], "it is there"
