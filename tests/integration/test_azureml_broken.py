"""The source azureml where Azure answers what it should not: one broken thing costs that thing, and no claim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stocktake.core.assets import Kind, Mode
from stocktake.core.errors import Trouble
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.workspace import Workspace
from tests.azure.server import AzureServer, served
from tests.integration.test_azureml import LOOKED, source_of, sweep
from tests.servers.known import PlainKnown
from tests.servers.reading import Heard, read


@pytest.fixture
def azure() -> Iterator[tuple[AzureServer, Workspace]]:
    estate = Estate()
    workspace = estate.add_workspace("w1", size=Size(jobs=12, live=2))
    with served(estate) as server:
        yield server, workspace


def children_of(workspace: Workspace) -> dict[str, list[str]]:
    """The children of every job that has some, by the name of the job."""
    return {
        job.name: [workspace.jobs.child(job, number).name for number in range(workspace.jobs.children(job))]
        for job in workspace.jobs.newest()
        if workspace.jobs.children(job)
    }


@pytest.mark.parametrize("broken", [{"runId": None}, {"runId": 7}, {"runId": ""}, "no run at all"])
def test_a_child_that_cannot_be_named_is_a_problem_and_its_siblings_are_kept(
    azure: tuple[AzureServer, Workspace], broken: Any
) -> None:
    server, workspace = azure
    families = children_of(workspace)
    parent, names = max(families.items(), key=lambda one: len(one[1]))

    def spoil(body: dict[str, Any]) -> dict[str, Any]:
        rows = body["value"]
        spoilt = {**rows[0], **broken} if isinstance(broken, dict) else broken
        return body | {"value": [spoilt, *rows[1:]]}

    server.faults.change("runs/children", spoil, times=1)
    others = [one for one in families if one != parent]
    children = sweep(server, workspace, PlainKnown(due=[parent, *others])).only(Kind.CHILD_JOB)
    assert children.error is None
    assert children.problems == [f"of job {parent}: child_job without runId"]
    everything = set(names) | {name for one in others for name in families[one]}
    assert len(everything - children.assets.keys()) == 1
    assert children.assets.keys() <= everything


def test_an_asset_is_not_gone_because_what_it_needs_is(azure: tuple[AzureServer, Workspace]) -> None:
    server, workspace = azure
    shelf = workspace.shelf("datastores")
    assert shelf is not None
    name = shelf.names()[0]
    server.faults.status(404, "datastores", body={"error": {"code": "StorageAccountNotFound"}})
    with source_of(server, workspace) as source:
        assert source.confirm(Kind.DATASTORE, [name]) == {}
        assert source.confirm(Kind.DATASTORE, [name, "gone"]).keys() == {name, "gone"}
        assert source.confirm(Kind.DATASTORE, ["gone"]) == {"gone": None}


def hot(server: AzureServer, workspace: Workspace, running: list[str]) -> Heard:
    """The jobs of a hot pass that asks for some by name."""
    known = PlainKnown(
        looks=dict.fromkeys((Kind.RUN, Kind.JOB, Kind.EXPERIMENT), LOOKED),
        states={Kind.JOB: dict.fromkeys(running, "Running")},
    )
    with source_of(server, workspace, retries=0) as source:
        return read(source, Mode.HOT, known).only(Kind.JOB)


@pytest.mark.parametrize(("status", "text"), [(500, b""), (200, b'{"id":')])
def test_a_job_that_cannot_be_read_is_a_problem_and_those_behind_it_are_read(
    azure: tuple[AzureServer, Workspace], status: int, text: bytes
) -> None:
    server, workspace = azure
    names = sorted(job.name for job in workspace.jobs.newest())
    if status == 500:
        server.faults.status(500, "jobs")
    else:
        server.faults.malformed("jobs", text=text)
    jobs = hot(server, workspace, names)
    assert jobs.error is None
    assert jobs.assets.keys() == set(names[1:])
    (problem,) = jobs.problems
    assert problem.startswith(f"job {names[0]}: ")


def test_after_five_jobs_in_a_row_that_cannot_be_read_no_more_are_asked_for(
    azure: tuple[AzureServer, Workspace],
) -> None:
    server, workspace = azure
    server.faults.status(500, "jobs", times=None)
    jobs = hot(server, workspace, sorted(job.name for job in workspace.jobs.newest()))
    assert (len(jobs.problems), jobs.assets) == (4, {})
    assert jobs.error is not None
    assert jobs.error.trouble is Trouble.SERVER


def test_a_link_to_the_next_page_without_a_query_does_not_end_the_list_of_children(
    azure: tuple[AzureServer, Workspace],
) -> None:
    server, workspace = azure
    parent = next(iter(children_of(workspace)))
    link = f"{server.arm}/history/v1.0{workspace.scope}/runs/{parent}/children"
    more: dict[str, str] = {"nextLink": link}
    server.faults.change("runs/children", lambda body: {"value": body["value"][:1], **more})

    def why() -> str:
        children = sweep(server, workspace, PlainKnown(due=[parent])).only(Kind.CHILD_JOB)
        assert children.error is not None
        return children.error.what

    assert "has no query" in why()
    more["continuationToken"] = "of-nobody"  # beside it the token leads on; that server refuses this one
    assert "ContinuationTokenInvalid" in why()
