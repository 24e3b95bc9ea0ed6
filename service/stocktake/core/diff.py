"""What differs between two states of an asset, field by field. Pure: values in, values out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stocktake.core.assets import PARTITIONED, Category, ChangeType, Difference, FieldChange, Kind, Lifecycle
from stocktake.core.words import words

_SHORTHAND = re.compile(r"[A-Za-z_\u0080-\uffff][0-9A-Za-z_\u0080-\uffff]*\Z")

#: Weightiest first: a change takes the first category that any of its fields has.
_WEIGHT = tuple(Category)
_IDENTITY = frozenset(
    words(
        "name run_name experiment_id artifact_uri artifact_location creation_time creation_timestamp "
        "creation_timestamp_ms user_id source run_id source_run_id model_id workspace "
        "createdAt createdBy createdUtc workspaceId jobName modelUri dataUri dataContainerId"
    )
)

_STATE = frozenset(
    words(
        "status lifecycle_stage current_stage stage state start_time end_time status_message "
        "provisioningState provisioningErrors errors isArchived hidden deletion lastOperation allocationState "
        "allocationStateTransitionTime currentNodeCount targetNodeCount nodeStateCounts startTimeUtc endTimeUtc "
        "privateLinkServiceConnectionState"
    )
)
_TELEMETRY = frozenset(words("metrics execution_duration computeDuration duration currentValue"))
#: Objects whose names say what a field is about: MLflow's info, and the layers of Azure's bodies.
_WRAPPERS = frozenset({"info", "properties", "systemData"})
#: The names of fields that mean something to us.
FIELDS = _IDENTITY | _STATE | _TELEMETRY
#: What is gone because that which it belongs to is.
_GO_WITH = {
    Kind.CHILD_JOB: Kind.JOB,
    Kind.ONLINE_DEPLOYMENT: Kind.ONLINE_ENDPOINT,
    Kind.BATCH_DEPLOYMENT: Kind.BATCH_ENDPOINT,
}
_LIFECYCLE_PATHS = frozenset({"lifecycle_stage", "info.lifecycle_stage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The larger change that a change may be a part of: the parent's kind and key, and what happened to it."""

    kind: Kind
    key: str
    type: ChangeType


def difference(
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    *,
    was: Lifecycle = Lifecycle.ACTIVE,
    now: Lifecycle = Lifecycle.ACTIVE,
) -> Difference | None:
    """Compare two documents of one asset; None where nothing differs. A missing side is an asset that was not there."""
    if before is None and after is None:
        return None
    if before is None:
        return Difference(type=ChangeType.CREATED, category=Category.IDENTITY, fields=())
    if after is None:
        return Difference(type=ChangeType.PURGED, category=Category.IDENTITY, fields=())
    fields = tuple(field_changes(before, after))
    if not fields and was == now:
        return None
    if was == now:
        kind_of_change = ChangeType.UPDATED
    else:
        kind_of_change = ChangeType.DELETED if now == Lifecycle.DELETED else ChangeType.RESTORED
    found = {category(change.path) for change in fields} or {Category.STATE}
    return Difference(type=kind_of_change, category=next(c for c in _WEIGHT if c in found), fields=fields)


def field_changes(before: Any, after: Any, path: str = "") -> Iterator[FieldChange]:
    """Yield every differing leaf, in the order of sorted names; lists are compared whole."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            one = before.get(name)
            if type(one) is str and one == after.get(name):
                continue  # nearly all of a document, and nothing else in it compares as cheaply
            where = step(path, name)
            if name not in after:
                yield FieldChange(path=where, before=before[name], after=None)
            elif name not in before:
                yield FieldChange(path=where, before=None, after=after[name])
            else:
                yield from field_changes(before[name], after[name], where)
    elif before != after or type(before) is not type(after) or _told_apart(before, after):
        yield FieldChange(path=path, before=before, after=after)


def _told_apart(before: Any, after: Any) -> bool:
    """Whether two equal lists hold different JSON: Python takes 1, 1.0 and true for the same."""
    return isinstance(before, (list, tuple)) and json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True)


def category(path: str) -> Category:
    """Say what a field is about, by the first name of its path that is not merely a layer of the document."""
    names = re.split(r"[.\[]", path, maxsplit=3)
    name = next((name for name in names[:3] if name not in _WRAPPERS), names[0])
    if name in _IDENTITY:
        return Category.IDENTITY
    if name in _STATE:
        return Category.STATE
    return Category.TELEMETRY if name in _TELEMETRY else Category.CONFIG


def torn(kind: Kind, found: Difference) -> bool:
    """Whether a run seems to have lost what MLflow never takes from one: params, metrics, the tag with its name.

    A server reads runs first and the rest after: one that is purged in between looks so (tried on MLflow 3.17).
    """
    return kind == Kind.RUN and any(
        change.after is None and re.match(r"(?:params|metrics)\b|tags\['mlflow\.runName'\]", change.path)
        for change in found.fields
    )


def story(kind: Kind, found: Difference, *, partition: str, parent: str | None) -> Story | None:
    """Name the larger change this one belongs to, if it says nothing of its own.

    Deleting or restoring an MLflow experiment does the same to every run in it; deleting a registered model removes
    its versions; deleting a job its children, an endpoint its deployments; moving an alias shows on the model and on
    both versions.
    """
    if kind in PARTITIONED and partition:
        paths = {change.path for change in found.fields}
        if found.type == ChangeType.PURGED or (
            found.type in (ChangeType.DELETED, ChangeType.RESTORED) and paths <= _LIFECYCLE_PATHS
        ):
            return Story(kind=Kind.EXPERIMENT, key=partition, type=found.type)
    if kind in _GO_WITH and parent and found.type == ChangeType.PURGED:
        return Story(kind=_GO_WITH[kind], key=parent, type=ChangeType.PURGED)
    if kind == Kind.MODEL_VERSION and parent:
        if found.type == ChangeType.PURGED:
            return Story(kind=Kind.REGISTERED_MODEL, key=parent, type=ChangeType.PURGED)
        if found.fields and all(change.path.startswith("aliases") for change in found.fields):
            return Story(kind=Kind.REGISTERED_MODEL, key=parent, type=ChangeType.UPDATED)
    return None


def author(document: Mapping[str, Any]) -> str | None:
    """Who made the asset, as the client claimed; good for its creation, never for a later edit."""
    info = document.get("info")
    # Of a million runs one is asked after the other: an abstract class is slow to say what a dict is.
    value = info.get("user_id") if isinstance(info, (dict, Mapping)) else document.get("user_id")
    # MLflow's client says "unknown" where it does not know: that names nobody.
    return value if isinstance(value, str) and value not in ("", "unknown") else None


def step(path: str, name: str) -> str:
    """The path of a name below another path."""
    if _SHORTHAND.match(name):
        return f"{path}.{name}" if path else name
    quoted = json.dumps(name, ensure_ascii=False)[1:-1].replace("'", "\\'").replace('\\"', '"')
    return f"{path}['{quoted}']"
