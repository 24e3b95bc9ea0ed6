"""The source mlflow_rest against real servers: what it finds, what moves, who may see what."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from stocktake.core.assets import Kind, Lifecycle, Mode, ScopeState
from stocktake.core.errors import SourceError, Trouble
from tests.servers.content import V2, V3, Content, Writer, fill
from tests.servers.known import PlainKnown
from tests.servers.mlflow_server import ADMIN, MlflowServer, mlflow_server
from tests.servers.reading import Reading, mlflow_source, read
from tests.servers.recording_proxy import RecordingProxy, edit, first_page_again, recording_proxy, status
from tests.servers.shared import filled_server, server_with_users


@pytest.fixture(scope="module")
def swept() -> Iterator[Reading]:
    source = mlflow_source(filled_server().server.uri, owner_tags=("owner",))
    yield read(source)
    source.close()


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    with recording_proxy(filled_server().server.uri) as running:
        yield running


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server, with MLflow workspaces, that tests of this module may write to: each makes its own experiment."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), mlflow_workspaces=True) as server:
        yield server


@pytest.fixture
def writer(own: MlflowServer) -> Iterator[Writer]:
    made = Writer(own.uri)
    yield made
    made.close()


def sweep(uri: str, mode: Mode = Mode.SWEEP, known: PlainKnown | None = None, **options: Any) -> Reading:
    source = mlflow_source(uri, **options)
    try:
        return read(source, mode, known)
    finally:
        source.close()


# What a run is


def test_a_run_is_read_with_all_it_has(swept: Reading) -> None:
    content = filled_server().content
    run = swept.assets(Kind.RUN)[content.run]
    assert run.document["params"] == {"lr": "0.1", "note": 'ü " \\ \n emoji 🦉'}
    values = {name: metric["value"] for name, metric in run.document["metrics"].items()}
    # MLflow's SQL store keeps an infinity as the largest float, on its own account
    assert values == {"loss": "NaN", "acc": 0.5, "worst": 1.7976931348623157e308, "a/b c.d": 1e-300}
    assert (run.owner, run.code_version, run.data_version) == ("grace", "c0ffee" * 6 + "c0ff", "iris@abc123")
    assert run.document["inputs"]["datasets"]["iris@abc123"]["tags"] == {"mlflow.data.context": "training"}
    assert run.aside["model_outputs"] == {content.logged_model: {"step": 7}}
    assert run.started_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert run.ended_at == run.started_at + timedelta(seconds=1)
    assert swept.assets(Kind.RUN)[content.child].parent == content.run


def test_deleted_things_are_listed_as_deleted(swept: Reading) -> None:
    content, runs = filled_server().content, swept.assets(Kind.RUN)
    deleted = {key for key, run in runs.items() if run.lifecycle is Lifecycle.DELETED}
    assert deleted == {content.deleted_run, content.run_of_deleted_experiment}
    assert swept.assets(Kind.EXPERIMENT)[content.deleted_experiment].lifecycle is Lifecycle.DELETED
    assert {runs[content.failed].state, runs[content.running].state} == {"FAILED", "RUNNING"}


def test_versions_bear_the_aliases_of_their_model(swept: Reading) -> None:
    versions = swept.assets(Kind.MODEL_VERSION)
    aliases = {key: version.document["aliases"] for key, version in versions.items()}
    assert aliases == {"classifier/1": ["challenger"], "classifier/2": ["champion"], "plain/1": []}
    assert swept.assets(Kind.REGISTERED_MODEL)["classifier"].document["aliases"] == {"champion": "2", "challenger": "1"}


def test_no_secret_and_no_user_content_comes_along(swept: Reading) -> None:
    seen = repr([asset for heard in swept.heard for asset in heard.assets.values()])
    assert "s3cr3t" not in seen
    assert "what the user asked" not in seen


def test_the_server_itself_is_an_asset(swept: Reading) -> None:
    server = swept.assets(Kind.WORKSPACE)["server"].document
    assert server["version"].startswith("3.")
    assert (server["store_type"], server["workspaces_enabled"], server["visibility"]) == ("SqlStore", False, "complete")


def test_documents_agree_with_mlflows_own_client(swept: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's and its dependencies' own
        from mlflow import MlflowClient
        from mlflow.entities import ViewType

        content, uri = filled_server().content, filled_server().server.uri
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiments = {e.experiment_id: e for e in client.search_experiments(view_type=ViewType.ALL)}
        runs = {r.info.run_id: r for r in client.search_runs(list(experiments), run_view_type=ViewType.ALL)}
        models = {m.name: m for m in client.search_registered_models()}
        found = [client.get_model_version(v.name, v.version) for v in client.search_model_versions()]
        versions = {f"{version.name}/{version.version}": version for version in found}
        logged = {m.model_id: m for m in client.search_logged_models(experiment_ids=list(experiments))}

    assert runs.keys() == swept.assets(Kind.RUN).keys()
    for key, run in runs.items():
        document = swept.assets(Kind.RUN)[key].document
        assert document["params"] == run.data.params
        assert document["tags"] == run.data.tags
        assert {n: m["value"] for n, m in document["metrics"].items()} == {
            name: "NaN" if value != value else value for name, value in run.data.metrics.items()
        }
        for name in ("experiment_id", "run_name", "status", "lifecycle_stage", "artifact_uri", "start_time"):
            assert document["info"][name] == getattr(run.info, name)
        assert document["info"].get("end_time") == run.info.end_time
        assert document.get("inputs", {}).get("datasets", {}).keys() == {
            f"{used.dataset.name}@{used.dataset.digest}" for used in (run.inputs.dataset_inputs if run.inputs else [])
        }
        assert swept.assets(Kind.RUN)[key].aside.get("model_outputs", {}).keys() == {
            made.model_id for made in (run.outputs.model_outputs if run.outputs else [])
        }
    assert experiments.keys() == swept.assets(Kind.EXPERIMENT).keys()
    for key, experiment in experiments.items():
        document = swept.assets(Kind.EXPERIMENT)[key].document
        for name in ("name", "artifact_location", "lifecycle_stage", "creation_time", "tags"):
            assert document[name] == getattr(experiment, name)
    assert models.keys() == swept.assets(Kind.REGISTERED_MODEL).keys()
    for key, model in models.items():
        document = swept.assets(Kind.REGISTERED_MODEL)[key].document
        for name in ("name", "description", "creation_timestamp", "tags", "aliases"):
            assert document[name] == getattr(model, name)
    assert versions.keys() == swept.assets(Kind.MODEL_VERSION).keys()
    for key, version in versions.items():
        document = swept.assets(Kind.MODEL_VERSION)[key].document
        assert document["stage"] == version.current_stage
        for name in ("name", "version", "source", "run_id", "status", "creation_timestamp", "tags", "aliases"):
            assert document[name] == getattr(version, name)
    assert logged.keys() == swept.assets(Kind.LOGGED_MODEL).keys() == {content.logged_model}
    for key, one in logged.items():
        document = swept.assets(Kind.LOGGED_MODEL)[key].document
        assert (document["params"], document["tags"]) == (one.params, one.tags)
        assert document["info"]["status"] == one.status.value
        assert document["info"]["creation_timestamp_ms"] == one.creation_timestamp
        assert document["info"]["artifact_uri"] == one.artifact_location


# Pages


def test_many_small_pages_give_what_one_big_page_gives(swept: Reading) -> None:
    small = sweep(filled_server().server.uri, page_size=1)
    assert small.only(Kind.RUN).pages == 6
    for kind in Kind:
        ids = {key: asset.document for key, asset in small.assets(kind).items()}
        assert ids == {key: asset.document for key, asset in swept.assets(kind).items()}


def test_pages_that_are_too_large_halve_themselves(proxy: RecordingProxy, swept: Reading) -> None:
    reading = sweep(proxy.uri, page_bytes=3000)
    assert reading.only(Kind.RUN).error is None
    assert reading.assets(Kind.RUN).keys() == swept.assets(Kind.RUN).keys()
    sizes = [seen.json()["max_results"] for seen in proxy.asked("runs/search")]
    assert sizes[0] == 1000
    assert min(sizes) < 6


def test_an_item_larger_than_all_patience_is_a_truncated_scope(proxy: RecordingProxy) -> None:
    reading = sweep(proxy.uri, page_bytes=500, hard_bytes=600)
    error = reading.only(Kind.RUN).error
    assert error is not None
    assert error.trouble is Trouble.TRUNCATED


def test_a_page_token_that_repeats_itself_is_truncation_not_the_end(proxy: RecordingProxy) -> None:
    proxy.fault("runs/search", first_page_again(lambda: "again"))
    heard = sweep(proxy.uri, page_size=2).only(Kind.RUN)
    assert heard.error is not None
    assert heard.error.trouble is Trouble.TRUNCATED
    assert "same page token twice" in heard.error.what


def test_pages_that_never_end_are_truncation(proxy: RecordingProxy) -> None:
    tokens = (str(number) for number in range(10**9))
    proxy.fault("runs/search", first_page_again(lambda: next(tokens)))
    proxy.fault("experiments/search.*order_by", first_page_again(lambda: next(tokens), empty=True))
    known = PlainKnown(sizes={Kind.RUN: {filled_server().content.experiment: 5}})
    reading = sweep(proxy.uri, known=known)
    experiments, runs = reading.only(Kind.EXPERIMENT), reading.of(Kind.RUN)[0]
    assert experiments.error is not None
    assert experiments.error.what.endswith("gave 100 empty pages in a row")
    assert runs.error is not None
    assert runs.error.what.endswith("gave the same page 3 times")


def test_an_empty_page_with_a_token_is_not_the_end(proxy: RecordingProxy, swept: Reading) -> None:
    kept: list[Any] = []

    def put_off(page: Any) -> Any:
        kept.append(page)
        return {"next_page_token": page["next_page_token"]} if len(kept) == 2 else page

    proxy.fault("runs/search", edit(put_off))
    heard = sweep(proxy.uri, page_size=1).only(Kind.RUN)
    assert heard.error is None
    assert (heard.pages, len(heard.assets)) == (6, 5)


def test_a_page_that_fails_ends_the_scope_with_what_was_seen(proxy: RecordingProxy) -> None:
    proxy.fault("runs/search", status(500), after=2)
    heard = sweep(proxy.uri, page_size=1).only(Kind.RUN)
    assert heard.error is not None
    assert heard.error.trouble is Trouble.SERVER
    assert len(heard.assets) == 2


def test_a_failing_kind_leaves_the_others_complete(proxy: RecordingProxy, swept: Reading) -> None:
    proxy.fault("registered-models/search", status(500))
    known = PlainKnown(published_aliases={"classifier": {"champion": "2"}})
    reading = sweep(proxy.uri, known=known)
    assert reading.only(Kind.REGISTERED_MODEL).error is not None
    assert reading.assets(Kind.RUN).keys() == swept.assets(Kind.RUN).keys()
    versions = reading.only(Kind.MODEL_VERSION)
    assert versions.assets["classifier/2"].document["aliases"] == ["champion"]
    assert any("carried forward" in problem for problem in versions.problems)


@pytest.mark.parametrize("mode", Mode)
def test_experiments_that_were_not_listed_leave_their_runs_unclaimed(proxy: RecordingProxy, mode: Mode) -> None:
    proxy.fault("experiments/search.*order_by", status(500), after=1)
    looks = dict.fromkeys(Kind, datetime(2020, 1, 1, tzinfo=UTC))
    reading = sweep(proxy.uri, mode, PlainKnown(looks=looks), page_size=1)
    assert reading.only(Kind.EXPERIMENT).error is not None
    for kind in (Kind.RUN, Kind.LOGGED_MODEL, Kind.TRACE):
        last = reading.of(kind)[-1]
        assert last.scope.covers == ()
        assert last.error is not None
        assert last.error.trouble is Trouble.TRUNCATED
        assert {part for heard in reading.of(kind) for part in heard.scope.covers} <= {"0"}


def test_an_item_that_is_not_understood_is_a_problem_of_its_page(proxy: RecordingProxy) -> None:
    def damage(page: Any) -> Any:
        page["runs"][0]["info"].pop("run_id")
        page["runs"][0]["info"].pop("run_uuid")
        return page

    proxy.fault("runs/search", edit(damage))
    heard = sweep(proxy.uri).only(Kind.RUN)
    assert heard.error is None
    assert (len(heard.assets), heard.problems) == (5, ["POST /api/2.0/mlflow/runs/search: an item (run) without an id"])


def test_small_experiments_share_a_request_and_big_ones_do_not(proxy: RecordingProxy) -> None:
    content = filled_server().content
    known = PlainKnown(sizes={Kind.RUN: {content.experiment: 501}})
    reading = sweep(proxy.uri, known=known)
    assert [heard.scope.covers for heard in reading.of(Kind.RUN)] in (
        [(content.experiment,), ("0", content.deleted_experiment)],
        [("0", content.deleted_experiment), (content.experiment,)],
    )
    assert len(proxy.asked("runs/search")) == 2


# Aliases (mlflow#16734)


def test_an_alias_that_search_leaves_out_is_not_removed(proxy: RecordingProxy) -> None:
    def forget(page: Any) -> Any:
        for model in page["registered_models"]:
            model.pop("aliases", None)
        return page

    proxy.fault("registered-models/search", edit(forget))
    reading = sweep(proxy.uri, known=PlainKnown(published_aliases={"classifier": {"champion": "2"}}))
    heard = reading.only(Kind.REGISTERED_MODEL)
    assert heard.assets["classifier"].document["aliases"] == {"champion": "2", "challenger": "1"}
    assert len(heard.problems) == 1
    assert reading.assets(Kind.MODEL_VERSION)["classifier/1"].document["aliases"] == ["challenger"]


# Moving


def hot(uri: str, since: datetime, **known: Any) -> Reading:
    looks = {Kind.RUN: since, Kind.LOGGED_MODEL: since, Kind.TRACE: since}
    return sweep(uri, Mode.HOT, PlainKnown(looks=looks, **known))


def test_a_hot_pass_sees_what_started_ended_or_runs(own: MlflowServer, writer: Writer) -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    before, after = (int((at + timedelta(hours=hours)).timestamp() * 1000) for hours in (-2, 1))
    experiment = writer.experiment("hot")
    old = writer.run(experiment, "old", start=before)
    running = writer.run(experiment, "still running", start=before, status="RUNNING")
    scheduled = writer.run(experiment, "scheduled", start=before, status="SCHEDULED")
    ended = writer.run(experiment, "ended now", start=before)
    writer.send(f"{V2}/runs/update", {"run_id": ended, "status": "FINISHED", "end_time": after})
    started = writer.run(experiment, "started now", start=after)
    within = writer.run(experiment, "by a slow clock", start=before + 3_600_000 + 1)  # inside the overlap of an hour
    deleted = writer.run(experiment, "new and deleted", start=after)
    writer.send(f"{V2}/runs/delete", {"run_id": deleted})
    seen = hot(own.uri, at).assets(Kind.RUN).keys()
    assert seen >= {running, scheduled, ended, started, within, deleted}
    assert old not in seen


def test_a_hot_pass_reads_all_of_an_experiment_that_changed(own: MlflowServer, writer: Writer) -> None:
    experiment, other = writer.experiment("changes"), writer.experiment("does not")
    run, quiet = writer.run(experiment, start=1000), writer.run(other, start=1000)
    writer.send(f"{V2}/experiments/delete", {"experiment_id": experiment})
    changed = {Kind.EXPERIMENT: frozenset({experiment})}
    reading = hot(own.uri, datetime(2031, 1, 1, tzinfo=UTC), changes=changed)
    (complete,) = [heard for heard in reading.of(Kind.RUN) if heard.promise is ScopeState.COMPLETE]
    assert complete.scope.covers == (experiment,)
    assert complete.assets[run].lifecycle is Lifecycle.DELETED
    assert quiet not in reading.assets(Kind.RUN)


def test_a_deleted_logged_model_is_neither_listed_nor_found(own: MlflowServer, writer: Writer) -> None:
    experiment = writer.experiment("models")
    model = writer.logged_model(experiment, writer.run(experiment), "owl")
    source = mlflow_source(own.uri)
    assert model in read(source).assets(Kind.LOGGED_MODEL)
    writer.send(f"{V2}/logged-models/{model}", {}, method="DELETE")
    assert model not in read(source).assets(Kind.LOGGED_MODEL)
    assert source.confirm(Kind.LOGGED_MODEL, [model]) == {model: None}
    assert source.kinds[Kind.LOGGED_MODEL].sees_deleted is False
    source.close()


def test_a_deleted_run_is_confirmed_as_there(own: MlflowServer, writer: Writer) -> None:
    experiment = writer.experiment("confirm")
    run = writer.run(experiment)
    writer.send(f"{V2}/runs/delete", {"run_id": run})
    source = mlflow_source(own.uri)
    item = source.confirm(Kind.RUN, [run])[run]  # before anything was listed
    assert item is not None
    assert source.parse(Kind.RUN, item.raw).lifecycle is Lifecycle.DELETED
    source.close()


def test_runs_are_confirmed_in_batches(proxy: RecordingProxy) -> None:
    content, source = filled_server().content, mlflow_source(proxy.uri)
    read(source)
    proxy.clear()
    keys = [content.run, content.child, content.deleted_run, "0" * 32]
    answers = source.confirm(Kind.RUN, keys)
    assert {key for key, item in answers.items() if item is None} == {"0" * 32}
    assert answers.keys() == set(keys)
    assert len(proxy.asked("runs/search")) == 1
    assert len(proxy.asked("runs/get")) == 1
    source.close()


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500])
def test_a_key_that_could_not_be_asked_about_is_left_out(proxy: RecordingProxy, code: int) -> None:
    source = mlflow_source(proxy.uri)
    proxy.fault("runs/", status(code))
    assert source.confirm(Kind.RUN, [filled_server().content.run, "0" * 32]) == {}
    source.close()


# Who may see what


@pytest.fixture(scope="module")
def eve() -> dict[str, str]:
    """A user of the server with users, who may read one experiment and one model of many."""
    filled = server_with_users()
    admin = Writer(filled.server.uri, ADMIN)
    admin.send(f"{V2}/users/create", {"username": "eve", "password": "eve-password-12"})
    hidden = admin.experiment("hidden")
    run = admin.run(hidden)
    for kind, name in (("experiment", filled.content.experiment), ("registered_model", "plain")):
        grant = {"username": "eve", "resource_type": kind, "resource_id": name, "permission": "READ"}
        admin.send(f"{V3}/users/permissions/grant", grant)
    admin.close()
    return {"username": "eve", "password": "eve-password-12", "hidden": hidden, "hidden_run": run}


def test_a_user_who_is_no_administrator_gets_filtered_scopes(eve: dict[str, str]) -> None:
    filled = server_with_users()
    source = mlflow_source(filled.server.uri, username=eve["username"], password=eve["password"])
    identity = source.identify()
    assert (identity.name, identity.filtered) == ("eve", True)
    hidden = {eve["hidden"]: 5, filled.content.deleted_experiment: 1}
    reading = read(source, known=PlainKnown(sizes=dict.fromkeys((Kind.RUN, Kind.LOGGED_MODEL, Kind.TRACE), hidden)))
    assert [heard.error for heard in reading.heard] == [None] * len(reading.heard)
    promises = {heard.promise for heard in reading.heard if heard.scope.kind is not Kind.WORKSPACE}
    assert promises == {ScopeState.FILTERED}
    # what it may read is there, the rest is left out of every list with status 200
    assert reading.assets(Kind.EXPERIMENT).keys() == {filled.content.experiment}
    assert reading.assets(Kind.REGISTERED_MODEL).keys() == {"plain"}
    assert reading.assets(Kind.MODEL_VERSION).keys() == {"plain/1"}
    assert len(reading.assets(Kind.RUN)) == 5
    assert reading.assets(Kind.TRACE).keys() == {filled.content.trace}
    # and by id it is told 403, also about what never existed: nothing can be concluded
    assert source.confirm(Kind.RUN, [eve["hidden_run"], "0" * 32]) == {}
    assert source.confirm(Kind.EXPERIMENT, [eve["hidden"], "98765"]) == {}
    source.close()


def test_an_administrator_sees_everything(eve: dict[str, str]) -> None:
    source = mlflow_source(server_with_users().server.uri, username=ADMIN[0], password=ADMIN[1])
    identity = source.identify()
    assert (identity.name, identity.filtered) == (ADMIN[0], False)
    reading = read(source)
    assert eve["hidden_run"] in reading.assets(Kind.RUN)
    assert {heard.promise for heard in reading.heard} == {ScopeState.COMPLETE}
    source.close()


@pytest.mark.parametrize(("visibility", "filtered"), [("complete", False), ("filtered", True)])
def test_the_configuration_has_the_last_word_on_visibility(visibility: str, filtered: bool) -> None:
    source = mlflow_source(filled_server().server.uri, visibility=visibility)
    assert source.identify().filtered is filtered
    source.close()


@pytest.mark.parametrize("credentials", [{}, {"username": "eve", "password": "wrong"}])
def test_a_wrong_password_is_an_authentication_trouble(credentials: dict[str, Any]) -> None:
    with closing(mlflow_source(server_with_users().server.uri, **credentials)) as source:
        with pytest.raises(SourceError, match="status 401") as caught:
            source.identify()
        assert caught.value.trouble is Trouble.AUTHENTICATION


def test_a_token_given_to_the_basic_auth_app_is_told_what_to_do() -> None:
    with closing(mlflow_source(server_with_users().server.uri, token="x")) as source:
        with pytest.raises(SourceError) as caught:
            source.identify()
        assert "basic-auth" in caught.value.next_step


# MLflow workspaces


def test_one_mlflow_workspace_of_a_server_is_one_place(own: MlflowServer) -> None:
    httpx.post(f"{own.uri}{V3}/workspaces", json={"name": "team-a"}, trust_env=False).raise_for_status()
    content: Content = fill(own.uri, workspace="team-a")
    inside = sweep(own.uri, workspace="team-a")
    assert len(inside.assets(Kind.RUN)) == 6
    document = inside.assets(Kind.WORKSPACE)["server"].document
    assert set(document["workspaces"]) == {"default", "team-a"}
    assert inside.assets(Kind.EXPERIMENT)[content.experiment].document["workspace"] == "team-a"
    outside = sweep(own.uri)
    assert content.run not in outside.assets(Kind.RUN)
    assert content.experiment not in outside.assets(Kind.EXPERIMENT)
    source = mlflow_source(own.uri, workspace="no-such-place")
    with pytest.raises(SourceError, match="status 4"):
        source.identify()
    source.close()


def test_a_server_that_cannot_be_asked_for_prompts_has_none(proxy: RecordingProxy, swept: Reading) -> None:
    proxy.fault(r"filter=tags", status(400))
    reading = sweep(proxy.uri)
    for kind in (Kind.REGISTERED_MODEL, Kind.MODEL_VERSION):
        assert reading.only(kind).error is None
        assert reading.assets(kind).keys() == swept.assets(kind).keys()
    assert len(proxy.asked(r"filter=tags")) == 2


# Older servers: their missing endpoints, faked on the wire of a new one


def test_a_server_of_mlflow_2_offers_fewer_kinds(proxy: RecordingProxy, swept: Reading) -> None:
    unknown = status(404, {"content-type": "text/html"}, b"<title>404 Not Found</title>")
    for path in ("/api/3.0/", "logged-models", "/webhooks", "mlflow/users"):
        proxy.fault(path, unknown)
    old_trace = {"request_id": "tr-1", "experiment_id": "1", "timestamp_ms": 5, "execution_time_ms": 7, "status": "OK"}
    body = json.dumps({"traces": [old_trace]}).encode()
    proxy.fault(r"/api/2.0/mlflow/traces\?", status(200, {"content-type": "application/json"}, body))
    reading = sweep(proxy.uri)
    promises = {heard.scope.kind: heard.promise for heard in reading.heard}
    unsupported = {kind for kind, promise in promises.items() if promise is ScopeState.UNSUPPORTED}
    assert unsupported == {Kind.LOGGED_MODEL, Kind.WEBHOOK}
    assert reading.assets(Kind.TRACE).keys() == {"tr-1"}
    assert reading.assets(Kind.RUN).keys() == swept.assets(Kind.RUN).keys()
