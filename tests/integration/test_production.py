"""The auditor's question over a real MLflow server: which version was production on a day, from what, how sure."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, ScanState
from stocktake.core.production import Meaning, spells
from stocktake.store.engine import make_engine
from stocktake.store.production import production_states
from tests.conftest import clone
from tests.contract.test_cli_reference import schema
from tests.integration.auditing import age, began, scan_server
from tests.integration.azure_stock import stock, traffic
from tests.integration.stated import scan as scan_stated
from tests.integration.test_cli import Cli, configured
from tests.servers.content import V2, Writer
from tests.servers.json_schema import problems
from tests.servers.mlflow_server import MlflowServer, mlflow_server

DAY = "2026-05-01"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Audited:
    """A registry that moved a good deal around noon of one day, long ago, and was scanned again today."""

    cli: Cli
    engine: Engine
    first: str  # the run behind risk/1 and old/1
    second: str  # the run behind risk/2, purged at last
    logged: str  # the logged model behind via/1, whose run is `first`


def purge_run(server: MlflowServer, run: str) -> None:
    """Remove a deleted run for good, as an administrator does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", f"sqlite:///{server.folder / 'mlflow.db'}"]
    subprocess.run(
        [*command, "--run-ids", run],
        check=True, capture_output=True, timeout=120,
        env=kept | {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, pg_server: str, pg_template: str) -> Iterator[Audited]:
    """What happened: risk's champion moved from 1 to 2 and back and again to 2, and version 1 was deleted; `old` was
    renamed to `new`; the run behind risk/2 was purged."""
    folder = tmp_path_factory.mktemp("audited")
    with (
        mlflow_server(folder / "mlflow") as server,
        clone(pg_server, pg_template) as database,
        closing(Writer(server.uri)) as writer,
    ):
        engine = make_engine(database)
        experiment = writer.experiment("training")
        commit = {"mlflow.source.git.commit": "c0ffee", "mlflow.docker.image.uri": "registry/train:7"}
        first, second = (writer.run(experiment, name, tags=commit) for name in ("first", "second"))
        dataset = {"dataset": {"name": "iris", "digest": "abc", "source_type": "local", "source": "x"}}
        writer.send(f"{V2}/runs/log-inputs", {"run_id": first, "datasets": [dataset]})
        logged = writer.logged_model(experiment, first, "risk")
        writer.registered_model("risk", first, champion="1")
        writer.send(f"{V2}/model-versions/create", {"name": "risk", "source": f"runs:/{second}/m", "run_id": second})
        writer.registered_model("old", first, champion="1")
        writer.send(f"{V2}/registered-models/create", {"name": "via"})
        body = {"name": "via", "source": f"models:/{logged}", "model_id": logged}
        writer.send(f"{V2}/model-versions/create", body)

        def moved(version: str) -> None:
            writer.send(f"{V2}/registered-models/alias", {"name": "risk", "alias": "champion", "version": version})

        def deleted() -> None:
            writer.send(f"{V2}/model-versions/delete", {"name": "risk", "version": "1"}, method="DELETE")

        def renamed() -> None:
            writer.send(f"{V2}/registered-models/rename", {"name": "old", "new_name": "new"})

        def purged() -> None:
            writer.send(f"{V2}/runs/delete", {"run_id": second})
            purge_run(server, second)

        events: list[Callable[[], None]] = [
            lambda: None, lambda: moved("2"), lambda: moved("1"), lambda: moved("2"), deleted, renamed, purged,
        ]  # fmt: skip
        for happens in events:
            happens()
            assert scan_server(engine, server.uri).state == ScanState.COMPLETE
        age(engine, began(engine) - NOON)
        assert scan_server(engine, server.uri).state == ScanState.COMPLETE
        cli = configured(
            folder, f'database: "{database}"\nworkspaces: [{{name: research, mlflow: {{uri: "{server.uri}"}}}}]\n'
        )
        yield Audited(cli, engine, first, second, logged)
        engine.dispose()


def ask(audited: Audited, *more: str, code: int = 0) -> list[dict[str, Any]]:
    """The answer as JSON, which is as documented."""
    answer = audited.cli("production", *more, "-o", "json")
    assert answer.code == code, answer.err
    root = schema()
    told: list[dict[str, Any]] = answer.json()
    for one in told:
        assert not list(problems(one, root["$defs"]["production"], root))
    return told


def at(text: str | None) -> datetime:
    assert text is not None
    return datetime.fromisoformat(text)


def versions(told: list[dict[str, Any]]) -> list[str]:
    return [f"{one['model']}/{one['version']}" for one in told]


def test_every_version_that_was_production_that_day_is_told_each_time_it_was(audited: Audited) -> None:
    told = ask(audited, "--at", DAY, "--tz", "UTC", code=3)  # the morning was before the first look
    assert sorted(versions(told)) == ["new/1", "old/1", "risk/1", "risk/1", "risk/2", "risk/2"]
    assert {one["certainty"] for one in told} == {"observed"}
    assert {tuple(one["because"]) for one in told} == {("alias champion",)}


def test_an_alias_that_moves_is_told_between_the_same_two_looks_on_both_sides(audited: Audited) -> None:
    told = sorted(ask(audited, "risk", "--at", DAY, "--tz", "UTC", code=3), key=lambda one: one["became_not_after"])
    assert versions(told) == ["risk/1", "risk/2", "risk/1", "risk/2"]
    assert told[0]["became_not_before"] is None, "nobody had looked before"
    for before, after in itertools.pairwise(told):
        assert before["ceased_not_before"] <= after["became_not_before"] < after["became_not_after"]
        assert at(before["ceased_not_after"]) - at(after["became_not_after"]) < timedelta(seconds=2)
        assert at(before["ceased_not_before"]) < at(before["ceased_not_after"])
    assert told[-1]["ceased_not_after"] is None
    assert at(told[-1]["ceased_not_before"]) > NOON + timedelta(days=1), "today's look still showed it"


def test_run_code_data_and_environment_are_those_behind_the_version(audited: Audited) -> None:
    told = {one["run"]: one for one in ask(audited, "risk", "--at", DAY, "--tz", "UTC", code=3)}
    assert told.keys() == {audited.first, audited.second}
    of_first = told[audited.first]
    assert (of_first["code_version"], of_first["data_version"]) == ("c0ffee", "iris@abc")
    assert (of_first["environment"], of_first["run_state"]) == ("registry/train:7", "active")


def test_a_purged_run_still_stands_behind_its_version_and_is_said_to_be_gone(audited: Audited) -> None:
    (today,) = ask(audited, "risk")
    assert (today["run"], today["run_state"], today["code_version"]) == (audited.second, "purged", "c0ffee")
    assert [one["kind"] for one in today["evidence"]["behind"]] == ["run"]


def test_a_renamed_model_was_production_under_both_names(audited: Audited) -> None:
    (old,) = ask(audited, "old", "--at", DAY, "--tz", "UTC", code=3)
    (new,) = ask(audited, "new", "--at", DAY, "--tz", "UTC", code=3)
    assert old["run"] == new["run"] == audited.first
    assert at(old["ceased_not_before"]) < at(new["became_not_after"])
    assert at(new["became_not_before"]) < at(old["ceased_not_after"])
    assert ask(audited, "old") == []
    (today,) = ask(audited, "new")
    assert today["certainty"] == "observed"


def test_a_day_on_which_nobody_looked_is_told_from_the_looks_around_it(audited: Audited) -> None:
    told = ask(audited, "--at", "2026-05-03", "--tz", "UTC")
    assert sorted(versions(told)) == ["new/1", "risk/2"]
    assert {one["certainty"] for one in told} == {"between"}


def test_a_day_before_the_first_look_is_not_observed(audited: Audited) -> None:
    answer = audited.cli("production", "--at", "2026-04-30", "--tz", "UTC", "-o", "json")
    assert answer.code == 5
    assert answer.json()["not_observed"][0]["kind"] == "model_version"


def test_the_day_is_the_day_of_the_zone(audited: Audited) -> None:
    # Noon in London is the first hour of the next day on Kiritimati (UTC+14).
    assert versions(ask(audited, "old", "--at", "2026-05-02", "--tz", "Pacific/Kiritimati", code=3)) == ["old/1"]
    answer = audited.cli("production", "--at", DAY, "--tz", "Pacific/Kiritimati", "-o", "json")
    assert answer.code == 5
    wrong = audited.cli("production", "--at", DAY, "--tz", "Mars/Base")
    assert (wrong.code, wrong.out) == (2, "")
    assert "no time zone 'Mars/Base'" in wrong.err


def test_the_sql_of_the_auditors_page_names_the_same_versions(audited: Audited) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "audit.md").read_text()
    sql = page.split("<!-- sql: a test runs it -->\n```sql\n")[1].split("```")[0].rstrip().rstrip(";")
    with audited.engine.connect() as connection:
        rows = {row.key: row for row in connection.exec_driver_sql(sql)}
    told = ask(audited, "--at", DAY, "--tz", "UTC", code=3)
    assert rows.keys() == set(versions(told))
    for one in told:
        row = rows[f"{one['model']}/{one['version']}"]
        assert (row.run_id, row.code_version, row.data_version) == (
            one["run"],
            one["code_version"],
            one["data_version"],
        )


