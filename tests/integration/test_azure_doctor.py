"""`stocktake doctor` over the loopback Azure: who we are, what is there, which right is missing and what that costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

from stocktake.core.assets import Kind
from stocktake.demo.azure.estate import MANAGEMENT_GROUP, Estate
from stocktake.demo.azure.workspace import Workspace
from stocktake.doctor import azure, discovery
from stocktake.doctor import examine as examine_all
from stocktake.doctor.azure_rights import ACTORS, COSTS
from stocktake.doctor.checks import Check, Level
from stocktake.settings import Settings, load_settings
from stocktake.sources.azureml_plan import ROWS
from tests.azure.config import TOKEN, configuration
from tests.azure.server import AzureServer, served

Examine = Callable[..., list[Check]]
ML = "Microsoft.MachineLearningServices/workspaces"
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"


@pytest.fixture
def place() -> Iterator[tuple[AzureServer, Workspace]]:
    estate = Estate(now=datetime.now(UTC))
    workspace = estate.add_workspace("fraud")
    with served(estate) as server:
        yield server, workspace


@pytest.fixture
def examine(place: tuple[AzureServer, Workspace], tmp_path: Path) -> Examine:
    server, workspace = place

    def act(token: str | None = None, **given: Any) -> list[Check]:
        text = configuration([workspace], arm=server.arm, ca_file=str(server.ca_file), schedule=("10m", "24h"))
        data = yaml.safe_load(text)
        data["workspaces"][0]["azureml"] |= given
        file = tmp_path / "stocktake.yaml"
        file.write_text(yaml.safe_dump(data), "utf-8")
        settings = load_settings(file, {})
        (one,) = settings.workspaces
        assert one.azureml is not None
        return list(azure.workspace(settings, one, one.azureml, {TOKEN: token or server.token()}))

    return act


def told(checks: list[Check], name: str) -> Check:
    (one,) = [check for check in checks if check.check == name]
    return one


def test_a_workspace_with_every_right_is_well(place: tuple[AzureServer, Workspace], examine: Examine) -> None:
    server, _ = place
    checks = examine()
    assert [(one.check, one.level) for one in checks] == [
        ("credential", Level.WARN),  # a token that nobody renews
        ("reach", Level.OK),
        ("clock", Level.OK),
        ("rights", Level.OK),
        ("tier", Level.OK),
    ]
    assert server.credential.principal in told(checks, "credential").message
    assert "the token is good for 59m" in told(checks, "credential").message
    assert server.token() not in repr(checks)
    assert told(checks, "tier").message.startswith("1 (what the resource manager and MLflow tell)")
    families = server.seen.families()
    assert max(families.values()) <= 2, "one page of each list, and the storage account's parts"
    assert families["mlflow experiments/search"] == families["mlflow runs/search"] == 1


@pytest.mark.parametrize(
    ("action", "cost"),
    [
        (f"{ML}/computes/read", COSTS[Kind.COMPUTE]),
        (f"{ML}/jobs/read", COSTS[Kind.JOB]),
        (f"{ML}/models/versions/read", COSTS[Kind.MODEL_VERSION]),
        (f"{ML}/onlineEndpoints/deployments/read", COSTS[Kind.ONLINE_DEPLOYMENT]),
        (f"{ML}/experiments/read", COSTS[Kind.EXPERIMENT]),
        (f"{ML}/experiments/runs/read", COSTS[Kind.RUN]),
        ("Microsoft.Authorization/roleAssignments/read", COSTS[Kind.ROLE_ASSIGNMENT]),
        ("Microsoft.Insights/eventtypes/values/read", COSTS[ACTORS]),
    ],
)  # fmt: skip
def test_a_right_that_is_missing_is_named_with_its_scope_and_what_it_costs(
    place: tuple[AzureServer, Workspace], examine: Examine, action: str, cost: str
) -> None:
    server, workspace = place
    server.estate.deny(f"/subscriptions/{workspace.subscription}", action)
    checks = examine()
    missing = told(checks, "rights")
    assert missing.level is Level.WARN
    assert f"lacks {action} on /subscriptions/" in missing.message
    assert missing.message.endswith(cost)
    assert "azure-permissions.md" in str(missing.next_step)
    assert ("is asked of the subscription" in str(missing.next_step)) == ("eventtypes" in action)
    assert "with what is missing above" in told(checks, "tier").message


def test_whoever_may_not_read_the_workspace_hears_which_right_and_nothing_more_is_asked(
    place: tuple[AzureServer, Workspace], examine: Examine
) -> None:
    server, workspace = place
    server.estate.deny(workspace.scope)
    checks = examine()
    assert [one.check for one in checks] == ["credential", "reach"]
    assert checks[-1].level is Level.FAIL
    assert "lacks Microsoft.MachineLearningServices/workspaces/read on /subscriptions/" in checks[-1].message
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"subscription": "0a1b2c3d-0000-4000-8000-0000000000ff"}, "the subscription 0a1b2c3d-0000-4000-8000-0"),
        ({"resource_group": "other"}, "there is no resource group other"),
        ({"workspace": "frau"}, "there is no workspace frau in"),
    ],
)  # fmt: skip
def test_the_wrong_place_is_told_apart_from_a_deleted_one(examine: Examine, given: Any, words: str) -> None:
    reach = told(examine(**given), "reach")
    assert reach.level is Level.FAIL
    assert words in reach.message
    assert "soft-deleted" not in reach.message


def test_a_soft_deleted_workspace_is_said_to_be_that(place: tuple[AzureServer, Workspace], examine: Examine) -> None:
    _, workspace = place
    workspace.soft_delete()
    reach = told(examine(), "reach")
    assert (reach.level, reach.message.endswith("it is soft-deleted")) == (Level.FAIL, True)
    assert "14 days" in str(reach.next_step)


@pytest.mark.parametrize(
    ("grant", "level", "tier"),
    [
        ({"dataActions": [BLOBS]}, Level.WARN, "4"),
        ({"dataActions": ["*"], "notDataActions": [BLOBS]}, Level.OK, "1"),
        ({"dataActions": [BLOBS], "condition": "((!(... SubOperationMatches{'Blob.List'}) ..."}, Level.OK, "3"),
    ],
)
def test_how_far_rights_reach_over_blobs_is_the_tier(
    place: tuple[AzureServer, Workspace], examine: Examine, grant: Any, level: Level, tier: str
) -> None:
    server, _ = place
    server.faults.status(200, "permissions", body={"value": [{"actions": ["*/read"]}, grant]}, times=None)
    found = told(examine(), "tier")
    assert (found.level, found.message[0]) == (level, tier)


@pytest.mark.parametrize(
    ("status", "code", "right"), [(403, "AuthorizationFailed", True), (404, "InvalidResourceType", False)]
)
def test_only_a_denial_is_answered_with_a_right_to_assign(
    place: tuple[AzureServer, Workspace], examine: Examine, status: int, code: str, right: bool
) -> None:
    server, _ = place
    server.faults.status(status, "permissions", body={"error": {"code": code, "message": "no"}}, times=None)
    assert ("Assign" in str(told(examine(), "tier").next_step)) is right


def test_a_clock_that_is_off_and_a_token_that_ended_are_seen(
    place: tuple[AzureServer, Workspace], examine: Examine
) -> None:
    server, _ = place
    server.estate.tick(180)
    assert re.search(r"(179|180) s ahead", told(examine(), "clock").message)  # an answer's Date has whole seconds
    server.credential.lifetime = timedelta(hours=-1)
    checks = examine()
    assert checks[0].level is Level.FAIL
    assert "the token ended 5" in checks[0].message
    assert (checks[1].check, "clock" in str(checks[1].next_step)) == ("reach", True)


def test_the_data_plane_of_another_cloud_is_sent_nothing(
    place: tuple[AzureServer, Workspace], examine: Examine
) -> None:
    server, _ = place
    checks = examine(custom_cloud={"resource_manager": server.arm, "data_hosts": [".api.azureml.ms"]})
    assert "to which no token may be sent" in told(checks, "reading experiment").message
    assert server.seen.count(plane="mlflow") == 0


def test_what_is_switched_off_is_not_asked_for(place: tuple[AzureServer, Workspace], examine: Examine) -> None:
    server, _ = place
    examine(mlflow=False, posture=False)
    families = server.seen.families()
    assert not [name for name in families if name.startswith("mlflow") or "roleAssignments" in name]


def test_every_kind_that_is_asked_for_says_what_it_costs_not_to_see_it() -> None:
    assert {row.kind for row in ROWS} | {Kind.JOB, Kind.RUN, Kind.EXPERIMENT, Kind.STORAGE_ACCOUNT} <= set(COSTS)


def looked(server: AzureServer, **where: Any) -> list[Check]:
    """What doctor says of an entry of `discovery:`."""
    access = {
        "custom_cloud": {"resource_manager": server.arm, "data_hosts": ["localhost"]},
        "credential": "token",
        "token_env": TOKEN,
        "ca_file": str(server.ca_file),
    }
    settings = Settings.model_validate({"discovery": [{"name": "platform", "azureml": access, **where}]})
    return list(discovery.entry(settings, settings.discovery[0], {TOKEN: server.token()}))


def test_an_entry_of_discovery_that_sees_everything_is_well(place: tuple[AzureServer, Workspace]) -> None:
    server, _ = place
    server.estate.add_workspace("other", subscription=1, tags={"env": "test"})
    (check,) = looked(server, management_group=MANAGEMENT_GROUP)
    assert (check.level, check.check) == (Level.OK, "discovery platform")
    assert check.message.startswith("2 workspaces in ")
    (check,) = looked(server, management_group=MANAGEMENT_GROUP, tags=["env=test"])
    assert check.message.startswith("1 workspaces in ")


def test_the_right_that_discovery_lacks_is_named_with_what_it_costs(place: tuple[AzureServer, Workspace]) -> None:
    server, _ = place
    group = f"/providers/Microsoft.Management/managementGroups/{MANAGEMENT_GROUP}"
    server.estate.deny(group, "Microsoft.Management/managementGroups/descendants/read")
    lacking, well = looked(server, management_group=MANAGEMENT_GROUP)
    assert lacking.level is Level.WARN
    assert lacking.message.startswith(f"{group} could not be looked at: what is below it is not told: ")
    assert "lacks Microsoft.Management/managementGroups/descendants/read" in lacking.message
    assert lacking.message.endswith("are not taken for gone")
    assert well.level is Level.OK  # Resource Graph shows them all the same


def test_an_entry_without_its_secret_is_a_failure(place: tuple[AzureServer, Workspace]) -> None:
    server, workspace = place
    server.estate.deny(f"/subscriptions/{workspace.subscription}")
    assert looked(server, subscriptions=[workspace.subscription])[0].level is Level.WARN
    access = {"credential": "token", "token_env": "NOT_SET"}
    settings = Settings.model_validate(
        {"discovery": [{"name": "platform", "azureml": access, "subscriptions": [workspace.subscription]}]}
    )
    (check,) = discovery.entry(settings, settings.discovery[0], {})
    assert check.level is Level.FAIL
    assert "NOT_SET" in str(check.next_step)


def test_of_one_workspace_nothing_is_told_that_is_wrong_with_another(tmp_path: Path) -> None:
    estate = Estate(now=datetime.now(UTC))
    both = [estate.add_workspace(name) for name in ("fraud", "churn")]
    file = tmp_path / "stocktake.yaml"
    file.write_text(
        configuration(both, arm="https://arm.example", ca_file="none.pem", schedule=("10m", "24h")), "utf-8"
    )
    settings = load_settings(file, {})
    checks = takewhile(lambda check: check.check == "configuration", examine_all(settings, ["fraud"], environ={}))
    assert {check.workspace for check in checks} == {None, "fraud"}
