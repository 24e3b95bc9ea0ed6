"""Rows of MLflow's backend database as the JSON objects that its REST API would answer with. Pure.

The same parsers read both, so a store gives the same documents whichever way it is read. What the API never shows
(when a run was deleted, where a deleted version's artifacts lie) goes beside the item, as its `aside`. Fields that
move by themselves are left out at once: they would only change the raw bytes.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stocktake.sources.mlflow_runs import SCHEMA_LIMIT
from stocktake.sources.mlflow_values import digest
from stocktake.sources.protocol import Item

Row = tuple[Any, ...]
Rows = Mapping[str, list[Row]]

TOKENS = (
    "input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    "cache_creation_input_tokens_above_1hr",
)  # fmt: skip
COSTS = ("input_cost", "output_cost", "total_cost")
_SESSION, _TOKEN_USAGE, _COST = "mlflow.trace.session", "mlflow.trace.tokenUsage", "mlflow.trace.cost"
_PROMOTED = frozenset({_SESSION, _TOKEN_USAGE, _COST})
_TRACE_NAME = "mlflow.traceName"
#: MLflow's API cuts the texts of traces to these lengths.
_METADATA_LENGTH, _TAG_KEY_LENGTH, _TAG_LENGTH = 250, 250, 4096

_WRAPPED = b'{"aside":'


class _Pair(msgspec.Struct):
    key: str
    value: str


class _Metric(msgspec.Struct):
    key: str
    value: float | str
    timestamp: int
    step: int


class _Info(msgspec.Struct):
    run_id: str
    experiment_id: str
    status: str | msgspec.UnsetType
    lifecycle_stage: str
    run_name: str | msgspec.UnsetType
    user_id: str | msgspec.UnsetType
    artifact_uri: str | msgspec.UnsetType
    start_time: int | msgspec.UnsetType
    end_time: int | msgspec.UnsetType


class _Data(msgspec.Struct):
    metrics: list[_Metric]
    params: list[_Pair]
    tags: list[_Pair]


class _Run(msgspec.Struct, omit_defaults=True):
    info: _Info
    data: _Data
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}


class _Wrapped(msgspec.Struct):
    aside: dict[str, Any]
    item: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_unwrap = msgspec.json.Decoder(_Wrapped).decode


def wrap(raw: bytes, aside: Mapping[str, Any]) -> bytes:
    """An item with what only the database knows beside it."""
    known = {name: value for name, value in aside.items() if value is not None}
    return _WRAPPED + _encode(known) + b',"item":' + raw + b"}" if known else raw


def unwrap(raw: bytes) -> tuple[bytes, dict[str, Any]]:
    """The item, and what was beside it."""
    if not raw.startswith(_WRAPPED):
        return raw, {}
    wrapped = _unwrap(raw)
    return bytes(wrapped.item), wrapped.aside


def by_first(rows: Iterable[Row]) -> Rows:
    """Rows by their first column, each list in an order that does not depend on the database's."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    for several in found.values():
        if len(several) > 1:
            several.sort(key=_second)
    return found


