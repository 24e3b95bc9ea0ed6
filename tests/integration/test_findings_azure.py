"""What the rules about Azure Machine Learning say of a loopback Azure: of what was seen, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.actors import AZURE
from stocktake.core.assets import Mode, ScanState
from stocktake.demo.azure import serving
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.estate import known_as as mail
from stocktake.demo.azure.seeded import PEOPLE, guid
from stocktake.store import finding_list
from stocktake.store.finding_list import FindingRow
from tests.azure.server import served
from tests.integration.auditing import age
from tests.integration.azureml_told import Told
from tests.integration.registry import found, history, stands

ADA, BO, *_ = PEOPLE
CLUSTER, INSTANCE, ENDPOINT = "cpu-cluster", "ci-001", "online-000"
HOUR = timedelta(hours=1)
_LOGS = {
    "logs": [{"category": "AmlComputeJobEvent", "enabled": True}, {"category": "ModelsChangeEvent", "enabled": True}],
    "workspaceId": "/subscriptions/s/logs",
}


@pytest.fixture
def told(engine: Engine) -> Iterator[Told]:
    estate = Estate()
    workspace = estate.add_workspace("w1", size=Size(jobs=4, live=0, children=0, computes=2, online_endpoints=1))
    with served(estate) as server:
        yield Told(engine, server, workspace)


def one(engine: Engine, rule: str) -> FindingRow:
    (row,) = found(engine, rule)
    return row


def nodes(told: Told, count: int, **states: int) -> None:
    own = {"currentNodeCount": count, "targetNodeCount": count, "nodeStateCounts": serving.node_counts(**states)}
    told.workspace.edit("computes", CLUSTER, properties={"properties": own})


def role(told: Told, number: int, *, by: str | None) -> str:
    workspace, name = told.now(), guid(number)
    identifier = f"{workspace.scope}/providers/Microsoft.Authorization/roleAssignments/{name}"
    definition = "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions"
    shelf = workspace.shelf("roleAssignments")
    assert shelf is not None
    shelf.add(name, {"id": identifier, "name": name, "properties": {
        "roleDefinitionId": f"{definition}/8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "principalId": guid(number, 1),
        "principalType": "User", "scope": workspace.scope, "createdOn": "2026-05-01T10:00:00Z"}})  # fmt: skip
    if by is not None:
        told.server.estate.note(identifier, "Microsoft.Authorization/roleAssignments/write", by)
    return name


# ---- who did it ------------------------------------------------------------------------------------------------------


def test_a_role_that_was_given_names_who_gave_it_only_where_the_log_says_so(told: Told) -> None:
    told.scan(Mode.SWEEP)
    assert found(told.engine, "role-assignment-added") == []
    logged, unlogged = role(told, 1, by=ADA), role(told, 2, by=None)
    told.scan()
    by_key = {row.key: row for row in found(told.engine, "role-assignment-added")}
    assert {key: (row.actor, row.actor_source) for key, row in by_key.items()} == {
        logged: (mail(ADA), AZURE),
        unlogged: ("unknown", None),
    }
    evidence = by_key[logged].evidence
    assert (evidence["role"], evidence["principal"]) == ("Owner", guid(1, 1))
    assert evidence["given_at"] == told.workspace.scope
    assert evidence["change"] == by_key[logged].change
    assert evidence["not_before"] < evidence["not_after"]
    assert "actor" not in evidence


def test_an_actor_that_is_learnt_late_stands_at_the_finding(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.server.estate.log_delay = timedelta(seconds=0.5)
    name = role(told, 1, by=BO)
    told.scan()
    assert one(told.engine, "role-assignment-added").actor == "unknown"
    told.server.estate.tick(10)
    told.scan()
    row = one(told.engine, "role-assignment-added")
    assert (row.key, row.actor) == (name, mail(BO))


def test_who_shifted_traffic_and_opened_the_network(told: Told) -> None:
    told.workspace.edit_workspace(properties={"publicNetworkAccess": "Disabled"})
    told.scan(Mode.SWEEP)
    told.now().shift_traffic(ENDPOINT, {"blue": 20, "green": 80}, by=BO)
    told.workspace.edit_workspace(properties={"publicNetworkAccess": "Enabled"})
    told.server.estate.note(told.workspace.scope, "Microsoft.MachineLearningServices/workspaces/write", ADA)
    told.scan()
    shifted, opened = one(told.engine, "traffic-shifted"), one(told.engine, "workspace-network-opened")
    assert (shifted.actor, opened.actor) == (mail(BO), mail(ADA))
    assert shifted.evidence["fields"] == [
        {"path": "properties.traffic.blue", "before": 90, "after": 20},
        {"path": "properties.traffic.green", "before": 10, "after": 80},
    ]
    assert opened.evidence["fields"] == [
        {"path": "properties.publicNetworkAccess", "before": "Disabled", "after": "Enabled"}
    ]


# ---- what is not seen is not claimed ---------------------------------------------------------------------------------


def test_a_list_that_fails_opens_and_resolves_nothing_of_what_is_on_it(told: Told) -> None:
    told.workspace.edit("computes", CLUSTER, properties={"provisioningState": "Failed"})
    told.scan(Mode.SWEEP)
    age(told.engine, 2 * HOUR)
    told.scan()
    told.scan()
    assert stands(told.engine, "compute-stuck") == {CLUSTER: "open"}
    told.workspace.edit("computes", CLUSTER, properties={"provisioningState": "Succeeded"})
    told.workspace.edit("computes", INSTANCE, properties={"properties": {"state": "Starting"}})
    told.server.faults.status(500, "computes", times=None)
    for _ in range(3):
        age(told.engine, 2 * HOUR)
        assert told.scan().state == ScanState.PARTIAL
    assert stands(told.engine, "compute-stuck") == {CLUSTER: "open"}
    told.server.faults.clear()
    told.scan()
    assert stands(told.engine, "compute-stuck") == {CLUSTER: "resolved"}  # the other has been seen so once


def test_roles_that_may_not_be_read_are_not_taken_away(told: Told) -> None:
    told.scan(Mode.SWEEP)
    name = role(told, 1, by=None)
    told.scan()
    told.server.estate.deny(told.workspace.scope, "*/roleAssignments/read")
    shelf = told.workspace.shelf("roleAssignments")
    assert shelf is not None
    shelf.remove(name)
    told.scan()
    assert stands(told.engine, "role-assignment-added") == {name: "open"}
    told.server.estate.allow(told.workspace.scope, "*/roleAssignments/read")
    told.scan()
    assert stands(told.engine, "role-assignment-added") == {name: "resolved"}


def test_logs_that_may_not_be_read_are_not_removed(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.server.estate.deny(told.workspace.scope, "*/diagnosticSettings/read")
    told.scan(Mode.SWEEP)
    assert stands(told.engine, "diagnostic-settings-removed") == {}


def test_a_job_that_nobody_could_look_at_is_not_said_to_wait(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.now().submit_job("late")
    told.workspace.move_job("late", "Queued")
    told.scan()
    told.server.faults.status(500, "jobs", times=None)
    age(told.engine, 3 * HOUR)
    told.scan()
    assert stands(told.engine, "queue-time-high") == {}  # it was seen to wait once, as it was made
    told.server.faults.clear()
    told.scan()
    row = one(told.engine, "queue-time-high")
    assert (row.key, row.evidence["waiting"], row.evidence["jobs"]) == (CLUSTER, 1, ["late"])
    assert row.evidence["max_nodes"] == "4"
    told.server.faults.status(500, "jobs", times=None)
    told.workspace.move_job("late", "Running")
    told.scan()
    assert stands(told.engine, "queue-time-high") == {CLUSTER: "open"}  # that it went on was not seen
    told.server.faults.clear()
    told.scan()
    assert stands(told.engine, "queue-time-high") == {CLUSTER: "resolved"}


def test_a_workspace_without_computes_endpoints_or_settings_has_no_finding(engine: Engine) -> None:
    estate = Estate()
    workspace = estate.add_workspace("bare", size=Size(jobs=0, computes=0, online_endpoints=0, batch_endpoints=0))
    with served(estate) as server:
        bare = Told(engine, server, workspace)
        bare.scan(Mode.SWEEP)
        age(engine, timedelta(days=2))
        bare.scan(Mode.SWEEP)
    rows = [row for row in found(engine) if row.kind not in ("experiment", "registered_model", "model_version")]
    assert [(row.rule, row.key) for row in rows] == []


# ---- evidence, and for how long --------------------------------------------------------------------------------------


def test_idle_is_claimed_after_three_looks_of_the_same_and_says_why(told: Told) -> None:
    nodes(told, 2, idle=2)
    told.scan(Mode.SWEEP)
    age(told.engine, 2 * HOUR)
    for state in ("pending", "pending", "open"):
        told.scan()
        assert stands(told.engine, "compute-idle") == {CLUSTER: state}
    evidence = one(told.engine, "compute-idle").evidence
    assert (evidence["nodes"], evidence["idle"], evidence["min_nodes"]) == (2, 2, 0)
    assert (evidence["why"], evidence["vm_size"]) == ("not scaled down", "STANDARD_DS3_V2")
    nodes(told, 2, running=1, idle=1)
    told.scan()
    assert stands(told.engine, "compute-idle") == {CLUSTER: "resolved"}


@pytest.mark.parametrize("wait", ["PT", "P", "soon", "PT2X", "-PT1H", "", None, 120])
def test_a_time_that_cannot_be_read_is_no_time_and_no_error(told: Told, wait: Any) -> None:
    nodes(told, 1, idle=1)
    scale = {"nodeIdleTimeBeforeScaleDown": wait}
    told.workspace.edit("computes", CLUSTER, properties={"properties": {"scaleSettings": scale}})
    told.scan(Mode.SWEEP)
    age(told.engine, 2 * HOUR)
    told.scan()
    assert stands(told.engine, "compute-idle") == {CLUSTER: "pending"}


@pytest.mark.parametrize("counts", [{"idleNodeCount": "2"}, {"idleNodeCount": None, "runningNodeCount": None}, {}])
def test_counts_that_are_none_say_nothing(told: Told, counts: dict[str, Any]) -> None:
    told.workspace.edit("computes", CLUSTER, properties={"properties": {
        "nodeStateCounts": dict.fromkeys(serving.node_counts()) | counts, "currentNodeCount": "many"}})  # fmt: skip
    told.scan(Mode.SWEEP)
    age(told.engine, 2 * HOUR)
    told.scan()
    told.scan()
    assert stands(told.engine, "compute-idle") == {}


@pytest.mark.parametrize("traffic", [{"blue": "all", "green": 5}, {"blue": [1], "green": True}, ["blue"], "all", 100])
def test_shares_that_nobody_understands_are_not_said_to_be_none(told: Told, traffic: Any) -> None:
    told.workspace.edit("onlineEndpoints", ENDPOINT, properties={"traffic": traffic})
    told.scan(Mode.SWEEP)
    age(told.engine, timedelta(hours=30))
    told.scan()
    told.scan()
    assert stands(told.engine, "endpoint-idle") == {}


def test_a_deployment_without_a_share_says_what_it_keeps(told: Told) -> None:
    told.workspace.shift_traffic(ENDPOINT, {"blue": 100})
    told.scan(Mode.SWEEP)
    age(told.engine, timedelta(hours=30))
    told.scan()
    told.scan()
    row = one(told.engine, "endpoint-idle")
    assert (row.key, row.evidence["instance_type"]) == (f"{ENDPOINT}/green", "Standard_DS3_v2")
    assert row.evidence["instances"] >= 1
    assert row.evidence["traffic"] == {"blue": 100, "green": 0}


def test_a_job_that_is_just_starting_is_in_no_disagreement(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.now().submit_job("young", run=False)
    told.scan(Mode.SWEEP)
    told.workspace.move_job("young", "Running")
    told.scan(Mode.SWEEP)
    told.workspace.edit_job("young", run=True)
    told.workspace.move_job("young", "Starting", run_status="SCHEDULED")
    told.scan(Mode.SWEEP)
    assert stands(told.engine, "job-without-run") == stands(told.engine, "run-job-disagree") == {}


def test_a_failed_job_whose_run_is_finished(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.now().submit_job("odd")
    told.workspace.move_job("odd", "Failed", run_status="FINISHED")
    told.scan(Mode.SWEEP)
    assert stands(told.engine, "run-job-disagree") == {}
    age(told.engine, 2 * HOUR)
    told.scan(Mode.SWEEP)
    evidence = one(told.engine, "run-job-disagree").evidence
    assert (evidence["job_state"], evidence["run_state"], evidence["expected"]) == ("Failed", "FINISHED", "FAILED")


def test_a_limit_that_is_nearly_used_up_says_of_how_much(told: Told) -> None:
    told.server.estate.use(told.workspace.subscription, "Total Cluster Dedicated Regional vCPUs", 95, 100)
    told.scan(Mode.SWEEP)
    row = one(told.engine, "quota-near")
    assert row.inherited
    assert (row.evidence["used"], row.evidence["limit"], row.evidence["share"]) == (95, 100, 0.95)
    told.server.estate.use(told.workspace.subscription, "Total Cluster Dedicated Regional vCPUs", 20, 100)
    told.scan()
    assert stands(told.engine, "quota-near") == {row.key: "open"}  # a hot pass reads no quotas
    told.scan(Mode.SWEEP)
    assert stands(told.engine, "quota-near") == {row.key: "resolved"}


def test_logs_that_go_one_by_one_are_one_finding(told: Told) -> None:
    shelf = told.workspace.shelf("diagnosticSettings")
    assert shelf is not None
    shelf.add("ours", {"name": "ours", "id": "x/ours", "properties": _LOGS})
    told.scan(Mode.SWEEP)
    told.workspace.edit("diagnosticSettings", "ours", properties={"logs": _LOGS["logs"][:1]})
    told.scan()
    shelf.remove("ours")
    told.scan()
    row = one(told.engine, "diagnostic-settings-removed")
    assert row.evidence["removed"] is True
    assert [field["path"] for field in row.evidence["fields"]] == ["properties.logs"]
    assert history(told.engine, row) == [(None, "open"), ("open", "open")]


def test_deployments_that_go_with_their_endpoint_are_part_of_its_finding(told: Told) -> None:
    told.scan(Mode.SWEEP)
    shelf = told.workspace.shelf("onlineEndpoints")
    assert shelf is not None
    shelf.remove(ENDPOINT)
    told.scan()
    assert stands(told.engine, "endpoint-config-changed") == {ENDPOINT: "open"}
    assert one(told.engine, "endpoint-config-changed").evidence["removed"] is True


# ---- deleted, moved, out of reach ------------------------------------------------------------------------------------


def test_a_deleted_workspace_is_critical_and_no_lost_access(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.now().soft_delete(by=ADA)
    told.scan()
    row = one(told.engine, "workspace-deleted")
    assert (row.severity, row.key, row.state, row.evidence["how"]) == ("critical", "workspace", "open", "SoftDeleted")
    assert row.evidence["recoverable_until"] > row.evidence["not_after"]
    assert row.change == row.evidence["change"]
    told.scan(Mode.SWEEP)
    told.scan()
    assert stands(told.engine, "access-lost") == {}
    told.now().recover()
    told.scan()
    assert stands(told.engine, "workspace-deleted") == {"workspace": "resolved"}


def test_refused_is_lost_access_and_no_deletion_until_somebody_says_so(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.server.estate.deny(told.workspace.scope)
    told.scan()
    told.scan()
    assert stands(told.engine, "access-lost") == {"w": "open"}
    assert stands(told.engine, "workspace-deleted") == {}
    discovered(told.engine, "soft-deleted")  # by an identity that may see more
    told.scan()
    assert stands(told.engine, "access-lost") == {"w": "resolved"}
    row = one(told.engine, "workspace-deleted")
    assert (row.evidence["how"], row.change) == ("SoftDeleted", None)


def test_a_workspace_that_is_at_another_address_is_neither_deleted_nor_out_of_reach(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.workspace.state = "deleted"
    told.scan()
    assert stands(told.engine, "workspace-deleted") == {"workspace": "open"}
    discovered(told.engine, "moved")
    told.scan()
    assert stands(told.engine, "workspace-deleted") == {"workspace": "resolved"}
    told.server.estate.deny(told.workspace.scope)
    told.scan()
    told.scan()
    assert stands(told.engine, "access-lost") == {}


def test_seen_after_discovery_found_it_deleted_it_is_there(told: Told) -> None:
    told.scan(Mode.SWEEP)
    discovered(told.engine, "deleted")
    told.scan()
    assert stands(told.engine, "workspace-deleted") == {}


def discovered(engine: Engine, standing: str) -> None:
    """Let discovery have found the workspace, and how it stands now."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO discovered (key, name, entry, subscription, resource_group, workspace, region, tags, how,"
                " standing, since, first_seen, last_seen, judged_at, why, next_step) VALUES ('k', 'w', 'e', 's', 'g',"
                " 'w1', '', '{}', 'list', :standing, clock_timestamp(), clock_timestamp(), clock_timestamp(),"
                " clock_timestamp(), '', '')"
            ),
            {"standing": standing},
        )


def test_no_rule_about_azure_was_ever_asked_of_what_is_not_listed(told: Told) -> None:
    told.scan(Mode.SWEEP, posture=False)
    with told.engine.connect() as connection:
        unasked = {(row.rule, row.kind) for row in finding_list.not_judged(connection)}
    assert {rule for rule, _ in unasked} <= {"role-assignment-added", "quota-near"}
    assert stands(told.engine, "role-assignment-added") == {}
