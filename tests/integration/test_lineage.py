"""What was made from what, as the command tells it and as the view does: over Azure's kinds and a real MLflow."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core import canonical
from stocktake.core.assets import Kind, ScanState
from stocktake.core.lineage import STATING, Stated, edges
from stocktake.store.homes import home_of
from tests.contract.test_cli_reference import schema
from tests.integration.auditing import scan_server
from tests.integration.azure_stock import ARM, deployment, stock, traffic
from tests.integration.stated import Stock, scan
from tests.integration.test_cli import Cli, configured
from tests.servers.json_schema import problems
from tests.servers.shared import Filled


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    return configured(tmp_path, f'database: "{database_url}"\n')


def now(engine: Engine) -> str:
    with engine.connect() as connection:
        at: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return at.isoformat()


def asked(cli: Cli, *question: str, code: int = 0) -> dict[str, Any]:
    """The one answer, as JSON."""
    answer = cli("lineage", *question, "--format", "json")
    assert answer.code == code, answer.err
    (told,) = answer.json()
    root = schema()
    assert not list(problems(told, root["$defs"]["lineage"], root))
    found: dict[str, Any] = told
    return found


def stated(told: dict[str, Any]) -> set[str]:
    return {
        f"{one['from']['kind']} {one['from']['key']} -{one['relation']}-> {one['to']['kind']} {one['to']['key']}"
        for one in told["edges"]
    }


def standing(told: dict[str, Any]) -> dict[str, str | None]:
    return {f"{one['kind']} {one['key']}": one["standing"] for one in told["nodes"]}


def test_what_serves_is_followed_back_to_run_job_data_and_environment(engine: Engine, cli: Cli) -> None:
    assert scan(engine, stock()).state == ScanState.COMPLETE
    told = asked(cli, "online_endpoint", "shop")
    assert stated(told) >= {
        "online_deployment shop/blue -traffic-> online_endpoint shop",
        "online_deployment shop/green -deployed to-> online_endpoint shop",
        "model_version fraud/1 -deployed-> online_deployment shop/blue",
        "model_version fraud/2 -deployed-> online_deployment shop/green",
        "run train-1 -registered-> model_version fraud/1",
        "job train-1 -is-> run train-1",
        "data_version sales/1 -read by-> job train-1",
        "environment_version sklearn/33 -environment of-> job train-1",
    }
    ends = standing(told)
    assert ends["run train-1"] == ends["data_version sales/1"] == "active"
    assert ends["environment_version serve/4"] == "not observed"
    assert ends["model_version azureml://registries/azureml/models/bert/versions/6"] == "in a registry"
    shares = {one["from"]["key"]: one["detail"] for one in told["edges"] if one["relation"] == "traffic"}
    assert shares == {"shop/blue": "90", "shop/green": "10"}


def test_data_is_followed_forth_to_every_endpoint_that_serves_what_was_made_of_it(engine: Engine, cli: Cli) -> None:
    scan(engine, stock())
    told = asked(cli, "data_version", "sales/1")
    ends = standing(told)
    assert ends.keys() >= {"online_endpoint shop", "batch_endpoint night", "data_version clean/3", "child_job step-1"}
    assert "child_job step-1 -started-> child_job step-of-step" in stated(told), "a step of a step hangs on its step"
    assert "job train-1 -deployed-> batch_deployment night/c" in stated(told)
    assert ends["data_version scored/9"] == "not observed"
    assert "job step-1" not in ends


def test_which_run_stands_behind_what_serves_is_asked_of_a_time_as_well(engine: Engine, cli: Cli) -> None:
    world = stock()
    world.put(Kind.RUN, "train-2", {"status": "FINISHED"}, partition="7", state="FINISHED")
    world.put(Kind.MODEL_VERSION, "fraud/3", {"properties": {}}, parent="fraud", run="train-2")
    scan(engine, world)
    before = now(engine)
    world.change(Kind.ONLINE_ENDPOINT, "shop", traffic(green=100))
    world.change(Kind.ONLINE_DEPLOYMENT, "shop/green", deployment("azureml:fraud:3"))
    world.remove(Kind.ONLINE_DEPLOYMENT, "shop/blue")
    scan(engine, world)

    def runs(*at: str) -> set[str]:
        told = asked(cli, "online_endpoint", "shop", *at)
        return {one["key"] for one in told["nodes"] if one["kind"] == "run"}

    assert runs() == {"train-2"}
    assert runs("--at", before) == {"train-1"}


def test_ends_that_are_gone_are_shown_in_their_last_state_as_gone(engine: Engine, cli: Cli) -> None:
    world = stock()
    scan(engine, world)
    world.remove(Kind.RUN, "train-1")
    world.remove(Kind.JOB, "train-1")
    scan(engine, world)
    ends = standing(asked(cli, "model_version", "fraud/1"))
    assert (ends["run train-1"], ends["model_version fraud/1"]) == ("purged", "active")
    tree = cli("lineage", "model_version", "fraud/1")
    assert "registered: run train (train-1) [purged, FINISHED]" in tree.out
    gone = asked(cli, "run", "train-1")
    assert standing(gone)["run train-1"] == "purged"


def test_a_cycle_ends_and_is_drawn_once(engine: Engine, cli: Cli) -> None:
    world = Stock()
    for one, other in (("a", "b"), ("b", "a")):
        uri = {"uri": f"azureml:{other}:1"}
        wrote = {"assetName": one, "assetVersion": "1"}
        world.put(Kind.JOB, f"job-{one}", {"properties": {"inputs": {"i": uri}, "outputs": {"o": wrote}}})
        world.put(Kind.DATA_VERSION, f"{one}/1", {"properties": {}})
    scan(engine, world)
    told = asked(cli, "data_version", "a/1")
    assert len(told["nodes"]) == len(told["edges"]) == 6
    assert "(see above)" in cli("lineage", "data_version", "a/1").out


def test_many_at_once_are_followed_as_one_is(engine: Engine, cli: Cli) -> None:
    world, registry = Stock(), "azureml://registries/azureml/models/m{}/versions/1"
    outputs = {f"o{number}": {"assetName": f"d{number}", "assetVersion": "1"} for number in range(30)}
    world.put(Kind.JOB, "writer", {"properties": {"outputs": outputs}})
    for number in range(30):
        uri = f"azureml:d{number}:1" if number % 2 else f"azureml://locations/l/workspaces/w/data/d{number}/versions/1"
        world.put(Kind.JOB, f"reader{number}", {"properties": {"inputs": {"i": {"uri": uri}}}})
        world.put(Kind.MODEL_VERSION, f"m/{number}", {"model_id": f"m-{number}"}, parent="m")
        world.put(Kind.LOGGED_MODEL, f"m-{number}", {}, partition="7", run="trainer")
        world.put(Kind.ONLINE_DEPLOYMENT, f"e/d{number}", deployment(f"azureml:m:{number}"))
        world.put(Kind.ONLINE_DEPLOYMENT, f"r/d{number}", deployment(registry.format(number)))
    world.put(Kind.RUN, "trainer", {}, partition="7")
    world.put(Kind.ONLINE_ENDPOINT, "r", {})
    scan(engine, world)
    assert {f"job reader{number}" for number in range(30)} <= standing(asked(cli, "job", "writer")).keys()
    served = standing(asked(cli, "run", "trainer"))
    assert {f"online_deployment e/d{number}" for number in range(30)} <= served.keys()
    assert "online_endpoint e" in served
    shared = standing(asked(cli, "online_endpoint", "r"))
    assert {f"model_version {registry.format(number)}" for number in range(30)} <= shared.keys()


def test_more_than_can_be_shown_is_said_to_be_more(engine: Engine, cli: Cli) -> None:
    world = Stock()
    world.put(Kind.DATA_VERSION, "d/1", {})
    for number in range(520):
        world.put(Kind.JOB, f"j{number}", {"properties": {"inputs": {"i": {"uri": "azureml:d:1"}}}})
    scan(engine, world)
    told = asked(cli, "data_version", "d/1", code=3)
    assert told["cut"] is True
    assert len(told["nodes"]) <= 502


def test_what_is_not_known_is_not_found_and_a_time_before_is_not_observed(engine: Engine, cli: Cli) -> None:
    before = now(engine)
    scan(engine, stock())
    assert cli("lineage", "run", "nobody").code == 7
    assert cli("lineage", "alias", "fraud@nobody").code == 7
    assert cli("lineage", "run", "train-1", "--at", before).code == 5
    assert cli("lineage", "nonsense", "x").code == 2


def test_a_kind_that_was_not_observed_then_is_named_beside_the_answer(engine: Engine, cli: Cli) -> None:
    world, later = stock(), {}
    for kind in (Kind.ONLINE_ENDPOINT, Kind.ONLINE_DEPLOYMENT):
        later[kind] = world.assets.pop(kind)
    scan(engine, world)
    at = now(engine)
    world.assets |= later
    scan(engine, world)
    answer = cli("lineage", "model_version", "fraud/1", "--at", at)
    assert answer.code == 3
    assert "online deployments, online endpoints: observed since" in answer.err
    assert cli("lineage", "model_version", "fraud/1").code == 0


def test_children_that_are_known_are_listed_though_never_were_all_of_them(engine: Engine, cli: Cli) -> None:
    before, world = now(engine), stock()
    world.failing.add(Kind.CHILD_JOB)
    scan(engine, world)
    answer = cli("list", "child_job", "-o", "json")
    assert {one["key"] for one in answer.json()} == {"step-1", "step-of-step"}
    assert answer.code == 3
    assert "never was all of it listed" in answer.err
    assert cli("list", "child_job", "--at", before).code == 5


def test_the_tree_and_the_diagram_say_the_same(engine: Engine, cli: Cli) -> None:
    world = stock()
    world.change(Kind.RUN, "train-1", name='evil"]; click n0 "javascript:x" <b>\x1b[31m')
    scan(engine, world)
    told = asked(cli, "model_version", "fraud/1")
    tree = cli("lineage", "model_version", "fraud/1").out
    assert tree.splitlines()[0] == "model version fraud/1 in ml"
    diagram = cli("lineage", "model_version", "fraud/1", "--format", "mermaid").out
    lines = diagram.splitlines()
    assert lines[0] == "flowchart LR"
    assert sum("-->" in line for line in lines) == len(told["edges"])
    assert sum('["' in line for line in lines) == len(told["nodes"])
    assert "\x1b" not in tree + diagram
    assert all(line.count('"') == 2 for line in lines[1:-1]), "nothing ends a label but its own end"
    assert "<" not in diagram


_EDGES = "from_kind, from_key, relation, to_kind, to_key, detail"


def of_view(engine: Engine, source: str = "inventory.lineage") -> set[tuple[Any, ...]]:
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT {_EDGES} FROM {source}")).all()
    assert len(rows) == len(set(rows)), "each edge once for each document that states it"
    return {tuple(row) for row in rows}


def of_core(engine: Engine) -> set[tuple[Any, ...]]:
    found = set()
    with engine.connect() as connection:
        names = connection.execute(text("SELECT workspace_id, name FROM workspace"))
        homes = {row.workspace_id: home_of(connection, row.name) for row in names}
        for row in connection.execute(
            text(
                "SELECT v.workspace_id, v.kind, a.key, v.parent, v.run, v.artifact_uri, v.data_version, v.document"
                " FROM version v JOIN asset a USING (asset_id) WHERE v.valid_to IS NULL AND v.kind = ANY(:kinds)"
            ),
            {"kinds": sorted(STATING)},
        ):
            given = row._asdict() | {"document": canonical.decode(row.document)}
            here = homes[given.pop("workspace_id")]
            asset = Stated(**given, home=here)
            found |= {(*edge.source, edge.relation, *edge.target, edge.detail) for edge in edges(asset)}
    return found


def distinct(engine: Engine, source: str = "inventory.lineage") -> set[tuple[Any, ...]]:
    with engine.connect() as connection:
        return {tuple(row) for row in connection.execute(text(f"SELECT DISTINCT {_EDGES} FROM {source}"))}


def served(engine: Engine) -> set[tuple[Any, ...]]:
    """What deployments serve, and what is sent to them."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT kind, key, model_kind, model_key, endpoint,"
                " CASE WHEN traffic > 0 THEN CAST(trim_scale(traffic) AS text) END, is_default FROM inventory.serving"
            )
        )
        return {tuple(row) for row in rows}


