"""What one Azure Machine Learning asset calls another: an ARM id, `azureml:NAME:VERSION`, a registry's address.

Pure. A reference that leads out of the workspace (a registry, another workspace) is kept as it is written: it has no
key of ours. Which workspace a document is of, the document of the workspace tells: its own id is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stocktake.core.assets import Kind

#: The collection of a versioned asset in an ARM id, and what its versions are called here.
COLLECTIONS: Mapping[str, Kind] = {
    "models": Kind.MODEL_VERSION,
    "data": Kind.DATA_VERSION,
    "environments": Kind.ENVIRONMENT_VERSION,
    "components": Kind.COMPONENT_VERSION,
}
_VERSIONS = frozenset(COLLECTIONS.values())
# Where an asset is: the whole of an address up to its collection. A path in a datastore or an address of the web is
# none, whatever its folders are called.
_PLACE = (
    r"(?:azureml:/?)?(/locations/[^/]+/workspaces/[^/]+|/registries/[^/]+"
    r"|/subscriptions/[^/]+/resourcegroups/[^/]+(?:/providers/[^/]+)?/(?:workspaces|registries)/[^/]+)"
)
_VERSIONED = re.compile(
    rf"{_PLACE}/(models|data|environments|components)/([^/?]+)(?:/versions/([^/?]+))?/?\Z", re.IGNORECASE
)
_ANY_VERSION = re.compile(
    rf"{_PLACE}/(?:codes|components|data|environments|featuresets|featurestoreentities|models)"
    r"/([^/?]+)/versions/([^/?]+)/?\Z",
    re.IGNORECASE,
)
_HOME = re.compile(r"/subscriptions/[^/]+/resourcegroups/[^/]+/providers/[^/]+/workspaces/[^/]+", re.IGNORECASE)
_PROVIDER = re.compile(r"/providers/[^/]+", re.IGNORECASE)
_SHORT = re.compile(r"azureml:([^:/@]+)(?::([^:/@]+)|@([^:/@]+))\Z")
_LOGGED = re.compile(r"models:/(m-[^/?]+)")
_JOB = re.compile(rf"(?:azureml://jobs/|runs:/|{_PLACE}/jobs/)([^/?]+)", re.IGNORECASE)


def home(document: Mapping[str, Any]) -> str | None:
    """Return where a workspace is by the ARM id in its document, as places are compared; None where it has none."""
    named = document.get("id")
    found = _HOME.match(named) if isinstance(named, str) else None
    return _compared(found[0]) if found is not None else None


def _compared(place: str) -> str:
    return _PROVIDER.sub("", place).lower()


def _is_here(place: str, here: str | None) -> bool:
    """Run-history calls its own workspace by location and GUID; anything else must be the workspace itself."""
    return place.lower().startswith("/locations/") or _compared(place) == here


def versioned(reference: Any, kind: Kind, here: str | None) -> tuple[Kind, str] | None:
    """Return the kind and key (NAME/VERSION) that a reference names; `kind` is what its place expects, `here` the
    home of the workspace that it is stated in.

    A name without a version answers with the name alone, a label with NAME@LABEL: no version has such a key, so that
    they show as ends that nobody observed. None where it names no versioned asset at all (a path, nothing).
    """
    if not isinstance(reference, str) or not reference:
        return None
    if (found := _VERSIONED.match(reference)) is not None:
        kind = COLLECTIONS[found[2].lower()]
        if not _is_here(found[1], here):
            return kind, reference
        return kind, f"{found[3]}/{found[4]}" if found[4] else found[3]
    if (short := _SHORT.match(reference)) is not None:
        return kind, f"{short[1]}/{short[2]}" if short[2] else f"{short[1]}@{short[3]}"
    return None


def names_no_version(kind: str, key: str) -> bool:
    """Whether the key that `versioned` made of a reference is a name alone, or a label such as NAME@latest."""
    return kind in _VERSIONS and "/" not in key


def job(reference: Any, here: str | None) -> str | None:
    """Return the name of the job of this workspace that an address names, or whose output it does."""
    found = _JOB.match(reference) if isinstance(reference, str) else None
    return found[2] if found is not None and (found[1] is None or _is_here(found[1], here)) else None


def short(reference: str, here: str | None) -> str:
    """Return what a versioned asset of this workspace is called in a column: NAME/VERSION, or NAME@LABEL, by whatever
    address it was named; anything else as it is written, so that what lies elsewhere is not taken for ours."""
    if (found := _ANY_VERSION.match(reference)) is not None and _is_here(found[1], here):
        return f"{found[2]}/{found[3]}"
    if (named := _SHORT.match(reference)) is not None:
        return f"{named[1]}/{named[2]}" if named[2] else f"{named[1]}@{named[3]}"
    return reference


def model_of(deployment: Mapping[str, Any]) -> Any:
    """Return what an online or batch deployment says that it serves: a reference, or None."""
    properties = deployment.get("properties")
    model = properties.get("model") if isinstance(properties, Mapping) else None
    if isinstance(model, Mapping):  # of a batch deployment
        return model.get("assetId") or _named_job(model) or model.get("path")
    return model


def _named_job(model: Mapping[str, Any]) -> str | None:
    found = model.get("jobId")
    if not isinstance(found, str) or not found:
        return None
    return found if "/" in found else f"runs:/{found}"


def logged_model_of(document: Mapping[str, Any], source: str | None) -> str | None:
    """Return the id of the logged model that a model version was made from, by its document or its source."""
    if isinstance(named := document.get("model_id"), str) and named:
        return named
    found = _LOGGED.match(source) if source is not None else None
    return found[1] if found is not None else None


def environment_of(document: Mapping[str, Any], here: str | None) -> str | None:
    """Return the environment that a job or run says it ran in: the key of its version, or what else it is called."""
    properties = document.get("properties")
    if isinstance(properties, Mapping):
        trial = properties.get("trial")
        for place in (properties, trial if isinstance(trial, Mapping) else {}):
            if isinstance(named := place.get("environmentId"), str) and named:
                found = versioned(named, Kind.ENVIRONMENT_VERSION, here)
                return found[1] if found is not None else named
    tags = document.get("tags")
    if isinstance(tags, Mapping):
        for name in ("mlflow.docker.image.uri", "mlflow.project.env"):
            if isinstance(value := tags.get(name), str) and value:
                return value
    return None
