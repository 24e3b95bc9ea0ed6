"""The key of a raw item of Azure ML, read without decoding the rest of it. The same as its parser finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stocktake.core.assets import Kind
from stocktake.sources.azureml_lifting import deployment_key, key_of, quota_key, version_key
from stocktake.sources.azureml_plan import BY_KIND
from stocktake.sources.mlflow_values import decode, shape_error
from stocktake.sources.protocol import Item


class _Named(msgspec.Struct):
    id: Any = None
    name: Any = None


class _Latest(msgspec.Struct):
    latest: Any = msgspec.field(default=None, name="latestVersion")


class _Container(msgspec.Struct):
    properties: _Latest | None = None


_named = msgspec.json.Decoder(_Named)
_container = msgspec.json.Decoder(_Container)


def item(kind: Kind, raw: bytes) -> Item:
    """A raw item with its key. Raises SourceError(SHAPE) where it has none."""
    try:
        found = _named.decode(raw)
        body: Mapping[str, Any] = {"id": found.id, "name": found.name}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = decode(raw)
        if not isinstance(body, dict):
            raise shape_error(f"{kind} is not a JSON object") from None
    return Item(_KEYS.get(kind, key_of)(body, str(kind)), raw)


def latest_version(raw: bytes) -> str | None:
    """What a container says is its latest version; None where it says nothing."""
    try:
        properties = _container.decode(raw).properties
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    latest = properties.latest if properties is not None else None
    return latest if isinstance(latest, str) and latest else None


def parent_and_name(kind: Kind, key: str) -> tuple[str, str] | None:
    """What a key is made of: container and version, endpoint and deployment; else nothing and the key.

    None for a key that names no item at all.
    """
    if BY_KIND[kind].per is None:
        return ("", key) if key else None
    parent, slash, name = key.partition("/")
    return (parent, name) if parent and slash and name else None


_KEYS: Mapping[Kind, Callable[[Mapping[str, Any], str], str]] = {
    **dict.fromkeys(
        (Kind.MODEL_VERSION, Kind.DATA_VERSION, Kind.ENVIRONMENT_VERSION, Kind.COMPONENT_VERSION),
        lambda body, what: "/".join(version_key(body, what)),
    ),
    **dict.fromkeys(
        (Kind.ONLINE_DEPLOYMENT, Kind.BATCH_DEPLOYMENT), lambda body, what: "/".join(deployment_key(body, what))
    ),
    Kind.QUOTA: quota_key,
}
