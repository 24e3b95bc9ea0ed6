"""Where a list of the resource manager and a GET of one item do not say the same, as it was recorded or reported. Pure.

Of other kinds the two were recorded alike, or not both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stocktake.demo.azure.seeded import Body

_CONTAINERS = ("models", "data", "environments", "components")
_PLACE = re.compile(r"azureml://subscriptions/[^/]+/resourcegroups/[^/]+/workspaces/[^/]+/", re.IGNORECASE)


def as_told(path: Sequence[str], answer: Any, workspace_id: str) -> Any:
    """The answer to a path below a workspace, as Azure gives it."""
    match path:
        case [kind] if kind in _CONTAINERS:  # the tags of a container come back empty (azure-sdk-for-python#40680)
            return answer | {"value": [_with(one, tags={}) for one in answer["value"]]}
        case ["components", _]:  # recorded: who made it is in the list alone, and when is told otherwise
            told: Body = answer["systemData"]
            kept = {name: value for name, value in told.items() if name in ("createdAt", "lastModifiedAt")}
            return answer | {"systemData": kept | {"createdAt": re.sub(r"\.\d+", ".2805646", kept["createdAt"])}}
        case ["data", _, "versions"]:  # recorded: a list calls the workspace by its GUID, a GET by its names
            return answer | {"value": [_by_guid(one, workspace_id) for one in answer["value"]]}
    return answer


def _with(body: Body, **properties: Any) -> Body:
    return body | {"properties": body["properties"] | properties}


def _by_guid(body: Body, workspace_id: str) -> Body:
    uri = body["properties"].get("dataUri") or ""
    return _with(body, dataUri=_PLACE.sub(f"azureml://workspaces/{workspace_id}/", uri))
