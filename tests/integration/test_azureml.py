"""The source azureml over the loopback Azure: what fails apart, what is asked how often, what counts as absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from stocktake.core.assets import Kind, Mode, ScopeState
from stocktake.core.errors import SourceError, Trouble
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.workspace import Workspace
from stocktake.sources.azureml import AzureMl
from stocktake.sources.azureml_plan import Sizes, planned
from tests.azure.server import AzureServer, served
from tests.servers.azureml import azureml_source, keys_in, shelf
from tests.servers.known import PlainKnown
from tests.servers.reading import Reading, read

LOOKED = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def azure() -> Iterator[tuple[AzureServer, Workspace]]:
    estate = Estate()
    workspace = estate.add_workspace("w1", size=Size(jobs=12, live=2))
    with served(estate) as server:
        yield server, workspace


@contextmanager
def source_of(server: AzureServer, watched: Workspace, **options: Any) -> Iterator[AzureMl]:
    made = azureml_source(server, watched, **options)
    try:
        yield made
    finally:
        made.close()


def sweep(server: AzureServer, workspace: Workspace, known: PlainKnown | None = None, **options: Any) -> Reading:
    with source_of(server, workspace, **options) as source:
        return read(source, known=known)


def troubles(reading: Reading) -> dict[Kind, Trouble]:
    """The kinds that could not be read, and why."""
    return {heard.scope.kind: heard.error.trouble for heard in reading.heard if heard.error is not None}


DATA_PLANE = frozenset({Kind.EXPERIMENT, Kind.RUN, Kind.CHILD_JOB})


# The parts fail apart


def test_without_the_data_plane_everything_of_the_resource_manager_is_read(
    azure: tuple[AzureServer, Workspace],
) -> None:
    server, workspace = azure
    for action in ("experiments/read", "experiments/runs/read"):
        server.estate.deny(workspace.scope, f"Microsoft.MachineLearningServices/workspaces/{action}")
    parents = [job.name for job in workspace.jobs.newest() if workspace.jobs.children(job)]
    reading = sweep(server, workspace, PlainKnown(due=parents))
    assert troubles(reading).keys() <= DATA_PLANE
    assert troubles(reading)[Kind.EXPERIMENT] is Trouble.PERMISSION
    everything = keys_in(workspace)
    for kind in everything.keys() - DATA_PLANE:
        assert reading.assets(kind).keys() == everything[kind]


def test_without_the_resource_manager_runs_are_read_where_the_inventory_knows_the_address(
    azure: tuple[AzureServer, Workspace],
) -> None:
    server, workspace = azure
    server.estate.deny(workspace.group_id, "Microsoft.MachineLearningServices/workspaces/read")
    body = workspace.body()
    known = PlainKnown(documents={(Kind.WORKSPACE, "workspace"): body})
    server.faults.status(401, "workspaces", times=None)
    reading = sweep(server, workspace, known)
    assert troubles(reading) == {Kind.WORKSPACE: Trouble.AUTHENTICATION}
    assert reading.assets(Kind.RUN).keys() == keys_in(workspace)[Kind.RUN]
    assert {heard.scope.kind for heard in reading.heard} == {Kind.WORKSPACE, *DATA_PLANE}
    with source_of(server, workspace) as source, pytest.raises(SourceError) as caught:
        read(source)  # nothing is known: there is nothing else to read
    assert caught.value.trouble is Trouble.AUTHENTICATION


def test_one_kind_that_is_denied_leaves_the_others(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    server.estate.deny(workspace.scope, "Microsoft.MachineLearningServices/workspaces/computes/read")
    reading = sweep(server, workspace)
    assert troubles(reading) == {Kind.COMPUTE: Trouble.PERMISSION}


def test_no_token_is_sent_to_a_host_that_the_workspace_merely_names(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    reading = sweep(server, workspace, data_hosts=(".api.azureml.ms",))
    assert troubles(reading) == {Kind.EXPERIMENT: Trouble.CONFIG, Kind.RUN: Trouble.CONFIG}
    assert {what.plane for what, _ in server.seen.requests} == {"arm"}


def test_what_is_switched_off_is_not_asked_for(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    reading = sweep(server, workspace, mlflow=False, history=False, posture=False)
    assert troubles(reading) == {}
    asked = server.seen.families()
    assert not [family for family in asked if not family.startswith("arm ")]
    assert not [family for family in asked if "storage" in family or "roleAssignments" in family]


# Lists that are not whole


def test_a_list_that_fails_after_page_two_is_partial_and_what_came_stands(azure: tuple[AzureServer, Workspace]) -> None:
    server, _workspace = azure
    many = server.estate.add_workspace("many", size=Size(jobs=600, live=0, children=0))
    server.faults.status(500, "jobs", page=3, times=None)
    reading = sweep(server, many, retries=0)
    (jobs,) = reading.of(Kind.JOB)
    assert jobs.error is not None
    assert jobs.error.trouble is Trouble.SERVER
    assert 0 < len(jobs.assets) < 600
    (children,) = reading.of(Kind.CHILD_JOB)
    assert children.promise is ScopeState.INCREMENTAL  # not every job is known


def test_an_unknown_job_type_in_the_middle_of_a_page_is_kept_as_it_came(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    strange = {
        "id": f"{workspace.scope}/jobs/odd",
        "name": "odd",
        "properties": {"jobType": "Quantum", "q": [1, {"a": 2}]},
    }
    server.faults.unknown_item("jobs", strange)
    reading = sweep(server, workspace)
    assert troubles(reading) == {}
    assert reading.assets(Kind.JOB)["odd"].document == {"properties": strange["properties"]}
    assert reading.assets(Kind.JOB).keys() == keys_in(workspace)[Kind.JOB] | {"odd"}


def test_a_container_whose_versions_answer_404_makes_the_kind_partial_and_is_named(
    azure: tuple[AzureServer, Workspace],
) -> None:
    server, workspace = azure
    server.faults.status(404, "models/versions", times=1)
    reading = sweep(server, workspace)
    versions = reading.only(Kind.MODEL_VERSION)
    first, *others = shelf(workspace, "models")
    assert versions.error is None
    assert len(versions.problems) == 1
    assert first in versions.problems[0]
    assert {key.partition("/")[0] for key in versions.assets} == set(others)
    assert troubles(reading) == {}


def test_versions_are_not_called_complete_where_containers_were_not(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    server.faults.status(500, "models", times=None)
    reading = sweep(server, workspace)
    assert troubles(reading) == {Kind.REGISTERED_MODEL: Trouble.SERVER, Kind.MODEL_VERSION: Trouble.SERVER}


def test_a_workspace_that_is_deleted_during_its_scan_purges_nothing(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    everything = keys_in(workspace)
    with source_of(server, workspace) as source:
        source.identify()
        workspace.soft_delete()
        reading = read(source)
        assert {heard.scope.kind for heard in reading.heard if heard.error is None} <= {
            Kind.WORKSPACE,
            Kind.REGISTRY,
            Kind.QUOTA,
            Kind.STORAGE_ACCOUNT,
            Kind.CHILD_JOB,
        }
        for kind in (Kind.JOB, Kind.COMPUTE, Kind.MODEL_VERSION, Kind.ROLE_ASSIGNMENT, Kind.RUN, Kind.EXPERIMENT):
            assert source.confirm(kind, sorted(everything[kind])) == {}


# How a workspace is gone


@pytest.mark.parametrize(("offered", "state"), [(True, "SoftDeleted"), (False, "Gone")])
def test_a_deleted_workspace_is_itself_with_our_word_for_it(
    azure: tuple[AzureServer, Workspace], offered: bool, state: str
) -> None:
    server, workspace = azure
    body = workspace.body()
    workspace.soft_delete()
    if not offered:
        server.faults.status(404, "deletedWorkspaces", times=None)
    reading = sweep(server, workspace, PlainKnown(documents={(Kind.WORKSPACE, "workspace"): body}))
    (only,) = reading.heard
    (asset,) = only.assets.values()
    assert (asset.state, asset.lifecycle, asset.document["deletion"]) == (state, "deleted", state)


def test_a_list_of_the_deleted_that_fails_once_takes_nothing_back(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    published = workspace.body() | {"deletion": "SoftDeleted"}
    workspace.soft_delete()
    server.faults.status(500, "deletedWorkspaces", times=None)
    reading = sweep(server, workspace, PlainKnown(documents={(Kind.WORKSPACE, "workspace"): published}))
    (asset,) = reading.only(Kind.WORKSPACE).assets.values()
    assert asset.state == "SoftDeleted"


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("/subscriptions/{s}/resourceGroups/other/providers/{w}", "Deleted"),  # another workspace of that name
        ("/subscriptions/{s}/providers/{w}", "Gone"),  # it may be this one
        ("/subscriptions/{s}/resourceGroups/{g}/providers/{w}", "SoftDeleted"),
    ],
)
def test_a_deleted_workspace_of_another_group_is_another_workspace(
    azure: tuple[AzureServer, Workspace], told: str, state: str
) -> None:
    server, workspace = azure
    body = workspace.body()
    workspace.soft_delete()
    where = body["id"].split("/")
    name = f"Microsoft.MachineLearningServices/workspaces/{where[-1]}"
    row = {"id": told.format(s=where[2], g=where[4], w=name), "name": where[-1]}
    server.faults.status(200, "deletedWorkspaces", body={"value": [row]}, times=None)
    reading = sweep(server, workspace, PlainKnown(documents={(Kind.WORKSPACE, "workspace"): body}))
    (asset,) = reading.only(Kind.WORKSPACE).assets.values()
    assert asset.state == state


def test_a_workspace_that_never_was_is_an_error_and_so_is_another_group(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    for options in (
        {"workspace": "typo"},
        {"resource_group": "typo"},
        {"subscription": "0" * 8 + "-0000" * 3 + "-" + "0" * 12},
    ):
        with source_of(server, workspace, **options) as source, pytest.raises(SourceError) as caught:
            read(source, known=PlainKnown())
        assert caught.value.trouble is Trouble.NOT_FOUND


def test_who_did_what_cannot_be_read_and_nothing_else_is_less_complete(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    workspace.disable_schedule("schedule-000")
    assert {line.key for line in sweep(server, workspace).acts} == {"schedule-000"}
    server.faults.status(500, "eventtypes/values", times=None)
    reading = sweep(server, workspace, retries=0)
    assert troubles(reading) == {}
    assert {heard.promise for heard in reading.heard} == {ScopeState.COMPLETE}
    assert reading.acts_error is not None
    assert reading.acts_error.trouble is Trouble.SERVER
    with source_of(server, workspace, activity_log=False) as source:
        assert source.acts is None


def test_a_line_without_an_id_is_no_line_that_is_passed_over(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    server.faults.unknown_item("eventtypes/values", {"odd": True})
    reading = sweep(server, workspace)
    assert reading.acts_error is not None
    assert reading.acts_error.trouble is Trouble.SHAPE


# How often is asked


@pytest.mark.parametrize("posture", [True, False])
def test_a_sweep_and_a_hot_pass_ask_as_often_as_the_plan_says(
    azure: tuple[AzureServer, Workspace], posture: bool
) -> None:
    server, _workspace = azure
    size = Size(jobs=730, live=3, children=60, models=7, data=5, environments=4, components=6, online_endpoints=3)
    large = server.estate.add_workspace("large", size=size)
    jobs = list(large.jobs.newest())
    parents = [job.name for job in jobs if large.jobs.children(job)][:5]
    items = {
        Kind.REGISTERED_MODEL: 7,
        Kind.DATA: 5,
        Kind.ENVIRONMENT: 4,
        Kind.COMPONENT: 6,
        Kind.ONLINE_ENDPOINT: 3,
        Kind.BATCH_ENDPOINT: 1,
        Kind.JOB: len(jobs),
    }
    sweep(server, large, PlainKnown(due=parents), posture=posture)
    pages = {"jobs": server.seen.count(family="jobs"), "runs": server.seen.count(plane="mlflow")}
    assert pages["jobs"] == -(-len(jobs) // JOBS_IN_A_PAGE)
    plan = Sizes(
        items=items,
        page={Kind.JOB: JOBS_IN_A_PAGE},
        parents=len(parents),
        child_pages=len(parents),  # 60 children are two pages
        run_pages=pages["runs"],
        posture=posture,
    )
    assert len(server.seen) == planned(Mode.SWEEP, plan)

    server.seen.clear()
    running = [job.name for job in jobs if job.status == "Running"]
    versions = {kind: dict.fromkeys(keys_in(large)[kind], "") for kind in VERSIONS}
    new = next(iter(versions[Kind.MODEL_VERSION]))
    model = new.partition("/")[0]
    versions[Kind.MODEL_VERSION] = {key: "" for key in versions[Kind.MODEL_VERSION] if not key.startswith(f"{model}/")}
    published = dict.fromkeys((job.name for job in jobs), "Completed") | dict.fromkeys(running, "Running")
    known = PlainKnown(
        looks=dict.fromkeys(Kind, LOOKED),
        states={**versions, Kind.JOB: published, Kind.RUN: dict.fromkeys(running, "RUNNING")},
        due=running[:1],
    )
    with source_of(server, large, posture=posture) as source:
        reading = read(source, Mode.HOT, known)
    assert troubles(reading) == {}
    plan = Sizes(
        items=items,
        asked={Kind.REGISTERED_MODEL: 1, Kind.DATA: 0, Kind.ENVIRONMENT: 0, Kind.COMPONENT: 0, Kind.JOB: len(running)},
        timed=len(running),
        parents=1,
        child_pages=server.seen.count(family="runs/children") - 1,
        run_pages=server.seen.count(plane="mlflow"),
        posture=posture,
    )
    assert len(server.seen) == planned(Mode.HOT, plan)
    assert reading.assets(Kind.MODEL_VERSION).keys() == {
        key for key in keys_in(large)[Kind.MODEL_VERSION] if key.startswith(f"{model}/")
    }
    assert reading.assets(Kind.JOB).keys() == set(running)


VERSIONS = (Kind.MODEL_VERSION, Kind.DATA_VERSION, Kind.ENVIRONMENT_VERSION, Kind.COMPONENT_VERSION)
JOBS_IN_A_PAGE = 50  # of the loopback server


def test_a_hot_pass_lists_all_jobs_where_mlflow_could_not_tell_which_are_new(
    azure: tuple[AzureServer, Workspace],
) -> None:
    server, workspace = azure
    looks = dict.fromkeys(Kind, LOOKED)
    server.faults.status(500, "runs/search", times=None)
    with source_of(server, workspace) as source:
        reading = read(source, Mode.HOT, PlainKnown(looks=looks))
    assert reading.only(Kind.JOB).promise is ScopeState.COMPLETE
    assert reading.assets(Kind.JOB).keys() == keys_in(workspace)[Kind.JOB]
    server.faults.clear()
    with source_of(server, workspace) as source:  # jobs were not looked at when runs last were
        late = PlainKnown(looks=looks | {Kind.JOB: datetime(2099, 1, 1, tzinfo=UTC)})
        assert read(source, Mode.HOT, late).only(Kind.JOB).promise is ScopeState.COMPLETE


def test_a_new_run_of_a_job_is_asked_for_and_a_step_or_a_run_without_a_job_is_not_taken_for_one(
    azure: tuple[AzureServer, Workspace],
) -> None:
    server, workspace = azure
    workspace.submit_job("train-1")
    workspace.submit_job("pipeline-1", kind="Pipeline")
    workspace.spawn_children("pipeline-1", 2)
    server.seen.clear()
    since = datetime(2000, 1, 1, tzinfo=UTC)
    published = {job.name: "Completed" for job in workspace.jobs.newest() if job.name not in ("train-1", "pipeline-1")}
    known = PlainKnown(looks=dict.fromkeys(Kind, since), states={Kind.JOB: published})
    with source_of(server, workspace) as source:
        reading = read(source, Mode.HOT, known)
    assert reading.assets(Kind.JOB).keys() == {"train-1", "pipeline-1"}
    assert server.seen.count(family="jobs") == 2
