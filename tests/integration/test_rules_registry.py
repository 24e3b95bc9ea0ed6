"""Rules about runs, models and their sources where little was seen, and as Azure Machine Learning shows them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake import pipeline
from stocktake.core.assets import Kind, Lifecycle, Mode
from stocktake.core.rules import bound
from stocktake.rules import RULES
from tests.integration.registry import Registry, found, look, stands
from tests.integration.stated import Stock, scan

_LOGGED = "m-" + "0" * 31 + "1"
_GONE = {"lifecycle_stage": "deleted"}


@pytest.fixture
def stock() -> Stock:
    made = Stock()
    made.put(Kind.RUN, "r1", {"params": {"lr": "1"}, "tags": {}}, partition="7", state="FINISHED")
    made.put(Kind.REGISTERED_MODEL, "m", {"aliases": {}}, name="m", owner="ada")
    made.put(Kind.MODEL_VERSION, "m/1", {"aliases": []}, parent="m", run="r1", artifact_uri="runs:/r1/model")
    return made


def _back(engine: Engine, hours: int, where: str = "true") -> None:
    with engine.begin() as connection:
        given = {"by": timedelta(hours=hours)}
        connection.execute(text(f"UPDATE scope SET last_complete_at = last_complete_at - :by WHERE {where}"), given)
        connection.execute(text("UPDATE scan SET began_at = began_at - :by"), given)


# ---- looks that are too old ------------------------------------------------------------------------------------------


def test_sweeps_that_stay_partial_are_stale_though_hot_passes_go_on(engine: Engine) -> None:
    world = Registry()
    for number in range(8):
        world.add_run(f"run{number}")
    look(engine, world)
    world.cut.add("1")
    look(engine, world)
    assert stands(engine, "scan-stale") == {}
    _back(engine, 54, "kind = 'run'")
    look(engine, world)
    (one,) = found(engine, "scan-stale")
    assert (one.kind, one.key) == ("workspace", "w")
    assert list(one.evidence["last_complete"]) == ["run"]
    look(engine, world, Mode.HOT)
    assert stands(engine, "scan-stale") == {"w": "open"}
    world.cut.clear()
    look(engine, world)
    assert stands(engine, "scan-stale") == {"w": "resolved"}


def test_what_was_never_completely_listed_is_stale_in_the_end(engine: Engine) -> None:
    world = Registry()
    for number in range(8):
        world.add_run(f"run{number}")
    world.cut.add("1")
    look(engine, world)
    assert stands(engine, "scan-stale") == {}
    _back(engine, 54, "false")
    look(engine, world)
    (one,) = found(engine, "scan-stale")
    assert one.evidence["last_complete"] == {"run": None}


def test_a_list_that_is_cut_by_permission_is_not_stale_while_it_is_listed(engine: Engine) -> None:
    world = Registry(filtered=True)
    world.add_run("run0")
    look(engine, world)
    _back(engine, 100)
    look(engine, world)
    assert stands(engine, "scan-stale") == {}


def test_a_schedule_of_a_week_is_stale_after_two(engine: Engine) -> None:
    world = Registry()
    world.add_run("run0")
    rules = bound(RULES, {"sweep_every": timedelta(days=7)})
    look(engine, world, rules=rules)
    _back(engine, 300, "kind = 'run'")
    world.fail_runs_after = 0
    look(engine, world, rules=rules)
    assert stands(engine, "scan-stale") == {}
    _back(engine, 60, "kind = 'run'")
    look(engine, world, rules=rules)
    assert stands(engine, "scan-stale") == {"w": "open"}


# ---- what is gone, and what was only not seen ------------------------------------------------------------------------


def test_a_run_that_a_partial_list_leaves_out_is_behind_no_finding(engine: Engine) -> None:
    world = Registry()
    for number in range(8):
        world.add_run(f"run{number}")
    world.registered["m"] = {"name": "m", "owner": "ada", "aliases": {"champion": "1"}}
    world.versions["m/1"] = {"run_id": "run7", "aliases": ["champion"]}
    look(engine, world)
    del world.runs["run7"]
    world.cut.add("1")
    look(engine, world)
    look(engine, world)
    assert stands(engine, "production-run-deleted") == {}
    world.cut.clear()
    look(engine, world)
    (one,) = found(engine, "production-run-deleted")
    assert (one.key, one.severity) == ("m/1", "critical")
    assert one.evidence == {"run": "run7", "run_is": "gone", "production_by": ["alias champion"]}


def test_a_logged_model_is_gone_only_where_all_of_its_kind_were_listed(engine: Engine, stock: Stock) -> None:
    stock.put(Kind.MODEL_VERSION, "m/2", {"aliases": []}, parent="m", run="r1", artifact_uri=f"models:/{_LOGGED}")
    stock.failing = {Kind.LOGGED_MODEL}
    scan(engine, stock)
    scan(engine, stock)
    assert stands(engine, "version-source-missing") == {}
    stock.failing = set()
    stock.kinds = {Kind.LOGGED_MODEL}
    scan(engine, stock)
    scan(engine, stock)
    assert stands(engine, "version-source-missing") == {"m/2": "open"}
    stock.failing, stock.kinds = {Kind.LOGGED_MODEL}, set()
    scan(engine, stock)  # a list that fails says nothing new
    assert stands(engine, "version-source-missing") == {"m/2": "open"}


def test_a_server_without_logged_models_is_judged_nevertheless(engine: Engine, stock: Stock) -> None:
    scan(engine, stock)
    stock.remove(Kind.RUN, "r1")
    scan(engine, stock)
    assert stands(engine, "version-source-missing") == {"m/1": "open"}


def test_the_registry_refers_to_a_deleted_logged_model(engine: Engine, stock: Stock) -> None:
    stock.put(Kind.LOGGED_MODEL, _LOGGED, {}, partition="7", run="r1")
    stock.put(Kind.MODEL_VERSION, "m/2", {"aliases": []}, parent="m", run="r1", artifact_uri=f"models:/{_LOGGED}")
    scan(engine, stock)
    stock.change(Kind.LOGGED_MODEL, _LOGGED, _GONE, lifecycle=Lifecycle.DELETED)
    scan(engine, stock)
    (one,) = found(engine, "registry-references-deleted")
    assert one.evidence["references"] == [{"from": "m/2", "kind": "logged_model", "key": _LOGGED}]


# ---- as Azure Machine Learning shows it ------------------------------------------------------------------------------


def _served(stock: Stock, share: int) -> None:
    model = {"properties": {"model": "azureml:m:1"}}
    stock.put(Kind.ONLINE_ENDPOINT, "e", {"properties": {"traffic": {"blue": share}}})
    stock.put(Kind.ONLINE_DEPLOYMENT, "e/blue", model, parent="e")


def test_what_an_endpoint_sends_traffic_is_production(engine: Engine, stock: Stock) -> None:
    _served(stock, 0)
    scan(engine, stock)
    stock.change(Kind.RUN, "r1", _GONE, lifecycle=Lifecycle.DELETED)
    scan(engine, stock)
    assert stands(engine, "production-run-deleted") == {}
    _served(stock, 100)
    scan(engine, stock)
    (one,) = found(engine, "production-run-deleted")
    assert one.evidence == {"run": "r1", "run_is": "deleted", "production_by": ["endpoint e"]}
    assert {two.key: two.evidence["fields"] for two in found(engine, "production-model-changed")} == {
        "e": [{"path": "properties.traffic.blue", "before": 0, "after": 100}]
    }
    scan(engine, stock, judged_by=pipeline.RuleSet(rules=bound(RULES, {"production_traffic": False})))
    assert stands(engine, "production-run-deleted") == {"m/1": "resolved"}


def test_a_job_says_what_its_run_does_not(engine: Engine, stock: Stock) -> None:
    scan(engine, stock)
    (one,) = found(engine, "not-reproducible")
    assert one.evidence == {"run": "r1", "lacks": ["code version", "data version", "environment"]}
    job: dict[str, Any] = {
        "componentId": "azureml:train:3",
        "environmentId": "azureml:base:1",
        "inputs": {"table": {"jobInputType": "uri_folder", "uri": "azureml:claims:4"}},
    }
    stock.put(Kind.JOB, "r1", {"properties": job})
    scan(engine, stock)
    assert stands(engine, "not-reproducible") == {"m/1": "resolved"}


def test_the_default_experiment_of_azure_needs_no_owner(engine: Engine, stock: Stock) -> None:
    stock.put(Kind.EXPERIMENT, "0a1b2c3d-0000-4000-8000-000000000009", {}, name="Default")
    scan(engine, stock)
    assert stands(engine, "missing-owner") == {"7": "open"}


def test_a_secret_is_found_by_its_mark_and_named_by_its_place(engine: Engine, stock: Stock) -> None:
    variables = {"DB_PASSWORD": "hunter2-hunter2", "LEVEL": "debug"}
    stock.put(Kind.JOB, "j", {"properties": {"environmentVariables": variables}})
    stock.change(Kind.RUN, "r1", {"params": {"lr": "1"}, "tags": {"note": "[redacted:"}})
    scan(engine, stock)
    (one,) = found(engine, "sensitive-parameter")
    assert (one.kind, one.key) == ("job", "j")
    (place,) = one.evidence["places"]
    assert place["path"] == "properties.environmentVariables.DB_PASSWORD"
    assert "hunter2" not in str(one.evidence)
