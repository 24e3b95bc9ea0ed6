"""The source azureml where Azure answers what it should not: one broken thing costs that thing, and no claim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stocktake.core.assets import Kind
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.workspace import Workspace
from tests.azure.server import AzureServer, served
from tests.integration.test_azureml import source_of, sweep
from tests.servers.known import PlainKnown


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
    name = workspace.shelf("datastores").names()[0]
    server.faults.status(404, "datastores", body={"error": {"code": "StorageAccountNotFound"}})
    with source_of(server, workspace) as source:
        assert source.confirm(Kind.DATASTORE, [name]) == {}
        assert source.confirm(Kind.DATASTORE, [name, "gone"]).keys() == {name, "gone"}
        assert source.confirm(Kind.DATASTORE, ["gone"]) == {"gone": None}