def test_the_evidence_names_changes_scans_and_states_that_the_history_holds(audited: Audited) -> None:
    changes = {one["id"]: one for one in audited.cli("changes", "--expand", "-o", "json").json()}
    for one in ask(audited, "risk", "--at", DAY, "--tz", "UTC", code=3):
        evidence = one["evidence"]
        for change in evidence["changes"]:
            assert changes[change]["key"] == f"risk/{one['version']}"
            assert changes[change]["scan"] in evidence["scans"]
        turns = {(changes[change]["not_before"], changes[change]["not_after"]) for change in evidence["changes"]}
        if one["became_not_before"] is not None:
            assert (one["became_not_before"], one["became_not_after"]) in turns
        if one["ceased_not_after"] is not None:
            assert (one["ceased_not_before"], one["ceased_not_after"]) in turns
        for state in evidence["states"]:
            shown = audited.cli("history", state["kind"], state["key"], "-o", "json").json()
            assert (state["valid_from"], state["digest"]) in {(found["valid_from"], found["digest"]) for found in shown}


def test_the_answer_of_the_day_is_the_union_of_the_answers_of_its_instants(audited: Audited) -> None:
    with audited.engine.connect() as connection:
        known = spells(production_states(connection, Meaning()), Meaning())
    instant = timedelta(microseconds=1)
    edges = [edge for one in known for edge in (one.span.after, one.span.begun, one.span.until, one.span.ended)]
    start, end = NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1)
    moments = {edge + step for edge in edges if edge is not None for step in (-instant, 0 * instant, instant)}
    union = set[str]()
    for moment in sorted(moments):
        if start <= moment < end:
            answer = audited.cli("production", "--at", moment.isoformat(), "-o", "json")
            union |= set(versions(answer.json())) if answer.code in (0, 3) else set()
    assert union == set(versions(ask(audited, "--at", DAY, "--tz", "UTC", code=3)))


