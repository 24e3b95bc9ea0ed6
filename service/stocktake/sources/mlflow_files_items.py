"""Builds from the folders of an `mlruns` store the JSON that MLflow's REST API would send: one parser serves all.

What only the folder knows (when a run was deleted, where a version's bytes lie) travels beside the item. Raises
Malformed for what MLflow could not have written, OSError for what cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stocktake.core.assets import Kind
from stocktake.sources.mlflow_files_metrics import model_metrics, run_metrics
from stocktake.sources.mlflow_files_reading import Folder, Malformed, Remarks, read_map, read_values, scalar, whole
from stocktake.sources.mlflow_pages import encode
from stocktake.sources.protocol import Item

TRACE_META = "trace_info.yaml"
_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_MODEL_STATUS = {0: "UNSPECIFIED", 1: "PENDING", 2: "READY", 3: "UPLOAD_FAILED"}
#: The API shows no more than so many letters of the metadata and of the tags of a trace.
_SHOWN, _SHOWN_OF_TAG = 250, 4096
_BESIDE = b'{"aside":'


class Beside(msgspec.Struct):
    """An item, and what only this source can know."""

    aside: dict[str, Any]
    item: msgspec.Raw


def with_aside(item: Mapping[str, Any], aside: Mapping[str, Any]) -> bytes:
    """The raw bytes of an item; those that have something beside them begin so that `split_aside` sees it."""
    told = {name: value for name, value in aside.items() if value is not None}
    return _BESIDE + encode(told) + b',"item":' + encode(item) + b"}" if told else encode(item)


def split_aside(raw: bytes) -> tuple[bytes, Mapping[str, Any]]:
    """The item alone, and what is beside it."""
    if not raw.startswith(_BESIDE):
        return raw, {}
    found = msgspec.json.decode(raw, type=Beside)
    return bytes(found.item), found.aside


def meta_id(kind: Kind, meta: Mapping[str, Any]) -> str | None:
    """The id that a meta.yaml gives itself. Older versions of MLflow wrote run_uuid only."""
    names = {
        Kind.EXPERIMENT: ("experiment_id",),
        Kind.RUN: ("run_id", "run_uuid"),
        Kind.LOGGED_MODEL: ("model_id",),
        Kind.TRACE: ("trace_id", "request_id"),
        Kind.REGISTERED_MODEL: ("name",),
    }[kind]
    return next((found for name in names if (found := scalar(meta, name))), None)


def home_id(kind: Kind, meta: Mapping[str, Any]) -> str | None:
    """The experiment that a run, logged model or trace says it belongs to."""
    if kind is Kind.TRACE and isinstance(place := meta.get("trace_location"), dict):
        experiment = place.get("mlflow_experiment")
        return scalar(experiment, "experiment_id") if isinstance(experiment, dict) else None
    return scalar(meta, "experiment_id")


def experiment(folder: Folder, meta: Mapping[str, Any], remarks: Remarks, *, trash: bool) -> Item:
    """An experiment. One in .trash is deleted whatever it says: older versions of MLflow only moved the folder."""
    stage = _stage(meta)
    if trash and stage == "active":
        remarks.note("experiment in .trash that says it is active", folder.where)
    if not trash and stage == "deleted":
        remarks.note("experiment that says it is deleted, but does not lie in .trash", folder.where)
    if not scalar(meta, "name"):
        raise Malformed("has no name")
    key = _required(meta, "experiment_id")
    item = {
        "experiment_id": key,
        **_texts(meta, "name", "artifact_location"),
        **_numbers(meta, "creation_time", "last_update_time"),
        "lifecycle_stage": "deleted" if trash else stage,
        "tags": read_values(folder, "tags", remarks),
    }
    return Item(key, encode(item))


def run(folder: Folder, meta: Mapping[str, Any], home: Folder, remarks: Remarks) -> Item:
    """A run with its params, last metrics, tags, inputs and outputs. `home` is its experiment's folder."""
    key = meta_id(Kind.RUN, meta) or ""
    name = scalar(meta, "run_name") or scalar(meta, "name") or ""
    tags = read_values(folder, "tags", remarks)
    if not name:  # MLflow takes it from the tag where the run has none
        name = next((tag["value"] for tag in tags if tag["key"] == "mlflow.runName"), "")
    info = {
        "run_id": key,
        "run_uuid": key,
        "experiment_id": _required(meta, "experiment_id"),
        "run_name": name,
        **_texts(meta, "user_id", "artifact_uri"),
        **_numbers(meta, "start_time", "end_time"),
        "status": _status(meta),
        "lifecycle_stage": _stage(meta),
    }
    data = {"params": read_values(folder, "params", remarks), "tags": tags, "metrics": run_metrics(folder, remarks)}
    item = {"info": info, "data": data, "inputs": _inputs(folder, home, remarks), "outputs": _outputs(folder, remarks)}
    return Item(key, with_aside(item, {"deleted_time": whole(meta, "deleted_time")}))