OTHER = ARM.removesuffix("ml") + "other"
#: Addresses that look like assets of the workspace, and are none of it.
ELSEWHERE = (
    f"{OTHER}/models/fraud/versions/1", f"azureml:{OTHER}/data/sales/versions/1",
    "azureml://subscriptions/s/resourcegroups/g/workspaces/other/models/fraud/versions/2",
    "azureml://datastores/workspaceblobstore/paths/data/sales", "azureml://datastores/d/paths/models/fraud/versions/1",
    "https://account.blob.core.windows.net/container/out/data/train", "https://host/c/jobs/train-1/model.pkl",
    f"{OTHER}/jobs/train-1",
)  # fmt: skip


def test_what_lies_elsewhere_makes_no_asset_of_the_workspace(engine: Engine, cli: Cli) -> None:
    world = Stock()
    world.put(Kind.WORKSPACE, "workspace", {"id": ARM})
    world.put(Kind.ONLINE_ENDPOINT, "e", {})
    for number, address in enumerate(ELSEWHERE):
        world.put(Kind.ONLINE_DEPLOYMENT, f"e/{number}", deployment(address), parent="e")
        inputs = {"i": {"jobInputType": "uri_file", "uri": address}}
        world.put(Kind.JOB, f"reader{number}", {"properties": {"inputs": inputs}})
        world.put(Kind.DATA_VERSION, f"d/{number}", {}, artifact_uri=address)
    scan(engine, world)
    ends = {(one[0], one[1]) for one in of_core(engine)} | {(one[3], one[4]) for one in of_core(engine)}
    named = {key for kind, key in ends if kind in {"model_version", "data_version"} and not key.startswith("d/")}
    assert named == set(ELSEWHERE[:3]), "as they are written"
    assert ("job", "train-1") not in ends
    assert distinct(engine) == of_core(engine)
    standings = standing(asked(cli, "online_endpoint", "e"))
    assert standings[f"model_version {ELSEWHERE[0]}"] == "in another workspace"


