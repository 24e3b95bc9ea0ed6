"""A loopback Azure, a real Azurite, Entra, and a command line that is configured for them: what is asked on demand.

Every request is watched: the loopback Azure raises at its end when anything but a read was sent.
"""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.jobs import Job
from stocktake.demo.azure.seeded import TENANT
from stocktake.demo.azure.workspace import Workspace
from tests.azure.server import AzureServer, served
from tests.integration.test_cli import Answer, Cli, configured
from tests.needs import need
from tests.servers.azurite import ACCOUNT, Azurite, azurite
from tests.servers.entra import CLIENT, Entra, entra

SECRET = "AZ_TEST_SECRET"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A loopback Azure with storage and Entra, and a command line that is configured for it."""

    server: AzureServer
    storage: Azurite
    entra: Entra
    workspace: Workspace
    cli: Cli
    container: str

    def run(self, *arguments: str, code: int = 0) -> Answer:
        """Run a command; Microsoft's client takes seconds to import, so in this process."""
        answer = self.cli(*arguments)
        assert answer.code == code, answer
        assert "experimental" not in answer.err
        return answer

    def job(self, **like: object) -> Job:
        """The newest job that is so."""
        return next(
            one for one in self.workspace.jobs.newest() if all(getattr(one, name) == is_ for name, is_ in like.items())
        )


@contextmanager
def storage_in(folder: Path) -> Iterator[Azurite]:
    """Azurite, where Microsoft's client is here too."""
    here = importlib.util.find_spec("azure.ai") and importlib.util.find_spec("azure.ai.ml")
    need(here, "azure-ai-ml is not installed; run: pip install -r requirements/azure.txt")
    with azurite(folder) as running:
        yield running


@contextmanager
def world_in(
    folder: Path, storage: Azurite, database_url: str, monkeypatch: pytest.MonkeyPatch, blobs: str | None = None
) -> Iterator[World]:
    """Two workspaces; the blobs of the first are in the storage, and reached at `blobs`."""
    monkeypatch.setenv(SECRET, "a-client-secret-of-this-test")
    monkeypatch.chdir(folder)
    estate, container = Estate(), f"azureml-{uuid.uuid4().hex[:12]}"
    workspace = estate.add_workspace("churn", size=Size(jobs=24))
    other = estate.add_workspace("vision", group="ml-2", size=Size(jobs=3))
    workspace.edit(
        "datastores",
        "workspaceartifactstore",
        properties={"accountName": ACCOUNT, "endpoint": "127.0.0.1", "containerName": container},
    )
    with served(estate) as server, entra() as tokens:
        words = {
            "database": database_url,
            "workspaces": [
                {
                    "name": f"our-{one.name}",
                    "azureml": {
                        "subscription": one.subscription, "resource_group": one.group, "workspace": one.name,
                        "custom_cloud": {
                            "resource_manager": server.arm, "authority": tokens.uri, "data_hosts": ["localhost"],
                            "storage_endpoint": "127.0.0.1", "blobs": f"{blobs or storage.url}/{{account}}",
                        },
                        "credential": "service-principal", "tenant": TENANT, "client_id": CLIENT,
                        "client_secret_env": SECRET, "ca_file": str(server.ca_file),
                    },
                }
                for one in (workspace, other)
            ],
        }  # fmt: skip
        cli = configured(folder, yaml.safe_dump(words))
        yield World(server=server, storage=storage, entra=tokens, workspace=workspace, cli=cli, container=container)


def put(world: World, container_id: str, blobs: dict[str, bytes]) -> None:
    world.storage.put(world.container, {f"ExperimentRun/{container_id}/{name}": body for name, body in blobs.items()})