def logged_model(folder: Folder, meta: Mapping[str, Any], _home: Folder, remarks: Remarks) -> Item:
    """A logged model; the folder still shows a deleted one."""
    key = meta_id(Kind.LOGGED_MODEL, meta) or ""
    status = meta.get("status")
    info = {
        "model_id": key,
        "experiment_id": _required(meta, "experiment_id"),
        **_texts(meta, "name", "model_type", "source_run_id", "status_message"),
        "artifact_uri": scalar(meta, "artifact_location") or "",
        "creation_timestamp_ms": whole(meta, "creation_timestamp"),
        "last_updated_timestamp_ms": whole(meta, "last_updated_timestamp"),
        "status": _MODEL_STATUS.get(status, status) if isinstance(status, int) else status,
        "tags": read_values(folder, "tags", remarks),
        "lifecycle_stage": _stage(meta),
    }
    data = {"params": read_values(folder, "params", remarks), "metrics": model_metrics(folder, key, remarks)}
    return Item(key, encode({"info": info, "data": data}))


def trace(folder: Folder, meta: Mapping[str, Any], _home: Folder, remarks: Remarks) -> Item:
    """A trace: what trace_info.yaml says, with its tags and metadata; MLflow 2 wrote other names."""
    key = meta_id(Kind.TRACE, meta) or ""
    item = {name: value for name, value in meta.items() if value is not None}
    lasted = item.pop("execution_duration_ms", None)
    item |= {"execution_duration": lasted} if lasted is not None else {}
    for name, field, longest in (("request_metadata", "trace_metadata", _SHOWN), ("tags", "tags", _SHOWN_OF_TAG)):
        values = {one["key"]: one["value"] for one in read_values(folder, name, remarks)}
        item[field] = {key[:_SHOWN]: value[:longest] for key, value in values.items()}
    try:
        return Item(key, encode(item))
    except (TypeError, ValueError) as exc:
        raise Malformed("holds a value that JSON has no word for") from exc


def registered_model(folder: Folder, meta: Mapping[str, Any], remarks: Remarks) -> Item:
    """A registered model with its aliases."""
    key = _required(meta, "name")
    item = {
        **_texts(meta, "name", "description", "deployment_job_id", "deployment_job_state"),
        **_numbers(meta, "creation_timestamp", "last_updated_timestamp"),
        "tags": read_values(folder, "tags", remarks),
        "aliases": [
            {"alias": one["key"], "version": one["value"].strip()} for one in read_values(folder, "aliases", remarks)
        ],
    }
    return Item(key, encode(item))


def model_version(folder: Folder, meta: Mapping[str, Any], aliases: Mapping[str, str], remarks: Remarks) -> Item:
    """A model version; a deleted one stays, with the stage Deleted_Internal. `aliases` are its model's."""
    version = whole(meta, "version")
    if version is None:
        raise Malformed("has no version")
    item = {
        "name": _required(meta, "name"),
        "version": str(version),
        **_texts(meta, "current_stage", "description", "source", "run_id", "run_link", "status", "status_message"),
        **_texts(meta, "user_id", "deployment_job_state"),
        **_numbers(meta, "creation_timestamp", "last_updated_timestamp"),
        "tags": read_values(folder, "tags", remarks),
        "aliases": sorted(alias for alias, number in aliases.items() if number == str(version)),
    }
    if model := scalar(meta, "model_id"):
        item["model_id"] = model
    key = f"{item['name']}/{version}"
    return Item(key, with_aside(item, {"storage_location": scalar(meta, "storage_location")}))


