"""Runs of MLflow: quickly where every field is one we know, leniently where not, with the same result. Pure.

A million runs are parsed in a first scan, so a run that is exactly as MLflow documents it is decoded straight into
types (a tenth of the work). Anything else, an unknown field, a number in quotes, a metric on a dataset, is taken by
`parse_run`, which knows all of it. A property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stocktake.core.assets import Asset, Kind, Lifecycle
from stocktake.core.canonical import params_digest
from stocktake.sources.mlflow_lifting import code_version, lifecycle, owner, timed
from stocktake.sources.mlflow_values import (
    as_object,
    child,
    digest,
    first,
    instant,
    integer,
    number,
    pairs,
    required_text,
    shape_error,
    text,
    without,
)

#: A dataset's schema longer than this is kept as its digest.
SCHEMA_LIMIT = 4096

_RUN_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


class _Pair(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    value: str = ""


class _Metric(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    value: float
    timestamp: int
    step: int = 0


class _Info(msgspec.Struct, forbid_unknown_fields=True):
    run_id: str
    experiment_id: str
    status: str
    lifecycle_stage: str
    run_uuid: str | msgspec.UnsetType = msgspec.UNSET
    run_name: str | msgspec.UnsetType = msgspec.UNSET
    user_id: str | msgspec.UnsetType = msgspec.UNSET
    artifact_uri: str | msgspec.UnsetType = msgspec.UNSET
    start_time: int | msgspec.UnsetType = msgspec.UNSET
    end_time: int | msgspec.UnsetType = msgspec.UNSET


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    metrics: list[_Metric] = []
    params: list[_Pair] = []
    tags: list[_Pair] = []


class _Run(msgspec.Struct, forbid_unknown_fields=True):
    info: _Info
    data: _Data
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}


_decode = msgspec.json.Decoder(_Run).decode


def quick_run(raw: bytes, owner_tags: Sequence[str] = ()) -> Asset | None:
    """Parse a run of exactly the documented shape; None for any other, which says nothing about it."""
    try:
        run = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    info, data = run.info, run.data
    stage = info.lifecycle_stage
    if not info.run_id or not info.experiment_id or stage not in ("active", "deleted"):
        return None
    if info.run_uuid and info.run_uuid != info.run_id:
        return None
    metrics = {
        one.key: {"value": one.value, "timestamp": one.timestamp, "step": one.step} for one in data.metrics if one.key
    }
    if len(metrics) != len(data.metrics):
        return None  # one metric twice, or without a name
    params, tags = {one.key: one.value for one in data.params}, {one.key: one.value for one in data.tags}
    inputs, taken = parse_inputs(run.inputs) if run.inputs else ({}, {})
    outputs, made = parse_outputs(run.outputs) if run.outputs else ({}, {})
    kept: dict[str, Any] = msgspec.to_builtins(info)
    kept.pop("run_id")
    kept.pop("run_uuid", None)
    document: dict[str, Any] = {"info": kept, "params": params, "tags": tags, "metrics": metrics}
    if inputs:
        document["inputs"] = inputs
    if outputs:
        document["outputs"] = outputs
    started, ended = instant(kept.get("start_time")), instant(kept.get("end_time"))
    return Asset(
        kind=Kind.RUN,
        key=info.run_id,
        partition=info.experiment_id,
        document=document,
        aside=_models(taken, made) if taken or made else {},
        name=kept.get("run_name") or tags.get("mlflow.runName") or None,
        state=info.status,
        lifecycle=Lifecycle.ACTIVE if stage == "active" else Lifecycle.DELETED,
        owner=owner(owner_tags, tags, kept.get("user_id")),
        parent=tags.get("mlflow.parentRunId") or None,
        created_at=started,
        started_at=started,
        ended_at=ended,
        artifact_uri=kept.get("artifact_uri") or None,
        code_version=code_version(tags),
        data_version=", ".join(sorted(inputs.get("datasets", {}))) or None,
        params_digest=params_digest(params),
    )


def parse_run(run: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A run with its params, last metrics, tags, inputs and outputs."""
    info, data = as_object(run.get("info"), "run.info"), child(run, "data", "run")
    key = text(info.get("run_uuid")) or required_text(info, "run_id", "run.info")
    experiment = required_text(info, "experiment_id", "run.info")
    params, tags = pairs(data.get("params"), "run.data.params"), pairs(data.get("tags"), "run.data.tags")
    started = integer(info.get("start_time"), "run.info.start_time")
    ended = integer(info.get("end_time"), "run.info.end_time")
    status = _RUN_STATUS.get(info.get("status"), info.get("status"))  # type: ignore[arg-type]
    kept = timed(without(info, frozenset({"run_id", "run_uuid"})), start_time=started, end_time=ended)
    kept |= {"experiment_id": experiment, "lifecycle_stage": info.get("lifecycle_stage") or "active", "status": status}
    inputs, taken = parse_inputs(child(run, "inputs", "run"))
    outputs, made = parse_outputs(child(run, "outputs", "run"))
    document = without(run, frozenset({"info", "data", "inputs", "outputs"}))
    if extra := without(data, frozenset({"params", "metrics", "tags"})):
        document["data"] = extra
    document |= {"info": kept, "params": params, "tags": tags, "metrics": parse_metrics(data.get("metrics"), "run")}
    document |= ({"inputs": inputs} if inputs else {}) | ({"outputs": outputs} if outputs else {})
    return Asset(
        kind=Kind.RUN,
        key=key,
        partition=experiment,
        document=document,
        aside=_models(taken, made) if taken or made else {},
        name=first((text(info.get("run_name")), tags.get("mlflow.runName"))),
        state=text(status),
        lifecycle=lifecycle(kept["lifecycle_stage"]),
        owner=owner(owner_tags, tags, info.get("user_id")),
        parent=tags.get("mlflow.parentRunId") or None,
        created_at=instant(started),
        started_at=instant(started),
        ended_at=instant(ended),
        artifact_uri=text(info.get("artifact_uri")) or None,
        code_version=code_version(tags),
        data_version=", ".join(sorted(inputs.get("datasets", {}))) or None,
        params_digest=params_digest(params),
    )


