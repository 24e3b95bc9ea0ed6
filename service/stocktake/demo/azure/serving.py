"""Bodies of what serves and what computes: endpoints, deployments, computes."""

from __future__ import annotations

from datetime import datetime, timedelta

from stocktake.demo.azure.assets import TYPE
from stocktake.demo.azure.seeded import PEOPLE, TENANT, Body, guid, mix, pick, stamp

_PROBE = {"failureThreshold": 30, "successThreshold": 1, "timeout": "PT2S", "period": "PT10S", "initialDelay": "PT10S"}


def endpoint(
    owner: str, *, batch: bool, seed: int, position: int, location: str, began: datetime, traffic: dict[str, int]
) -> Body:
    """An endpoint. `traffic` is the share of each deployment; a batch one knows only a default, the first of them."""
    kind = "batchEndpoints" if batch else "onlineEndpoints"
    name = endpoint_name(batch, position)
    host = f"https://{name}.{location}.inference.ml.azure.com"
    properties: Body = {
        "description": f"serves {name}",
        "properties": {"azureml.onlineendpointid": f"{owner}/{kind}/{name}".lower()},
        "scoringUri": f"{host}/jobs" if batch else f"{host}/score",
        "swaggerUri": None if batch else f"{host}/swagger.json",
        "authMode": "AADToken" if batch else pick(("Key", "AMLToken"), position),
        "provisioningState": "Succeeded",
    }
    body = _frame(owner, kind, name, properties, location, began - timedelta(days=80, minutes=position), position)
    if batch:
        properties["defaults"] = {"deploymentName": next(iter(traffic), None)}
        return body | {"identity": {"type": "None", "principalId": None, "tenantId": None}}
    properties |= {"compute": None, "traffic": traffic, "mirrorTraffic": {}, "publicNetworkAccess": "Enabled"}
    identity = {"type": "SystemAssigned", "principalId": guid(seed, 41, position), "tenantId": TENANT}
    return body | {"kind": "Managed", "identity": identity}


def endpoint_name(batch: bool, position: int) -> str:
    return f"{'batch' if batch else 'online'}-{position:03d}"


def deployment(
    owner: str, *, batch: bool, seed: int, endpoint: str, name: str, location: str, began: datetime, model: str
) -> Body:
    """A deployment of a model version, whose id is `model`."""
    draw = mix(seed, sum(endpoint.encode()), sum(name.encode()))
    code = {"codeId": f"{owner}/codes/{guid(seed, 3, draw % 5)}/versions/1", "scoringScript": "score.py"}
    properties: Body = {
        "description": None, "properties": {}, "codeConfiguration": code,
        "environmentId": f"{owner}/environments/environment-000/versions/1", "environmentVariables": {},
        "provisioningState": "Succeeded",
    }  # fmt: skip
    kind = f"{'batch' if batch else 'online'}Endpoints"
    body = _frame(owner, f"{kind}/{endpoint}/deployments", name, properties, location, began - timedelta(days=60), draw)
    if batch:
        properties |= {
            "compute": f"{owner}/computes/cpu-cluster", "errorThreshold": -1, "miniBatchSize": 10,
            "retrySettings": {"maxRetries": 3, "timeout": "PT30S"}, "loggingLevel": "Info",
            "model": {"referenceType": "Id", "assetId": model}, "maxConcurrencyPerInstance": 1,
            "outputAction": "AppendRow", "outputFileName": "predictions.csv",
            "resources": {"instanceCount": 1, "instanceType": None, "properties": None},
        }  # fmt: skip
        return body
    properties |= {
        "scaleSettings": {"scaleType": "Default"}, "modelMountPath": None, "appInsightsEnabled": False,
        "requestSettings": {"maxQueueWait": "PT0S", "requestTimeout": "PT5S", "maxConcurrentRequestsPerInstance": 1},
        "livenessProbe": dict(_PROBE), "readinessProbe": dict(_PROBE), "model": model, "dataCollector": None,
        "instanceType": "Standard_DS3_v2", "egressPublicNetworkAccess": "Disabled", "endpointComputeType": "Managed",
    }  # fmt: skip
    return body | {"kind": "Managed", "sku": {"name": "Default", "tier": "Standard", "capacity": 1 + draw % 3}}


