"""Turns one JSON object of MLflow into one Asset. Pure, and shared by every source that reads MLflow.

A document holds what is compared: lists of pairs become maps, ids that only repeat the key go, and so do the fields
that move by themselves (VOLATILE) and what belongs to users rather than to the inventory (requests and responses of
traces, their assessments, secrets of webhooks). Fields that stocktake does not know are kept as they came.

A registered model has only a name. Its key is that name, because people type it; a model that was deleted and made
again shows as a changed `creation_timestamp`, a field of the category identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from stocktake.core.assets import Asset, Kind, Lifecycle
from stocktake.core.errors import SourceError
from stocktake.sources.mlflow_values import (
    as_object,
    child,
    decode,
    digest,
    duration,
    first,
    instant,
    integer,
    milliseconds,
    number,
    pairs,
    required_text,
    shape_error,
    text,
    without,
)

#: Fields that move without anybody deciding anything, by kind; they are left out of the document.
VOLATILE: Mapping[Kind, frozenset[str]] = {
    Kind.EXPERIMENT: frozenset({"last_update_time"}),
    Kind.REGISTERED_MODEL: frozenset({"last_updated_timestamp", "latest_versions"}),
    Kind.MODEL_VERSION: frozenset({"last_updated_timestamp"}),
    Kind.LOGGED_MODEL: frozenset({"last_updated_timestamp_ms"}),
    Kind.WEBHOOK: frozenset({"last_updated_timestamp"}),
}

#: A dataset's schema longer than this is kept as its digest.
SCHEMA_LIMIT = 4096

_RUN_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_MODEL_STATUS = {0: "UNSPECIFIED", 1: "PENDING", 2: "READY", 3: "UPLOAD_FAILED"}
_USER_CONTENT = frozenset({"mlflow.traceInputs", "mlflow.traceOutputs"})
_REVISIONS = ("mlflow.databricks.notebookRevisionID", "mlflow.databricks.gitRepoCommit", "azureml.git.commit")


def parse(kind: Kind, raw: bytes, *, owner_tags: Sequence[str] = ()) -> Asset:
    """Parse one raw item of a kind. Raises SourceError(SHAPE) naming the field that is missing or wrong."""
    document = as_object(decode(raw), str(kind))
    try:
        return _PARSERS[kind](document, owner_tags)
    except SourceError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        raise shape_error(f"{kind} of an unknown structure ({type(exc).__name__})") from exc


def parse_workspace(server: Mapping[str, Any], _owner_tags: Sequence[str] = ()) -> Asset:
    """The server itself, as the source put its facts together."""
    return Asset(kind=Kind.WORKSPACE, key="server", document=dict(server), name=text(server.get("uri")))


def parse_experiment(experiment: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """An experiment; one that is deleted can still be read."""
    key = required_text(experiment, "experiment_id", "experiment")
    tags = pairs(experiment.get("tags"), "experiment.tags")
    created = integer(experiment.get("creation_time"), "experiment.creation_time")
    document = without(experiment, VOLATILE[Kind.EXPERIMENT] | {"experiment_id"})
    document |= {"name": required_text(experiment, "name", "experiment"), "tags": tags}
    document |= {"lifecycle_stage": experiment.get("lifecycle_stage") or "active"}
    if document.get("workspace") == "default":
        del document["workspace"]  # servers before 3.10 do not have the word
    return Asset(
        kind=Kind.EXPERIMENT,
        key=key,
        document=_timed(document, creation_time=created),
        name=document["name"],
        lifecycle=_lifecycle(document["lifecycle_stage"]),
        owner=_owner(owner_tags, tags),
        created_at=instant(created),
        artifact_uri=text(experiment.get("artifact_location")),
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
    kept = _timed(without(info, frozenset({"run_id", "run_uuid"})), start_time=started, end_time=ended)
    kept |= {"experiment_id": experiment, "lifecycle_stage": info.get("lifecycle_stage") or "active", "status": status}
    inputs, outputs = parse_inputs(child(run, "inputs", "run")), parse_outputs(child(run, "outputs", "run"))
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
        name=first((text(info.get("run_name")), tags.get("mlflow.runName"))),
        state=text(status),
        lifecycle=_lifecycle(kept["lifecycle_stage"]),
        owner=_owner(owner_tags, tags, info.get("user_id")),
        parent=tags.get("mlflow.parentRunId") or None,
        created_at=instant(started),
        started_at=instant(started),
        ended_at=instant(ended),
        artifact_uri=text(info.get("artifact_uri")) or None,
        code_version=_code_version(tags),
        data_version=", ".join(sorted(inputs.get("datasets", {}))) or None,
        params_digest=digest(params),
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


def parse_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Datasets keyed "name@digest" and model inputs keyed by id."""
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
    return known | ({"datasets": datasets} if datasets else {}) | ({"models": models} if models else {})


