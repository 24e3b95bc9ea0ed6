"""A deployment has no share of its endpoint's traffic, nor of what is mirrored, unchanged for 24 hours."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "endpoint-idle"
_DAY = timedelta(hours=24)


def without_a_share_from_the_first_look_on(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint(world.choose.choice(({"blue": 100, "green": 0}, {"blue": 100})))
    plot.fault(RULE, "online_deployment", f"{endpoint}/green", after=_DAY, looks=3)
    plot.near_miss(RULE, "online_deployment", f"{endpoint}/blue")
    yield timedelta(hours=25)
    yield None
    yield None
    if world.choose.random() < 0.6:
        world.main.edit("onlineEndpoints", endpoint, properties={"traffic": {"blue": 99, "green": 1}})
        plot.fault("traffic-shifted", "online_endpoint", endpoint)
        plot.over(RULE, "online_deployment", f"{endpoint}/green")
        yield None


def nobody_has_a_share(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint({})
    for name in ("blue", "green"):
        plot.fault(RULE, "online_deployment", f"{endpoint}/{name}", after=_DAY, looks=3)
    yield timedelta(hours=26)
    yield None
    yield None


def one_more_that_nobody_uses(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint()
    yield None
    world.deployment(endpoint, "red")
    plot.fault(RULE, "online_deployment", f"{endpoint}/red", after=_DAY, looks=3)
    yield timedelta(hours=25)
    yield None
    yield None
    if world.choose.random() < 0.5:
        world.shelf("onlineEndpoints", endpoint, "deployments").remove("red")
        plot.over(RULE, "online_deployment", f"{endpoint}/red")
        plot.fault("endpoint-config-changed", "online_deployment", f"{endpoint}/red")
        yield None


def it_gets_a_share_within_the_day(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint({"blue": 100, "green": 0})
    plot.near_miss(RULE, "online_deployment", f"{endpoint}/green")
    yield timedelta(hours=world.choose.randint(5, 22))
    world.main.edit("onlineEndpoints", endpoint, properties={"traffic": {"blue": 90, "green": 10}})
    plot.fault("traffic-shifted", "online_endpoint", endpoint)
    yield timedelta(hours=20)


def it_is_sent_a_copy(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint({"blue": 100})
    world.main.edit("onlineEndpoints", endpoint, properties={"mirrorTraffic": {"green": 10}})
    plot.near_miss(RULE, "online_deployment", f"{endpoint}/green")
    yield timedelta(hours=30)
    yield None


def its_name_is_written_otherwise(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint({"Blue": 50, "GREEN": 50})
    for name in ("blue", "green"):
        plot.near_miss(RULE, "online_deployment", f"{endpoint}/{name}")
    yield timedelta(hours=30)
    yield None


def it_is_not_up(world: AzureWorld, plot: Plot) -> Plays:
    endpoint = world.endpoint({"blue": 100})
    world.main.edit("onlineEndpoints", endpoint, "deployments", "green", properties={"provisioningState": "Failed"})
    plot.near_miss(RULE, "online_deployment", f"{endpoint}/green")
    yield timedelta(hours=30)
    yield None


FAULTS = (without_a_share_from_the_first_look_on, nobody_has_a_share, one_more_that_nobody_uses)
NEAR_MISSES = (it_gets_a_share_within_the_day, it_is_sent_a_copy, its_name_is_written_otherwise, it_is_not_up)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
