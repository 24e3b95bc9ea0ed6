"""Bodies of what is versioned in a workspace or registry: models, data, environments, components, code."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from stocktake.demo.azure.seeded import PEOPLE, Body, guid, mix, pick, stamp, system_data

#: The segment of the path -> the stem of names.
STEMS = {
    "models": "model", "data": "dataset", "environments": "environment", "components": "component", "codes": "code",
    "featuresets": "featureset", "featurestoreEntities": "entity",
}  # fmt: skip
TYPE = "Microsoft.MachineLearningServices/workspaces"


def container_name(segment: str, position: int) -> str:
    """The name of a container by its place in the list."""
    return f"{STEMS[segment]}-{position:03d}"


def container(
    segment: str, *, owner: str, seed: int, position: int, latest: str | None, count: int, began: datetime
) -> Body:
    """A container of versions."""
    name = container_name(segment, position)
    number = mix(seed, sum(segment.encode()), position)
    properties: Body = {
        "description": None,
        "tags": {"team": pick(("vision", "churn", "pricing"), number)} if number & 8 else {},
        "properties": {},
        "isArchived": position % 11 == 6,
        "latestVersion": latest,
        "nextVersion": str(count + 1),
    }
    if segment == "data":
        properties["dataType"] = data_type(position)
    by = pick(PEOPLE, number >> 20)
    created = began - timedelta(days=200, minutes=position * 31)
    return body(owner, segment, name, properties, _system_data(segment, by, created))


def version(
    segment: str, *, owner: str, seed: int, position: int, number: int, began: datetime, typed: Body
) -> Body:  # fmt: skip
    """A version in a container; `typed` is what only its kind has."""
    draw = mix(seed, sum(segment.encode()), position, number)
    properties: Body = {
        "description": None, "tags": {"stage": "trial"} if draw & 4 else {}, "properties": {},
        "isArchived": draw % 13 == 5, "isAnonymous": False,
    }  # fmt: skip
    created = began - timedelta(days=190 - number, minutes=position * 29)
    data = _system_data(segment, pick(PEOPLE, draw >> 20), created)
    return body(owner, f"{segment}/{container_name(segment, position)}/versions", str(number), properties | typed, data)


def _system_data(segment: str, by: str, created: datetime) -> Body:
    """Who made an asset and when. Data assets were recorded without who changed them last."""
    told = system_data(by, created)
    return {name: told[name] for name in told if segment != "data" or not name.startswith("lastModifiedBy")}


def body(owner: str, path: str, name: str, properties: Body, data: Body) -> Body:
    """The frame of a body: `owner` is the id of the workspace or registry, `path` the segments below it."""
    parts = path.split("/")
    kind = "registries" if "/registries/" in owner else "workspaces"
    return {
        "id": f"{owner}/{path}/{name}",
        "name": name,
        "type": f"Microsoft.MachineLearningServices/{kind}/{'/'.join(parts[::2])}",
        "properties": properties,
        "systemData": data,
    }


def data_type(position: int) -> str:
    """The type of a data asset and all of its versions."""
    return pick(("uri_folder", "uri_file", "mltable"), position)


def typed_version(segment: str, *, owner: str, seed: int, position: int, number: int, job: str | None) -> Body:
    """What only versions of one kind have."""
    name = container_name(segment, position)
    digest = guid(seed, sum(segment.encode()), position, number).replace("-", "")
    makers: dict[str, Any] = {
        "models": lambda: _model(owner, name, digest, job),
        "data": lambda: _data(owner, name, digest, data_type(position)),
        "environments": lambda: {
            "environmentType": "UserCreated", "image": "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04",
            "condaFile": '{"channels": ["conda-forge"], "dependencies": ["python=3.11", "scikit-learn"]}',
            "osType": "Linux", "provisioningState": "Succeeded", "autoRebuild": "Disabled", "stage": None,
        },
        "components": lambda: {"componentSpec": {
            "name": name, "version": str(number), "display_name": name, "is_deterministic": "True", "type": "command",
            "inputs": {"training_data": {"type": "uri_folder"}}, "outputs": {"model": {"type": "uri_folder"}},
            "environment": f"{owner}/environments/environment-000/versions/1", "command": "python step.py",
            "resources": {"instance_count": "1"},
        }},
        "codes": lambda: {
            "codeUri": f"https://stocktakedemo.blob.core.windows.net:443/code/{digest}/",
            "provisioningState": "Succeeded", "properties": {"hash_sha256": digest, "hash_version": "202208"},
        },
        "featuresets": lambda: {
            "autoDeleteSetting": None, "specification": {"path": f"azureml://locations/x/{digest}"},
            "materializationSettings": None, "stage": "Development", "entities": [], "provisioningState": "Succeeded",
        },
        "featurestoreEntities": lambda: {
            "autoDeleteSetting": None, "indexColumns": [{"columnName": "id", "dataType": "String"}], "stage": None,
            "provisioningState": "Succeeded",
        },
    }  # fmt: skip
    made: Body = makers[segment]()
    return made


def _model(owner: str, name: str, digest: str, job: str | None) -> Body:
    store = f"azureml:/{owner.replace('/providers/Microsoft.MachineLearningServices', '')}/datastores"
    if job is None:
        uri = f"{store}/workspaceblobstore/paths/LocalUpload/{digest}/{name}.pkl"
        return {"flavors": {}, "modelType": "custom_model", "modelUri": uri, "jobName": None}
    uri = f"{store}/workspaceartifactstore/paths/ExperimentRun/dcid.{job}/model"
    flavors = {"python_function": {"data": {"loader_module": "mlflow.sklearn", "python_version": "3.11.4",
                                            "env": "conda.yaml"}}}  # fmt: skip
    properties = {"flavors": "python_function", "azureml.artifactPrefix": f"ExperimentRun/dcid.{job}/model"}
    return {"properties": properties, "flavors": flavors, "modelType": "mlflow_model", "modelUri": uri, "jobName": job}


def _data(owner: str, name: str, digest: str, kind: str) -> Body:
    here = owner.replace("/providers/Microsoft.MachineLearningServices", "").replace("resourceGroups", "resourcegroups")
    uri = f"azureml:/{here}/datastores/workspaceblobstore/paths/LocalUpload/{digest}/{name}"
    made: Body = {"dataUri": uri + (".csv" if kind == "uri_file" else "/"), "dataType": kind,
                  "autoDeleteSetting": None, "stage": None, "intellectualProperty": None}  # fmt: skip
    return made | ({"referencedUris": [uri]} if kind == "mltable" else {})


def schedule(*, position: int, began: datetime, job: Body) -> Body:
    """A schedule: the recorded ones have neither id nor type."""
    created = began - timedelta(days=100 + position)
    trigger = {"endTime": None, "startTime": stamp(created), "timeZone": "UTC", "triggerType": "Cron",
               "expression": f"15 {position % 24} * * 1"}  # fmt: skip
    return {
        "name": f"schedule-{position:03d}",
        "properties": {
            "description": "a weekly retraining", "tags": {}, "properties": {}, "displayName": "weekly retraining",
            "isEnabled": position % 4 != 3, "trigger": trigger,
            "action": {"actionType": "CreateJob", "jobDefinition": job["properties"] | {"status": "NotStarted"}},
            "provisioningState": "Succeeded",
        },
        "systemData": system_data(PEOPLE[position % 6], created),
    }  # fmt: skip
