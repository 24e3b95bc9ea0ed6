"""Nine tenths or more of a limit are in use. Not: less, a limit of none, one without an end."""

from __future__ import annotations

from tests.scenarios.azure_world import AzureWorld
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "quota-near"


def _limit(world: AzureWorld) -> tuple[str, str]:
    name = f"Standard NC{world.number()} Family Cluster Dedicated vCPUs"
    return name, f"locations/westeurope/usages/{name.replace(' ', '_')}"


def _use(world: AzureWorld, name: str, used: int, limit: int) -> None:
    world.estate.use(world.main.subscription, name, used, limit)


def nearly_all_of_it(world: AzureWorld, plot: Plot) -> Plays:
    name, key = _limit(world)
    _use(world, name, world.choose.randint(0, 80), 100)
    yield None
    _use(world, name, world.choose.randint(90, 120), 100)
    plot.fault(RULE, "quota", key)
    yield None
    if world.choose.random() < 0.6:
        _use(world, name, 50, 100)
        plot.over(RULE, "quota", key)
        yield None


def the_limit_is_lowered(world: AzureWorld, plot: Plot) -> Plays:
    name, key = _limit(world)
    _use(world, name, 48, 100)
    yield None
    _use(world, name, 48, 50)
    plot.fault(RULE, "quota", key)
    yield None


def much_of_it(world: AzureWorld, plot: Plot) -> Plays:
    name, key = _limit(world)
    plot.near_miss(RULE, "quota", key)
    for used in (10, 89, 60):
        _use(world, name, used, 100)
        yield None


def there_is_none(world: AzureWorld, plot: Plot) -> Plays:
    name, key = _limit(world)
    _use(world, name, 0, 0)
    plot.near_miss(RULE, "quota", key)
    yield None


def there_is_no_end_of_it(world: AzureWorld, plot: Plot) -> Plays:
    name, key = _limit(world)
    _use(world, name, 300, -1)
    plot.near_miss(RULE, "quota", key)
    yield None


SCENARIOS = Scenario.of(RULE, (nearly_all_of_it, the_limit_is_lowered), (much_of_it, there_is_none,
                                                                         there_is_no_end_of_it))  # fmt: skip
