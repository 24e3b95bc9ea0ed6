"""Requests that one deployment answered are answered by another; of batch, the default is exchanged. Not: the first
share of an endpoint that had none, a deployment that is added with no share."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "traffic-shifted"
_IDLE = "endpoint-idle"
_DAY = timedelta(hours=24)


def some_of_it(world: AzureWorld, plot: Plot) -> Plays:
    endpoint, share = world.endpoint(), world.choose.choice((1, 10, 35, 99))
    yield None
    world.main.shift_traffic(endpoint, {"blue": share, "green": 100 - share}, by=world.person())
    plot.fault(RULE, "online_endpoint", endpoint)
    yield None


def step_by_step_and_back(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint({"blue": 90, "green": 10})
    yield None
    for share in (70, 30):
        world.main.shift_traffic(endpoint, {"blue": share, "green": 100 - share})
        if share == 70:
            plot.fault(RULE, "online_endpoint", endpoint)
        yield None
    world.main.shift_traffic(endpoint, {"blue": 90, "green": 10})
    plot.over(RULE, "online_endpoint", endpoint)
    yield None


def all_of_it(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    yield None
    world.main.shift_traffic(endpoint, {"green": 100})
    plot.fault(RULE, "online_endpoint", endpoint)
    plot.fault(_IDLE, "online_deployment", f"{endpoint}/blue", after=_DAY, looks=3)
    yield None


def a_deployment_is_no_longer_named(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    yield None
    world.main.edit("onlineEndpoints", endpoint, properties={"traffic": {"blue": 100, "green": None}})
    plot.fault(RULE, "online_endpoint", endpoint)
    plot.fault(_IDLE, "online_deployment", f"{endpoint}/green", after=_DAY, looks=3)
    yield None
    if world.choose.random() < 0.5:
        world.main.edit("onlineEndpoints", endpoint, properties={"traffic": {"blue": 60, "green": 40}})
        plot.over(RULE, "online_endpoint", endpoint)
        plot.over(_IDLE, "online_deployment", f"{endpoint}/green")
        yield None


def none_of_it_is_left(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    yield None
    world.main.shift_traffic(endpoint, {})
    plot.fault(RULE, "online_endpoint", endpoint)
    for name in ("blue", "green"):
        plot.fault(_IDLE, "online_deployment", f"{endpoint}/{name}", after=_DAY, looks=3)
    yield None


def another_default(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint(batch=True)
    yield None
    world.main.edit("batchEndpoints", endpoint, properties={"defaults": {"deploymentName": "next"}})
    plot.fault(RULE, "batch_endpoint", endpoint)
    yield None
    if world.choose.random() < 0.5:
        world.main.edit("batchEndpoints", endpoint, properties={"defaults": {"deploymentName": "default"}})
        plot.over(RULE, "batch_endpoint", endpoint)
        yield None


def the_first_share(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint({})
    plot.near_miss(RULE, "online_endpoint", endpoint)
    yield None
    world.main.edit("onlineEndpoints", endpoint, properties={"traffic": {"blue": 50, "green": 50}})
    yield None


def the_first_default(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint({}, batch=True)
    plot.near_miss(RULE, "batch_endpoint", endpoint)
    yield None
    world.main.edit("batchEndpoints", endpoint, properties={"defaults": {"deploymentName": "default"}})
    yield None


def one_more_without_a_share(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    plot.near_miss(RULE, "online_endpoint", endpoint)
    yield None
    world.main.shift_traffic(endpoint, {"blue": 60, "green": 40, "red": 0})
    yield None


def set_otherwise_in_another_way(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    plot.near_miss(RULE, "online_endpoint", endpoint)
    yield None
    world.main.edit("onlineEndpoints", endpoint, properties={"authMode": "AADToken", "mirrorTraffic": {"green": 5}})
    plot.fault("endpoint-config-changed", "online_endpoint", endpoint)
    yield None


FAULTS = (some_of_it, step_by_step_and_back, all_of_it, a_deployment_is_no_longer_named, none_of_it_is_left,
          another_default)  # fmt: skip
NEAR_MISSES = (the_first_share, the_first_default, one_more_without_a_share, set_otherwise_in_another_way)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
