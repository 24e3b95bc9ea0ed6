"""JSON of MLflow into assets: what is kept, what is left out, what is refused."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktake.core import canonical
from stocktake.core.assets import Asset, Kind, Lifecycle
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.mlflow_documents import parse
from stocktake.sources.mlflow_values import decode, number


def make_run(info: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    base = {"run_id": "r1", "run_uuid": "r1", "experiment_id": "7", "status": "FINISHED", "lifecycle_stage": "active"}
    return {"info": base | (info or {}), "data": data or {}, **more}


def parsed(kind: Kind, document: Any, **options: Any) -> Asset:
    return parse(kind, json.dumps(document).encode(), **options)


def tags(**values: str) -> list[dict[str, str]]:
    return [{"key": key.replace("__", "."), "value": value} for key, value in values.items()]


def test_a_run_is_maps_by_name_without_what_repeats_its_key() -> None:
    data = {
        "params": [{"key": "lr", "value": "0.1"}],
        "metrics": [{"key": "acc", "value": 0.5, "timestamp": 12, "step": 3}],
        "tags": tags(mlflow__user="ada"),
    }
    asset = parsed(Kind.RUN, make_run({"start_time": 1000, "end_time": "2000", "artifact_uri": "s3://b/1"}, data))
    assert asset.document == {
        "info": {
            "experiment_id": "7",
            "status": "FINISHED",
            "lifecycle_stage": "active",
            "start_time": 1000,
            "end_time": 2000,
            "artifact_uri": "s3://b/1",
        },
        "params": {"lr": "0.1"},
        "metrics": {"acc": {"value": 0.5, "timestamp": 12, "step": 3}},
        "tags": {"mlflow.user": "ada"},
    }
    assert (asset.key, asset.partition, asset.state, asset.owner) == ("r1", "7", "FINISHED", "ada")
    assert asset.ended_at is not None
    assert asset.ended_at.timestamp() == 2.0


def test_the_same_run_of_an_older_or_an_odder_server_is_the_same_document() -> None:
    data = {"metrics": [{"key": "acc", "value": "0.5", "timestamp": "12", "step": "3"}], "params": {"lr": 1}}
    info = {"experiment_id": 7, "status": 3, "start_time": "1000", "lifecycle_stage": None}
    plain = {"metrics": [{"key": "acc", "value": 0.5, "timestamp": 12, "step": 3}], "params": {"lr": "1"}}
    odd = parsed(Kind.RUN, make_run(info, data, inputs={}, outputs={}))
    assert odd.document == parsed(Kind.RUN, make_run({"start_time": 1000}, plain)).document


def test_fields_that_stocktake_does_not_know_are_kept() -> None:
    run = make_run({"new_in_4": {"a": [1]}}, {"new_too": 1}, news="yes")
    document = parsed(Kind.RUN, run).document
    assert document["info"]["new_in_4"] == {"a": [1]}
    assert document["data"] == {"new_too": 1}
    assert document["news"] == "yes"


def test_what_is_lifted_out_of_tags() -> None:
    lifted = tags(mlflow__parentRunId="p", mlflow__source__git__commit="c0ffee", team="vision", mlflow__user="ada")
    asset = parsed(Kind.RUN, make_run(data={"tags": lifted}), owner_tags=("owner", "team"))
    assert (asset.owner, asset.parent, asset.code_version) == ("vision", "p", "c0ffee")
    notebook = tags(
        mlflow__source__name="/n", mlflow__source__git__commit="", mlflow__databricks__notebookRevisionID="9"
    )
    asset = parsed(Kind.RUN, make_run({"user_id": "bob"}, {"tags": notebook}))
    assert (asset.owner, asset.parent, asset.code_version) == ("bob", None, "/n@9")


def test_datasets_are_keyed_by_name_and_digest() -> None:
    def dataset(name: str, schema: str = "{}") -> dict[str, Any]:
        described = {"name": name, "digest": "d", "source": "s", "source_type": "local", "schema": schema}
        return {"dataset": described, "tags": tags(mlflow__data__context="training")}

    inputs = {"dataset_inputs": [dataset("b"), dataset("a", "x" * 5000), dataset("b")]}
    asset = parsed(Kind.RUN, make_run(inputs=inputs, outputs={"model_outputs": [{"model_id": "m-1", "step": "4"}]}))
    datasets = asset.document["inputs"]["datasets"]
    assert list(datasets) == ["b@d", "a@d", "b@d#2"]
    assert datasets["b@d"]["tags"] == {"mlflow.data.context": "training"}
    assert len(datasets["a@d"]["schema_digest"]) == 64
    assert "schema" not in datasets["a@d"]
    assert asset.data_version == "a@d, b@d, b@d#2"
    assert asset.aside == {"model_outputs": {"m-1": {"step": 4}}}


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("NaN", "NaN"),
        ('"NaN"', "NaN"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
        ('"-Infinity"', "-Infinity"),
        ("1e999", "Infinity"),
        ("-1e999", "-Infinity"),
        ("1" + "0" * 400, "Infinity"),
        ("1", 1.0),
        ('"2.5"', 2.5),
        ("1.7976931348623157e308", 1.7976931348623157e308),
    ],
)
def test_every_way_to_write_a_metric(token: str, expected: float | str) -> None:
    run = json.dumps(make_run(data={"metrics": [{"key": "m", "value": "@", "timestamp": 1, "step": 0}]}))
    asset = parse(Kind.RUN, run.replace('"@"', token).encode())
    assert asset.document["metrics"]["m"]["value"] == expected
    assert canonical.decode(canonical.encode(asset.document)) == asset.document


def test_text_that_utf8_or_postgres_cannot_hold_is_carried() -> None:
    raw = b'{"info":{"run_id":"r","experiment_id":"1"},"data":{"params":[{"key":"k","value":"a\\ud800b\\u0000c"}]}}'
    document = parse(Kind.RUN, raw).document
    assert document["params"] == {"k": "a\ud800b\0c"}
    assert canonical.decode(canonical.encode(document)) == document


def test_of_two_values_of_one_metric_the_later_counts_in_either_order() -> None:
    values = [{"key": "m", "value": v, "timestamp": t, "step": s} for v, t, s in ((1, 5, 0), (2, 6, 0), (3, 6, 1))]
    for metrics in (values, values[::-1]):
        asset = parsed(Kind.RUN, make_run(data={"metrics": metrics}))
        assert asset.document["metrics"]["m"]["value"] == 3.0


def test_an_experiment_leaves_out_what_moves_by_itself() -> None:
    experiment = {"experiment_id": "1", "name": "a", "last_update_time": 9, "creation_time": 5, "workspace": "default"}
    asset = parsed(Kind.EXPERIMENT, experiment | {"lifecycle_stage": "deleted"})
    assert asset.document == {"name": "a", "tags": {}, "lifecycle_stage": "deleted", "creation_time": 5}
    assert asset.lifecycle is Lifecycle.DELETED
    assert parsed(Kind.EXPERIMENT, experiment | {"workspace": "team-a"}).document["workspace"] == "team-a"


def test_a_registered_model_made_again_differs_in_its_creation_time_alone() -> None:
    model = {"name": "m", "aliases": [{"alias": "champ", "version": 2}], "latest_versions": [{"version": "2"}]}
    before, after = (parsed(Kind.REGISTERED_MODEL, model | {"creation_timestamp": t}).document for t in (1, 2))
    assert before["aliases"] == {"champ": "2"}
    assert "latest_versions" not in before
    assert {**before, "creation_timestamp": 2} == after


def test_a_tombstone_of_a_model_version_is_deleted() -> None:
    version = {"name": "m", "version": 3, "current_stage": "Deleted_Internal", "run_id": "", "aliases": ["b", "a"]}
    asset = parsed(Kind.MODEL_VERSION, version)
    assert (asset.key, asset.parent, asset.run, asset.lifecycle) == ("m/3", "m", None, Lifecycle.DELETED)
    assert asset.document["aliases"] == ["a", "b"]


def test_a_logged_model_names_its_metrics_by_dataset() -> None:
    metric = {"key": "acc", "value": 1, "timestamp": 1, "step": 0, "dataset_name": "iris", "dataset_digest": "d"}
    info = {"model_id": "m-1", "experiment_id": "1", "status": "LOGGED_MODEL_READY", "last_updated_timestamp_ms": 5}
    asset = parsed(Kind.LOGGED_MODEL, {"info": info, "data": {"metrics": [metric, metric | {"dataset_name": ""}]}})
    assert set(asset.document["metrics"]) == {"acc on iris@d", "acc"}
    assert (asset.state, asset.document["lifecycle_stage"]) == ("READY", "active")
    assert "last_updated_timestamp_ms" not in asset.document["info"]


def test_a_trace_says_nothing_of_what_was_asked_and_answered() -> None:
    asked = {"request_preview": "SECRET", "response_preview": "SECRET", "request": "SECRET", "response": "SECRET"}
    metadata = {"mlflow.traceInputs": "SECRET", "mlflow.traceOutputs": "SECRET", "mlflow.sourceRun": "r1"}
    new = {
        "trace_id": "tr-1",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "1"}},
        "request_time": "2026-01-02T03:04:05.678901234Z",
        "execution_duration": "1.5s",
        "state": "OK",
        "trace_metadata": metadata,
        "assessments": [{"rationale": "SECRET"}],
        **asked,
    }
    old = {
        "request_id": "tr-1",
        "experiment_id": "1",
        "timestamp_ms": 1767323045678,
        "execution_time_ms": 1500,
        "status": "OK",
        "request_metadata": [{"key": key, "value": value} for key, value in metadata.items()],
    }
    asset = parsed(Kind.TRACE, new)
    assert "SECRET" not in repr(asset)
    assert asset == parsed(Kind.TRACE, old)
    assert (asset.run, asset.partition, asset.document["execution_duration"]) == ("r1", "1", 1500)


@pytest.mark.parametrize("status", ["IN_PROGRESS", "OK"])
def test_a_trace_that_has_not_ended_has_no_duration(status: str) -> None:
    """MLflow 2.22 and 3.1 say 0 of it, later ones nothing."""
    info = {"request_id": "t", "experiment_id": "1", "timestamp_ms": 5, "execution_time_ms": 0, "status": status}
    trace = parsed(Kind.TRACE, info)
    assert (trace.ended_at is None) is ("execution_duration" not in trace.document) is (status == "IN_PROGRESS")


def test_models_that_a_run_took_stand_beside_its_document() -> None:
    """A search of runs leaves them out: in the document they would look like an edit."""
    plain, taken = make_run(inputs={}), make_run(inputs={"model_inputs": [{"model_id": "m-1"}]})
    assert parsed(Kind.RUN, taken).document == parsed(Kind.RUN, plain).document
    assert parsed(Kind.RUN, taken).aside == {"model_inputs": {"m-1": {}}}
    assert parsed(Kind.RUN, plain).aside == {}


def test_what_was_put_in_place_of_a_deleted_versions_origin_is_not_lifted() -> None:
    words = {"source": "REDACTED-SOURCE-PATH", "run_id": "REDACTED-RUN-ID", "current_stage": "Deleted_Internal"}
    version = parsed(Kind.MODEL_VERSION, {"name": "m", "version": "1"} | words)
    assert (version.lifecycle, version.run, version.artifact_uri) == (Lifecycle.DELETED, None, None)


def test_the_events_of_a_webhook_are_a_set() -> None:
    events = [{"entity": "RUN", "action": "CREATED"}, {"entity": "MODEL_VERSION", "action": "CREATED"}]
    one, other = (parsed(Kind.WEBHOOK, {"webhook_id": "w", "events": order}) for order in (events, events[::-1]))
    assert one.document == other.document


def test_a_webhook_keeps_no_secret_and_shows_that_its_url_changed() -> None:
    hook = {"webhook_id": "w", "name": "n", "secret": "SECRET", "url": "https://u:SECRET@h:8/SECRET?t=SECRET"}
    asset = parsed(Kind.WEBHOOK, hook)
    assert "SECRET" not in repr(asset)
    assert asset.document["url"] == "https://h:8"
    other = parsed(Kind.WEBHOOK, hook | {"url": "https://h:8/other"})
    assert asset.document["url_digest"] != other.document["url_digest"]


@pytest.mark.parametrize(
    ("kind", "document", "words"),
    [
        (Kind.RUN, {}, "run.info is not a JSON object"),
        (Kind.RUN, {"info": {"run_id": "r"}}, "run.info without experiment_id"),
        (Kind.RUN, {"info": {"experiment_id": "1"}}, "run.info without run_id"),
        (Kind.RUN, make_run({"lifecycle_stage": "gone"}), "lifecycle_stage is neither active nor deleted"),
        (Kind.RUN, make_run({"start_time": "soon"}), "run.info.start_time is not a whole number"),
        (Kind.RUN, make_run({"status": {"a": 1}}), "run of an unknown structure"),
        (Kind.RUN, make_run(data={"params": [{"value": "x"}]}), "run.data.params[] without key"),
        (Kind.RUN, make_run(data={"metrics": [{"key": "SECRET"}]}), "the value of a metric of a run is not a number"),
        (Kind.RUN, make_run(data={"metrics": {"m": 1}}), "run.data.metrics is not a list"),
        (Kind.RUN, [1], "run is not a JSON object"),
        (Kind.EXPERIMENT, {"experiment_id": "1"}, "experiment without name"),
        (Kind.EXPERIMENT, {"name": "x"}, "experiment without experiment_id"),
        (Kind.MODEL_VERSION, {"name": "m"}, "model_version without version"),
        (Kind.REGISTERED_MODEL, {"aliases": 1}, "registered_model without name"),
        (Kind.LOGGED_MODEL, {"info": {"experiment_id": "1"}}, "logged_model.info without model_id"),
        (Kind.TRACE, {"request_time": "2026-13-45T00:00:00Z", "trace_id": "t"}, "trace.request_time is not a time"),
        (Kind.TRACE, {}, "trace without request_id"),
        (Kind.WEBHOOK, {}, "webhook without webhook_id"),
        (Kind.WEBHOOK, {"webhook_id": "w", "url": "http://[bad"}, "webhook of an unknown structure"),
    ],
)
def test_what_is_missing_or_wrong_is_named_without_its_value(kind: Kind, document: Any, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        parsed(kind, document)
    assert caught.value.trouble is Trouble.SHAPE
    assert words in caught.value.what
    assert "SECRET" not in str(caught.value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(kind=st.sampled_from(list(Kind)), document=_JSON)
def test_anything_is_an_asset_or_a_shape_error(kind: Kind, document: Any) -> None:
    with suppress(SourceError):
        asset = parsed(kind, document)
        assert asset.kind is kind
        canonical.encode(asset.document)


_FIELDS = ["experiment_id", "run_id", "name", "version", "status", "tags", "params", "metrics", "aliases", "start_time"]
_FIELDS += ["user_id", "inputs", "key", "value", "lifecycle_stage", "trace_metadata", "model_id", "run_name"]


@settings(deadline=None)
@given(
    kind=st.sampled_from(list(Kind)),
    info=st.dictionaries(st.sampled_from(_FIELDS), _JSON),
    data=st.dictionaries(st.sampled_from(_FIELDS), _JSON),
    outer=st.dictionaries(st.sampled_from(_FIELDS), _JSON),
)
def test_a_damaged_item_is_an_asset_or_a_shape_error(
    kind: Kind, info: dict[str, Any], data: dict[str, Any], outer: dict[str, Any]
) -> None:
    known = {"run_id": "r", "experiment_id": "1", "model_id": "m", "name": "n", "version": "1", "webhook_id": "w"}
    document = {**known, "trace_id": "t", **outer, "info": known | info, "data": data}
    with suppress(SourceError):
        canonical.encode(parsed(kind, document).document)


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(min_size=1), st.floats()), st.randoms())
def test_the_order_in_which_a_server_lists_things_does_not_matter(
    params: dict[str, str], metrics: dict[str, float], random: Any
) -> None:
    data: dict[str, list[Any]] = {
        "params": [{"key": key, "value": value} for key, value in params.items()],
        "metrics": [{"key": k, "value": v, "timestamp": 1, "step": 2} for k, v in metrics.items()],
    }
    before = parsed(Kind.RUN, make_run(data=data))
    for values in data.values():
        random.shuffle(values)
    after = parsed(Kind.RUN, make_run(data=data))
    assert canonical.encode(before.document) == canonical.encode(after.document)
    assert before.params_digest == after.params_digest


@settings(deadline=None)
@given(st.floats())
def test_a_float_survives_the_wire(value: float) -> None:
    (read,) = decode(json.dumps([value]).encode())
    result = number(read, "m")
    if math.isfinite(value):
        assert result == value
    else:
        assert result == ("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
