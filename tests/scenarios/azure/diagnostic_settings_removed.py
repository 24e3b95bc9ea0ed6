"""A diagnostic setting was removed, sends less or sends nowhere. Not: another destination, more, all logs in place of
some, a new setting."""

from __future__ import annotations

from tests.scenarios.azure_world import AzureWorld, sent
from tests.scenarios.frame import Plays, Plot, Scenario

RULE = "diagnostic-settings-removed"
_CATEGORIES = ("AmlComputeJobEvent", "AmlComputeClusterEvent", "AmlRunStatusChangedEvent", "ModelsChangeEvent")


def removed_and_sometimes_there_again(world: AzureWorld, plot: Plot) -> Plays:
    name = world.logs(*_CATEGORIES)
    yield None
    world.shelf("diagnosticSettings").remove(name)
    plot.fault(RULE, "diagnostic_setting", name)
    yield None
    if world.choose.random() < 0.6:
        world.shelf("diagnosticSettings").bring_back(name)
        plot.over(RULE, "diagnostic_setting", name)
        yield None


def a_category_is_switched_off_and_sometimes_on_again(world: AzureWorld, plot: Plot) -> Plays:
    name, off = world.logs(*_CATEGORIES), world.choose.choice(_CATEGORIES)
    yield None
    left = [one for one in _CATEGORIES if one != off]
    logs = sent(*left, off=(off,)) if world.choose.random() < 0.5 else sent(*left)
    world.main.edit("diagnosticSettings", name, properties={"logs": logs})
    plot.fault(RULE, "diagnostic_setting", name)
    yield None
    if world.choose.random() < 0.6:
        world.main.edit("diagnosticSettings", name, properties={"logs": sent(off, *left)})
        plot.over(RULE, "diagnostic_setting", name)
        yield None


def all_logs_become_some(world: AzureWorld, plot: Plot) -> Plays:
    name = world.logs("allLogs")
    yield None
    world.main.edit("diagnosticSettings", name, properties={"logs": sent(_CATEGORIES[0])})
    plot.fault(RULE, "diagnostic_setting", name)
    yield None


def a_destination_is_taken_away(world: AzureWorld, plot: Plot) -> Plays:
    name = world.logs(*_CATEGORIES, storageAccountId="/subscriptions/s/archive")
    yield None
    field = world.choose.choice(("storageAccountId", "workspaceId"))
    world.main.edit("diagnosticSettings", name, properties={field: None})
    plot.fault(RULE, "diagnostic_setting", name)
    yield None


def another_destination(world: AzureWorld, plot: Plot) -> Plays:
    name = world.logs(*_CATEGORIES)
    plot.near_miss(RULE, "diagnostic_setting", name)
    yield None
    world.main.edit("diagnosticSettings", name, properties={"workspaceId": "/subscriptions/s/other-logs"})
    yield None


def more_is_sent(world: AzureWorld, plot: Plot) -> Plays:
    name = world.logs(_CATEGORIES[0])
    plot.near_miss(RULE, "diagnostic_setting", name)
    yield None
    more = world.choose.choice((sent(*_CATEGORIES), sent("allLogs")))
    world.main.edit("diagnosticSettings", name, properties={"logs": more, "storageAccountId": "/subscriptions/s/x"})
    yield None


def one_that_was_off_is_taken_out(world: AzureWorld, plot: Plot) -> Plays:
    name = world.logs(_CATEGORIES[0])
    world.main.edit("diagnosticSettings", name, properties={"logs": sent(_CATEGORIES[0], off=_CATEGORIES[1:2])})
    plot.near_miss(RULE, "diagnostic_setting", name)
    yield None
    world.main.edit("diagnosticSettings", name, properties={"logs": sent(_CATEGORIES[0])})
    yield None


def a_new_one(world: AzureWorld, plot: Plot) -> Plays:
    yield None
    plot.near_miss(RULE, "diagnostic_setting", world.logs(*_CATEGORIES))
    yield None


FAULTS = (removed_and_sometimes_there_again, a_category_is_switched_off_and_sometimes_on_again, all_logs_become_some,
          a_destination_is_taken_away)  # fmt: skip
NEAR_MISSES = (another_destination, more_is_sent, one_that_was_off_is_taken_out, a_new_one)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
