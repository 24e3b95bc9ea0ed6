"""What is lifted out of Azure's documents, the same for every kind: names in ids, times, owners, references. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from stocktake.core import references
from stocktake.core.assets import Lifecycle
from stocktake.core.errors import SourceError
from stocktake.sources.mlflow_values import instant, milliseconds, shape_error, text

_VERSION_ID = re.compile(
    r"(?:^|/)(?:codes|components|data|environments|featuresets|featurestoreentities|models)/([^/]+)/versions/([^/?]+)",
    re.IGNORECASE,
)
_BELOW_PROVIDER = re.compile(r"/Microsoft\.MachineLearningServices/(.+)|/quotas/(.+)", re.IGNORECASE)
_LOCATION = re.compile(r"^locations/[^/]+", re.IGNORECASE)
_DEPLOYMENT_ID = re.compile(r"/(?:online|batch)Endpoints/([^/]+)/deployments/([^/?]+)", re.IGNORECASE)


def moment(value: Any) -> datetime | None:
    """A time as Azure writes it (up to seven digits of a second); None where it is none that we can read."""
    if not isinstance(value, str) or "T" not in value:
        return None
    try:
        return instant(milliseconds(value, "a time"))
    except SourceError:
        return None


def mapping(value: Any) -> Mapping[str, Any]:
    """An object that may be left out, or be something else in an answer that we do not know."""
    return value if isinstance(value, dict) else {}


def _id(body: Mapping[str, Any]) -> str:
    found = body.get("id")
    return found if isinstance(found, str) else ""


def key_of(body: Mapping[str, Any], what: str) -> str:
    """The name of an item; where an answer has none, the last part of its id."""
    name = body.get("name")
    if not isinstance(name, str) or not name:
        name = _id(body).rstrip("/").rpartition("/")[2]
    if not name:
        raise shape_error(f"{what} without name and id")
    return name


def version_key(body: Mapping[str, Any], what: str) -> tuple[str, str]:
    """Container and version out of the id of a version: its name alone does not say of what it is the version."""
    if found := _VERSION_ID.search(_id(body)):
        return found[1], found[2]
    raise shape_error(f"{what} without an id that names its container")


def deployment_key(body: Mapping[str, Any], what: str) -> tuple[str, str]:
    """Endpoint and deployment out of the id of a deployment."""
    if found := _DEPLOYMENT_ID.search(_id(body)):
        return found[1], found[2]
    raise shape_error(f"{what} without an id that names its endpoint")


def quota_key(body: Mapping[str, Any], what: str) -> str:
    """The id of a quota below the provider: the same name is in several places, and is an object besides."""
    whole = _id(body)
    found = _BELOW_PROVIDER.search(whole)
    if found is None:
        raise shape_error(f"{what} without an id")
    return _LOCATION.sub(lambda place: place[0].lower(), found[1] or found[2])


def reference(value: Any, home: str | None) -> str | None:
    """NAME/VERSION of an asset of this workspace that is named by an ARM id, by azureml://..., by azureml:NAME:VERSION
    (NAME@LABEL); anything else, and what lies in another workspace or a registry, as it came; None where there is
    nothing. `home` is where the workspace is (home_of)."""
    if isinstance(value, dict):  # {"referenceType": "Id", "assetId": ...}, {"referenceType": "DataPath", "path": ...}
        value = value.get("assetId") or value.get("id") or value.get("path")
    if not isinstance(value, str) or not value:
        return None
    return references.short(value, home)


def home_of(body: Mapping[str, Any]) -> str | None:
    """Where the workspace is that an item of the resource manager lies in, by the item's own id; None where it says
    none, as run-history does not."""
    return references.home(body)


def tagged(tags: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of some tags that is there; Azure compares names of tags without regard to case."""
    folded = {name.casefold(): value for name, value in tags.items()}
    return next((text(value) for name in names if (value := folded.get(name.casefold()))), None)


def lifecycle(archived: Any) -> Lifecycle:
    """Archived is what Azure ML has in place of deleted: hidden, and still there."""
    return Lifecycle.DELETED if archived is True else Lifecycle.ACTIVE