def test_what_production_means_is_configuration(audited: Audited, tmp_path: Path) -> None:
    words = audited.cli.config.read_text()
    other = configured(tmp_path, words + "production: {aliases: [], tags: [team=vision]}\n")
    answer = other("production", "-o", "json")
    assert (answer.code, answer.json()) == (0, [])
    assert "Production means: stage Production; tag team=vision;" in answer.err
    bad = configured(tmp_path / "bad", words + "production: {tags: [prod]}\n")("production")
    assert bad.code == 2
    assert "name=value" in bad.err


def test_a_model_that_nobody_ever_saw_is_not_one_that_was_never_production(audited: Audited) -> None:
    answer = audited.cli("production", "no-such-model", "-o", "json")
    assert (answer.code, answer.json()) == (7, [])
    assert "Nobody ever saw a model no-such-model." in answer.err


def test_a_version_from_a_logged_model_is_followed_to_its_run(audited: Audited, tmp_path: Path) -> None:
    other = configured(tmp_path, audited.cli.config.read_text() + "production: {stages: [None]}\n")
    told = {f"{one['model']}/{one['version']}": one for one in other("production", "-o", "json").json()}
    assert told["via/1"]["run"] == audited.first
    assert [one["kind"] for one in told["via/1"]["evidence"]["behind"]] == ["run", "logged_model"]


