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
from stocktake.core.canonical import params_digest
from stocktake.core.errors import SourceError
from stocktake.sources.mlflow_lifting import code_version, lifecycle, owner, timed
from stocktake.sources.mlflow_runs import parse_metrics, parse_run, quick_run
from stocktake.sources.mlflow_values import (
    as_object,
    child,
    decode,
    digest,
    duration,
    instant,
    integer,
    milliseconds,
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

_MODEL_STATUS = {0: "UNSPECIFIED", 1: "PENDING", 2: "READY", 3: "UPLOAD_FAILED"}
_USER_CONTENT = frozenset({"mlflow.traceInputs", "mlflow.traceOutputs"})


def parse(kind: Kind, raw: bytes, *, owner_tags: Sequence[str] = ()) -> Asset:
    """Parse one raw item of a kind. Raises SourceError(SHAPE) naming the field that is missing or wrong."""
    try:
        if kind is Kind.RUN and (run := quick_run(raw, owner_tags)) is not None:
            return run
        document = as_object(decode(raw), str(kind))
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
        document=timed(document, creation_time=created),
        name=document["name"],
        lifecycle=lifecycle(document["lifecycle_stage"]),
        owner=owner(owner_tags, tags),
        created_at=instant(created),
        artifact_uri=text(experiment.get("artifact_location")),
    )


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
        document=timed(document, creation_timestamp=created),
        name=name,
        owner=owner(owner_tags, tags, model.get("user_id")),
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
    """A model version. Deleting one leaves a tombstone in the database, which REST does not show: source and run of
    it are words in place of what they were, so they are not lifted."""
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
    gone = stage == "Deleted_Internal"
    return Asset(
        kind=Kind.MODEL_VERSION,
        key=f"{name}/{number_}",
        document=timed(document, creation_timestamp=created),
        name=f"{name}/{number_}",
        state=stage,
        lifecycle=Lifecycle.DELETED if gone else Lifecycle.ACTIVE,
        owner=owner(owner_tags, tags, version.get("user_id")),
        parent=name,
        run=None if gone else text(version.get("run_id")) or None,
        created_at=instant(created),
        artifact_uri=None if gone else text(version.get("source")) or None,
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
    document |= {"info": timed(kept, creation_timestamp_ms=created), "params": params, "tags": tags}
    document |= {"lifecycle_stage": stage, "metrics": parse_metrics(data.get("metrics"), "logged_model")}
    return Asset(
        kind=Kind.LOGGED_MODEL,
        key=key,
        partition=experiment,
        document=document,
        name=text(info.get("name")),
        state=status,
        lifecycle=lifecycle(stage),
        owner=owner(owner_tags, tags, info.get("creator_id")),
        run=text(info.get("source_run_id")) or None,
        created_at=instant(created),
        artifact_uri=text(info.get("artifact_uri")) or None,
        code_version=code_version(tags),
        params_digest=params_digest(params),
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
    if state == "IN_PROGRESS" and not lasted:
        lasted = None  # MLflow before 3.2 says 0 of a trace that has not ended
    document = without(trace, _TRACE_FIELDS)
    document |= {"state": state, "tags": tags, "trace_metadata": without(metadata, _USER_CONTENT)}
    document |= {"experiment_id": experiment} if experiment else {"trace_location": location}
    source = metadata | tags
    return Asset(
        kind=Kind.TRACE,
        key=key,
        partition=experiment or "",
        document=timed(document, request_time=started, execution_duration=lasted),
        name=tags.get("mlflow.traceName") or None,
        state=state,
        owner=owner(owner_tags, source),
        run=metadata.get("mlflow.sourceRun") or None,
        created_at=instant(started),
        started_at=instant(started),
        ended_at=instant(started + lasted) if started is not None and lasted is not None else None,
        artifact_uri=tags.get("mlflow.artifactLocation") or None,
        code_version=code_version(source),
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
    if isinstance(events := document.get("events"), list):
        document["events"] = sorted(events, key=digest)  # a set: the order in which they come says nothing
    created = integer(webhook.get("creation_timestamp"), "webhook.creation_timestamp")
    if url := text(webhook.get("url")):
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        document |= {"url": origin, "url_digest": hashlib.sha256(url.encode()).hexdigest()[:16]}
    return Asset(
        kind=Kind.WEBHOOK,
        key=key,
        document=timed(document, creation_timestamp=created),
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
