"""The same server read by Microsoft's client and by our source: field by field they say the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from stocktake.core.assets import Asset, Kind
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from tests.azure.server import served
from tests.needs import need
from tests.servers.azureml import azureml_source
from tests.servers.reading import Reading, read

PROGRAM = Path(__file__).parents[1] / "azure" / "sdk_describes.py"
Told = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def both() -> tuple[Told, Reading]:
    """What either says of one workspace; the server raises at its end when anything but a read was sent."""
    need(find_spec("azure.ai") and find_spec("azure.ai.ml"), "azure-ai-ml is missing: requirements/azure.txt")
    estate = Estate()
    workspace = estate.add_workspace("both", size=Size(jobs=60))
    with served(estate) as server:
        server.credential.lifetime *= 24
        told = {
            "token": server.token(), "subscription": workspace.subscription, "group": workspace.group,
            "workspace": workspace.name, "cloud": server.cloud(),
        }  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(
            [sys.executable, str(PROGRAM), json.dumps(told)], env=kept | {"REQUESTS_CA_BUNDLE": str(server.ca_file)},
            capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        with closing(azureml_source(server, workspace)) as source:
            ours = read(source)
        assert {what.method for what, _ in server.seen.requests if what.plane == "arm"} == {"GET"}
    return json.loads(done.stdout.splitlines()[-1]), ours


def properties(asset: Asset) -> Mapping[str, Any]:
    found = asset.document["properties"]
    assert isinstance(found, Mapping)
    return found


def inner(asset: Asset) -> Mapping[str, Any]:
    """The properties of a compute, which are in its properties."""
    found = properties(asset).get("properties")
    return found if isinstance(found, Mapping) else {}


def at(asset: Asset) -> str:
    assert asset.created_at is not None
    return asset.created_at.isoformat(timespec="milliseconds")


#: How Microsoft's client spells what the resource manager answers.
_AUTH = {"AMLToken": "aml_token", "AADToken": "aad_token", "Key": "key"}
Ours = Callable[[Asset], object]
_SHARED: dict[str, Ours] = {
    "tags": lambda one: properties(one).get("tags") or {},
    "description": lambda one: properties(one).get("description"),
    "created_at": at,
    "created_by": lambda one: one.document["systemData"]["createdBy"],
}
_VERSION = _SHARED | {"properties": lambda one: properties(one).get("properties") or {}}
_ENDPOINT: dict[str, Ours] = {
    "location": lambda one: one.document["location"],
    "auth": lambda one: _AUTH[properties(one)["authMode"]],
    "tags": lambda one: one.document.get("tags") or {},
    "scoring": lambda one: properties(one)["scoringUri"],
    "description": _SHARED["description"],
    "provisioning": lambda one: properties(one)["provisioningState"],
}
#: Field of Microsoft's client -> what we hold of it.
FIELDS: dict[Kind, dict[str, Ours]] = {
    Kind.JOB: _VERSION | {
        "display_name": lambda one: one.name,
        "status": lambda one: one.state,
        "experiment": lambda one: properties(one)["experimentName"],
        "services": lambda one: sorted(properties(one)["services"]),
        "output": lambda one: one.artifact_uri,
    },
    Kind.COMPUTE: {
            "type": lambda one: str(properties(one)["computeType"]).lower(),
        "location": lambda one: properties(one).get("computeLocation"),
        "size": lambda one: inner(one).get("vmSize"),
        "min": lambda one: (inner(one).get("scaleSettings") or {}).get("minNodeCount"),
        "max": lambda one: (inner(one).get("scaleSettings") or {}).get("maxNodeCount"),
        "provisioning": lambda one: properties(one)["provisioningState"],
    },
    Kind.MODEL_VERSION: _VERSION | {
        "place": lambda one: one.artifact_uri, "type": lambda one: properties(one)["modelType"],
        "job": lambda one: one.run,
    },
    Kind.DATA_VERSION: _VERSION | {
        "place": lambda one: one.artifact_uri, "type": lambda one: properties(one)["dataType"],
    },
    Kind.ENVIRONMENT_VERSION: _VERSION | {"place": lambda one: properties(one)["image"]},
    Kind.ONLINE_ENDPOINT: _ENDPOINT | {"traffic": lambda one: properties(one)["traffic"]},
    Kind.BATCH_ENDPOINT: _ENDPOINT,
}  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", list(FIELDS))
def test_both_see_the_same_things_and_say_the_same_of_each(kind: Kind, both: tuple[Told, Reading]) -> None:
    told, reading = both
    theirs, ours = told[str(kind)], reading.assets(kind)
    assert theirs
    assert set(theirs) == set(ours)
    differing = {
        (key, field): (theirs[key][field], of(asset))
        for key, asset in ours.items()
        for field, of in FIELDS[kind].items()
        if theirs[key][field] != of(asset)
    }
    assert differing == {}
