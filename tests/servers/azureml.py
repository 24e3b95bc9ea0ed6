"""The source `azureml` over the loopback Azure (tests/azure), made the way wiring makes it."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import Any

from stocktake.core.assets import Kind
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.workspace import Workspace
from stocktake.sources.arm import ArmConfig
from stocktake.sources.azureml import AzureMl, AzureMlConfig
from stocktake.sources.http import HttpConfig
from tests.azure.server import AzureServer, served
from tests.servers.reading import Clock

_running = ExitStack()
atexit.register(_running.close)


def azureml_source(
    server: AzureServer, watched: Workspace, clock: Clock | None = None, *, retries: int = 4, **options: Any
) -> AzureMl:
    """The source under test, with options of AzureMlConfig by name."""
    clock = clock or Clock()
    config = azureml_config(server, watched, retries=retries, **options)
    return AzureMl(config, clock.now, sleep=clock.sleep, monotonic=clock.monotonic)


def azureml_config(server: AzureServer, watched: Workspace, *, retries: int = 4, **options: Any) -> AzureMlConfig:
    """How the loopback Azure is reached, with options of AzureMlConfig by name."""
    http = HttpConfig(base_url=server.arm, token=server.token, ca_file=str(server.ca_file), retries=retries)
    config = AzureMlConfig(
        arm=ArmConfig(http=http),
        subscription=watched.subscription,
        resource_group=watched.group,
        workspace=watched.name,
        data_plane=http,
        data_hosts=("localhost",),
    )
    return replace(config, **options)


@cache
def filled_azure() -> tuple[AzureServer, Workspace]:
    """A loopback Azure with one workspace that has a little of everything. Read it; a test that changes has its own."""
    estate = Estate()
    workspace = estate.add_workspace("filled")
    return _running.enter_context(served(estate)), workspace


def keys_in(workspace: Workspace) -> dict[Kind, set[str]]:
    """The key of everything in a workspace, as its shelves hold it."""
    keys = {kind: set(shelf(workspace, folder)) for kind, folder in _FOLDERS.items()}
    for kind, (folder, below) in _BELOW.items():
        keys[kind] = {
            f"{name}/{one}" for name in shelf(workspace, folder) for one in shelf(workspace, folder, name, below)
        }
    jobs = list(workspace.jobs.newest())
    keys[Kind.JOB] = {job.name for job in jobs}
    children = {
        workspace.jobs.child(job, number).name for job in jobs for number in range(workspace.jobs.children(job))
    }
    keys[Kind.RUN] = {job.name for job in jobs if job.run} | children
    keys[Kind.EXPERIMENT] = {workspace.place.experiment_id(number) for number in range(workspace.jobs.experiments)}
    return keys


_FOLDERS = {
    Kind.COMPUTE: "computes",
    Kind.SCHEDULE: "schedules",
    Kind.ONLINE_ENDPOINT: "onlineEndpoints",
    Kind.BATCH_ENDPOINT: "batchEndpoints",
    Kind.DATASTORE: "datastores",
    Kind.REGISTERED_MODEL: "models",
    Kind.DATA: "data",
    Kind.ENVIRONMENT: "environments",
    Kind.COMPONENT: "components",
    Kind.CONNECTION: "connections",
    Kind.ROLE_ASSIGNMENT: "roleAssignments",
    Kind.PRIVATE_ENDPOINT: "privateEndpointConnections",
    Kind.DIAGNOSTIC_SETTING: "diagnosticSettings",
}
_BELOW = {
    Kind.ONLINE_DEPLOYMENT: ("onlineEndpoints", "deployments"),
    Kind.BATCH_DEPLOYMENT: ("batchEndpoints", "deployments"),
    Kind.MODEL_VERSION: ("models", "versions"),
    Kind.DATA_VERSION: ("data", "versions"),
    Kind.ENVIRONMENT_VERSION: ("environments", "versions"),
    Kind.COMPONENT_VERSION: ("components", "versions"),
}


def shelf(workspace: Workspace, *path: str) -> list[str]:
    """The names on a shelf; none where there is no such shelf."""
    found = workspace.shelf(*path)
    return found.names() if found is not None else []
