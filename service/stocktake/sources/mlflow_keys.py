"""How pages of MLflow's tables go by key: where they begin, what comes after an item, how to ask by id. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stocktake.core.assets import Kind
from stocktake.sources.mlflow_sql import Sql


@dataclass(frozen=True, slots=True)
class Table:
    """How the pages of a kind go: the key in SQL, the position before the first item and after a given one."""

    key: str  # what the next page begins after
    start: Mapping[str, Any]
    after: Callable[[str], Mapping[str, Any]]
    one_of: Callable[[Sql], str]  # what is true of items asked for by id
    ids: Callable[[Sequence[str]], Mapping[str, Any]]


def _texts(column: str) -> Table:
    return Table(
        key=f"{column} > :after",
        start={"after": ""},
        after=lambda key: {"after": key},
        one_of=lambda sql: sql.among(column, "ids"),
        ids=lambda keys: {"ids": [key for key in keys if _storable(key)]},
    )


def _after_version(key: str) -> Mapping[str, Any]:
    name, _, version = key.rpartition("/")
    return {"after": name, "after_version": int(version)}


def _version_ids(keys: Sequence[str]) -> Mapping[str, Any]:
    pairs = [key.rpartition("/")[::2] for key in keys if _storable(key)]
    numbers = {version: number for _, version in pairs if (number := _number(version)) is not None}
    return {"ids": sorted({name for name, _ in pairs}), "versions": sorted(set(numbers.values()))}


TABLES: Mapping[Kind, Table] = {
    Kind.EXPERIMENT: Table(
        key="experiment_id > :after",
        start={"after": -1},
        after=lambda key: {"after": int(key)},
        one_of=lambda sql: sql.among("experiment_id", "ids"),
        ids=lambda keys: {"ids": numbers(keys)},
    ),
    Kind.RUN: _texts("run_uuid"),
    Kind.LOGGED_MODEL: _texts("model_id"),
    Kind.TRACE: _texts("request_id"),
    Kind.REGISTERED_MODEL: _texts("name"),
    Kind.WEBHOOK: _texts("webhook_id"),
    Kind.MODEL_VERSION: Table(
        key="(name, version) > (:after, :after_version)",
        start={"after": "", "after_version": -1},
        after=_after_version,
        one_of=lambda sql: f"{sql.among('name', 'ids')} AND {sql.among('version', 'versions')}",
        ids=_version_ids,
    ),
}

#: What a hot pass looks for. Deleting a run moves `deleted_time`, which the API does not show; restoring one moves
#: nothing, here as there.
MOVING: Mapping[Kind, str] = {
    Kind.RUN: Sql.MOVING_RUNS,
    Kind.LOGGED_MODEL: Sql.MOVING_LOGGED_MODELS,
    Kind.TRACE: Sql.MOVING_TRACES,
}
COUNTED: Mapping[Kind, str] = {Kind.RUN: "runs", Kind.LOGGED_MODEL: "logged_models", Kind.TRACE: "trace_info"}


def _storable(key: str) -> bool:
    """Whether a text can stand in a database at all: no NUL, no half of a surrogate pair."""
    return "\x00" not in key and not re.search(r"[\ud800-\udfff]", key)


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def numbers(texts: Sequence[str]) -> list[int]:
    return [number for text in texts if (number := _number(text)) is not None]
