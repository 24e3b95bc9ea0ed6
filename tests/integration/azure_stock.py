"""A small Azure Machine Learning workspace as its documents would state it: from data to endpoint."""

from __future__ import annotations

from typing import Any

from stocktake.core.assets import Kind
from tests.integration.stated import Stock

ARM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/ml"


def deployment(model: Any, **properties: Any) -> dict[str, Any]:
    return {"properties": {"model": model, **properties}}


def traffic(**shares: float) -> dict[str, Any]:
    return {"properties": {"traffic": shares}}


def stock() -> Stock:
    """Two data versions and an environment, a job with a step, a model of two versions, online and batch endpoints."""
    made = Stock()
    made.put(Kind.WORKSPACE, "workspace", {"id": ARM})
    made.put(Kind.DATA_VERSION, "sales/1", {"properties": {"dataUri": "azureml://datastores/b/paths/x"}})
    uri = "azureml://jobs/train-1/outputs/clean"
    made.put(Kind.DATA_VERSION, "clean/3", {"properties": {"dataUri": uri}}, artifact_uri=uri)
    made.put(Kind.ENVIRONMENT_VERSION, "sklearn/33", {"properties": {}})
    job = {
        "properties": {
            "jobType": "Command",
            "environmentId": "azureml:sklearn:33",
            "inputs": {
                "sales": {"jobInputType": "uri_folder", "uri": f"{ARM}/data/sales/versions/1"},
                "lake": {"jobInputType": "uri_folder", "uri": "azureml://datastores/lake/paths/raw/"},
                "start": {"jobInputType": "mlflow_model", "uri": "azureml:base:1"},
            },
            "outputs": {"out": {"jobOutputType": "uri_folder", "assetName": "scored", "assetVersion": "9"}},
        },
    }
    made.put(Kind.JOB, "train-1", job, state="Completed", name="train", code_version="c0ffee")
    step = {
        "properties": {"trial": {"environmentId": f"{ARM}/environments/sklearn/versions/33"}},
    }
    made.put(Kind.CHILD_JOB, "step-1", step, state="Completed", parent="train-1")
    made.put(Kind.CHILD_JOB, "step-of-step", {"properties": {}}, state="Completed", parent="step-1")
    made.put(Kind.RUN, "train-1", {"status": "FINISHED"}, partition="7", state="FINISHED", name="train")
    made.put(Kind.REGISTERED_MODEL, "fraud", {}, name="fraud")
    for number in ("1", "2"):
        made.put(Kind.MODEL_VERSION, f"fraud/{number}", {"properties": {}}, name=f"fraud/{number}", parent="fraud",
                 run="train-1", artifact_uri="azureml://jobs/train-1/outputs/model")  # fmt: skip
    made.put(Kind.ONLINE_ENDPOINT, "shop", traffic(blue=90, green=10))
    made.put(Kind.ONLINE_DEPLOYMENT, "shop/blue", deployment(f"{ARM}/models/fraud/versions/1"), parent="shop")
    green = deployment("azureml:fraud:2", environmentId=f"{ARM}/environments/serve/versions/4")
    made.put(Kind.ONLINE_DEPLOYMENT, "shop/green", green, parent="shop")
    registry = deployment("azureml://registries/azureml/models/bert/versions/6")
    made.put(Kind.ONLINE_DEPLOYMENT, "shop/red", registry, parent="shop")
    made.put(Kind.BATCH_ENDPOINT, "night", {"properties": {"defaults": {"deploymentName": "a"}}})
    made.put(Kind.BATCH_DEPLOYMENT, "night/a",
             deployment({"referenceType": "Id", "assetId": "azureml:fraud:1"}), parent="night")  # fmt: skip
    component = {"ComponentDeployment.ComponentId": f"{ARM}/components/score/versions/2"}
    made.put(Kind.BATCH_DEPLOYMENT, "night/b", deployment(None, properties=component), parent="night")
    output = {"referenceType": "OutputPath", "jobId": f"{ARM}/jobs/train-1", "path": "model"}
    made.put(Kind.BATCH_DEPLOYMENT, "night/c", deployment(output), parent="night")
    return made
