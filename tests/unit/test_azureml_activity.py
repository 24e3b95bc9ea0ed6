"""A line of the Azure activity log: which asset it is about, and what of it is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from stocktake.core.actors import TOLD, Line
from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.azureml import AzureMl
from stocktake.sources.azureml_activity import asset_of, line
from stocktake.sources.azureml_plan import Place

PLACE = Place(subscription="0a1b", resource_group="ml-prod", workspace="fraud")
GROUP, SCOPE = PLACE.group, PLACE.scope
STORAGE = "/subscriptions/0a1b/resourceGroups/data/providers/Microsoft.Storage/storageAccounts/fraudstore"
ML = "Microsoft.MachineLearningServices/workspaces"
#: A line as the documentation shows one, with everything that is not to be kept.
EVENT: dict[str, Any] = {
    "authorization": {"action": f"{ML}/schedules/write", "role": "Contributor", "scope": SCOPE},
    "caller": "ada@team.example",
    "category": {"value": "Administrative", "localizedValue": "Administrative"},
    "claims": {"ipaddr": "203.0.113.7", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name": "ada"},
    "correlationId": "c1",
    "eventDataId": "e1",
    "eventTimestamp": "2026-05-01T10:00:00.1234567Z",
    "httpRequest": {"clientIpAddress": "203.0.113.7", "method": "PUT"},
    "id": "/subscriptions/0a1b/events/e1/ticks/1",
    "operationId": "o1",
    "operationName": {"value": f"{ML}/schedules/write", "localizedValue": "Create or update a schedule"},
    "resourceId": f"{SCOPE}/schedules/weekly",
    "status": {"value": "Succeeded", "localizedValue": "Succeeded"},
}


def told(**changed: Any) -> Line | None:
    return line(json.dumps(EVENT | changed).encode(), PLACE, STORAGE)


def test_a_line_is_who_did_what_to_which_asset_when() -> None:
    at = datetime(2026, 5, 1, 10, 0, 0, 123000, tzinfo=UTC)
    assert told() == Line(
        Kind.SCHEDULE, "weekly", f"{ML}/schedules/write", "o1", "e1", "ada@team.example", at, accepted=True
    )


@pytest.mark.parametrize(
    ("status", "accepted", "failed"),
    [
        ("Started", False, False),
        ("Accepted", True, False),
        ("Succeeded", True, False),
        ("Success", True, False),
        ("In Progress", False, False),
        ("Failed", False, True),
        ("Canceled", False, True),
    ],
)
def test_what_has_begun_is_told_apart_from_what_was_accepted_and_what_failed(
    status: str, accepted: bool, failed: bool
) -> None:
    found = told(status={"value": status})
    assert found is not None
    assert (found.accepted, found.failed) == (accepted, failed)


@pytest.mark.parametrize(
    "changed",
    [
        {"status": {"value": "Active"}},
        {"status": None},
        {"category": {"value": "Policy"}},
        {"category": {"value": "ServiceHealth"}, "resourceId": None},
        {"operationName": {"value": f"{ML}/listKeys/action"}},
        {"operationName": {"value": f"{ML}/schedules/read"}},
        {"resourceId": f"{SCOPE}2/schedules/weekly"},
        {"resourceId": f"{GROUP}/providers/Microsoft.Compute/virtualMachines/weekly"},
        {"resourceId": 7},
    ],
)
def test_what_failed_or_changes_nothing_or_is_of_others_is_no_line_of_ours(changed: dict[str, Any]) -> None:
    assert told(**changed) is None


def test_a_caller_that_is_not_there_is_nobody_and_ids_may_be_missing() -> None:
    found = told(caller=None, operationId=None, correlationId=None)
    assert found is not None
    assert (found.caller, found.operation_id) == ("", "e1")
    found = told(operationId=None)
    assert found is not None
    assert found.operation_id == "c1"


@pytest.mark.parametrize(
    "changed",
    [{"eventTimestamp": "soon"}, {"eventTimestamp": None}, {"eventDataId": None}, {"caller": "x" * 1001}],
)
def test_a_line_about_an_asset_of_ours_that_is_not_understood_is_no_silence(changed: dict[str, Any]) -> None:
    with pytest.raises(SourceError) as caught:
        told(**changed)
    assert caught.value.trouble is Trouble.SHAPE


@pytest.mark.parametrize(
    ("resource", "asset"),
    [
        (SCOPE, (Kind.WORKSPACE, "workspace")),
        (f"{SCOPE}/", (Kind.WORKSPACE, "workspace")),
        (SCOPE.upper(), (Kind.WORKSPACE, "workspace")),
        (f"{SCOPE}/jobs/khaki_fig_0", (Kind.JOB, "khaki_fig_0")),
        (f"{SCOPE.lower()}/computes/CPU-1", (Kind.COMPUTE, "CPU-1")),
        (f"{SCOPE}/onlineEndpoints/shop", (Kind.ONLINE_ENDPOINT, "shop")),
        (f"{SCOPE}/onlineendpoints/shop/deployments/blue", (Kind.ONLINE_DEPLOYMENT, "shop/blue")),
        (f"{SCOPE}/batchEndpoints/b/deployments/d", (Kind.BATCH_DEPLOYMENT, "b/d")),
        (f"{SCOPE}/models/m", (Kind.REGISTERED_MODEL, "m")),
        (f"{SCOPE}/models/m/versions/3", (Kind.MODEL_VERSION, "m/3")),
        (f"{SCOPE}/data/d/versions/3", (Kind.DATA_VERSION, "d/3")),
        (f"{SCOPE}/environments/e/versions/3", (Kind.ENVIRONMENT_VERSION, "e/3")),
        (f"{SCOPE}/components/c", (Kind.COMPONENT, "c")),
        (f"{SCOPE}/datastores/d", (Kind.DATASTORE, "d")),
        (f"{SCOPE}/connections/c", (Kind.CONNECTION, "c")),
        (f"{SCOPE}/privateEndpointConnections/p", (Kind.PRIVATE_ENDPOINT, "p")),
        (f"{SCOPE}/providers/microsoft.insights/diagnosticSettings/d", (Kind.DIAGNOSTIC_SETTING, "d")),
        (f"{SCOPE}/providers/Microsoft.Authorization/roleAssignments/r", (Kind.ROLE_ASSIGNMENT, "r")),
        (f"{GROUP}/providers/Microsoft.Authorization/roleAssignments/r", (Kind.ROLE_ASSIGNMENT, "r")),
        ("/subscriptions/0a1b/providers/Microsoft.Authorization/roleAssignments/r", (Kind.ROLE_ASSIGNMENT, "r")),
        (f"{GROUP}/providers/Microsoft.MachineLearningServices/registries/r", (Kind.REGISTRY, "r")),
        (STORAGE, (Kind.STORAGE_ACCOUNT, "fraudstore")),
        (f"{STORAGE}/blobServices/default", (Kind.STORAGE_ACCOUNT, "fraudstore")),
        (f"{STORAGE}/managementPolicies/default", (Kind.STORAGE_ACCOUNT, "fraudstore")),
        (f"{STORAGE}/blobServices/default/containers/c", None),
        (f"{STORAGE}2", None),
        (f"{STORAGE}/providers/Microsoft.Authorization/roleAssignments/r", None),
        (f"{GROUP}2/providers/Microsoft.Authorization/roleAssignments/r", None),
        (f"{SCOPE}/jobs/khaki_fig_0/more", None),
        (f"{SCOPE}/jobs/", None),
        (f"{SCOPE}/strange/thing", None),
        (GROUP, None),
        ("", None),
    ],
)  # fmt: skip
def test_a_resource_is_the_asset_that_is_listed_under_its_id(resource: str, asset: tuple[Kind, str] | None) -> None:
    assert asset_of(resource, PLACE, STORAGE) == asset


def test_without_a_storage_account_there_is_none_of_it() -> None:
    assert asset_of(STORAGE, PLACE, None) is None


def test_every_kind_that_the_log_tells_of_is_one_of_the_source_and_can_be_found_in_it() -> None:
    told_of = AzureMl.kinds.keys() & TOLD
    assert AzureMl.kinds.keys() - TOLD == {Kind.RUN, Kind.EXPERIMENT, Kind.CHILD_JOB, Kind.QUOTA}
    assert {Kind.SCHEDULE, Kind.MODEL_VERSION, Kind.STORAGE_ACCOUNT, Kind.WORKSPACE} <= told_of
