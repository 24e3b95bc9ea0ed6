"""The configuration of an Azure ML workspace, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stocktake.core.errors import ConfigError
from stocktake.making import Shared, address, cloud_of, credential_of, source_name
from stocktake.settings import AzureMlSettings, Settings, check, load_settings

SUBSCRIPTION = "0A1B2C3D-0000-4000-8000-000000000001"
TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
CLIENT = "0a1b2c3d-0000-4000-8000-00000000000b"
PLACE = {"subscription": SUBSCRIPTION, "resource_group": "ml-rg", "workspace": "fraud-prod"}
CUSTOM = {"resource_manager": "https://127.0.0.1:8443", "data_hosts": ["127.0.0.1"]}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def act(*workspaces: dict[str, Any], **environ: str) -> Settings:
        named = [{"name": f"w{number}", "azureml": PLACE | one} for number, one in enumerate(workspaces)]
        file = tmp_path / "stocktake.yaml"
        file.write_text(yaml.safe_dump({"workspaces": named}), "utf-8")
        return load_settings(file, environ)

    return act


def azureml(settings: Settings, number: int = 0) -> AzureMlSettings:
    found = settings.workspaces[number].azureml
    assert found is not None
    return found


def test_a_subscription_a_group_and_a_name_are_enough(load: Any) -> None:
    settings = load({})
    one = azureml(settings)
    assert (one.credential, one.cloud, one.mlflow, one.history, one.posture) == (
        "default",
        "AzureCloud",
        True,
        True,
        True,
    )
    assert source_name(settings.workspaces[0]) == "azureml"
    assert address(settings.workspaces[0]) == (
        "https://management.azure.com/subscriptions/0a1b2c3d-0000-4000-8000-000000000001/resourceGroups/ml-rg"
        "/providers/Microsoft.MachineLearningServices/workspaces/fraud-prod"
    )
    assert check(settings, {}) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"subscription": "my subscription"}, "subscription (line 4) is not a subscription's id"),
        ({"resource_group": "/subscriptions/x/resourceGroups/y"}, "allows in no such name"),
        ({"workspace": "a/../b"}, "allows in no such name"),
        ({"workspace": ".."}, "allows in no such name"),
        ({"cloud": "AzureGermanCloud"}, "must be one of"),
        ({"credential": "password"}, "must be one of"),
        ({"tenant": "contoso.onmicrosoft.com"}, "tenant"),
        ({"credential": "managed-identity", "tenant": TENANT}, "`credential: managed-identity` does not use"),
        ({"credential": "developer", "client_id": CLIENT}, "`credential: developer` does not use"),
        ({"token_env": "T"}, "`credential: default` does not use"),
        ({"credential": "token"}, "needs `token_env`"),
        ({"credential": "service-principal"}, "needs `tenant`"),
        ({"credential": "service-principal", "tenant": TENANT}, "needs `client_id`"),
        ({"credential": "service-principal", "tenant": TENANT, "client_id": CLIENT}, "exactly one of `client_secr"),
        ({"client_secret_env": "abc~secret"}, "must be the name of an env"),
        ({"custom_cloud": CUSTOM, "cloud": "AzureCloud"}, "names both `cloud` and `custom_cloud`"),
        ({"custom_cloud": CUSTOM | {"resource_manager": "http://x"}}, "must begin with https://"),
        ({"custom_cloud": CUSTOM | {"data_hosts": ["https://x"]}}, "is no host name"),
        ({"custom_cloud": CUSTOM | {"data_hosts": []}}, "data_hosts"),
        ({"budget": 3}, "budget"),
        ({"client_secret": "hunter2"}, "holds a secret. Put it into an environment variable and name"),
        ({"colour": "red"}, "is not a known key"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_a_way_out(load: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(given)
    assert words in str(caught.value)
    assert "(line" in str(caught.value)


@pytest.mark.parametrize("both", [True, False])
def test_a_workspace_is_one_place_of_one_kind(tmp_path: Path, both: bool) -> None:
    file = tmp_path / "stocktake.yaml"
    place = {"azureml": PLACE, "mlflow": {"uri": "http://h"}} if both else {}
    file.write_text(yaml.safe_dump({"workspaces": [{"name": "a", **place}]}), "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(file, {})
    assert "needs exactly one of `mlflow` (a tracking server) and `azureml`" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ({"credential": "token", "token_env": "T"}, {}, {"token_env": True, "credential": False}),
        ({"credential": "token", "token_env": "T"}, {"T": "a b"}, {"token_env": True, "credential": False}),
        ({"credential": "workload-identity"}, {}, {"credential": True}),
        ({"credential": "workload-identity"}, {"AZURE_FEDERATED_TOKEN_FILE": "/x"}, {}),
        ({"ca_file": "/not/there.pem"}, {}, {"ca_file": True}),
        ({"custom_cloud": CUSTOM}, {}, {"custom_cloud.authority": True}),
        (
            {"credential": "service-principal", "tenant": TENANT, "client_id": CLIENT, "client_secret_env": "S"},
            {},
            {"client_secret_env": True},
        ),
        (
            {"credential": "service-principal", "tenant": TENANT, "client_id": CLIENT, "client_certificate": "/no.pem"},
            {},
            {"client_certificate": True},
        ),
    ],
)
def test_what_will_not_work_here_is_seen_before_anything_is_asked(
    load: Any, given: dict[str, Any], environ: dict[str, str], expected: dict[str, bool]
) -> None:
    found = {
        problem.path.removeprefix("workspaces[0].azureml."): problem.fatal for problem in check(load(given), environ)
    }
    assert found == expected


def test_the_same_workspace_in_another_case_is_the_same_place(load: Any) -> None:
    settings = load({}, {"workspace": "FRAUD-PROD", "resource_group": "ML-RG"}, {"workspace": "other"})
    assert [(problem.path, problem.workspace) for problem in check(settings, {})] == [("workspaces[1].azureml", "w1")]
    assert address(settings.workspaces[0]) == address(settings.workspaces[1]) != address(settings.workspaces[2])


@pytest.mark.parametrize(
    ("cloud", "manager", "host"),
    [
        ("AzureCloud", "https://management.azure.com", ".api.azureml.ms"),
        ("AzureChinaCloud", "https://management.chinacloudapi.cn", ".api.ml.azure.cn"),
        ("AzureUSGovernment", "https://management.usgovcloudapi.net", ".api.ml.azure.us"),
    ],
)
def test_each_cloud_has_its_own_addresses_and_scope(load: Any, cloud: str, manager: str, host: str) -> None:
    found = cloud_of(azureml(load({"cloud": cloud})))
    assert (found.resource_manager, found.data_hosts, found.scope) == (manager, (host,), f"{manager}/.default")
    assert found.known


def test_a_cloud_of_ones_own_is_not_vouched_for_by_entra(load: Any) -> None:
    found = cloud_of(azureml(load({"custom_cloud": CUSTOM, "credential": "token", "token_env": "T"})))
    assert (found.resource_manager, found.data_hosts, found.known) == ("https://127.0.0.1:8443", ("127.0.0.1",), False)


def test_a_secret_that_is_not_in_the_environment_is_missed_by_name(load: Any) -> None:
    settings = load({"credential": "token", "token_env": "AML_TOKEN"})
    with pytest.raises(ConfigError) as caught:
        credential_of(settings.workspaces[0], azureml(settings), {})
    assert "AML_TOKEN" in str(caught.value)


def test_workspaces_share_a_token_and_a_bucket_where_subscription_and_identity_are_the_same(load: Any) -> None:
    settings = load(
        {},
        {"workspace": "other"},
        {"subscription": SUBSCRIPTION[:-1] + "2"},
        {"credential": "managed-identity"},
    )
    shared = Shared()
    credentials = [credential_of(one, azureml(settings, n), {}) for n, one in enumerate(settings.workspaces)]
    tokens = [shared.identities.token(one) for one in credentials]
    buckets = [
        shared.bucket(one.cloud, azureml(settings, n).subscription, one.principal) for n, one in enumerate(credentials)
    ]
    assert tokens[0] is tokens[1] is tokens[2]
    assert tokens[3] is not tokens[0]
    assert buckets[0] is buckets[1]
    assert len({id(one) for one in buckets}) == 3


def test_no_secret_is_shown_by_what_is_made_of_it(load: Any) -> None:
    given = {"credential": "service-principal", "tenant": TENANT, "client_id": CLIENT, "client_secret_env": "S"}
    settings = load(given)
    found = credential_of(settings.workspaces[0], azureml(settings), {"S": "hunter2~x"})
    assert found.client_secret == "hunter2~x"
    assert "hunter2" not in repr(found) + repr(found.principal) + found.words
