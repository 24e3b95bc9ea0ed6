"""One finding judged anew: only what it needs is listed, all of it, and nothing is concluded from what was not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, Mode
from stocktake.core.errors import Trouble
from stocktake.core.rules import Severity, StateRule
from stocktake.pipeline.rechecking import Narrowed
from stocktake.rules import model_version_lost_its_run
from stocktake.sources.protocol import Known, Listing
from stocktake.store.rechecking import Needs
from tests.integration.registry import Registry, WithRegistry, found, history, look, stands
from tests.integration.scripted import live, scan
from tests.integration.test_cli import configured
from tests.servers.azureml import azureml_source, filled_azure, keys_in
from tests.servers.mlflow_server import mlflow_server
from tests.servers.reading import read

_LOST = model_version_lost_its_run.RULE
#: The same, as bad as can be: what a hot pass looks at again.
CRITICAL = StateRule(
    id=_LOST.id, severity=Severity.CRITICAL, words=_LOST.words, statement=_LOST.statement, kinds=_LOST.kinds,
    needs=_LOST.needs,
)  # fmt: skip
LOST = "model-version-lost-its-run"


@pytest.fixture
def world() -> Registry:
    """Two experiments; the run behind a model version is deleted."""
    made = Registry()
    for number in range(3):
        made.add_run(f"run{number}")
        made.add_run(f"other{number}", experiment="2")
    for experiment in made.experiments.values():
        experiment["owner"] = "ada"
    made.registered["m"] = {"name": "m", "owner": "ada", "aliases": {}}
    made.versions["m/1"] = {"run_id": "run0"}
    made.runs["run0"]["info"]["lifecycle_stage"] = "deleted"
    return made


class Watched(WithRegistry):
    """Says which scopes were read."""

    read: list[str]

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        for listing in super().listings(mode, known):
            self.read.append(f"{listing.scope.kind} {listing.scope.partition}".strip())
            yield listing


def recheck(engine: Engine, world: Registry, rule: str, key: str | None = None, **options: Any) -> Any:
    (one,) = [one for one in found(engine, rule) if key is None or one.key == key]
    options.setdefault("source", WithRegistry)
    return scan(engine, world, Mode.RECHECK, finding=one.id, **options)


def test_a_finding_of_a_run_lists_its_experiment_and_no_other(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.runs["run0"]["info"]["lifecycle_stage"] = "active"
    world.runs["other0"]["params"]["lr"] = "1"
    report = recheck(engine, world, LOST)
    listed = {(str(one.kind), one.partition) for one in report.scopes}
    assert listed == {("experiment", ""), ("run", "1"), ("registered_model", ""), ("model_version", "")}
    assert stands(engine, LOST) == {"m/1": "resolved"}
    assert found(engine, "run-edited-after-finish") == []  # that was not looked at


def test_an_edit_that_was_taken_back_is_over_at_once(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.runs["run1"]["params"]["lr"] = "1"
    look(engine, world)
    assert stands(engine, "run-edited-after-finish") == {"run1": "open"}
    del world.runs["run1"]["params"]["lr"]
    report = recheck(engine, world, "run-edited-after-finish")
    assert {(str(one.kind), one.partition) for one in report.scopes} == {("experiment", ""), ("run", "1")}
    assert stands(engine, "run-edited-after-finish") == {"run1": "resolved"}


def test_what_still_stands_stays_open_and_says_nothing_new(engine: Engine, world: Registry) -> None:
    look(engine, world)
    recheck(engine, world, LOST)
    (one,) = found(engine, LOST)
    assert history(engine, one) == [(None, "open")]


def test_a_partial_look_again_resolves_nothing(engine: Engine, world: Registry) -> None:
    for number in range(10):
        world.add_run(f"more{number}")
    look(engine, world)
    world.runs["run0"]["info"]["lifecycle_stage"] = "active"
    world.cut.add("1")  # of whose runs only the first page is read, with that very run
    recheck(engine, world, LOST)
    assert stands(engine, LOST) == {"m/1": "open"}
    world.cut.clear()
    recheck(engine, world, LOST)
    assert stands(engine, LOST) == {"m/1": "resolved"}


def test_nothing_that_was_not_listed_is_taken_for_gone(engine: Engine, world: Registry) -> None:
    look(engine, world)
    before = live(engine)
    del world.runs["other1"]
    recheck(engine, world, LOST)
    assert live(engine) == before


def test_where_another_experiment_is_not_whole_a_rule_that_reads_them_all_says_nothing(
    engine: Engine, world: Registry
) -> None:
    for number in range(10):
        world.add_run(f"more{number}", experiment="2")
    look(engine, world)
    world.cut.add("2")
    look(engine, world)
    world.runs["run0"]["info"]["lifecycle_stage"] = "active"
    recheck(engine, world, LOST)
    assert stands(engine, LOST) == {"m/1": "open"}


def test_a_look_again_is_no_look_at_what_is_new(engine: Engine, world: Registry) -> None:
    """The next hot pass asks for what is new since the last pass, never since a look at one experiment."""
    look(engine, world)
    asked: list[datetime | None] = []

    class Asking(WithRegistry):
        def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
            asked.append(known.last_look(Kind.RUN))
            yield from super().listings(mode, known)

    look(engine, world, Mode.HOT)
    for mode in (Mode.HOT, Mode.RECHECK, Mode.HOT):
        if mode == Mode.RECHECK:
            recheck(engine, world, LOST)
        else:
            scan(engine, world, mode, source=Asking)
    with engine.connect() as connection:
        began = connection.execute(text("SELECT max(last_began_at) FROM scan WHERE mode = 'recheck'")).scalar_one()
    assert None not in asked
    assert asked[1] is not None
    assert asked[1] < began


def test_a_hot_pass_looks_again_at_what_critical_findings_need(engine: Engine, world: Registry) -> None:
    rules = [CRITICAL]
    look(engine, world, rules=rules)
    assert stands(engine, LOST) == {"m/1": "open"}
    world.runs["run0"]["info"]["lifecycle_stage"] = "active"
    read: list[str] = []

    def watched(world: Any, now: Callable[[], datetime]) -> Watched:
        made = Watched(world, now)
        made.read = read
        return made

    scan(engine, world, Mode.HOT, source=watched, rules=rules)
    assert stands(engine, LOST) == {"m/1": "resolved"}
    assert "run 1" in read
    assert "run 2" not in read
    read.clear()
    scan(engine, world, Mode.HOT, source=watched, rules=rules)
    assert "run 1" not in read


def test_a_hot_pass_leaves_what_is_less_than_critical_to_the_sweep(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.runs["run0"]["info"]["lifecycle_stage"] = "active"
    look(engine, world, Mode.HOT)
    assert stands(engine, LOST) == {"m/1": "open"}
    look(engine, world)
    assert stands(engine, LOST) == {"m/1": "resolved"}


def test_an_experiment_too_large_for_every_hot_pass_waits(
    engine: Engine, world: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stocktake.pipeline.rechecking._RUNS", 2)
    look(engine, world, rules=[CRITICAL])
    world.runs["run0"]["info"]["lifecycle_stage"] = "active"
    look(engine, world, Mode.HOT, rules=[CRITICAL])
    assert stands(engine, LOST) == {"m/1": "open"}


def test_access_that_came_back_is_seen_by_looking_again(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.fail_identify = Trouble.PERMISSION
    look(engine, world)
    look(engine, world)
    assert stands(engine, "access-lost") == {"w": "open"}
    recheck(engine, world, "access-lost")
    assert stands(engine, "access-lost") == {"w": "open"}
    world.fail_identify = None
    recheck(engine, world, "access-lost")
    assert stands(engine, "access-lost") == {"w": "resolved"}


def test_looking_again_is_no_second_sweep_for_the_guard(engine: Engine) -> None:
    world = Registry()
    for number in range(12):
        world.add_run(f"run{number}")
    look(engine, world)
    world.runs.clear()
    look(engine, world)
    for _ in range(3):
        recheck(engine, world, "mass-removal-withheld")
    assert stands(engine, "mass-removal-withheld") == {"w": "open"}
    assert len(live(engine)) == 12


def test_a_look_again_that_was_killed_is_abandoned_by_the_next_pass(engine: Engine, world: Registry) -> None:
    """While it seemed to run, no scan would take up a list that was cut."""
    look(engine, world)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO scan (workspace_id, mode, state, source, epoch, began_at, last_began_at)"
                " SELECT workspace_id, 'recheck', 'running', source, epoch, began_at, last_began_at FROM scan"
            )
        )
    look(engine, world, Mode.HOT)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT mode, state FROM scan ORDER BY scan_id"))
        assert [tuple(row) for row in rows] == [
            ("sweep", "complete"), ("recheck", "abandoned"), ("hot", "complete"),
        ]  # fmt: skip


def test_a_waiver_is_no_hindrance(engine: Engine, world: Registry) -> None:
    look(engine, world)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE finding SET state = 'waived', waived_until = clock_timestamp() + interval '1 day'")
        )
        connection.execute(
            text(
                "INSERT INTO waiver (rule, workspace, kind, asset, exact, owner, reason, actor, until)"
                " VALUES ('*', 'w', '*', '*', false, 'a', 'r', 'a', clock_timestamp() + interval '1 day')"
            )
        )
    world.runs["run0"]["info"]["lifecycle_stage"] = "active"
    recheck(engine, world, LOST)
    assert stands(engine, LOST) == {"m/1": "resolved"}


# ---- by command, on a real server ----------------------------------------------------------------------------------


def test_somebody_repairs_and_looks_again(tmp_path: Path, database_url: str) -> None:
    with mlflow_server(tmp_path / "server") as server:
        client = MlflowClient(server.uri)
        client.create_experiment("another")
        run = client.create_run(client.create_experiment("ours"))
        client.set_terminated(run.info.run_id)
        client.create_registered_model("m")
        client.create_model_version("m", source="s3://bucket/m", run_id=run.info.run_id)
        cli = configured(
            tmp_path, f'database: "{database_url}"\nworkspaces: [{{name: w, mlflow: {{uri: "{server.uri}"}}}}]\n'
        )
        assert cli.process("scan").code == 0
        client.delete_run(run.info.run_id)
        assert cli.process("scan").code == 0
        (one,) = cli("finding", "list", "--rule", LOST, "-o", "json").json()
        answer = cli.process("finding", "recheck", str(one["id"]), "-o", "json")
        assert (answer.code, answer.json()[0]["state"]) == (0, "open")
        assert "stands as it did" in answer.err
        client.restore_run(run.info.run_id)
        answer = cli.process("finding", "recheck", str(one["id"]), "-o", "json")
        assert (answer.code, answer.json()[0]["state"]) == (0, "resolved")
        assert cli.process("finding", "recheck", str(one["id"])).code == 8
        assert cli.process("finding", "recheck", "999").code == 7
        client.delete_run(run.info.run_id)
        assert cli.process("scan", "--sweep").code == 0
    (one,) = cli("finding", "list", "--rule", LOST, "-o", "json").json()
    answer = cli.process("finding", "recheck", str(one["id"]), "-o", "json")
    assert (answer.code, answer.json()[0]["state"]) == (4, "open")
    cli.config.write_text(f'database: "{database_url}"\n')
    answer = cli.process("finding", "recheck", str(one["id"]))
    assert (answer.code, answer.out) == (8, "")
    assert "not configured" in answer.err


def test_of_azure_no_more_is_asked_than_what_is_needed() -> None:
    server, workspace = filled_azure()
    before = len(server.seen)
    source = azureml_source(server, workspace)
    try:
        reading = read(Narrowed(source, Needs(kinds=frozenset({Kind.MODEL_VERSION}))))
    finally:
        source.close()
    assert {one.scope.kind for one in reading.heard} == {Kind.WORKSPACE, Kind.REGISTERED_MODEL, Kind.MODEL_VERSION}
    keys = keys_in(workspace)
    assert reading.assets(Kind.MODEL_VERSION).keys() == keys[Kind.MODEL_VERSION]
    assert len(server.seen) - before <= 3 + len(keys[Kind.REGISTERED_MODEL])
