"""JSON of Azure into assets: what is kept, what is lifted, what goes out, what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktake.core import canonical
from stocktake.core.assets import Asset, Category, Kind, Lifecycle
from stocktake.core.diff import difference
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.azureml import AzureMl
from stocktake.sources.azureml_documents import parse
from stocktake.sources.azureml_keys import item
from stocktake.sources.azureml_left_out import Why, rows

SCOPE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
ARM = sorted(AzureMl.kinds.keys() - {Kind.EXPERIMENT, Kind.RUN})


def parsed(kind: Kind, body: Any, **options: Any) -> Asset:
    return parse(kind, json.dumps(body).encode(), **options)


def make_job(properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    base = {"jobType": "Command", "status": "Completed", "isArchived": False}
    return {"id": f"{SCOPE}/jobs/j1", "name": "j1", "properties": base | (properties or {}), **more}


def test_a_job_lifts_what_people_filter_by() -> None:
    body = make_job(
        {
            "displayName": "nightly",
            "tags": {"Team": "vision"},
            "properties": {"azureml.git.commit": "c0ffee"},
            "codeId": f"{SCOPE}/codes/snap/versions/1",
            "inputs": {
                "train": {"jobInputType": "uri_folder", "uri": f"{SCOPE}/data/faces/versions/3"},
                "extra": {"jobInputType": "uri_file", "uri": "azureml:labels:7"},
                "plain": {"jobInputType": "uri_file", "uri": "https://example.com/x.csv"},
                "lr": {"jobInputType": "literal", "value": "0.1"},
            },
            "outputs": {"default": {"uri": "azureml://datastores/a/ExperimentRun/dcid.j1"}},
        },
        systemData={"createdAt": "2026-01-02T03:04:05.1234567+00:00", "createdBy": "Ada"},
    )
    job = parsed(Kind.JOB, body, owner_tags=("owner", "team"))
    assert (job.key, job.name, job.state, job.owner) == ("j1", "nightly", "Completed", "vision")
    assert (job.code_version, job.data_version) == ("c0ffee", "faces/3, https://example.com/x.csv, labels/7")
    assert job.artifact_uri == "azureml://datastores/a/ExperimentRun/dcid.j1"
    assert job.created_at is not None
    assert job.created_at.isoformat() == "2026-01-02T03:04:05.123000+00:00"
    assert job.params_digest is not None
    assert parsed(Kind.JOB, body).owner == "Ada"  # who made it, where no tag names an owner


def test_a_job_of_an_unknown_type_is_kept_as_it_came() -> None:
    odd = {"jobType": "Quantum", "qubits": [{"n": 1}, None, 2], "deep": {"a": {"b": [{"c": True}]}}}
    assert parsed(Kind.JOB, make_job(odd)).document["properties"] == {
        "status": "Completed",
        "isArchived": False,
        **odd,
    }


@pytest.mark.parametrize("kind", [Kind.JOB, Kind.REGISTERED_MODEL, Kind.DATA, Kind.ENVIRONMENT, Kind.COMPONENT])
def test_what_is_archived_is_deleted_and_can_still_be_read(kind: Kind) -> None:
    body = make_job({"isArchived": True})
    assert parsed(kind, body).lifecycle is Lifecycle.DELETED
    assert parsed(kind, make_job()).lifecycle is Lifecycle.ACTIVE


def test_a_model_version_names_its_model_the_job_behind_it_and_where_it_lies() -> None:
    body = {
        "id": f"{SCOPE}/models/churn/versions/4",
        "name": "4",
        "properties": {"jobName": "train-9", "modelUri": "azureml://jobs/train-9/outputs/model", "stage": "Production"},
    }
    version = parsed(Kind.MODEL_VERSION, body)
    assert (version.key, version.parent, version.run, version.state) == ("churn/4", "churn", "train-9", "Production")
    assert version.artifact_uri == "azureml://jobs/train-9/outputs/model"


def test_a_deployment_belongs_to_its_endpoint_and_is_of_no_run() -> None:
    body = {
        "id": f"{SCOPE}/onlineEndpoints/score/deployments/blue",
        "name": "blue",
        "properties": {"provisioningState": "Succeeded", "model": f"{SCOPE}/models/churn/versions/4"},
    }
    deployment = parsed(Kind.ONLINE_DEPLOYMENT, body)
    assert (deployment.key, deployment.parent, deployment.name, deployment.run) == ("score/blue", "score", "blue", None)


@pytest.mark.parametrize(
    ("properties", "state"),
    [
        ({"computeType": "ComputeInstance", "properties": {"state": "Stopped"}}, "Stopped"),
        ({"computeType": "AmlCompute", "properties": {"allocationState": "Steady"}}, "Steady"),
        ({"computeType": "SomethingNew", "provisioningState": "Succeeded"}, "Succeeded"),
    ],
)
def test_a_compute_has_the_state_of_its_type(properties: dict[str, Any], state: str) -> None:
    assert parsed(Kind.COMPUTE, {"name": "c", "properties": properties}).state == state


def test_a_running_child_has_no_duration_yet_and_a_reused_one_names_whose_output_it_shows() -> None:
    run = {
        "runId": "step",
        "parentRunId": "pipe",
        "status": "Running",
        "duration": "00:00:01",
        "computeDuration": "00:00:01",
        "dataContainerId": "dcid.other",
        "startTimeUtc": "2026-01-01T00:00:00Z",
        "properties": {"azureml.reusedrunid": "other"},
    }
    running, ended = parsed(Kind.CHILD_JOB, run), parsed(Kind.CHILD_JOB, run | {"status": "Completed"})
    assert "duration" not in running.document
    assert ended.document["computeDuration"] == "00:00:01"
    assert ended.document["properties"]["azureml.reusedrunid"] == "other"
    assert (ended.parent, ended.artifact_uri) == (
        "pipe",
        "azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.other",
    )


SECRETS = {
    Kind.CONNECTION: {"name": "c", "properties": {"credentials": {"pat": "hunter2"}, "authType": "PAT"}},
    Kind.DATASTORE: {
        "name": "d",
        "properties": {"credentials": {"credentialsType": "Sas", "secrets": {"sasToken": "hunter2"}}},
    },
    Kind.COMPUTE: {
        "name": "c",
        "properties": {
            "computeType": "VirtualMachine",
            "properties": {
                "administratorAccount": {"username": "root", "password": "hunter2", "privateKeyData": "hunter2"},
                "sshSettings": {"adminPublicKey": "hunter2", "sshPort": 22},
                "setupScripts": {"scripts": {"creationScript": {"scriptData": "hunter2"}}},
                "userAccountCredentials": {"adminUserPassword": "hunter2"},
                "list": [{"databricksAccessToken": "hunter2", "sslConfiguration": {"key": "hunter2"}}],
            },
        },
    },
    Kind.ONLINE_ENDPOINT: {"name": "e", "properties": {"keys": {"primaryKey": "hunter2"}, "authMode": "Key"}},
    Kind.CHILD_JOB: {"runId": "r", "token": "hunter2", "status": "Running"},
    Kind.WORKSPACE: {"name": "w", "properties": {"sdkTelemetryAppInsightsKey": "hunter2"}},
}


@pytest.mark.parametrize("kind", sorted(SECRETS))
def test_credentials_go_out_when_a_body_is_parsed(kind: Kind) -> None:
    document = parsed(kind, SECRETS[kind]).document
    assert b"hunter2" not in canonical.encode(document)
    assert document  # and the rest stays


def test_every_kind_with_a_secret_in_the_table_is_tried_above() -> None:
    assert {kind for kind in Kind if any(row.why is Why.SECRET for row in rows(kind))} - SECRETS.keys() <= {
        Kind.ONLINE_DEPLOYMENT,  # the same rows as of endpoints
        Kind.BATCH_ENDPOINT,
        Kind.BATCH_DEPLOYMENT,
    }


def test_null_is_the_same_as_not_there() -> None:
    with_null = make_job({"codeId": None, "services": {"a": None, "b": {"port": None}}, "list": [{"x": None, "y": 1}]})
    without = make_job({"services": {"b": {}}, "list": [{"y": 1}]})
    assert parsed(Kind.JOB, with_null).document == parsed(Kind.JOB, without).document


@pytest.mark.parametrize(
    ("path", "category"),
    [
        (("status",), Category.STATE),
        (("displayName",), Category.CONFIG),
        (("tags", "team"), Category.CONFIG),
        (("outputs", "default"), Category.CONFIG),
        (("properties", "state"), Category.STATE),
    ],
)
def test_a_change_below_properties_is_about_what_its_field_is_about(path: tuple[str, ...], category: Category) -> None:
    def body(value: str) -> dict[str, Any]:
        inner: Any = value
        for name in reversed(path):
            inner = {name: inner}
        return {"properties": inner}

    found = difference(body("a"), body("b"))
    assert found is not None
    assert found.category is category


@pytest.mark.parametrize("kind", ARM)
def test_a_body_that_is_no_object_or_has_no_name_is_refused_and_nothing_else_is_raised(kind: Kind) -> None:
    bodies: list[Any] = [[], None, 3, "x", {}, {"properties": {}}, {"id": 3, "name": []}]
    for body in bodies:
        with pytest.raises(SourceError) as caught:
            parsed(kind, body)
        assert caught.value.trouble is Trouble.SHAPE


@pytest.mark.parametrize("kind", ARM)
@pytest.mark.parametrize("properties", ["text", [], ["a"], 7, True])
def test_properties_that_are_no_object_are_a_problem_that_names_the_asset(kind: Kind, properties: Any) -> None:
    body = {"id": f"{SCOPE}/models/m/versions/1", "name": "n1", "runId": "n1", "properties": properties}
    with pytest.raises(SourceError, match="n1: its properties are not a JSON object") as caught:
        parsed(kind, {"account": body} if kind is Kind.STORAGE_ACCOUNT else body)
    assert caught.value.trouble is Trouble.SHAPE
    step = parsed(Kind.JOB, {"id": f"{SCOPE}/jobs/j1", "name": "j1"})  # recorded: a step, asked for by name
    assert parsed(Kind.JOB, {"id": f"{SCOPE}/jobs/j1", "name": "j1", "properties": None}) == step


ELSEWHERE = SCOPE.removesuffix("/w") + "/other"


@pytest.mark.parametrize(("named", "told"), [
    (f"{SCOPE}/data/sales/versions/3", "sales/3"),
    (SCOPE.upper().replace("/VERSIONS", "/versions") + "/data/sales/versions/3", "sales/3"),
    (f"azureml:{SCOPE}/data/sales/versions/3", "sales/3"),
    ("azureml://locations/x/workspaces/guid/data/sales/versions/3", "sales/3"),
    ("azureml:sales:3", "sales/3"),
    ("azureml:sales@latest", "sales@latest"),
    *((other, other) for other in (
        f"{ELSEWHERE}/data/sales/versions/3",
        f"azureml:{ELSEWHERE}/data/sales/versions/3",
        SCOPE.replace("/s/", "/s2/") + "/data/sales/versions/3",
        "azureml://registries/shared/data/sales/versions/3",
        "azureml://datastores/blobs/paths/data/sales/versions/3",
        "https://account.blob.core.windows.net/c/data/sales/versions/3",
    )),
])  # fmt: skip
def test_what_a_job_reads_is_called_by_its_key_if_it_is_in_this_workspace_and_by_its_whole_address_elsewhere(
    named: str, told: str
) -> None:
    asset = parsed(Kind.JOB, make_job({"inputs": {"in": {"jobInputType": "uri_folder", "uri": named}}}))
    assert asset.data_version == told
    code = named.replace("/data/", "/codes/")
    deployment = {
        "id": f"{SCOPE}/onlineEndpoints/e/deployments/blue", "name": "blue",
        "properties": {"codeConfiguration": {"codeId": code}},
    }  # fmt: skip
    expected = told if told != named else code
    assert parsed(Kind.ONLINE_DEPLOYMENT, deployment).code_version == expected
    assert parsed(Kind.JOB, make_job({"codeId": code})).code_version == expected


@pytest.mark.parametrize("identifier", [
    "/subscriptions/s/providers/Microsoft.MachineLearningServices/locations/westeurope/quotas/cores",
    "/subscriptions/s/providers/microsoft.machinelearningservices/locations/WestEurope/quotas/cores",
    "/Subscriptions/S/Providers/MICROSOFT.MACHINELEARNINGSERVICES/Locations/westeurope/quotas/cores",
])  # fmt: skip
def test_a_quota_has_one_key_in_whatever_case_azure_writes_its_id(identifier: str) -> None:
    asset = parsed(Kind.QUOTA, {"id": identifier, "name": {"value": "cores"}})
    assert asset.key == "locations/westeurope/quotas/cores"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab\x00é", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)
NAMES = ("properties", "systemData", "tags", "name", "id", "etag", "status", "inputs", "credentials", "createdAt")


@settings(max_examples=200)
@given(
    kind=st.sampled_from(ARM),
    body=st.dictionaries(
        st.sampled_from(NAMES), JSON | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3), max_size=3
    ),
    identifier=st.sampled_from([f"{SCOPE}/models/m/versions/1", f"{SCOPE}/batchEndpoints/e/deployments/d", "x"]),
)
def test_whatever_is_in_a_body_it_is_understood_or_refused_and_the_key_is_the_same_both_ways(
    kind: Kind, body: dict[str, Any], identifier: str
) -> None:
    raw = json.dumps({"id": identifier, "name": "n"} | body | {"runId": "r"}).encode()
    with suppress(SourceError):
        asset = parse(kind, raw)
        assert canonical.decode(canonical.encode(asset.document)) is not None
        if kind not in (Kind.CHILD_JOB, Kind.WORKSPACE, Kind.STORAGE_ACCOUNT):
            assert item(kind, raw).key == asset.key
