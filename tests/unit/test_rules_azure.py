"""Rules about changes in Azure, as the pure functions that they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Seen, Verdict
from stocktake.rules import (
    diagnostic_settings_removed,
    endpoint_config_changed,
    traffic_shifted,
    workspace_identity_changed,
    workspace_network_opened,
)

AT = datetime(2026, 5, 1, tzinfo=UTC)
PUBLIC, ISOLATION = "properties.publicNetworkAccess", "properties.managedNetwork.isolationMode"
ACCOUNT = "account.properties.publicNetworkAccess"


def seen(kind: Kind, *fields: tuple[str, Any, Any], happened: ChangeType = ChangeType.UPDATED, **more: Any) -> Seen:
    changed = [{"path": path, "before": before, "after": after} for path, before, after in fields]
    return Seen(
        id=1, workspace="w", kind=kind, key="k", name=None, type=happened, fields=changed, not_before=None,
        not_after=AT, scan=1, state_before=None, **more,
    )  # fmt: skip


def after(rule: ChangeRule, *changes: Seen) -> Verdict | None:
    """What a rule says of the last of some changes."""
    held: Mapping[str, Any] | None = None
    verdict = None
    for change in changes:
        verdict = rule.check(change, held)
        if verdict is not None:
            held = verdict.evidence if verdict.holds else None
    return verdict


def holds(rule: ChangeRule, *changes: Seen) -> bool | None:
    verdict = after(rule, *changes)
    return None if verdict is None else verdict.holds


def opened(*fields: tuple[str, Any, Any], kind: Kind = Kind.WORKSPACE) -> Seen:
    return seen(kind, *fields)


@pytest.mark.parametrize(
    ("path", "before", "now"),
    [
        (PUBLIC, "Disabled", "Enabled"),
        (PUBLIC, "Disabled", "SecuredByPerimeter"),
        (PUBLIC, "SecuredByPerimeter", "Enabled"),
        (ISOLATION, "AllowOnlyApprovedOutbound", "AllowInternetOutbound"),
        (ISOLATION, "AllowInternetOutbound", "Disabled"),
        ("properties.managedNetwork", {"isolationMode": "AllowInternetOutbound"}, {"isolationMode": "Disabled"}),
        ("properties.allowPublicAccessWhenBehindVnet", False, True),
        (ACCOUNT, "Disabled", None),
        ("account.properties.networkAcls.defaultAction", "Deny", "Allow"),
        ("account.properties.networkAcls", {"defaultAction": "Deny"}, None),
        ("account.properties.allowBlobPublicAccess", False, True),
    ],
)
def test_more_open_is_a_finding_and_the_way_back_is_none(path: str, before: Any, now: Any) -> None:
    rule = workspace_network_opened.RULE
    assert holds(rule, opened((path, before, now))) is True
    assert holds(rule, opened((path, now, before))) is None
    assert holds(rule, opened((path, before, now)), opened((path, now, before))) is False


@pytest.mark.parametrize(
    ("path", "before", "now"),
    [
        (PUBLIC, None, "Enabled"),  # nobody says what it was
        (PUBLIC, "Disabled", None),
        (PUBLIC, "Disabled", "SomethingNew"),
        (ISOLATION, None, "Disabled"),
        (ACCOUNT, None, "Enabled"),  # the same
        ("account.properties.allowBlobPublicAccess", None, True),
        ("account.properties.networkAcls.ipRules", [], [{"value": "203.0.113.7"}]),
        ("properties.friendlyName", "Disabled", "Enabled"),
        (PUBLIC, ["Disabled"], ["Enabled"]),
    ],
)
def test_what_nobody_can_call_more_open_is_no_finding(path: str, before: Any, now: Any) -> None:
    assert holds(workspace_network_opened.RULE, opened((path, before, now))) is None


def test_shut_further_than_it_was_ends_it_and_a_word_that_is_not_known_does_not() -> None:
    rule, first = workspace_network_opened.RULE, opened((ISOLATION, "AllowInternetOutbound", "Disabled"))
    assert holds(rule, first, opened((ISOLATION, "Disabled", "AllowOnlyApprovedOutbound"))) is False
    assert holds(rule, first, opened((ISOLATION, "Disabled", "Whatever"))) is True
    both = after(
        rule, opened((PUBLIC, "Disabled", "Enabled")), opened((ISOLATION, "AllowInternetOutbound", "Disabled"))
    )
    assert both is not None
    assert [field["path"] for field in both.evidence["fields"]] == [PUBLIC, ISOLATION]


def shares(*fields: tuple[str, Any, Any], kind: Kind = Kind.ONLINE_ENDPOINT) -> Seen:
    return seen(kind, *[(f"properties.{path}", before, now) for path, before, now in fields])


def test_no_share_and_none_of_it_are_the_same() -> None:
    rule = traffic_shifted.RULE
    away = shares(("traffic.blue", 100, None), ("traffic.green", None, 100))
    assert holds(rule, away) is True
    assert holds(rule, away, shares(("traffic.blue", None, 100), ("traffic.green", 100, 0))) is False
    assert holds(rule, shares(("traffic.red", None, 0))) is None
    assert holds(rule, shares(("traffic", None, {"blue": 100}))) is None  # the first share
    assert holds(rule, shares(("traffic", {"blue": 100}, None))) is True
    assert holds(rule, shares(("traffic['a b']", 60, 40), ("traffic.c", 40, 60))) is True


def test_what_only_sounds_like_traffic_is_none() -> None:
    rule = traffic_shifted.RULE
    assert holds(rule, shares(("mirrorTraffic.green", 20, 0))) is None
    assert holds(rule, shares(("trafficNotes", "b", "a"))) is None
    assert holds(rule, shares(("defaults.deploymentName", None, "a"), kind=Kind.BATCH_ENDPOINT)) is None
    assert holds(rule, shares(("defaults.deploymentName", "a", "b"), kind=Kind.BATCH_ENDPOINT)) is True
    assert holds(rule, shares(("defaults.deploymentName", "a", None), kind=Kind.BATCH_ENDPOINT)) is True


def config(*fields: tuple[str, Any, Any], **more: Any) -> Seen:
    return seen(Kind.ONLINE_DEPLOYMENT, *fields, **more)


def test_a_deployment_that_was_changed_then_removed_and_restored_is_still_changed() -> None:
    rule = endpoint_config_changed.RULE
    changed, gone = config(("properties.model", "a/1", "a/2")), config(happened=ChangeType.PURGED)
    back = config(happened=ChangeType.RESTORED)
    removed = after(rule, changed, gone)
    assert removed is not None
    assert (removed.holds, removed.evidence["removed"], len(removed.evidence["fields"])) == (True, True, 1)
    restored = after(rule, changed, gone, back)
    assert restored is not None
    assert (restored.holds, "removed" in restored.evidence) == (True, False)
    assert holds(rule, gone, back) is False
    assert holds(rule, back) is None
    assert holds(rule, changed, gone, config(("properties.model", "a/2", "a/1"), happened=ChangeType.RESTORED)) is False


def test_what_goes_with_its_endpoint_is_a_part_unless_it_was_found_before() -> None:
    rule = endpoint_config_changed.RULE
    with_it = config(happened=ChangeType.PURGED, part_of=7)
    assert holds(rule, with_it) is None
    assert holds(rule, config(("properties.model", "a/1", "a/2")), with_it) is True


@pytest.mark.parametrize(
    "path",
    ["properties.provisioningState", "properties.traffic.blue", "properties.defaults.deploymentName", "sku.capacity",
     "tags.team", "properties.description", "properties.properties.note", "systemData.createdBy"],
)  # fmt: skip
def test_what_decides_nothing_about_answers_is_no_configuration(path: str) -> None:
    assert holds(endpoint_config_changed.RULE, config((path, "a", "b"))) is None


def logs(*on: str, off: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return [{"category": one, "enabled": one in on} for one in (*on, *off)]


def setting(*fields: tuple[str, Any, Any], happened: ChangeType = ChangeType.UPDATED) -> Seen:
    return seen(
        Kind.DIAGNOSTIC_SETTING, *[(f"properties.{path}", one, two) for path, one, two in fields], happened=happened
    )


def test_less_is_logged_only_where_something_that_was_sent_is_not() -> None:
    rule = diagnostic_settings_removed.RULE
    everything = [{"categoryGroup": "allLogs", "enabled": True}]
    assert holds(rule, setting(("logs", logs("a", "b"), logs("a", off=("b",))))) is True
    assert holds(rule, setting(("logs", logs("a", "b"), None))) is True
    assert holds(rule, setting(("logs", everything, logs("a", "b")))) is True
    assert holds(rule, setting(("logs", logs("a", "b"), everything))) is None
    assert holds(rule, setting(("logs", logs("a", off=("b",)), logs("a")))) is None
    assert holds(rule, setting(("logs", logs("b", "a"), logs("a", "b")))) is None
    assert holds(rule, setting(("workspaceId", "/x", "/y"))) is None
    assert holds(rule, setting(("workspaceId", "/x", None))) is True
    assert holds(rule, setting(("eventHubName", "x", None))) is None
    assert holds(rule, setting(("logs", "nonsense", ["nonsense", 3, None]))) is None
    less = setting(("logs", logs("a", "b"), logs("a")))
    assert holds(rule, less, setting(("logs", logs("a"), logs("a", "b", "c")))) is False
    assert holds(rule, less, setting(("logs", logs("a"), logs("b")))) is True


def test_an_identity_that_is_attached_or_dropped_whole() -> None:
    rule = workspace_identity_changed.RULE
    attached = seen(Kind.WORKSPACE, ("identity", None, {"type": "SystemAssigned", "principalId": "p"}))
    assert holds(rule, attached) is True
    assert (
        holds(rule, attached, seen(Kind.WORKSPACE, ("identity", {"type": "SystemAssigned", "principalId": "p"}, None)))
        is False
    )
    assert holds(rule, seen(Kind.WORKSPACE, ("properties.identityNote", "a", "b"))) is None
