"""Another model, environment, code, instance type, probe, network access, identity or way to authenticate; or removed.
Not: shares of traffic, tags, descriptions, the number of instances, what moves by itself, what is new."""

from __future__ import annotations

from typing import Any

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "endpoint-config-changed"

_OF_DEPLOYMENT: tuple[dict[str, Any], ...] = (
    {"environmentId": "ENV/versions/9"},
    {"instanceType": "Standard_F4s_v2"},
    {"environmentVariables": {"THRESHOLD": "0.2"}},
    {"livenessProbe": {"failureThreshold": 3}},
    {"egressPublicNetworkAccess": "Enabled"},
    {"requestSettings": {"maxConcurrentRequestsPerInstance": 8}},
    {"codeConfiguration": {"scoringScript": "other.py"}},
    {"appInsightsEnabled": True},
)
_OF_ENDPOINT: tuple[dict[str, Any], ...] = (
    {"properties": {"authMode": "AADToken"}},
    {"properties": {"publicNetworkAccess": "Disabled"}},
    {"properties": {"mirrorTraffic": {"green": 20}}},
    {"identity": {"principalId": "00000000-0000-4000-8000-000000000001"}},
    {"identity": {"type": "UserAssigned"}},
)


def another_model(world: AzureWorld, plot: Plot) -> Plays:
    endpoint, name = world.endpoint(), world.choose.choice(("blue", "green"))
    yield None
    world.main.deploy_model(endpoint, name, "model-001", "77", by=world.person())
    plot.fault(RULE, "online_deployment", f"{endpoint}/{name}")
    yield None


def a_deployment_is_set_otherwise_and_sometimes_back(world: AzureWorld, plot: Plot) -> Plays:
    endpoint, name = world.endpoint(), world.choose.choice(("blue", "green"))
    path, patch = ("onlineEndpoints", endpoint, "deployments", name), world.choose.choice(_OF_DEPLOYMENT)
    before = world.shelf(*path[:-1]).find(name)
    assert before is not None
    yield None
    world.main.edit(*path, properties=patch)
    plot.fault(RULE, "online_deployment", f"{endpoint}/{name}")
    yield None
    if world.choose.random() < 0.6:
        (field, now), *_ = patch.items()
        was = before["properties"][field]
        back = {one: was.get(one) for one in now} if isinstance(now, dict) else was
        world.main.edit(*path, properties={field: back})
        plot.over(RULE, "online_deployment", f"{endpoint}/{name}")
        yield None


def an_endpoint_is_set_otherwise(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    yield None
    world.main.edit("onlineEndpoints", endpoint, **world.choose.choice(_OF_ENDPOINT))
    plot.fault(RULE, "online_endpoint", endpoint)
    yield None


def a_batch_deployment_is_set_otherwise(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint(batch=True)
    yield None
    patch = world.choose.choice(({"miniBatchSize": 50}, {"compute": "gpu"}, {"outputAction": "SummaryOnly"}))
    world.main.edit("batchEndpoints", endpoint, "deployments", "default", properties=patch)
    plot.fault(RULE, "batch_deployment", f"{endpoint}/default")
    yield None


def a_deployment_is_removed_and_sometimes_comes_back(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    yield None
    world.shelf("onlineEndpoints", endpoint, "deployments").remove("green")
    plot.fault(RULE, "online_deployment", f"{endpoint}/green")
    yield None
    if world.choose.random() < 0.6:
        world.shelf("onlineEndpoints", endpoint, "deployments").bring_back("green")
        plot.over(RULE, "online_deployment", f"{endpoint}/green")
        yield None


def an_endpoint_is_removed_with_its_deployments(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    yield None
    world.shelf("onlineEndpoints").remove(endpoint)
    plot.fault(RULE, "online_endpoint", endpoint)
    for name in ("blue", "green"):
        plot.near_miss(RULE, "online_deployment", f"{endpoint}/{name}")
    yield None


def words_and_counts(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    plot.near_miss(RULE, "online_endpoint", endpoint)
    plot.near_miss(RULE, "online_deployment", f"{endpoint}/blue")
    yield None
    world.main.edit("onlineEndpoints", endpoint, tags={"team": "risk"}, properties={"description": "new words"})
    world.main.edit("onlineEndpoints", endpoint, "deployments", "blue", sku={"capacity": 7}, tags={"a": "b"})
    yield None


def it_is_updating_for_a_while(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    plot.near_miss(RULE, "online_endpoint", endpoint)
    plot.near_miss(RULE, "online_deployment", f"{endpoint}/blue")
    yield None
    world.main.edit("onlineEndpoints", endpoint, properties={"provisioningState": "Updating"})
    world.main.edit("onlineEndpoints", endpoint, "deployments", "blue", properties={"provisioningState": "Updating"})
    yield None
    world.main.edit("onlineEndpoints", endpoint, properties={"provisioningState": "Succeeded"})
    world.main.edit("onlineEndpoints", endpoint, "deployments", "blue", properties={"provisioningState": "Succeeded"})
    yield None


def a_new_deployment_and_a_new_endpoint(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    plot.near_miss(RULE, "online_endpoint", endpoint)
    yield None
    world.deployment(endpoint, "red")
    plot.near_miss(RULE, "online_deployment", f"{endpoint}/red")
    world.main.shift_traffic(endpoint, {"blue": 50, "green": 40, "red": 10})
    plot.fault("traffic-shifted", "online_endpoint", endpoint)
    plot.near_miss(RULE, "online_endpoint", world.endpoint())
    yield None


def set_otherwise_and_back_before_anybody_looked(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    plot.near_miss(RULE, "online_endpoint", endpoint)
    yield None
    before = world.shelf("onlineEndpoints").find(endpoint)
    assert before is not None
    world.main.edit("onlineEndpoints", endpoint, properties={"authMode": "Other"})
    world.main.edit("onlineEndpoints", endpoint, properties={"authMode": before["properties"]["authMode"]})
    yield None


FAULTS = (
    another_model,
    a_deployment_is_set_otherwise_and_sometimes_back,
    an_endpoint_is_set_otherwise,
    a_batch_deployment_is_set_otherwise,
    a_deployment_is_removed_and_sometimes_comes_back,
    an_endpoint_is_removed_with_its_deployments,
)
NEAR_MISSES = (
    words_and_counts,
    it_is_updating_for_a_while,
    a_new_deployment_and_a_new_endpoint,
    set_otherwise_and_back_before_anybody_looked,
)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
