"""A workspace over time: what happened in it is what the history tells, no more and no less. On a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import ChangeType, Kind, Mode, ScanState, ScopeState
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.workspace import Workspace
from stocktake.sources.azureml import AzureMl
from stocktake.store import history, standing
from stocktake.store.deletion import deletions
from stocktake.store.difference import difference
from tests.azure.server import served
from tests.integration.azureml_told import Told


@pytest.fixture
def told(engine: Engine) -> Iterator[Told]:
    estate = Estate()
    workspace = estate.add_workspace("w1", size=Size(jobs=12, live=0, children=0))
    with served(estate) as server:
        yield Told(engine, server, workspace)


def test_the_first_sweep_is_a_baseline_and_an_unchanged_one_tells_nothing(told: Told) -> None:
    first = told.scan(Mode.SWEEP)
    assert first.state == ScanState.COMPLETE, first
    assert told.changes() == []
    again = told.scan(Mode.SWEEP)
    assert again.state == ScanState.COMPLETE
    assert {name: again.counts.get(name, 0) for name in ("created", "updated", "deleted", "purged")} == dict.fromkeys(
        ("created", "updated", "deleted", "purged"), 0
    )
    hot = told.scan()
    assert hot.state == ScanState.COMPLETE
    assert told.changes(runs=True) == []


def test_a_job_moves_through_its_states_and_each_is_told_once(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.workspace.submit_job("train-1")
    told.scan()
    assert told.changes() == [("job", "train-1", "created", ())]
    for status in ("Queued", "Preparing", "Starting", "Running", "Finalizing", "Completed"):
        told.workspace.move_job("train-1", status)
        told.scan()
        (change,) = told.changes()
        assert change == ("job", "train-1", "updated", ("properties.status",))
        assert told.state(Kind.JOB, "train-1") == status
    told.scan()
    told.scan(Mode.SWEEP)
    assert told.changes() == []


def test_the_times_of_a_job_come_from_run_history_and_without_it_the_job_is_there_all_the_same(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.workspace.submit_job("train-1")
    told.workspace.move_job("train-1", "Running")
    told.scan()
    assert told.times("train-1") == (True, False)
    told.workspace.move_job("train-1", "Completed")
    told.scan(Mode.SWEEP)  # whichever pass sees the end
    assert told.times("train-1") == (True, True)
    told.changes()
    told.scan()
    told.scan(Mode.SWEEP)
    assert told.changes() == []  # who is asked about its times changes, and is no change of the job
    told.workspace.submit_job("train-2")
    told.workspace.move_job("train-2", "Running")
    told.server.faults.status(403, "runs", times=None)
    told.scan()
    assert told.state(Kind.JOB, "train-2") == "Running"
    assert told.times("train-2") == (False, False)


def test_a_hot_pass_asks_by_name_for_what_runs_and_lists_no_jobs(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.workspace.submit_job("train-1")
    told.workspace.move_job("train-1", "Running")
    told.scan()
    told.server.seen.clear()
    told.scan()
    jobs = [what.path.rpartition("/jobs")[2] for what, _ in told.server.seen.requests if what.family == "jobs"]
    assert jobs == ["/train-1"]


def test_a_pipeline_spawns_120_children_over_three_pages_and_all_of_them_are_known(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.workspace.submit_job("pipeline-1", kind="Pipeline")
    told.workspace.move_job("pipeline-1", "Running")
    told.scan()
    told.changes()
    before = told.keys(Kind.CHILD_JOB)
    names = told.workspace.spawn_children("pipeline-1", 120)
    told.scan()
    assert told.keys(Kind.CHILD_JOB) - before == set(names)
    assert {(kind, kind_of) for kind, _, kind_of, _ in told.changes()} == {("child_job", "created")}
    for name in names:
        told.workspace.move_job(name, "Completed")
    told.workspace.move_job("pipeline-1", "Completed")
    told.scan()
    changed = told.changes()
    assert {key for kind, key, _, _ in changed if kind == "child_job"} == set(names)
    assert [key for kind, key, _, _ in changed if kind == "job"] == ["pipeline-1"]
    told.server.seen.clear()
    told.scan(Mode.SWEEP)
    assert told.changes() == []
    assert told.server.seen.count(plane="history") == 0  # its children were read to their end


def test_children_that_were_cut_off_are_asked_for_again(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.workspace.submit_job("pipeline-1", kind="Pipeline")
    names = told.workspace.spawn_children("pipeline-1", 120)
    told.workspace.move_job("pipeline-1", "Completed")
    told.server.faults.status(500, "runs/children", page=3, times=None)
    before = told.keys(Kind.CHILD_JOB)
    report = told.scan()
    assert report.state == ScanState.PARTIAL
    assert told.keys(Kind.CHILD_JOB) == before  # none of them rather than some
    told.server.faults.clear()
    told.scan()
    assert told.keys(Kind.CHILD_JOB) - before >= set(names)


def cluster(workspace: Workspace) -> str:
    computes = workspace.shelf("computes")
    assert computes is not None
    bodies = (computes.find(name) for name in computes.names())
    return next(str(body["name"]) for body in bodies if body and body["properties"]["computeType"] == "AmlCompute")


def test_a_schedule_is_disabled_traffic_shifts_a_model_is_archived_and_a_compute_sits_idle(told: Told) -> None:
    told.scan(Mode.SWEEP)
    schedule, compute = min(told.keys(Kind.SCHEDULE)), cluster(told.workspace)
    endpoint, model = min(told.keys(Kind.ONLINE_ENDPOINT)), min(told.keys(Kind.REGISTERED_MODEL))
    names = sorted(key.partition("/")[2] for key in told.keys(Kind.ONLINE_DEPLOYMENT) if key.startswith(f"{endpoint}/"))

    told.workspace.disable_schedule(schedule)
    told.scan()
    assert told.changes() == [("schedule", schedule, "updated", ("properties.isEnabled",))]
    assert told.state(Kind.SCHEDULE, schedule) == "Disabled"

    told.workspace.shift_traffic(endpoint, {names[0]: 55, names[1]: 45})
    told.scan()
    ((kind, key, happened, fields),) = told.changes()
    assert (kind, key, happened) == ("online_endpoint", endpoint, "updated")
    assert all(path.startswith("properties.traffic") for path in fields)

    told.workspace.archive_model(model)
    told.scan()
    assert told.changes() == [("registered_model", model, "deleted", ("properties.isArchived",))]
    told.workspace.archive_model(model, archived=False)
    told.scan()
    assert [change[:3] for change in told.changes()] == [("registered_model", model, "restored")]

    told.workspace.idle_compute(compute, nodes=2)
    told.scan()
    ((kind, key, happened, fields),) = told.changes()
    assert (kind, key, happened) == ("compute", compute, "updated")
    assert any(path.endswith("idleNodeCount") for path in fields)


def test_a_new_version_is_found_by_a_hot_pass_that_asks_only_the_container_that_has_it(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.scan()
    model = sorted(told.keys(Kind.REGISTERED_MODEL))[1]
    version = told.workspace.register_model(model)
    told.server.seen.clear()
    told.scan()
    asked = [what.path for what, _ in told.server.seen.requests if what.family.endswith("/versions")]
    assert [path.split("/")[-2] for path in asked] == [model]
    assert ("model_version", f"{model}/{version}", "created", ()) in told.changes()


def test_a_soft_deleted_workspace_is_one_change_and_its_children_are_carried(told: Told) -> None:
    told.scan(Mode.SWEEP)
    held = {kind: told.keys(kind) for kind in AzureMl.kinds}
    told.workspace.soft_delete()
    told.scan(Mode.SWEEP)
    assert told.changes(runs=True) == [("workspace", "workspace", "deleted", ("deletion",))]
    assert told.state(Kind.WORKSPACE, "workspace") == "SoftDeleted"
    with told.engine.connect() as connection:
        (ws,) = standing.status(connection)
        (deletion,) = deletions(connection)
    assert (ws.state, ws.state_since is not None) == ("deleted", True)
    assert (deletion.state, deletion == ws.deletion) == ("SoftDeleted", True)
    assert deletion.last_seen is not None
    assert deletion.last_seen < deletion.not_after
    assert "14 days" in (ws.next_step or "")
    told.scan(Mode.SWEEP)
    assert told.changes(runs=True) == []
    assert {kind: told.keys(kind) for kind in AzureMl.kinds if kind != Kind.WORKSPACE} == {
        kind: keys for kind, keys in held.items() if kind != Kind.WORKSPACE
    }
    told.workspace.recover()
    told.scan(Mode.SWEEP)
    assert told.changes(runs=True) == [("workspace", "workspace", "restored", ("deletion",))]
    with told.engine.connect() as connection:
        assert deletions(connection) == []


def test_access_that_is_lost_is_no_deletion(told: Told) -> None:
    told.scan(Mode.SWEEP)
    told.server.estate.deny(told.workspace.scope)
    report = told.scan(Mode.SWEEP)
    assert told.changes(runs=True) == []
    around = {Kind.REGISTRY, Kind.STORAGE_ACCOUNT, Kind.QUOTA}  # not below the workspace: these can still be read
    states = {line.kind: line.state for line in report.scopes}
    assert {state for kind, state in states.items() if kind not in around} == {ScopeState.UNOBSERVABLE}


def test_a_job_that_is_gone_from_a_whole_list_is_purged_when_the_service_says_so(told: Told) -> None:
    told.scan(Mode.SWEEP)
    gone = min(told.keys(Kind.JOB))
    told.workspace.jobs.remove(gone)
    told.scan(Mode.SWEEP)
    assert [(kind, key, happened) for kind, key, happened, _ in told.changes() if kind == "job"] == [
        ("job", gone, str(ChangeType.PURGED))
    ]


def test_the_children_of_a_job_that_is_gone_are_asked_for_and_end_with_it(told: Told) -> None:
    told.workspace.submit_job("pipeline-1", kind="Pipeline")
    names = told.workspace.spawn_children("pipeline-1", 3)
    told.workspace.move_job("pipeline-1", "Completed")
    told.scan(Mode.SWEEP)
    others = told.keys(Kind.CHILD_JOB) - set(names)
    told.workspace.jobs.remove("pipeline-1")
    told.server.faults.status(500, "runs", times=None)  # run-history cannot say what became of them
    told.scan(Mode.SWEEP)
    assert "pipeline-1" not in told.keys(Kind.JOB)
    assert set(names) <= told.keys(Kind.CHILD_JOB)
    told.server.faults.clear()
    told.scan(Mode.SWEEP)
    assert told.keys(Kind.CHILD_JOB) == others
    with told.engine.connect() as connection:
        changes = {(row.kind, row.key): row for row in history.changes(connection, limit=100)}
        act = changes["job", "pipeline-1"]
        net = {
            (row.kind, row.key): row.includes
            for row in difference(connection, start=act.at - timedelta(microseconds=1), end=act.at + timedelta(hours=1))
        }
    assert {kind for kind, _ in changes} == {"job", "run"}  # one act, told once; MLflow's runs are runs
    assert act.includes == net["job", "pipeline-1"] == {"child_job": 3}


def test_a_secret_in_a_tag_of_a_job_or_of_the_workspace_never_reaches_the_database(told: Told) -> None:
    secret = "3f9d0c1b7a5e4d2f8c6b1a0e9d8c7b6a5f4e3d2c"
    told.workspace.submit_job("train-1", tags={"wandb_api_key": secret, "team": "vision"})
    told.workspace.edit_workspace(tags={"storage_password": secret})
    told.scan(Mode.SWEEP)
    with told.engine.connect() as connection:
        documents = connection.execute(text("SELECT document, aside FROM version")).all()
    assert documents
    assert not [row for row in documents if secret in f"{row.document}{row.aside}"]
    assert any("[redacted:" in row.document and "vision" in row.document for row in documents)
