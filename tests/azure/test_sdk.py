"""The real SDK agrees that the loopback Azure is one: MLClient lists over it what is in the estate."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.azure.asking import small
from tests.azure.server import served
from tests.needs import need

#: Another interpreter that has the SDK, where this one has not.
OTHER = "STOCKTAKE_TEST_SDK_PYTHON"


def _interpreter() -> str | None:
    if os.environ.get(OTHER):
        return os.environ[OTHER]
    try:
        found = importlib.util.find_spec("azure.ai.ml")
    except ModuleNotFoundError:
        found = None
    return sys.executable if found else None


@pytest.mark.timeout(240)
def test_ml_client_sees_the_jobs_the_assets_and_the_endpoints_of_the_estate() -> None:
    python = _interpreter()
    need(python, f"azure-ai-ml is not installed: pip install -r requirements/azure.txt, or name a Python in {OTHER}")
    estate, workspace = small(jobs=120)
    parent = next(job for job in workspace.jobs.newest() if job.type == "Pipeline")
    with served(estate) as server:
        server.credential.lifetime *= 24
        told: dict[str, Any] = {
            "token": server.token(), "subscription": workspace.subscription, "group": workspace.group,
            "workspace": workspace.name, "cloud": server.cloud(), "parent": parent.name,
        }  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment = kept | {"REQUESTS_CA_BUNDLE": str(server.ca_file)}
        done = subprocess.run(
            [str(python), str(Path(__file__).with_name("sdk_reads.py")), json.dumps(told)],
            env=environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        seen = json.loads(done.stdout.splitlines()[-1])
        refused = [(what.path, status) for what, status in server.seen.requests if status != 200]
    jobs = list(workspace.jobs.newest())
    assert refused == []
    assert seen["workspace"] == workspace.body()["properties"]["mlFlowTrackingUri"]
    assert seen["jobs"] == [[job.name, job.status] for job in jobs]
    assert seen["active jobs"] == [job.name for job in jobs if not job.archived]
    assert sorted(seen["children"]) == sorted(
        workspace.jobs.child(parent, number).name for number in range(workspace.jobs.children(parent))
    )
    assert seen["one job"] == parent.status
    for attribute, kind in {
        "compute": "computes", "datastores": "datastores", "connections": "connections", "models": "models",
        "data": "data", "environments": "environments", "components": "components",
        "online_endpoints": "onlineEndpoints", "batch_endpoints": "batchEndpoints",
    }.items():  # fmt: skip
        shelf = workspace.shelf(kind)
        assert shelf is not None
        assert seen[attribute] == shelf.names(), kind
    assert [enabled for _, enabled in seen["schedules"]] == [True, True]
    versions = workspace.shelf("models", "model-000", "versions")
    assert versions is not None
    bodies = [versions.at(position) for position in range(versions.total)]
    assert sorted(map(str, seen["model versions"])) == sorted(
        str(["model-000", body["name"], body["properties"]["jobName"]])
        for body in bodies
        if body is not None and not body["properties"]["isArchived"]
    )
    deployments = workspace.shelf("onlineEndpoints", "online-000", "deployments")
    assert deployments is not None
    blue = deployments.find("blue")
    assert blue is not None
    assert ["blue", blue["properties"]["model"]] in seen["deployments"]
