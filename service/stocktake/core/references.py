"""What one Azure Machine Learning asset calls another: an ARM id, `azureml:NAME:VERSION`, a registry's address.

Pure. A reference that leads out of the workspace (a registry) is kept as it is written: it has no key of ours.
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
_VERSIONED = re.compile(r"/(models|data|environments|components)/([^/?]+)(?:/versions/([^/?]+))?/?\Z", re.IGNORECASE)
_SHORT = re.compile(r"azureml:([^:/@]+)(?::([^:/@]+)|@([^:/@]+))\Z")
_REGISTRY = re.compile(r"azureml://registries/|/registries/", re.IGNORECASE)
_LOGGED = re.compile(r"models:/(m-[^/?]+)")
_JOB = re.compile(r"(?:azureml://jobs/|/jobs/|runs:/)([^/?]+)", re.IGNORECASE)


def versioned(reference: Any, kind: Kind) -> tuple[Kind, str] | None:
    """Return the kind and key (NAME/VERSION) that a reference names; `kind` is what its place expects.

    A name without a version answers with the name alone, a label with NAME@LABEL: no version has such a key, so that
    they show as ends that nobody observed. None where it names no versioned asset at all (a path, nothing).
    """
    if not isinstance(reference, str) or not reference:
        return None
    if (found := _VERSIONED.search(reference)) is not None:
        kind = COLLECTIONS[found[1].lower()]
        if _REGISTRY.search(reference):
            return kind, reference
        return kind, f"{found[2]}/{found[3]}" if found[3] else found[2]
    if (short := _SHORT.match(reference)) is not None:
        return kind, f"{short[1]}/{short[2]}" if short[2] else f"{short[1]}@{short[3]}"
    return None


def job(reference: Any) -> str | None:
    """Return the name of the job whose output an address names."""
    found = _JOB.search(reference) if isinstance(reference, str) else None
    return found[1] if found is not None else None


def model_of(deployment: Mapping[str, Any]) -> Any:
    """Return what an online or batch deployment says that it serves: a reference, or None."""
    properties = deployment.get("properties")
    model = properties.get("model") if isinstance(properties, Mapping) else None
    if isinstance(model, Mapping):  # of a batch deployment
        return model.get("assetId") or (f"runs:/{named}" if (named := _named_job(model)) else model.get("path"))
    return model


def _named_job(model: Mapping[str, Any]) -> str | None:
    found = model.get("jobId")
    return found.rstrip("/").rpartition("/")[2] if isinstance(found, str) and found else None


def logged_model_of(document: Mapping[str, Any], source: str | None) -> str | None:
    """Return the id of the logged model that a model version was made from, by its document or its source."""
    if isinstance(named := document.get("model_id"), str) and named:
        return named
    found = _LOGGED.match(source) if source is not None else None
    return found[1] if found is not None else None


def environment_of(document: Mapping[str, Any]) -> str | None:
    """Return the environment that a job or run says it ran in: the key of its version, or what else it is called."""
    properties = document.get("properties")
    if isinstance(properties, Mapping):
        trial = properties.get("trial")
        for place in (properties, trial if isinstance(trial, Mapping) else {}):
            if isinstance(named := place.get("environmentId"), str) and named:
                found = versioned(named, Kind.ENVIRONMENT_VERSION)
                return found[1] if found is not None else named
    tags = document.get("tags")
    if isinstance(tags, Mapping):
        for name in ("mlflow.docker.image.uri", "mlflow.project.env"):
            if isinstance(value := tags.get(name), str) and value:
                return value
    return None