def parse_metrics(value: Any, what: str) -> dict[str, dict[str, Any]]:
    """The last value of each metric. A logged model's metric on a dataset is named "accuracy on name@digest"."""
    if value is not None and not isinstance(value, list):
        raise shape_error(f"{what}.data.metrics is not a list")
    result: dict[str, dict[str, Any]] = {}
    for item in value or ():
        metric = as_object(item, f"{what}.data.metrics[]")
        name = required_text(metric, "key", f"{what}.data.metrics[]")
        if metric.get("dataset_name"):
            name = f"{name} on {metric['dataset_name']}@{metric.get('dataset_digest') or ''}"
        entry = without(metric, frozenset({"key"})) | {
            "value": number(metric.get("value"), f"the value of a metric of a {what}"),
            "timestamp": integer(metric.get("timestamp"), "metric.timestamp") or 0,
            "step": integer(metric.get("step"), "metric.step") or 0,
        }
        if name not in result or _later(entry, result[name]):
            result[name] = entry
    return result


def parse_inputs(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Datasets keyed "name@digest"; and apart, keyed by id, the models that the run took.

    runs/search leaves those out where runs/get has them (tried on MLflow 3.1 and 3.17): in the document they
    would come and go with the way of asking.
    """
    datasets: dict[str, Any] = {}
    for item in inputs.get("dataset_inputs") or ():
        dataset = as_object(as_object(item, "dataset_input").get("dataset"), "dataset_input.dataset")
        name = f"{required_text(dataset, 'name', 'dataset')}@{text(dataset.get('digest')) or ''}"
        entry = without(dataset, frozenset({"name", "digest"})) | {"tags": pairs(item.get("tags"), "dataset.tags")}
        schema = entry.get("schema")
        if isinstance(schema, str) and len(schema) > SCHEMA_LIMIT:
            del entry["schema"]
            entry["schema_digest"] = digest(schema)
        copies = sum(1 for known in datasets if known == name or known.startswith(f"{name}#"))
        datasets[f"{name}#{copies + 1}" if copies else name] = entry
    models = {
        required_text(item, "model_id", "model_input"): without(item, frozenset({"model_id"}))
        for item in inputs.get("model_inputs") or ()
    }
    known = without(inputs, frozenset({"dataset_inputs", "model_inputs"}))
    return known | ({"datasets": datasets} if datasets else {}), models


def parse_outputs(outputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What else a run put out; and apart, keyed by id, the logged models that it made: runs/search of MLflow 3.1
    leaves them out where runs/get and later versions have them. A logged model names its run itself."""
    models = {
        required_text(item, "model_id", "model_output"): without(item, frozenset({"model_id"}))
        | {"step": integer(item.get("step"), "model_output.step") or 0}
        for item in outputs.get("model_outputs") or ()
    }
    return without(outputs, frozenset({"model_outputs"})), models


def _models(taken: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    return ({"model_inputs": taken} if taken else {}) | ({"model_outputs": made} if made else {})


def _later(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Of two values of one metric the later one; the order in which a server sends them says nothing."""
    order = ("timestamp", "step")
    mine, theirs = ([item[name] for name in order] + [digest(item)] for item in (entry, other))
    return mine > theirs
