"""The recorded exchanges with Azure ML in ../shared (never copied here): which of them show which kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stocktake.core.assets import Kind
from tests.needs import need

RECORDINGS = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "azureml"

#: Folder of recordings -> the kind that its bodies, or the items of its lists, are of.
KINDS: Mapping[str, Kind] = {
    "batchEndpoints": Kind.BATCH_ENDPOINT,
    "batchEndpoints-deployments": Kind.BATCH_DEPLOYMENT,
    "batchEndpoints-deployments-list": Kind.BATCH_DEPLOYMENT,
    "components": Kind.COMPONENT,
    "components-list": Kind.COMPONENT,
    "components-versions": Kind.COMPONENT_VERSION,
    "components-versions-list": Kind.COMPONENT_VERSION,
    "computes": Kind.COMPUTE,
    "connections": Kind.CONNECTION,
    "connections-list": Kind.CONNECTION,
    "data": Kind.DATA,
    "data-versions": Kind.DATA_VERSION,
    "data-versions-list": Kind.DATA_VERSION,
    "datastores": Kind.DATASTORE,
    "datastores-list": Kind.DATASTORE,
    "environments": Kind.ENVIRONMENT,
    "environments-versions": Kind.ENVIRONMENT_VERSION,
    "environments-versions-list": Kind.ENVIRONMENT_VERSION,
    "jobs": Kind.JOB,
    "models": Kind.REGISTERED_MODEL,
    "models-list": Kind.REGISTERED_MODEL,
    "models-versions": Kind.MODEL_VERSION,
    "models-versions-list": Kind.MODEL_VERSION,
    "onlineEndpoints": Kind.ONLINE_ENDPOINT,
    "onlineEndpoints-deployments": Kind.ONLINE_DEPLOYMENT,
    "registry": Kind.REGISTRY,
    "registry-components": Kind.COMPONENT_VERSION,
    "registry-data": Kind.DATA_VERSION,
    "registry-environments": Kind.ENVIRONMENT_VERSION,
    "registry-models": Kind.MODEL_VERSION,
    "runhistory-children": Kind.CHILD_JOB,
    "runhistory-details": Kind.CHILD_JOB,
    "runhistory-run": Kind.CHILD_JOB,
    "schedules": Kind.SCHEDULE,
    "schedules-list": Kind.SCHEDULE,
    "workspace": Kind.WORKSPACE,
    "workspace-list": Kind.WORKSPACE,
    # The examples of the specification, by their folder.
    "Compute": Kind.COMPUTE,
    "Job": Kind.JOB,
    "PrivateEndpointConnection": Kind.PRIVATE_ENDPOINT,
    "Quota": Kind.QUOTA,
    "Registries": Kind.REGISTRY,
    "Workspace": Kind.WORKSPACE,
    "WorkspaceConnection": Kind.CONNECTION,
    "BatchEndpoint": Kind.BATCH_ENDPOINT,
    "OnlineEndpoint": Kind.ONLINE_ENDPOINT,
    "ComponentContainer": Kind.COMPONENT,
    "DataContainer": Kind.DATA,
    "EnvironmentContainer": Kind.ENVIRONMENT,
    "ModelContainer": Kind.REGISTERED_MODEL,
    "ModelVersion": Kind.MODEL_VERSION,
    "EnvironmentVersion": Kind.ENVIRONMENT_VERSION,
    "DataVersionBase": Kind.DATA_VERSION,
    "ComponentVersion": Kind.COMPONENT_VERSION,
    "OnlineDeployment": Kind.ONLINE_DEPLOYMENT,
    "BatchDeployment": Kind.BATCH_DEPLOYMENT,
}

#: Folders that show no kind of ours, and why.
OTHERS: Mapping[str, str] = {
    "async-computeOperationsStatus": "how a write is getting on",
    "async-mfeOperationsStatus": "how a write is getting on",
    "async-registryOperationsStatus": "how a write is getting on",
    "async-workspaceOperationsStatus": "how a write is getting on",
    "codes-versions": "a snapshot of code: jobs name it, and it is no asset of its own",
    "codes-versions-list": "a snapshot of code",
    "registry-codes": "a snapshot of code",
    "registry-x": "a snapshot of code, by its hash",
    "dataplane-assetstore": "of asset stores, which are not read",
    "dataplane-content": "contents of artifacts, which are not read",
    "discovery": "addresses of services",
    "featuresets-versions": "feature stores are not read",
    "featurestoreEntities-versions": "feature stores are not read",
    "managedNetwork": "rules that the workspace's own body has too",
    "managedNetwork-added-fqdnrule-list": "rules that the workspace's own body has too",
    "managedNetwork-added-perule-list": "rules that the workspace's own body has too",
    "managedNetwork-added-servicetagrule-list": "rules that the workspace's own body has too",
    "outboundRules": "rules that the workspace's own body has too",
    "outboundRules-list": "rules that the workspace's own body has too",
    "Feature": "features are not read",
    "WorkspaceFeature": "features are not read",
    "ManagedNetwork": "rules that the workspace's own body has too",
    "VirtualMachineSize": "a price list, not of the workspace",
    "CodeContainer": "a snapshot of code",
    "CodeVersion": "a snapshot of code",
    "FeaturesetContainer": "feature stores are not read",
    "FeaturesetVersion": "feature stores are not read",
    "FeaturestoreEntityContainer": "feature stores are not read",
    "FeaturestoreEntityVersion": "feature stores are not read",
    "MarketplaceSubscription": "not read",
    "ServerlessEndpoint": "not read yet",
}

#: A registry's folders hold containers and versions.
_CONTAINERS = {
    Kind.MODEL_VERSION: Kind.REGISTERED_MODEL,
    Kind.DATA_VERSION: Kind.DATA,
    Kind.ENVIRONMENT_VERSION: Kind.ENVIRONMENT,
    Kind.COMPONENT_VERSION: Kind.COMPONENT,
}

#: Examples beside those of a kind that are something else.
_NOT_ITEMS = ("getLogs.json", "listSkus.json", "listNodes.json")


class Recorded(NamedTuple):
    """One item as it was answered."""

    where: str
    kind: Kind
    body: dict[str, Any]


def recorded() -> Iterator[Recorded]:
    """Every item of every successful read, with where it was found."""
    need(RECORDINGS.is_dir(), "the recorded exchanges are not here (../shared/data/azureml)")
    for path in sorted(RECORDINGS.glob("recordings/*/*.json")):
        exchange = json.loads(path.read_text("utf-8"))
        if exchange["request"]["method"] == "GET" and exchange["response"]["status"] == 200:
            yield from _items(path, path.parent.name, exchange["response"]["body"])
    for path in sorted(RECORDINGS.glob("rest-api-specs/*/**/*.json")):
        if path.name in _NOT_ITEMS:
            continue
        below = path.relative_to(RECORDINGS / "rest-api-specs").parts[1:-1]
        folder = below[1] if below[0] in ("Workspace", "Registry") and len(below) > 1 else below[0]
        yield from _items(path, folder, json.loads(path.read_text("utf-8"))["responses"]["200"]["body"])


def _items(path: Path, folder: str, body: Any) -> Iterator[Recorded]:
    where = str(path.relative_to(RECORDINGS))
    assert (folder in KINDS) != (folder in OTHERS), f"{where}: which kind does it show?"
    if folder in OTHERS:
        return
    for number, item in enumerate(body.get("value", [body])):
        kind = KINDS[folder]
        if folder.startswith("registry-") and "/versions/" not in item["id"]:
            kind = _CONTAINERS[kind]
        yield Recorded(f"{where}[{number}]", kind, item)