def read_aliases(folder: Folder, remarks: Remarks) -> dict[str, str]:
    """alias -> version of a registered model."""
    return {one["key"]: one["value"].strip() for one in read_values(folder, "aliases", remarks)}


def _inputs(run_folder: Folder, home: Folder, remarks: Remarks) -> dict[str, Any]:
    datasets, models = [], []
    for folder, meta in _below(run_folder, "inputs", remarks):
        source = _required(meta, "source_id")
        if meta.get("source_type") == "MODEL":
            models.append({"model_id": source})
        elif meta.get("source_type") == "DATASET":
            dataset = _dataset(home, source, folder.where, remarks)
            tags = meta.get("tags")
            pairs = tags.items() if isinstance(tags, dict) else ()
            told = [{"key": str(key), "value": str(value)} for key, value in pairs]
            datasets += [{"tags": told, "dataset": dataset}] if dataset is not None else []
    return ({"dataset_inputs": datasets} if datasets else {}) | ({"model_inputs": models} if models else {})


def _outputs(run_folder: Folder, remarks: Remarks) -> dict[str, Any]:
    models = []
    for _, meta in _below(run_folder, "outputs", remarks):
        if meta.get("destination_type") == "MODEL_OUTPUT":
            models.append({"model_id": _required(meta, "destination_id"), "step": whole(meta, "step") or 0})
    return {"model_outputs": models} if models else {}


def _below(parent: Folder, name: str, remarks: Remarks) -> list[tuple[Folder, dict[str, Any]]]:
    """The folders below one, each with its meta.yaml (they are closed again); one that is malformed is left out."""
    try:
        folder = parent.enter(name)
    except FileNotFoundError:
        return []
    found = []
    with folder:
        for one in folder.names():
            with folder.enter(one) as below:
                try:
                    found.append((below, read_map(below)))
                except (Malformed, FileNotFoundError):
                    remarks.note("input or output of a run without a usable meta.yaml", below.where)
    return found


def _dataset(home: Folder, source: str, where: str, remarks: Remarks) -> dict[str, Any] | None:
    if "/" not in source and source not in ("", ".", ".."):
        try:
            with home.enter("datasets") as datasets, datasets.enter(source) as folder:
                meta = read_map(folder)
                _required(meta, "name")
                return _texts(meta, "name", "digest", "source_type", "source", "schema", "profile")
        except (FileNotFoundError, Malformed):
            pass
    remarks.note("dataset of a run that is not there", where)
    return None


def _required(meta: Mapping[str, Any], name: str) -> str:
    value = scalar(meta, name)
    if not value:
        raise Malformed(f"has no {name}")
    return value


def _texts(meta: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := scalar(meta, name)) is not None}


def _numbers(meta: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := whole(meta, name)) is not None}


def _status(meta: Mapping[str, Any]) -> str:
    status = meta.get("status", 1)
    status = _STATUS.get(status, status) if isinstance(status, int) else status
    if status not in _STATUS.values():
        raise Malformed("has a status that MLflow does not know")
    return str(status)


def _stage(meta: Mapping[str, Any]) -> str:
    stage = meta.get("lifecycle_stage", "active")
    if stage not in ("active", "deleted"):
        raise Malformed("has a lifecycle_stage that is neither active nor deleted")
    return str(stage)


#: How an item of a kind that lies in an experiment is built, and where it lies there ("": beside the meta.yaml).
IN_EXPERIMENT: Mapping[Kind, tuple[str, str, Callable[[Folder, Mapping[str, Any], Folder, Remarks], Item]]] = {
    Kind.RUN: ("", "meta.yaml", run),
    Kind.LOGGED_MODEL: ("models", "meta.yaml", logged_model),
    Kind.TRACE: ("traces", TRACE_META, trace),
}
