"""The roles of deploy/azure/roles allow what stocktake asks Azure for, and nothing that changes or reveals anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stocktake.demo.azure.estate import Estate
from stocktake.making import RESOURCE_GRAPH
from stocktake.sources.arm_rights import BLOBS, Grant, action_of, grants
from stocktake.sources.azure_discovery import descendants
from stocktake.sources.azureml_plan import ACTIVITY_LOG, BY_KIND, STORAGE_PARTS, Place, soft_deleted
from tests.azure.server import served
from tests.servers.azureml import azureml_source
from tests.servers.reading import read

REPO = Path(__file__).parents[2]
FOLDER = REPO / "deploy" / "azure" / "roles"
FILES = sorted(FOLDER.glob("*.json"))
PLACE = Place(subscription="s", resource_group="g", workspace="w", location="westeurope")
ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"


def role(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def grant(file: Path) -> Grant:
    found = role(file)
    return Grant(
        actions=found["Actions"],
        not_actions=found["NotActions"],
        data_actions=found["DataActions"],
        not_data_actions=found["NotDataActions"],
    )


def planned() -> set[str]:
    """Every right that the request plan needs."""
    paths = {
        PLACE.path(template, parent="p", key="k")
        for row in BY_KIND.values()
        for template in (*row.lists, row.item)
        if template
    }
    paths |= {ACCOUNT, *(ACCOUNT + below for below in STORAGE_PARTS.values()), soft_deleted("s"), RESOURCE_GRAPH}
    paths |= {PLACE.path(ACTIVITY_LOG), descendants("g"), "/subscriptions/s", "/subscriptions/s/resourceGroups/g"}
    return {action_of(path) for path in paths}


@pytest.mark.parametrize(
    ("path", "action"),
    [
        ("/subscriptions/s", "Microsoft.Resources/subscriptions/read"),
        ("/subscriptions/s/resourceGroups/g", "Microsoft.Resources/subscriptions/resourceGroups/read"),
        (PLACE.scope, "Microsoft.MachineLearningServices/workspaces/read"),
        (f"{PLACE.scope}/models/m/versions", "Microsoft.MachineLearningServices/workspaces/models/versions/read"),
        (f"{PLACE.scope}/models/m/versions/1", "Microsoft.MachineLearningServices/workspaces/models/versions/read"),
        (f"{PLACE.scope}/providers/Microsoft.Insights/metrics", "Microsoft.Insights/metrics/read"),
        (f"{ACCOUNT}/blobServices/default", "Microsoft.Storage/storageAccounts/blobServices/read"),
        (RESOURCE_GRAPH, "Microsoft.ResourceGraph/resources/read"),
        (PLACE.path(ACTIVITY_LOG), "Microsoft.Insights/eventtypes/values/read"),
        (descendants("g"), "Microsoft.Management/managementGroups/descendants/read"),
    ],
)  # fmt: skip
def test_the_right_that_a_path_needs_is_its_types(path: str, action: str) -> None:
    assert action_of(path) == action


def test_the_first_tier_allows_every_request_of_the_plan() -> None:
    tier = grant(FOLDER / "1-metadata.json")
    wanted = planned()
    assert len(wanted) > 25
    assert [action for action in sorted(wanted) if not tier.allows(action)] == []


def test_the_first_tier_allows_every_request_that_a_scan_is_seen_to_send() -> None:
    tier = grant(FOLDER / "1-metadata.json")
    estate = Estate()
    workspace = estate.add_workspace("w")
    with served(estate) as server:
        source = azureml_source(server, workspace)
        read(source)
        source.close()
        sent = {what.action for what, _ in server.seen.requests if what.action}
    assert len(sent) > 20
    assert [action for action in sorted(sent) if not tier.allows(action)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_tier_allows_a_change_or_a_secret(file: Path) -> None:
    found, tier = role(file), grant(file)
    for pattern in (*found["Actions"], *found["DataActions"]):
        assert pattern.endswith("/read"), f"{pattern} is more than reading"
        assert re.match(r"Microsoft\.[A-Za-z]+/", pattern), f"{pattern} is not of one provider"
    for action in (
        "Microsoft.MachineLearningServices/workspaces/write",
        "Microsoft.MachineLearningServices/workspaces/delete",
        "Microsoft.MachineLearningServices/workspaces/listKeys/action",
        "Microsoft.MachineLearningServices/workspaces/datastores/listSecrets/action",
        "Microsoft.MachineLearningServices/workspaces/connections/listsecrets/action",
        "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/token/action",
        "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/listKeys/action",
        "Microsoft.MachineLearningServices/workspaces/computes/listNodes/action",
        "Microsoft.MachineLearningServices/workspaces/jobs/cancel/action",
        "Microsoft.MachineLearningServices/workspaces/notebooks/storage/read",
        "Microsoft.Storage/storageAccounts/listKeys/action",
        "Microsoft.Authorization/roleAssignments/write",
    ):
        assert not tier.allows(action), f"{file.stem} allows {action}"


def test_blobs_begin_with_the_second_tier() -> None:
    assert [grant(file).allows_data(BLOBS) for file in FILES] == [False, True, True, True]


def test_the_condition_of_the_third_tier_lets_list_and_read_nothing_but_the_inventory() -> None:
    condition = (FOLDER / "3-list-blobs.condition.txt").read_text("utf-8").strip()
    assert condition.count("(") == condition.count(")")
    assert f"!(ActionMatches{{'{BLOBS}'}} AND NOT SubOperationMatches{{'Blob.List'}})" in condition
    assert condition.endswith(":name] StringEquals 'stocktake-inventory'))")


def test_every_role_is_a_file_that_azure_takes_and_the_guide_tells_of() -> None:
    guide = (REPO / "docs" / "how-to" / "azure-permissions.md").read_text("utf-8")
    assert [file.stem[0] for file in FILES] == ["1", "2", "3", "4"]
    for file in FILES:
        found = role(file)
        assert found["IsCustom"] is True
        assert found["AssignableScopes"] == ["/subscriptions/00000000-0000-0000-0000-000000000000"]
        assert len(found["Description"]) <= 2048
        assert file.name in guide
        assert found["Name"] in guide
    for action in role(FILES[0])["Actions"]:
        assert action in guide


@pytest.mark.parametrize(
    ("patterns", "action", "allowed"),
    [
        (["*/read"], "Microsoft.X/y/z/read", True),
        (["Microsoft.X/*/read"], "microsoft.x/Y/read", True),
        (["Microsoft.X/*/read"], "Microsoft.X/y/write", False),
        (["Microsoft.X/y.z/read"], "Microsoft.X/ywz/read", False),
        (["*"], "anything/action", True),
        ([], "Microsoft.X/y/read", False),
    ],
)
def test_patterns_match_as_azure_matches_them(patterns: list[str], action: str, allowed: bool) -> None:
    assert Grant(actions=patterns).allows(action) is allowed
    assert Grant(actions=["*"], not_actions=patterns).allows(action) is not allowed


@pytest.mark.parametrize("body", [None, [], {}, {"value": None}, {"value": [7, {"actions": "x", "dataActions": [3]}]}])
def test_permissions_that_are_not_understood_grant_nothing(body: Any) -> None:
    assert not any(one.allows("Microsoft.X/y/read") or one.allows_data(BLOBS) for one in grants(body))
