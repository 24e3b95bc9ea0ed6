"""The documented plan of requests for a workspace of the loopback Azure, and how many a sweep of it truly sends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from stocktake.core.assets import Kind, Mode
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.data_plane import CHILDREN_PAGE
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.pages import PAGE, PAGES
from stocktake.demo.azure.workspace import Workspace
from stocktake.sources.arm import ArmConfig
from stocktake.sources.azureml import AzureMl, AzureMlConfig
from stocktake.sources.azureml_plan import Sizes, planned
from stocktake.sources.http import HttpConfig
from tests.azure.server import served

RUNS_PAGE = 1000
_SHELVES = {
    Kind.COMPUTE: "computes", Kind.SCHEDULE: "schedules", Kind.ONLINE_ENDPOINT: "onlineEndpoints",
    Kind.BATCH_ENDPOINT: "batchEndpoints", Kind.DATASTORE: "datastores", Kind.REGISTERED_MODEL: "models",
    Kind.DATA: "data", Kind.ENVIRONMENT: "environments", Kind.COMPONENT: "components", Kind.CONNECTION: "connections",
}  # fmt: skip


def sizes_of(workspace: Workspace) -> Sizes:
    """What decides the number of requests, counted in the estate."""
    items = {kind: len(shelf.names()) for kind, name in _SHELVES.items() if (shelf := workspace.shelf(name))}
    jobs = workspace.jobs
    parents = [job for job in jobs.newest() if job.type == "Pipeline"]
    children = [jobs.children(job) for job in parents]
    runs = sum(1 + jobs.children(job) for job in jobs.newest())
    pages = {kind: PAGES.get(name, PAGE) for kind, name in _SHELVES.items()}
    return Sizes(
        items=items | {Kind.JOB: jobs.total}, page=pages | {Kind.JOB: PAGE}, parents=len(parents),
        child_pages=sum(max(0, -(-count // CHILDREN_PAGE) - 1) for count in children),
        run_pages=1 + max(1, -(-runs // RUNS_PAGE)),
    )  # fmt: skip


def compare(size: Size, sweep: Callable[[AzureMl], Any]) -> tuple[int, int]:
    """Requests planned and sent for a sweep of a workspace."""
    estate = Estate(seed=11)
    workspace = estate.add_workspace("planned", size=size)
    with served(estate) as server:
        http = HttpConfig(base_url=server.arm, token=server.token, ca_file=str(server.ca_file))
        config = AzureMlConfig(
            arm=ArmConfig(http=http), subscription=workspace.subscription, resource_group=workspace.group,
            workspace=workspace.name, data_plane=http, data_hosts=("localhost",), page_size=RUNS_PAGE,
        )  # fmt: skip
        sweep(AzureMl(config, lambda: datetime.now(UTC)))
        return planned(Mode.SWEEP, sizes_of(workspace)), len(server.seen)
