"""Where an output of a job lies: a place in a datastore of this workspace, or none that is followed."""

from __future__ import annotations

from typing import Any

import pytest

from stocktake.core.assets import Kind
from stocktake.sources.azure_outputs import Asset, Home, Stored, container, identifier, registered, stored

SCOPE = "/subscriptions/S-1/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/Churn"
HOME = Home(scope=SCOPE, guid="72E8EFF8-148b")
LONG = "azureml://subscriptions/s-1/resourcegroups/ML/workspaces/churn/datastores/blobs/paths/azureml/j/model"


@pytest.mark.parametrize("address", [
    "azureml://datastores/blobs/paths/azureml/j/model",
    "azureml://datastores/blobs/azureml/j/model",
    LONG,
    "azureml://subscriptions/S-1/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/Churn"
    "/datastores/blobs/paths/azureml/j/model",
    "azureml:/subscriptions/S-1/resourceGroups/ml/workspaces/Churn/datastores/blobs/paths/azureml/j/model",
    "azureml://workspaces/72e8eff8-148B/datastores/blobs/paths/azureml/j/model",
])  # fmt: skip
def test_every_spelling_of_a_place_in_this_workspace_is_one(address: str) -> None:
    assert stored(address, HOME) == Stored("blobs", "azureml/j/model")
    assert stored(f"{address}/", HOME, of_type="uri_folder") == Stored("blobs", "azureml/j/model/")
    assert stored(address, HOME, of_type="mltable") == Stored("blobs", "azureml/j/model/")
    assert stored(address, HOME, of_type="uri_file") == Stored("blobs", "azureml/j/model")


@pytest.mark.parametrize("address", [
    None, "", 7, "https://account.blob.core.windows.net/c/datastores/blobs/paths/x", "wasbs://c@a/datastores/b/paths/x",
    "azureml://datastores/blobs/paths/azureml/${{name}}/model", "azureml://datastores/blobs/paths/",
    "azureml://datastores/blobs/paths//",
    LONG.replace("churn", "vision"), LONG.replace("s-1", "s-2"), LONG.replace("ML", "ml-2"),
    "azureml://workspaces/00000000-0000/datastores/blobs/paths/x", "azureml://registries/r/datastores/blobs/paths/x",
])  # fmt: skip
def test_no_other_place_is_followed(address: Any) -> None:
    assert stored(address, HOME) is None


def test_a_workspace_whose_guid_is_unknown_is_not_known_by_one() -> None:
    assert stored("azureml://workspaces/None/datastores/blobs/paths/x", Home(scope=SCOPE)) is None


def test_what_an_output_became_is_read_in_the_recorded_words() -> None:
    here = "azureml://locations/eastus2/workspaces/72e8eff8-148B"
    outputs = {
        "best": {"assetId": f"{here}/data/pipeline_output_a/versions/test_606", "type": "UriFolder"},
        "model": {"assetId": f"{here}/models/churn/versions/3", "type": "CustomModel"},
        "other": {"assetId": "azureml://registries/r/models/m/versions/1", "type": "CustomModel"},
        "another": {"assetId": here.replace("148B", "0000") + "/models/churn/versions/3", "type": "CustomModel"},
        "odd": {"assetId": 7},
        "none": None,
    }

    def asset(name: str) -> Asset | None:
        return registered(identifier(outputs, name), HOME)

    assert asset("best") == Asset(Kind.DATA_VERSION, "pipeline_output_a", "test_606")
    assert asset("model") == Asset(Kind.MODEL_VERSION, "churn", "3")
    assert [asset(name) for name in ("other", "another", "odd", "none", "nowhere")] == [None] * 5
    assert identifier(None, "best") is None


def test_the_folder_of_a_run_is_a_container_s_name_and_nothing_that_leads_elsewhere() -> None:
    assert container({"dataContainerId": "dcid.job_1"}) == "dcid.job_1"
    for other in ("dcid.../../x", "job_1", "", None, 7):
        assert container({"dataContainerId": other}) is None