def _second(row: Row) -> Any:
    return row[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRuns:
    """What belongs to the runs of a page, by run."""

    params: Rows
    tags: Rows
    metrics: Rows  # run, key, value, timestamp, step, is_nan
    dataset_inputs: Rows = field(default_factory=dict)  # run, dataset, input
    datasets: Mapping[str, Row] = field(default_factory=dict)
    input_tags: Rows = field(default_factory=dict)  # input, key, value
    models: Rows = field(default_factory=dict)  # run, source type, model, step


def runs(rows: Sequence[Row], of: OfRuns) -> Iterator[Item]:
    """Runs as runs/search shows them; model inputs too, which it leaves out and runs/get has."""
    none: list[Row] = []
    unset = msgspec.UNSET
    for key, experiment, name, user, status, start, end, stage, uri, deleted in rows:
        tags = of.tags.get(key, none)
        if not name:
            name = next((row[2] for row in tags if row[1] == "mlflow.runName" and row[2]), name)
        run = _Run(
            _Info(
                key,
                str(experiment),
                unset if status is None else status,
                stage or "active",
                unset if name is None else name,
                unset if user is None else user,
                uri or unset,
                unset if start is None else start,
                end or unset,
            ),
            _Data(
                [_metric(row) for row in of.metrics.get(key, none)],
                [_Pair(row[1], row[2] or "") for row in of.params.get(key, none)],
                [_Pair(row[1], row[2] or "") for row in tags],
            ),
        )
        if key in of.dataset_inputs:
            run.inputs["dataset_inputs"] = [_dataset_input(row, of) for row in of.dataset_inputs[key]]
        for _, source, model, step in of.models.get(key, none):
            if source == "RUN_INPUT":
                run.inputs.setdefault("model_inputs", []).append({"model_id": model})
            else:
                run.outputs.setdefault("model_outputs", []).append({"model_id": model, "step": step or 0})
        raw = _encode(run)
        yield Item(key, raw if deleted is None else wrap(raw, {"deleted_time": deleted}))


def _metric(row: Row) -> _Metric:
    _, key, value, timestamp, step, is_nan = row
    return _Metric(key, value if not is_nan and _isfinite(value) else _word(value, is_nan), timestamp or 0, step or 0)


_isfinite = math.isfinite


def _word(value: float, is_nan: bool) -> str:
    return "NaN" if is_nan or math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _dataset_input(row: Row, of: OfRuns) -> dict[str, Any]:
    _, dataset, name = row
    title, digest_, kind, source, schema, profile = of.datasets[dataset]
    shown = {"name": title, "digest": digest_, "source_type": kind, "source": source}
    if schema:  # a long one is kept as its digest anyway; here it is not carried as far as that
        shown |= {"schema": schema} if len(schema) <= SCHEMA_LIMIT else {"schema_digest": digest(schema)}
    shown |= {"profile": profile} if profile else {}
    return {"tags": _pairs(of.input_tags.get(name, ())), "dataset": shown}


def experiments(rows: Sequence[Row], tags: Rows) -> Iterator[Item]:
    """Experiments."""
    for key, name, location, stage, created, workspace in rows:
        shown = {
            "experiment_id": str(key),
            "name": name,
            "artifact_location": location,
            "lifecycle_stage": stage or "active",
            "creation_time": created or None,
            "workspace": workspace,
            "tags": _pairs(tags.get(key, ())),
        }
        yield Item(str(key), _object(shown))


def registered_models(rows: Sequence[Row], tags: Rows, aliases: Rows) -> Iterator[Item]:
    """Registered models with their aliases."""
    for name, created, description in rows:
        shown = {
            "name": name,
            "creation_timestamp": created,
            "description": description or None,
            "tags": _pairs(tags.get(name, ())),
            "aliases": [{"alias": alias, "version": str(version)} for _, alias, version in aliases.get(name, ())],
        }
        yield Item(name, _object(shown))


def model_versions(rows: Sequence[Row], tags: Mapping[tuple[str, int], list[Row]], aliases: Rows) -> Iterator[Item]:
    """Model versions, deleted ones (tombstones) too, each with the aliases that point to it."""
    for name, version, created, description, user, stage, source, run, link, status, message, storage in rows:
        shown = {
            "name": name,
            "version": str(version),
            "creation_timestamp": created,
            "description": description,
            "user_id": user,
            "current_stage": stage,
            "source": source,
            "run_id": run,
            "run_link": link,
            "status": status,
            "status_message": message or None,
            "tags": _pairs(row[1:] for row in tags.get((name, version), ())),
            "aliases": sorted(alias for _, alias, number in aliases.get(name, ()) if number == version),
        }
        yield Item(f"{name}/{version}", wrap(_object(shown), {"storage_location": storage}))


def logged_models(rows: Sequence[Row], tags: Rows, params: Rows, metrics: Rows) -> Iterator[Item]:
    """Logged models, deleted ones too, which the API does not show."""
    for key, experiment, name, location, created, status, stage, kind, run, message in rows:
        info = {
            "model_id": key,
            "experiment_id": str(experiment),
            "name": name,
            "artifact_uri": location,
            "creation_timestamp_ms": created,
            "status": status,
            "lifecycle_stage": stage or "active",
            "model_type": kind,
            "source_run_id": run,
            "status_message": message,
            "tags": _pairs(tags.get(key, ())),
        }
        data = {"params": _pairs(params.get(key, ())), "metrics": [_model_metric(row) for row in metrics.get(key, ())]}
        yield Item(key, _object({"info": _present(info), "data": data}))


def _model_metric(row: Row) -> dict[str, Any]:
    key, name, value, timestamp, step, dataset, digest_, run = row
    finite = value is not None and _isfinite(value)
    shown = {
        "key": name,
        "value": value if finite else _word(value, value is None),
        "timestamp": timestamp,
        "step": step,
        "model_id": key,
    }
    about = {"dataset_name": dataset, "dataset_digest": digest_, "run_id": run}
    return shown | {word: text for word, text in about.items() if text}


def webhooks(rows: Sequence[Row], events: Rows) -> Iterator[Item]:
    """Webhooks, without their secrets."""
    for key, name, description, url, status, created in rows:
        shown = {
            "webhook_id": key,
            "name": name,
            "description": description or None,
            "url": url,
            "status": status,
            "creation_timestamp": created,
            "events": [{"entity": row[1].upper(), "action": row[2].upper()} for row in events.get(key, ())],
        }
        yield Item(key, _object(shown))


def traces(rows: Sequence[Row], tags: Rows, metadata: Rows, *, columns: bool) -> Iterator[Item]:
    """Traces without what was asked and answered. With `columns`, name, session, tokens and cost are columns."""
    for key, experiment, started, lasted, status, client, name, session, *figures in rows:
        kept = {row[1]: row[2] or "" for row in tags.get(key, ()) if not (columns and row[1] == _TRACE_NAME)}
        about = {row[1]: row[2] or "" for row in metadata.get(key, ()) if not (columns and row[1] in _PROMOTED)}
        if name is not None:
            kept[_TRACE_NAME] = name
        about |= {} if session is None else {_SESSION: session}
        for word, names, values in ((_TOKEN_USAGE, TOKENS, figures), (_COST, COSTS, figures[len(TOKENS) :])):
            if found := {one: value for one, value in zip(names, values, strict=False) if value is not None}:
                about[word] = json.dumps(found)
        shown = {
            "trace_id": key,
            "experiment_id": str(experiment),
            "request_time": started,
            "execution_duration": lasted,
            "state": status,
            "client_request_id": client,
            "tags": {word[:_TAG_KEY_LENGTH]: text[:_TAG_LENGTH] for word, text in kept.items()},
            "trace_metadata": {word[:_METADATA_LENGTH]: text[:_METADATA_LENGTH] for word, text in about.items()},
        }
        yield Item(key, _object(shown))


def _pairs(rows: Iterable[Row]) -> list[_Pair]:
    return [_Pair(key, value or "") for _, key, value in rows]


def _present(shown: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if value is not None}


def _object(shown: Mapping[str, Any]) -> bytes:
    return _encode(_present(shown))