def test_the_view_has_the_edges_of_the_core(engine: Engine) -> None:
    world = stock()
    odd: list[Any] = [
        None, "", 7, [], {}, "azureml:x", "azureml:x:1", "azureml:x@latest", "x:1", "runs:/r/model", "/models/m",
        "/models/m/versions/1/", f"{ARM.upper()}/Models/m/versions/1/", f"azureml:{ARM}/data/d/versions/1",
        "azureml://subscriptions/s/resourcegroups/g/workspaces/ML/data/e/versions/1", f"{ARM}/jobs/j5",
        *ELSEWHERE,
        "azureml://locations/l/workspaces/w/data/d/versions/1", "/registries/r/environments/e/versions/2",
        {"assetId": ""}, {"assetId": "", "path": "p"}, {"jobId": "/a/jobs/j1/"}, {"assetId": "azureml:m:1"},
        {"path": "azureml://jobs/j2/outputs/o"}, "a\nb", {"jobId": "j3"}, {"jobId": f"{ARM}/jobs/j4/"},
        {"jobId": f"{OTHER}/jobs/j6"},
    ]  # fmt: skip
    for number, value in enumerate(odd):
        properties = {"environmentId": value, "componentId": value, "inputs": {"i": {"uri": value}, "j": value}}
        outputs = {"o": {"assetName": value, "assetVersion": "1", "jobOutputType": "custom_model"}, "p": value}
        world.put(Kind.ONLINE_DEPLOYMENT, f"odd/{number}", deployment(value, environmentId=value))
        if isinstance(value, str) or value is None:
            task = {"trainingData": {"uri": value}, "testData": value}
            properties |= {"outputs": outputs, "trial": value, "taskDetails": task}
            world.put(Kind.JOB, f"odd{number}", {"properties": properties})
            world.put(Kind.DATA_VERSION, f"odd/{number}", {}, artifact_uri=value)
            ends = {"one": {"assetId": value}, "two": value}
            world.put(Kind.CHILD_JOB, f"step{number}", {"inputs": ends, "outputs": ends})
    sent: list[Any] = [None, [], {"a": 0}, {"a": 33.5, "b": 100.0}, {"a": "90"}, {"a": None}, [100]]
    for number, shares in enumerate(sent):
        world.put(Kind.ONLINE_ENDPOINT, f"odd{number}", {"properties": {"traffic": shares}})
    world.put(Kind.ONLINE_DEPLOYMENT, "odd3/a", deployment("azureml:m:1"))
    for key in ("odd3/c", "odd6/0", "odd7"):
        world.put(Kind.ONLINE_DEPLOYMENT, key, deployment("azureml:m:1"))
    world.put(Kind.ONLINE_ENDPOINT, "odd7", {"properties": {"traffic": {"odd7": 100}}})
    world.put(Kind.BATCH_ENDPOINT, "batch", {"properties": {"defaults": {"deploymentName": "b/c"}}})
    for name in ("b/c", "other"):
        world.put(Kind.BATCH_DEPLOYMENT, f"batch/{name}", deployment("azureml:m:2"))
    scan(engine, world)
    assert distinct(engine) == of_core(engine)
    assert len(of_core(engine)) > 50
    serves = served(engine)
    there = {(kind, key) for kind, key, *_ in serves}
    edges = {one for one in distinct(engine) if one[2] in ("deployed", "traffic", "default")}
    assert {(*one[2:4], "deployed", *one[:2], None) for one in serves if one[3] is not None} == {
        one for one in edges if one[2] == "deployed"
    }
    traffic = {one for one in edges if one[2] == "traffic" and one[:2] in there}
    assert {(*one[:2], "traffic", "online_endpoint", one[4], one[5]) for one in serves if one[5]} == traffic
    default = {one for one in edges if one[2] == "default" and one[:2] in there}
    assert {(*one[:2], "default", "batch_endpoint", one[4], None) for one in serves if one[6]} == default
    assert traffic
    assert default
    assert {one[6] for one in serves} == {True, False}
    assert {one[2] for one in serves if one[3] is None} == {None}


