"""`stocktake check`: what the inventory knows of a model version and a run, as a pipeline asks it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from sqlalchemy import Engine, text

from stocktake.cli import rows
from stocktake.core.assets import Kind
from stocktake.core.gate import CHECKS
from tests.integration.azure_stock import stock as azure_stock
from tests.integration.ondemand import World, put, storage_in, world_in
from tests.integration.scripted import KEY
from tests.integration.stated import Stock, scan
from tests.integration.test_cli import Cli, configured
from tests.servers.azurite import Azurite
from tests.servers.mlflow_server import mlflow_server


def run_of(status: str = "FINISHED", **more: Any) -> dict[str, Any]:
    tags = {"mlflow.docker.image.uri": "img:1", "mlflow.source.git.commit": "c0ffee", "stocktake.comparison": "q4"}
    return {"info": {"status": status}, "params": {"seed": "1"}, "metrics": {}, "tags": tags} | more


def stock() -> Stock:
    """A version of a model, its run, and a run that it is compared with."""
    made = Stock()
    for key in ("r1", "r2"):
        made.put(Kind.RUN, key, run_of(), partition="7", state="FINISHED", owner="bo", code_version="c0ffee",
                 data_version="sales@1", artifact_uri=f"s3://b/{key}")  # fmt: skip
    made.put(Kind.REGISTERED_MODEL, "m", {"aliases": {"champion": "1"}}, owner="ada", name="m")
    made.put(Kind.MODEL_VERSION, "m/1", {"status": "READY", "aliases": ["champion"]}, parent="m", run="r1",
             artifact_uri="runs:/r1/model")  # fmt: skip
    made.change(Kind.EXPERIMENT, "7", owner="ada")
    return made


def edited(made: Stock, key: str, **more: Any) -> None:
    made.change(Kind.RUN, key, run_of() | more)


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    words = "hygiene: {comparison_parameters: [seed]}\ngate: {max_age: 1h}\n"
    return configured(tmp_path, f'database: "{database_url}"\n{words}')


@pytest.fixture
def seen(engine: Engine) -> Stock:
    """Seen as it came to be: the run was running, then it ended."""
    made = stock()
    made.put(Kind.RUN, "r1", run_of("RUNNING"), partition="7", state="RUNNING", owner="bo")
    scan(engine, made)
    scan(engine, stock())
    return stock()


def results(cli: Cli, *arguments: str, code: int | None = None) -> dict[str, str]:
    answer = cli("check", *arguments, "-o", "json")
    assert code is None or answer.code == code, answer.out + answer.err
    (one,) = answer.json()
    assert tuple(one) == rows.GATE
    return {check["check"]: check["result"] for check in one["checks"]}


def details(cli: Cli, check: str, *arguments: str) -> str:
    (one,) = cli("check", *arguments, "-o", "json").json()
    found = next(each for each in one["checks"] if each["check"] == check)
    return " ".join([found["words"], *found["details"]])


def test_a_version_that_is_as_it_should_be_passes_all_but_what_nobody_looked_at(cli: Cli, seen: Stock) -> None:
    assert results(cli, "model", "m@champion", code=3) == dict.fromkeys(CHECKS, "pass") | {"artifacts": "unknown"}
    assert results(cli, "model", "m/1") == results(cli, "model", "m@champion")
    assert results(cli, "run", "r1", code=3) == dict.fromkeys(CHECKS, "pass") | {"artifacts": "unknown"}
    made = cli("waiver", "add", "--rule", "check-artifacts", "--until", "30 days", "--reason", "CHG-1", "-w", "ml")
    assert made.code == 0, made.err
    answer = cli("check", "model", "m@champion")
    assert answer.code == 0
    assert "model_version m/1 in ml: waived" in answer.out
    assert "CHG-1" in answer.out
    lines = cli("check", "model", "m@champion", "-o", "tsv").out.splitlines()
    assert lines[0].split("\t") == list(rows.GATE_TSV)
    assert len(lines) == len(CHECKS) + 1


def test_an_edit_after_the_end_fails_and_one_that_was_taken_back_does_not(
    cli: Cli, engine: Engine, seen: Stock
) -> None:
    edited(seen, "r1", params={"seed": "2"})
    scan(engine, seen)
    found = results(cli, "model", "m@champion", code=9)
    assert {name for name, result in found.items() if result == "fail"} == {"run-unedited", "comparison", "findings"}
    assert "params.seed: '1' -> '2'" in details(cli, "run-unedited", "run", "r1")
    edited(seen, "r1")
    scan(engine, seen)
    assert results(cli, "model", "m@champion")["run-unedited"] == "pass"


def test_of_a_run_that_had_ended_before_it_was_first_seen_no_edit_is_denied(cli: Cli, engine: Engine) -> None:
    scan(engine, stock())
    assert results(cli, "run", "r1", code=3)["run-unedited"] == "unknown"


def test_a_run_that_came_and_ended_between_two_looks_is_as_it_ended(cli: Cli, engine: Engine, seen: Stock) -> None:
    seen.put(Kind.RUN, "r3", run_of(), partition="7", state="FINISHED")
    scan(engine, seen)
    assert results(cli, "run", "r3")["run-unedited"] == "pass"


def test_a_history_that_is_not_kept_denies_nothing(cli: Cli, engine: Engine, seen: Stock) -> None:
    with engine.begin() as connection:  # retention
        connection.execute(text("DELETE FROM version WHERE kind = 'run' AND valid_to IS NOT NULL"))
    assert results(cli, "run", "r1")["run-unedited"] == "unknown"


def test_a_deleted_run_breaks_the_lineage(cli: Cli, engine: Engine, seen: Stock) -> None:
    seen.remove(Kind.RUN, "r1")
    scan(engine, seen)
    found = results(cli, "model", "m/1", code=9)
    assert (found["lineage"], found["artifacts"]) == ("fail", "fail")


def test_a_run_that_nobody_looked_for_is_unknown_and_one_that_is_not_listed_is_missing(
    cli: Cli, engine: Engine, seen: Stock
) -> None:
    seen.put(Kind.MODEL_VERSION, "m/2", {"status": "READY"}, parent="m", run="r9", artifact_uri="runs:/r9/model")
    seen.failing.add(Kind.RUN)
    with engine.begin() as connection:  # as if they had never been listed to their end
        connection.execute(
            text("UPDATE scope SET last_complete_at = NULL, state = 'partial' WHERE kind IN ('run', 'experiment')")
        )
    scan(engine, seen)
    found = results(cli, "model", "m/2", code=3)
    assert (found["lineage"], found["run-finished"], found["reproducible"]) == ("unknown", "unknown", "unknown")
    seen.failing.clear()
    scan(engine, seen)
    assert results(cli, "model", "m/2", code=9)["lineage"] == "fail"


def test_what_was_not_completely_seen_of_late_is_no_pass(cli: Cli, engine: Engine, seen: Stock) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE scope SET last_complete_at = last_complete_at - interval '2 hours'"))
    assert results(cli, "model", "m/1", code=3)["seen"] == "unknown"
    assert "longer ago than 1:00:00" in details(cli, "seen", "model", "m/1")
    scan(engine, seen)
    assert results(cli, "model", "m/1")["seen"] == "pass"
    seen.failing.add(Kind.RUN)
    scan(engine, seen)
    assert results(cli, "model", "m/1", code=3)["seen"] == "unknown"


def test_a_bundle_on_request_holds_the_asset_and_what_was_checked(cli: Cli, seen: Stock, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "installation.key").write_text(KEY.hex())
    file = tmp_path / "release.zip"
    answer = cli("check", "model", "m@champion", "--evidence", str(file), "-o", "json")
    assert answer.code == 3, answer.out + answer.err  # the gate's own: artifacts are unknown
    with zipfile.ZipFile(file) as bundle:
        assert json.loads(bundle.read("artifacts/check.json")) == answer.json()[0]
    assert cli("evidence", "verify", str(file)).code == 0
    again = cli("check", "model", "m@champion", "--evidence", str(file))
    assert again.code == 8
    assert "there already" in again.err


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({"document": run_of(tags={"mlflow.docker.image.uri": "img:1"}), "code_version": "train.py"}, "reproducible"),
        ({"document": run_of(inputs={}), "data_version": None}, "reproducible"),
        ({"document": run_of(params={})}, "reproducible"),
        ({"document": run_of(tags={"mlflow.source.git.commit": "c0ffee"})}, "reproducible"),
        ({"state": "FAILED", "document": run_of("FAILED")}, "run-finished"),
    ],
)
def test_what_the_run_lacks_fails(cli: Cli, engine: Engine, seen: Stock, changes: dict[str, Any], fails: str) -> None:
    seen.change(Kind.RUN, "r1", **changes)
    scan(engine, seen)
    assert results(cli, "model", "m/1", code=9)[fails] == "fail"


def test_the_environment_that_was_logged_with_a_model_counts(cli: Cli, engine: Engine, seen: Stock) -> None:
    edited(seen, "r1", tags={"mlflow.log-model.history": "[{}]", "mlflow.source.git.commit": "c0ffee"})
    scan(engine, seen)
    assert "environment: with the model" in details(cli, "reproducible", "run", "r1")


def test_tags_that_the_configuration_requires(cli: Cli, seen: Stock) -> None:
    before = cli.config.read_text()
    required = "  required_tags: [{experiments: 'exp *', run_tags: [team]}]"
    cli.config.write_text(before.replace("hygiene: {", "hygiene:\n" + required + "\n").replace("[seed]}", "[seed]"
                          ).replace("comparison_parameters", "  comparison_parameters"))  # fmt: skip
    assert results(cli, "run", "r1", code=9)["tags"] == "fail"
    cli.config.write_text(before.replace("max_age: 1h", "max_age: 1h, required_tags: [stocktake.comparison=q4]"))
    assert results(cli, "run", "r1", code=3)["tags"] == "pass"
    cli.config.write_text(before.replace("max_age: 1h", "max_age: 1h, required_tags: [stocktake.comparison=q5]"))
    assert results(cli, "run", "r1", code=9)["tags"] == "fail"


def test_a_set_that_is_compared_must_match_and_say_in_what(cli: Cli, engine: Engine, seen: Stock) -> None:
    seen.change(Kind.RUN, "r2", run_of(params={"seed": "7"}))
    scan(engine, seen)
    assert "seed: '1', but '7' in run r2" in details(cli, "comparison", "run", "r1")
    cli.config.write_text(cli.config.read_text().replace("[seed]", "[]"))
    assert results(cli, "run", "r1")["comparison"] == "unknown"


def test_a_place_that_was_changed_after_registering_fails(cli: Cli, engine: Engine, seen: Stock) -> None:
    seen.change(Kind.MODEL_VERSION, "m/1", {"status": "READY", "source": "s3://b/r1/model"})
    scan(engine, seen)
    seen.change(Kind.MODEL_VERSION, "m/1", {"status": "READY", "source": "s3://b/other"})
    scan(engine, seen)
    assert results(cli, "model", "m/1", code=9)["artifacts"] == "fail"


def test_what_is_not_there_and_what_nobody_looked_for_end_apart(cli: Cli, engine: Engine) -> None:
    assert cli("check", "model", "m/1").code == 5
    scan(engine, stock())
    assert cli("check", "model", "m/9").code == 7
    assert cli("check", "model", "m@nobody").code == 7
    assert cli("check", "run", "r9", "-w", "ml").code == 7
    assert cli("check", "run", "r9", "-w", "nowhere").code == 7


def test_of_azure_a_job_stands_for_its_run(cli: Cli, engine: Engine) -> None:
    made = azure_stock()
    scan(engine, made)
    scan(engine, made)
    found = results(cli, "model", "fraud/1")
    assert found["run-finished"] == "pass"
    said = details(cli, "reproducible", "model", "fraud/1")
    assert "Not recorded: code, parameters" in said  # a copy of a folder is no code version
    assert "data: base/1" not in said
    assert "environment: sklearn/33" in said
    assert "sales/1" in said
    del made.assets[Kind.RUN]  # MLflow is off there
    engine.dispose()
    scan(engine, made, workspace="no-mlflow")
    (one,) = cli("check", "model", "fraud/1", "-w", "no-mlflow", "-o", "json").json()
    found = {each["check"]: each["result"] for each in one["checks"]}
    assert (found["run-finished"], found["run-unedited"]) == ("pass", "unknown")


# ---- on a real server ----------------------------------------------------------------------------------------------


def test_a_candidate_of_a_real_server_goes_through_the_gate(tmp_path: Path, database_url: str) -> None:
    with mlflow_server(tmp_path / "server") as server:
        client = MlflowClient(server.uri)
        experiment = client.create_experiment("fraud", tags={"owner": "ada"})
        run = client.create_run(experiment, tags={"mlflow.source.git.commit": "c0ffee", "mlflow.user": "bo",
                                                  "mlflow.docker.image.uri": "img:1"}).info.run_id  # fmt: skip
        client.log_param(run, "seed", "1")
        data = mlflow.entities.Dataset("sales", "abc", "local", "{}")
        client.log_inputs(run, [mlflow.entities.DatasetInput(data)])
        client.create_registered_model("m", tags={"owner": "ada"})
        client.create_model_version("m", source=f"runs:/{run}/model", run_id=run)
        client.set_registered_model_alias("m", "candidate", "1")
        cli = configured(
            tmp_path, f'database: "{database_url}"\nworkspaces: [{{name: w, mlflow: {{uri: "{server.uri}"}}}}]\n'
        )
        assert cli.process("scan").code == 0
        assert results(cli, "model", "m@candidate", code=9)["run-finished"] == "fail"
        client.set_terminated(run)
        assert cli.process("scan").code == 0
        assert results(cli, "model", "m@candidate", code=3) == dict.fromkeys(CHECKS, "pass") | {"artifacts": "unknown"}
        client.set_tag(run, "approved", "yes")
        assert cli.process("scan").code == 0
        assert results(cli, "model", "m@candidate", code=9)["run-unedited"] == "fail"


# ---- what storage says, asked for it -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with storage_in(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, storage: Azurite, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, storage, database_url, monkeypatch) as made:
        yield made


def test_asked_for_it_storage_says_whether_the_files_are_there_and_unchanged(world: World, engine: Engine) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    put(world, "dcid.of-another", {"x": b""})
    assert world.run("scan", "our-churn", code=0).code == 0
    assert results(world.cli, "run", job.name, "-w", "our-churn")["artifacts"] == "unknown"
    assert "Nothing lies at" in details(world.cli, "artifacts", "run", job.name, "-w", "our-churn", "--live")
    put(world, f"dcid.{job.name}", {"logs/std.txt": b"epoch 1"})  # long after the job had ended
    assert "after the run had ended" in details(world.cli, "artifacts", "run", job.name, "-w", "our-churn", "--live")
    with engine.begin() as connection:
        connection.execute(text("UPDATE version SET ended_at = clock_timestamp() WHERE kind IN ('run', 'job')"))
    assert results(world.cli, "run", job.name, "-w", "our-churn", "--live")["artifacts"] == "pass"
    lines = world.run("fetches", "-o", "json").json()
    assert [(line["what"], line["state"]) for line in lines] == [("show", "complete")] * 3