def test_the_table_says_the_same_in_words(audited: Audited) -> None:
    answer = audited.cli("production", "risk", "--at", DAY, "--tz", "UTC")
    header, *lines = answer.out.splitlines()
    assert header.split() == ["VERSION", "BECAUSE", "BECAME", "CEASED", "CERTAINTY", "MADE", "FROM"]
    assert len(lines) == 4
    assert "before 12:00" in lines[0]
    assert f"{audited.first}; code c0ffee; data iris@abc; environment registry/train:7" in lines[0]
    assert "Answered in part" in answer.err


def test_a_removal_that_is_withheld_is_not_taken_for_a_version_that_was_seen(audited: Audited) -> None:
    with audited.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO withheld (asset_id, workspace_id, kind, partition, since, not_before, scan_id,"
                " confirmations) SELECT asset_id, workspace_id, kind, partition, now(), :at, 1, 1 FROM asset"
                " WHERE kind = 'model_version' AND key = 'risk/2'"
            ),
            {"at": NOON + timedelta(days=1)},
        )
    try:
        assert ask(audited, "risk", "--at", "2026-05-05", "--tz", "UTC")[0]["certainty"] == "carried"
    finally:
        with audited.engine.begin() as connection:
            connection.execute(text("DELETE FROM withheld"))


def test_what_an_endpoint_serves_is_production_from_its_first_scan_on(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    world = stock()
    scan_stated(engine, world)
    cli = configured(tmp_path, f'database: "{database_url}"\n')
    answer = cli("production", "--at", "today", "-o", "json")
    told = {f"{one['model']}/{one['version']}": one for one in answer.json()}
    assert told.keys() == {"fraud/1", "fraud/2"}
    assert {one["certainty"] for one in told.values()} == {"observed"}
    assert sorted(told["fraud/1"]["because"]) == ["default of batch endpoint night/a", "traffic of shop/blue"]
    assert (told["fraud/2"]["run"], told["fraud/2"]["code_version"]) == ("train-1", "c0ffee")
    assert told["fraud/2"]["environment"] == "sklearn/33"
    assert all(one["ceased_not_before"] >= one["became_not_after"] for one in told.values()), "it is so still"
    table = cli("production", "--at", "today").out
    assert "still, at " in table
    assert "not by" not in table
    world.change(Kind.ONLINE_ENDPOINT, "shop", traffic(blue=100, green=0))
    scan_stated(engine, world)
    (green,) = cli("production", "fraud", "-o", "json", "--at", "today").json()[-1:]
    assert (green["version"], green["because"]) == ("2", ["traffic of shop/green"])
    assert green["ceased_not_after"] is not None
    assert len(green["evidence"]["changes"]) == 1


def test_a_workspace_whose_endpoints_were_not_listed_yet_is_answered_in_part(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    world = stock()
    later = {kind: world.assets.pop(kind) for kind in (Kind.ONLINE_ENDPOINT, Kind.ONLINE_DEPLOYMENT)}
    scan_stated(engine, world)
    with engine.connect() as connection:
        then: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    world.assets |= later
    scan_stated(engine, world)
    answer = configured(tmp_path, f'database: "{database_url}"\n')("production", "-o", "json", "--at", then.isoformat())
    assert answer.code == 3
    assert "online endpoints" in answer.err
    assert {tuple(one["because"]) for one in answer.json()} == {("default of batch endpoint night/a",)}