def parse_outputs(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Logged models that the run made, keyed by id."""
    models = {
        required_text(item, "model_id", "model_output"): without(item, frozenset({"model_id"}))
        | {"step": integer(item.get("step"), "model_output.step") or 0}
        for item in outputs.get("model_outputs") or ()
    }
    return without(outputs, frozenset({"model_outputs"})) | ({"models": models} if models else {})


def parse_registered_model(model: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A registered model; its aliases say which version is which."""
    name = required_text(model, "name", "registered_model")
    tags = pairs(model.get("tags"), "registered_model.tags")
    created = integer(model.get("creation_timestamp"), "registered_model.creation_timestamp")
    document = without(model, VOLATILE[Kind.REGISTERED_MODEL])
    document |= {"tags": tags, "aliases": parse_aliases(model), "description": text(model.get("description")) or ""}
    return Asset(
        kind=Kind.REGISTERED_MODEL,
        key=name,
        document=_timed(document, creation_timestamp=created),
        name=name,
        owner=_owner(owner_tags, tags, model.get("user_id")),
        created_at=instant(created),
    )


def parse_aliases(model: Mapping[str, Any]) -> dict[str, str]:
    """alias -> version of one registered model, as search or get shows it."""
    aliases = model.get("aliases") or ()
    if isinstance(aliases, dict):
        return {str(alias): str(version) for alias, version in aliases.items()}
    return {
        required_text(as_object(item, "alias"), "alias", "registered_model.aliases[]"): required_text(
            item, "version", "registered_model.aliases[]"
        )
        for item in aliases
    }


def parse_model_version(version: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A model version. Deleting one leaves a tombstone in the database, which REST does not show."""
    name, number_ = (required_text(version, field, "model_version") for field in ("name", "version"))
    tags = pairs(version.get("tags"), "model_version.tags")
    created = integer(version.get("creation_timestamp"), "model_version.creation_timestamp")
    stage = text(version.get("current_stage")) or "None"
    document = without(version, VOLATILE[Kind.MODEL_VERSION] | {"current_stage"})
    aliases = version.get("aliases") or []
    if not isinstance(aliases, list):
        raise shape_error("model_version.aliases is not a list")
    document |= {"version": number_, "stage": stage, "tags": tags, "aliases": sorted(map(str, aliases))}
    document |= {"description": text(version.get("description")) or ""}
    return Asset(
        kind=Kind.MODEL_VERSION,
        key=f"{name}/{number_}",
        document=_timed(document, creation_timestamp=created),
        name=f"{name}/{number_}",
        state=stage,
        lifecycle=Lifecycle.DELETED if stage == "Deleted_Internal" else Lifecycle.ACTIVE,
        owner=_owner(owner_tags, tags, version.get("user_id")),
        parent=name,
        run=text(version.get("run_id")) or None,
        created_at=instant(created),
        artifact_uri=text(version.get("source")) or None,
    )


def parse_logged_model(model: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A logged model of MLflow 3. REST shows no deleted ones; a source that sees them sets info.lifecycle_stage."""
    info, data = as_object(model.get("info"), "logged_model.info"), child(model, "data", "logged_model")
    key = required_text(info, "model_id", "logged_model.info")
    experiment = required_text(info, "experiment_id", "logged_model.info")
    tags = pairs(info.get("tags"), "logged_model.info.tags")
    params = pairs(data.get("params"), "logged_model.data.params")
    created = integer(info.get("creation_timestamp_ms"), "logged_model.info.creation_timestamp_ms")
    status = info.get("status")
    status = _MODEL_STATUS.get(status, status) if isinstance(status, int) else text(status)
    status = str(status).removeprefix("LOGGED_MODEL_") if status is not None else None
    stage = text(info.get("lifecycle_stage")) or "active"
    kept = without(info, VOLATILE[Kind.LOGGED_MODEL] | {"model_id", "tags", "lifecycle_stage"})
    kept |= {"experiment_id": experiment, "status": status}
    document = without(model, frozenset({"info", "data"}))
    if extra := without(data, frozenset({"params", "metrics"})):
        document["data"] = extra
    document |= {"info": _timed(kept, creation_timestamp_ms=created), "params": params, "tags": tags}
    document |= {"lifecycle_stage": stage, "metrics": parse_metrics(data.get("metrics"), "logged_model")}
    return Asset(
        kind=Kind.LOGGED_MODEL,
        key=key,
        partition=experiment,
        document=document,
        name=text(info.get("name")),
        state=status,
        lifecycle=_lifecycle(stage),
        owner=_owner(owner_tags, tags, info.get("creator_id")),
        run=text(info.get("source_run_id")) or None,
        created_at=instant(created),
        artifact_uri=text(info.get("artifact_uri")) or None,
        code_version=_code_version(tags),
        params_digest=digest(params),
    )


def parse_trace(trace: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """Metadata of a trace, from the shape of MLflow 3 or of MLflow 2: its times are milliseconds in both.

    What a user asked and what was answered (previews, mlflow.traceInputs and mlflow.traceOutputs, assessments)
    is left out: it is their data, not inventory.
    """
    key = text(trace.get("trace_id")) or required_text(trace, "request_id", "trace")
    location = child(trace, "trace_location", "trace")
    experiment = text(child(location, "mlflow_experiment", "trace").get("experiment_id")) or text(
        trace.get("experiment_id")
    )
    tags = pairs(trace.get("tags"), "trace.tags")
    metadata = pairs(trace.get("trace_metadata", trace.get("request_metadata")), "trace.trace_metadata")
    started = milliseconds(trace.get("request_time", trace.get("timestamp_ms")), "trace.request_time")
    lasted = duration(trace.get("execution_duration", trace.get("execution_time_ms")), "trace.execution_duration")
    state = text(trace.get("state", trace.get("status")))
    document = without(trace, _TRACE_FIELDS)
    document |= {"state": state, "tags": tags, "trace_metadata": without(metadata, _USER_CONTENT)}
    document |= {"experiment_id": experiment} if experiment else {"trace_location": location}
    source = metadata | tags
    return Asset(
        kind=Kind.TRACE,
        key=key,
        partition=experiment or "",
        document=_timed(document, request_time=started, execution_duration=lasted),
        name=tags.get("mlflow.traceName") or None,
        state=state,
        owner=_owner(owner_tags, source),
        run=metadata.get("mlflow.sourceRun") or None,
        created_at=instant(started),
        started_at=instant(started),
        ended_at=instant(started + lasted) if started is not None and lasted is not None else None,
        artifact_uri=tags.get("mlflow.artifactLocation") or None,
        code_version=_code_version(source),
    )


_TRACE_FIELDS = frozenset(
    {"trace_id", "request_id", "trace_location", "experiment_id", "tags", "trace_metadata", "request_metadata"}
    | {"request_time", "timestamp_ms", "execution_duration", "execution_time_ms", "state", "status"}
    | {"request", "response", "request_preview", "response_preview", "assessments"}
)


def parse_webhook(webhook: Mapping[str, Any], _owner_tags: Sequence[str] = ()) -> Asset:
    """A webhook. Its URL is often a secret by itself, so its origin is kept, and a digest that shows a change."""
    key = required_text(webhook, "webhook_id", "webhook")
    document = without(webhook, VOLATILE[Kind.WEBHOOK] | {"webhook_id", "secret", "url"})
    created = integer(webhook.get("creation_timestamp"), "webhook.creation_timestamp")
    if url := text(webhook.get("url")):
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        document |= {"url": origin, "url_digest": hashlib.sha256(url.encode()).hexdigest()[:16]}
    return Asset(
        kind=Kind.WEBHOOK,
        key=key,
        document=_timed(document, creation_timestamp=created),
        name=text(webhook.get("name")),
        state=text(webhook.get("status")),
        created_at=instant(created),
    )


_PARSERS: Mapping[Kind, Callable[[Mapping[str, Any], Sequence[str]], Asset]] = {
    Kind.WORKSPACE: parse_workspace,
    Kind.EXPERIMENT: parse_experiment,
    Kind.RUN: parse_run,
    Kind.LOGGED_MODEL: parse_logged_model,
    Kind.REGISTERED_MODEL: parse_registered_model,
    Kind.MODEL_VERSION: parse_model_version,
    Kind.TRACE: parse_trace,
    Kind.WEBHOOK: parse_webhook,
}


def _timed(document: dict[str, Any], **times: int | None) -> dict[str, Any]:
    """Times as numbers, whether the server wrote them in quotes or not; absent where it has none."""
    return without(document, frozenset(times)) | {name: value for name, value in times.items() if value is not None}


def _lifecycle(stage: Any) -> Lifecycle:
    if not isinstance(stage, str) or stage.lower() not in ("active", "deleted"):
        raise shape_error("lifecycle_stage is neither active nor deleted")
    return Lifecycle(stage.lower())


def _owner(owner_tags: Sequence[str], tags: Mapping[str, str], user: Any = None) -> str | None:
    return first([*(tags.get(name) for name in owner_tags), tags.get("mlflow.user"), text(user)])


def _code_version(tags: Mapping[str, str]) -> str | None:
    """The commit; else the source's name, with the revision of the notebook where there is one."""
    if commit := tags.get("mlflow.source.git.commit"):
        return commit
    name, revision = tags.get("mlflow.source.name"), first(tags.get(tag) for tag in _REVISIONS)
    return f"{name}@{revision}" if name and revision else name or revision or None


def _later(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Of two values of one metric the later one; the order in which a server sends them says nothing."""
    order = ("timestamp", "step")
    mine, theirs = ([item[name] for name in order] + [digest(item)] for item in (entry, other))
    return mine > theirs
