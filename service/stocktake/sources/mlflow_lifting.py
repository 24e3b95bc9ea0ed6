"""What is lifted out of MLflow's documents, the same for every kind: lifecycle, owner, code version, times. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stocktake.core.assets import Lifecycle
from stocktake.sources.mlflow_values import first, shape_error, text, without

_REVISIONS = ("mlflow.databricks.notebookRevisionID", "mlflow.databricks.gitRepoCommit", "azureml.git.commit")


def timed(document: dict[str, Any], **times: int | None) -> dict[str, Any]:
    """Times as numbers, whether the server wrote them in quotes or not; absent where it has none."""
    return without(document, frozenset(times)) | {name: value for name, value in times.items() if value is not None}


def lifecycle(stage: Any) -> Lifecycle:
    """Whether MLflow calls it active or deleted; anything else is not understood."""
    if not isinstance(stage, str) or stage.lower() not in ("active", "deleted"):
        raise shape_error("lifecycle_stage is neither active nor deleted")
    return Lifecycle(stage.lower())


def owner(owner_tags: Sequence[str], tags: Mapping[str, str], user: Any = None) -> str | None:
    """The first that is there: the configured tags, MLflow's own, the user that the client claimed."""
    for name in owner_tags:
        if value := tags.get(name):
            return value
    return tags.get("mlflow.user") or text(user) or None


def code_version(tags: Mapping[str, str]) -> str | None:
    """The commit; else the source's name, with the revision of the notebook where there is one."""
    if commit := tags.get("mlflow.source.git.commit"):
        return commit
    name, revision = tags.get("mlflow.source.name"), first(tags.get(tag) for tag in _REVISIONS)
    return f"{name}@{revision}" if name and revision else name or revision or None
