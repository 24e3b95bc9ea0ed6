"""Where a token may be sent, and what a 404 says."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.azureml_absence import says_absent
from stocktake.sources.azureml_hosts import data_plane
from stocktake.sources.http import Answer
from tests.azureml_recordings import RECORDINGS
from tests.needs import need

SCOPE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
HOSTS = (".api.azureml.ms",)


@pytest.mark.parametrize(
    ("uri", "origin"),
    [
        (f"azureml://eastus.api.azureml.ms/mlflow/v1.0{SCOPE}", "https://eastus.api.azureml.ms"),
        (f"azureml://eastus.api.azureml.ms/mlflow/v1.0{SCOPE}?", "https://eastus.api.azureml.ms"),
        (f"azureml://EASTUS.api.azureml.ms/mlflow/v1.0{SCOPE.upper()}", "https://eastus.api.azureml.ms"),
        (
            f"azureml://x.workspace.eastus.api.azureml.ms:8443/mlflow/v1.0{SCOPE}",
            "https://x.workspace.eastus.api.azureml.ms:8443",
        ),
    ],
)
def test_the_data_plane_is_where_the_workspace_says_over_https(uri: str, origin: str) -> None:
    plane = data_plane(uri, HOSTS, SCOPE)
    assert (plane.mlflow, plane.history) == (f"{origin}/mlflow/v2.0{SCOPE}", f"{origin}/history/v1.0{SCOPE}")


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "",
        7,
        "nonsense",
        f"azureml://evil.example/mlflow/v1.0{SCOPE}",
        f"azureml://api.azureml.ms.evil.example/mlflow/v1.0{SCOPE}",
        f"azureml://evilapi.azureml.ms/mlflow/v1.0{SCOPE}",
        f"azureml://eastus.api.azureml.ms@evil.example/mlflow/v1.0{SCOPE}",
        f"azureml://evil.example#.api.azureml.ms/mlflow/v1.0{SCOPE}",
        f"azureml://evil.example?.api.azureml.ms/mlflow/v1.0{SCOPE}",
        f"http://eastus.api.azureml.ms/mlflow/v1.0{SCOPE}",
        f"azureml://user:pass@eastus.api.azureml.ms/mlflow/v1.0{SCOPE}",
        f"azureml://eastus.api.azureml.ms:99999999/mlflow/v1.0{SCOPE}",
        f"azureml://eastus.api.azureml.ms/mlflow/v1.0{SCOPE}2",
        f"azureml://eastus.api.azureml.ms/mlflow/v1.0{SCOPE}/../other",
        "azureml://eastus.api.azureml.ms/",
    ],
)
def test_another_host_or_another_workspace_is_refused(uri: object) -> None:
    with pytest.raises(SourceError) as caught:
        data_plane(uri, HOSTS, SCOPE)
    assert caught.value.trouble is Trouble.CONFIG


def test_without_a_list_of_hosts_no_host_is_ours() -> None:
    for hosts in ((), ("",), (".",)):
        with pytest.raises(SourceError):
            data_plane(f"azureml://eastus.api.azureml.ms/mlflow/v1.0{SCOPE}", hosts, SCOPE)


def answer(body: object, status: int = 404) -> Answer:
    raw = b"" if body is None else json.dumps(body).encode()
    return Answer(what="GET /x", status=status, body=raw, content_type="", requested_at=datetime.now(UTC))


KINDS = {
    "batchEndpoints": Kind.BATCH_ENDPOINT, "components": Kind.COMPONENT, "components-versions": Kind.COMPONENT_VERSION,
    "computes": Kind.COMPUTE, "connections": Kind.CONNECTION, "data-versions": Kind.DATA_VERSION,
    "datastores": Kind.DATASTORE, "environments": Kind.ENVIRONMENT, "jobs": Kind.JOB, "models": Kind.REGISTERED_MODEL,
    "models-versions": Kind.MODEL_VERSION, "registry": Kind.REGISTRY, "registry-models": Kind.REGISTERED_MODEL,
    "schedules": Kind.SCHEDULE, "workspace": Kind.WORKSPACE,
}  # fmt: skip


def test_every_recorded_404_of_an_asset_says_that_the_asset_is_absent() -> None:
    need(RECORDINGS.is_dir(), "the recorded exchanges are not here (../shared/data/azureml)")
    tried = 0
    for path in sorted(RECORDINGS.glob("recordings/*/get-404-*.json")):
        exchange = json.loads(path.read_text("utf-8"))
        if "management.azure.com" in exchange["request"]["uri"]:
            tried += 1
            assert says_absent(KINDS[path.parent.name], answer(exchange["response"]["body"])), path.name
    assert tried > 20


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "ResourceGroupNotFound", "message": "Resource group 'g' could not be found."}},
        {"error": {"code": "SubscriptionNotFound", "message": "The subscription could not be found."}},
        {"error": {"code": "ParentResourceNotFound", "message": "The parent resource could not be found."}},
        {"error": {"code": "InvalidResourceType", "message": "The resource type could not be found."}},
        {"error": {"code": "UserError", "innererror": {"code": "WorkspaceNotFound"}}},
        {"error": {"code": "UserError", "message": "not found"}},
        {"error": "not found"},
        {"message": "no route"},
        {"error": {"code": "StorageAccountNotFound"}},
        {"error": {"code": "UserError", "innererror": {"code": "KeyVaultNotFound"}}},
        {
            "error": {
                "code": "UserError",
                "innererror": {"code": "NotFound", "innererror": {"code": "ContainerNotFound"}},
            }
        },
        {"error": {"code": "NotFound", "details": [{"code": "DependencyNotFound"}]}},
        {"error": {"code": "FailedDependency", "innererror": {"code": "NotFound"}}},
        {"error": {"code": "UserError", "innererror": {"code": "BlobNotFound"}}},  # whatever a service may come up with
    ],
)
def test_a_404_of_the_place_or_of_something_it_needs_or_in_between_says_nothing(body: object) -> None:
    html = Answer(what="", status=404, body=b"<html>", content_type="", requested_at=datetime.now(UTC))
    for kind in Kind:
        assert not says_absent(kind, answer(body))
        assert not says_absent(kind, html)
    assert not says_absent(Kind.DATASTORE, answer(None))


def test_an_asset_is_absent_by_the_word_of_the_service_that_keeps_its_kind() -> None:
    gone = answer(
        {"error": {"code": "UserError", "innererror": {"code": "NotFound", "innererror": {"code": "JobNotFound"}}}}
    )
    assert says_absent(Kind.JOB, gone)
    assert not says_absent(Kind.SCHEDULE, gone)  # a job that it runs, say
