"""As much of JSON Schema as our reference page and the receivers of alerts use; anything else in one is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "boolean": (bool,),
    "null": (type(None),), "number": (int, float),
}  # fmt: skip
_KNOWN = {
    "$ref", "type", "anyOf", "enum", "pattern", "minimum", "properties", "required", "additionalProperties", "items",
    "maxLength", "maxItems",
}  # fmt: skip


def problems(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str = "$") -> Iterator[str]:
    """Yield what is wrong with a value, if anything."""
    if unknown := schema.keys() - _KNOWN:
        raise NotImplementedError(f"{path}: {sorted(unknown)}")
    if "$ref" in schema:
        yield from problems(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, path)
    if "anyOf" in schema and all(any(problems(value, one, root, path)) for one in schema["anyOf"]):
        yield f"{path}: {value!r} is none of what is allowed"
    wanted = schema.get("type", [])
    allowed = tuple(t for name in ([wanted] if isinstance(wanted, str) else wanted) for t in _TYPES[name])
    if allowed and (not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)):
        yield f"{path}: {value!r} is not {wanted}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not match {schema['pattern']}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{path}: {value!r} is too small"
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield f"{path}: {len(value)} characters are too many"
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        yield f"{path}: {len(value)} are too many"
    if isinstance(value, dict):
        yield from _object(value, schema, root, path)
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from problems(item, schema["items"], root, f"{path}[{number}]")


def _object(value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from (f"{path}.{name}: is missing" for name in schema.get("required", ()) if name not in value)
    named, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in named:
            yield from problems(item, named[name], root, f"{path}.{name}")
        elif more is False:
            yield f"{path}.{name}: is not documented"
        elif isinstance(more, Mapping):
            yield from problems(item, more, root, f"{path}.{name}")