def compute(owner: str, *, seed: int, position: int, location: str, began: datetime) -> Body:
    """A cluster, or every third one a compute instance of somebody."""
    instance = position % 3 == 1
    created = began - timedelta(days=150 - position)
    common: Body = {
        "createdOn": stamp(created), "modifiedOn": stamp(created), "disableLocalAuth": False, "description": None,
        "resourceId": None, "computeType": "ComputeInstance" if instance else "AmlCompute",
        "computeLocation": location, "provisioningState": "Succeeded", "provisioningErrors": None,
        "isAttachedCompute": False,
    }  # fmt: skip
    name = compute_name(position)
    body: Body = {"id": f"{owner}/computes/{name}", "name": name, "type": f"{TYPE}/computes", "location": location,
                  "tags": {}}  # fmt: skip
    if instance:
        identity = {"type": "SystemAssigned", "principalId": guid(seed, 42, position), "tenantId": TENANT}
        return body | {
            "identity": identity,
            "properties": common | {"properties": _instance(name, seed, position, created)},
        }
    return body | {"properties": common | {"properties": _cluster(began)}}


def compute_name(position: int) -> str:
    if position == 0:
        return "cpu-cluster"
    return f"{'ci' if position % 3 == 1 else 'cluster'}-{position:03d}"


def node_counts(**nodes: int) -> Body:
    """How many nodes are in each state; those that are not named are 0."""
    states = ("preparing", "running", "idle", "unusable", "leaving", "preempted")
    return {f"{state}NodeCount": nodes.get(state, 0) for state in states}


def _cluster(began: datetime) -> Body:
    return {
        "vmSize": "STANDARD_DS3_V2", "vmPriority": "Dedicated", "subnet": None, "currentNodeCount": 1,
        "scaleSettings": {"maxNodeCount": 4, "minNodeCount": 0, "nodeIdleTimeBeforeScaleDown": "PT2M"},
        "targetNodeCount": 1, "nodeStateCounts": node_counts(running=1), "allocationState": "Steady",
        "allocationStateTransitionTime": stamp(began - timedelta(hours=1)), "errors": None,
        "remoteLoginPortPublicAccess": "Disabled", "osType": "Linux", "virtualMachineImage": None,
        "isolatedNetwork": False, "enableBatchPrivateLink": False, "propertyBag": {},
    }  # fmt: skip


def _instance(name: str, seed: int, position: int, created: datetime) -> Body:
    last = {"operationName": "Create", "operationTime": stamp(created), "operationStatus": "Succeeded",
            "operationTrigger": "User"}  # fmt: skip
    ssh = {"sshPublicAccess": "Disabled", "adminUserName": "azureuser", "sshPort": 4000, "adminPublicKey": None}
    apps = [{"displayName": "Jupyter", "endpointUri": f"https://{name}.westeurope.instances.azureml.ms/tree"}]
    image = {"currentImageVersion": "25.08.19", "latestImageVersion": "25.08.19", "isLatestOsImageVersion": True}
    return {
        "vmSize": "STANDARD_DS2_V2", "subnet": None, "sshSettings": ssh, "autologgerSettings": None, "errors": [],
        "connectivityEndpoints": {"publicIpAddress": "203.0.113.7", "privateIpAddress": "10.0.0.4"},
        "applications": apps, "state": pick(("Running", "Stopped"), position), "lastOperation": last,
        "createdBy": {"userOrgId": TENANT, "userId": guid(seed, 43, position)},
        "applicationSharingPolicy": "Personal", "computeInstanceAuthorizationType": "personal",
        "personalComputeInstanceSettings": None, "setupScripts": None, "schedules": {"computeStartStop": []},
        "dataMounts": None, "dataDisks": None, "containers": None, "updateStatus": None,
        "versions": {"runtime": "3.0.02069.0001"}, "customServices": [], "osImageMetadata": image,
    }  # fmt: skip


def _frame(
    owner: str, path: str, name: str, properties: Body, location: str, created: datetime, person: int
) -> Body:  # fmt: skip
    parts = path.split("/")
    data = {"createdAt": stamp(created), "createdBy": PEOPLE[person % 6], "lastModifiedAt": stamp(created)}
    return {
        "id": f"{owner}/{path}/{name}", "name": name, "type": f"{TYPE}/{'/'.join(parts[::2])}",
        "properties": properties, "systemData": data, "tags": {}, "location": location,
    }  # fmt: skip