def test_the_view_has_the_edges_of_the_core_over_a_real_server(engine: Engine, rich: Filled) -> None:
    scan_server(engine, rich.server.uri)
    found = distinct(engine)
    assert found == of_core(engine)
    relations = {(one[0], one[2], one[3]) for one in found}
    assert relations >= {
        ("run", "logged", "logged_model"), ("run", "registered", "model_version"), ("dataset", "read by", "run"),
        ("model_version", "version of", "registered_model"), ("model_version", "named", "alias"),
        ("run", "started", "run"),
    }  # fmt: skip


def test_the_function_answers_for_a_time(engine: Engine) -> None:
    world = stock()
    scan(engine, world)
    before, then = now(engine), distinct(engine)
    world.change(Kind.ONLINE_ENDPOINT, "shop", traffic(green=100))
    scan(engine, world)
    assert distinct(engine, f"inventory.lineage_at('{before}')") == then
    assert distinct(engine) != then
    assert distinct(engine, "inventory.lineage_at('2000-01-01Z')") == set()


def test_an_alias_and_a_dataset_are_asked_for_like_assets(engine: Engine, cli: Cli, rich: Filled) -> None:
    scan_server(engine, rich.server.uri)
    told = asked(cli, "alias", "classifier@champion")
    assert "model_version classifier/2 -named-> alias classifier@champion" in stated(told)
    assert any(one["kind"] == "run" and one["standing"] == "active" for one in told["nodes"])
    data = asked(cli, "dataset", "iris@abc123")
    assert f"dataset iris@abc123 -read by-> run {rich.content.run}" in stated(data)
    assert "alias classifier@champion" in standing(data)
    assert json.loads(cli("lineage", "run", rich.content.run, "--format", "json").out)
