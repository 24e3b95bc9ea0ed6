"""Bodies of a workspace and of what stands around it: stores, network, roles, diagnostics, the storage account."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from stocktake.demo.azure.assets import TYPE
from stocktake.demo.azure.seeded import PEOPLE, TENANT, Body, guid, mix, stamp, system_data

ML = "Microsoft.MachineLearningServices"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
BLOB_READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
ROLES = {READER: "Reader", CONTRIBUTOR: "Contributor", BLOB_READER: "Storage Blob Data Reader"}


def account_name(seed: int) -> str:
    """The storage account of a workspace."""
    return f"sademo{mix(seed, 60):016x}"[:20]


def workspace(
    scope: str, *, seed: int, group: str, location: str, data_host: str, began: datetime, tags: dict[str, str]
) -> Body:
    """A workspace as ARM tells it."""
    name = scope.rsplit("/", 1)[-1]
    own = f"{seed:x}"[-8:]
    created = began - timedelta(days=220)
    identifier = guid(seed, 61)
    host = f"ml-{name}-{location}.{location}.notebooks.azure.net"
    note = {"resourceId": guid(seed, 62).replace("-", ""), "fqdn": host,
            "isPrivateLinkEnabled": False, "notebookPreparationError": None}  # fmt: skip
    properties: Body = {
        "friendlyName": name, "description": "", "hbiWorkspace": False, "tenantId": TENANT,
        "storageAccount": f"{group}/providers/Microsoft.Storage/storageAccounts/{account_name(seed)}",
        "keyVault": f"{group}/providers/Microsoft.Keyvault/vaults/kv{own}",
        "applicationInsights": f"{group}/providers/Microsoft.insights/components/ai{own}",
        "containerRegistry": f"{group}/providers/Microsoft.ContainerRegistry/registries/cr{own}",
        "imageBuildCompute": None, "provisioningState": "Succeeded", "v1LegacyMode": False,
        "softDeleteEnabled": True, "creationTime": stamp(created), "notebookInfo": note, "storageHnsEnabled": False,
        "workspaceId": identifier, "linkedModelInventoryArmId": None, "privateLinkCount": 1,
        "publicNetworkAccess": "Enabled", "discoveryUrl": f"https://{data_host}/discovery",
        "mlFlowTrackingUri": f"azureml://{data_host}/mlflow/v1.0{scope}",
        "sdkTelemetryAppInsightsKey": guid(seed, 63), "sasGetterUri": "", "enableDataIsolation": True,
        "managedNetwork": {"isolationMode": "AllowInternetOutbound", "networkId": guid(seed, 64), "outboundRules": {},
                           "status": {"status": "Active", "sparkReady": False}},
        "encryption": {"status": "Disabled"},
    }  # fmt: skip
    return {
        "id": scope, "name": name, "type": TYPE, "location": location, "tags": dict(tags), "etag": None,
        "properties": properties,
        "identity": {"type": "SystemAssigned", "principalId": guid(seed, 65), "tenantId": TENANT},
        "kind": "Default", "sku": {"name": "Basic", "tier": "Basic"},
        "systemData": system_data(PEOPLE[seed % 6], created),
    }  # fmt: skip


def datastores(scope: str, seed: int, began: datetime) -> dict[str, Body]:
    """The four datastores that every workspace is born with."""
    account = account_name(seed)
    identifier = guid(seed, 61)
    blobs = {"workspaceblobstore": f"azureml-blobstore-{identifier}", "workspaceartifactstore": "azureml"}
    shares = {"workspacefilestore": f"azureml-filestore-{identifier}",
              "workspaceworkingdirectory": f"code-{identifier}"}  # fmt: skip
    made: dict[str, Body] = {}
    for name, place in (blobs | shares).items():
        blob = name in blobs
        properties: Body = {
            "description": None, "tags": None, "properties": None, "isDefault": name == "workspaceblobstore",
            "credentials": {"credentialsType": "AccountKey"}, "datastoreType": "AzureBlob" if blob else "AzureFile",
            "accountName": account, ("containerName" if blob else "fileShareName"): place,
            "endpoint": "core.windows.net", "protocol": "https", "serviceDataAccessAuthIdentity": "None",
        }  # fmt: skip
        data = system_data(PEOPLE[seed % 6], began - timedelta(days=220)) | {"createdByType": "Application"}
        made[name] = {"id": f"{scope}/datastores/{name}", "name": name, "type": f"{TYPE}/datastores",
                      "properties": properties, "systemData": data}  # fmt: skip
    return made


def connections(scope: str, count: int) -> dict[str, Body]:
    """Connections: ARM's lists show no credentials, whatever their kind."""
    made: dict[str, Body] = {}
    for position in range(count):
        name = f"connection-{position:03d}"
        properties: Body = {
            "authType": "ManagedIdentity" if position % 2 == 0 else "PAT", "credentials": None, "expiryTime": None,
            "category": "ContainerRegistry" if position % 2 == 0 else "Git", "metadata": {},
            "target": f"https://registry-{position}.example.com",
        }  # fmt: skip
        made[name] = {"tags": None, "location": None, "id": f"{scope}/connections/{name}", "name": name,
                      "type": f"{TYPE}/connections", "properties": properties, "systemData": None}  # fmt: skip
    return made


def private_endpoints(scope: str, group: str) -> dict[str, Body]:
    """One approved private endpoint connection."""
    name = f"pe-{scope.rsplit('/', 1)[-1]}"
    properties = {
        "provisioningState": "Succeeded",
        "privateEndpoint": {"id": f"{group}/providers/Microsoft.Network/privateEndpoints/{name}"},
        "privateLinkServiceConnectionState": {
            "status": "Approved", "description": "Auto-Approved", "actionsRequired": "None"
        },
    }  # fmt: skip
    body = {"id": f"{scope}/privateEndpointConnections/{name}", "name": name,
            "type": f"{TYPE}/privateEndpointConnections", "properties": properties}  # fmt: skip
    return {name: body}


def outbound_rules() -> dict[str, Body]:
    """Rules of the managed network; the recorded ones have neither id nor type in lists."""
    rule = {"type": "FQDN", "destination": "*.pytorch.org", "status": "Inactive", "category": "UserDefined"}
    return {"pytorch": {"id": None, "name": "pytorch", "type": None, "properties": rule, "systemData": None}}


def role_assignments(subscription: str, group: str, scope: str, seed: int, began: datetime) -> dict[str, Body]:
    """Who may do what: one at the workspace, one inherited from the group, one from the subscription."""
    made: dict[str, Body] = {}
    places = ((scope, CONTRIBUTOR, "Group"), (group, READER, "ServicePrincipal"), (subscription, READER, "User"))
    for number, (place, role, kind) in enumerate(places):
        name = guid(sum(place.encode()), 66, number)
        properties = {
            "roleDefinitionId": f"{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}",
            "principalId": guid(seed if number == 0 else 1, 67, number), "principalType": kind, "scope": place,
            "condition": None, "conditionVersion": None, "createdOn": stamp(began - timedelta(days=210)),
            "updatedOn": stamp(began - timedelta(days=210)), "createdBy": guid(1, 68), "updatedBy": guid(1, 68),
            "delegatedManagedIdentityResourceId": None, "description": None,
        }  # fmt: skip
        at = f"{place}/providers/Microsoft.Authorization/roleAssignments/{name}"
        made[name] = {"properties": properties, "id": at,
                      "type": "Microsoft.Authorization/roleAssignments", "name": name}  # fmt: skip
    return made


def role_definition(subscription: str, role: str) -> Body:
    """A built-in role."""
    actions = ["*/read"] if role != CONTRIBUTOR else ["*"]
    data = ["Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"] if role == BLOB_READER else []
    permissions = [{"actions": actions, "notActions": [], "dataActions": data, "notDataActions": []}]
    properties = {"roleName": ROLES[role], "type": "BuiltInRole", "description": ROLES[role],
                  "permissions": permissions, "assignableScopes": ["/"]}  # fmt: skip
    return {"properties": properties, "id": f"{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}",
            "type": "Microsoft.Authorization/roleDefinitions", "name": role}  # fmt: skip


def diagnostic_settings(scope: str, group: str) -> dict[str, Body]:
    """One setting that sends job events to Log Analytics."""
    logs = [{"category": "AmlComputeJobEvent", "categoryGroup": None, "enabled": True,
             "retentionPolicy": {"enabled": False, "days": 0}}]  # fmt: skip
    properties = {
        "storageAccountId": None, "eventHubAuthorizationRuleId": None, "eventHubName": None, "logs": logs,
        "metrics": [{"category": "AllMetrics", "enabled": False, "retentionPolicy": {"enabled": False, "days": 0}}],
        "workspaceId": f"{group}/providers/Microsoft.OperationalInsights/workspaces/logs",
        "logAnalyticsDestinationType": None, "serviceBusRuleId": None, "marketplacePartnerId": None,
    }  # fmt: skip
    body = {"id": f"{scope}/providers/microsoft.insights/diagnosticSettings/to-logs", "name": "to-logs",
            "type": "Microsoft.Insights/diagnosticSettings", "properties": properties}  # fmt: skip
    return {"to-logs": body}


def storage_account(group: str, seed: int, location: str, began: datetime) -> Body:
    """The storage account of a workspace, as it is when nobody hardened it."""
    name = account_name(seed)
    service = {"enabled": True, "keyType": "Account", "lastEnabledTime": stamp(began - timedelta(days=220))}
    properties: Body = {
        "creationTime": stamp(began - timedelta(days=220)), "provisioningState": "Succeeded",
        "allowSharedKeyAccess": True, "allowBlobPublicAccess": False, "minimumTlsVersion": "TLS1_2",
        "supportsHttpsTrafficOnly": True, "publicNetworkAccess": "Enabled", "isHnsEnabled": False,
        "networkAcls": {"bypass": "AzureServices", "virtualNetworkRules": [], "ipRules": [], "defaultAction": "Allow"},
        "encryption": {"services": {"blob": service, "file": service}, "keySource": "Microsoft.Storage"},
        "accessTier": "Hot", "primaryLocation": location, "statusOfPrimary": "available",
        "primaryEndpoints": {"blob": f"https://{name}.blob.core.windows.net/"}, "privateEndpointConnections": [],
    }  # fmt: skip
    return {"sku": {"name": "Standard_LRS", "tier": "Standard"}, "kind": "StorageV2",
            "id": f"{group}/providers/Microsoft.Storage/storageAccounts/{name}", "name": name,
            "type": "Microsoft.Storage/storageAccounts", "location": location, "tags": {},
            "properties": properties}  # fmt: skip


def storage_parts(account: str) -> dict[str, Body]:
    """What lies below a storage account: by the path below its id, in lower case."""
    kept = {"enabled": True, "days": 7}
    blob = {"cors": {"corsRules": []}, "deleteRetentionPolicy": kept | {"allowPermanentDelete": False},
            "containerDeleteRetentionPolicy": kept, "isVersioningEnabled": False, "changeFeed": None}  # fmt: skip
    rule = {"enabled": True, "name": "old-logs", "type": "Lifecycle", "definition": {
        "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": 365}}},
        "filters": {"blobTypes": ["blockBlob"], "prefixMatch": ["azureml/ComputeRecord"]}}}  # fmt: skip
    lifecycle = {"lastModifiedTime": "2026-01-05T09:00:00.0000000Z", "policy": {"rules": [rule]}}
    kind = "Microsoft.Storage/storageAccounts"
    return {
        "blobservices/default": {"sku": {"name": "Standard_LRS", "tier": "Standard"}, "properties": blob,
                                 "id": f"{account}/blobServices/default", "name": "default",
                                 "type": f"{kind}/blobServices"},
        "managementpolicies/default": {"properties": lifecycle, "id": f"{account}/managementPolicies/default",
                                       "name": "DefaultManagementPolicy", "type": f"{kind}/managementPolicies"},
    }  # fmt: skip


def blob_containers(account: str, workspace: str) -> list[Body]:
    """The containers that a workspace's bytes lie in."""
    kind, at = "Microsoft.Storage/storageAccounts/blobServices/containers", f"{account}/blobServices/default/containers"
    return [
        {"id": f"{at}/{name}", "name": name, "type": kind, "properties": {"publicAccess": "None"}}
        for name in ("azureml", f"azureml-blobstore-{workspace}")
    ]


#: What is used of a limit, and the limit.
USAGES = {"Standard D Family Cluster Dedicated vCPUs": (12, 48), "Total Cluster Dedicated Regional vCPUs": (12, 100)}


def usages(subscription: str, location: str, used_of: Mapping[str, tuple[int, int]] = USAGES) -> list[Body]:
    """What is used of the region's limits."""
    at = f"{subscription}/providers/{ML}/locations/{location}/usages"
    rows = [(name, *each) for name, each in used_of.items()]
    return [
        {"id": f"{at}/{name.replace(' ', '_')}", "type": f"{ML}/usages", "unit": "Count", "currentValue": used,
         "limit": limit, "name": {"value": name, "localizedValue": name}, "amlWorkspaceLocation": location}
        for name, used, limit in rows
    ]  # fmt: skip


def quotas(subscription: str, location: str, used_of: Mapping[str, tuple[int, int]] = USAGES) -> list[Body]:
    """The limits themselves."""
    return [
        {"id": f"{subscription}/providers/{ML}/locations/{location}/quotas/{row['name']['value'].replace(' ', '_')}",
         "type": f"{ML}/vmFamily/quotas", "limit": row["limit"], "unit": "Count", "name": row["name"]}
        for row in usages(subscription, location, used_of)
    ]  # fmt: skip


def registry(group: str, name: str, location: str, data_host: str) -> Body:
    """A registry of the resource group."""
    scope = f"{group}/providers/{ML}/registries/{name}"
    managed = {"resourceId": f"{group.rsplit('/', 1)[0]}/azureml-rg-{name}"}
    details = {"location": location, "storageAccountDetails": [{"userCreatedStorageAccount": None,
               "systemCreatedStorageAccount": {"storageAccountName": "stregistry", "storageAccountType": "standard_lrs",
                                               "storageAccountHnsEnabled": False, "armResourceId": managed}}],
               "acrDetails": [{"userCreatedAcrAccount": None, "systemCreatedAcrAccount": {
                   "acrAccountName": "crregistry", "acrAccountSku": "Premium", "armResourceId": managed}}]}  # fmt: skip
    properties = {
        "regionDetails": [details], "intellectualPropertyPublisher": None, "publicNetworkAccess": "Enabled",
        "discoveryUrl": f"https://{data_host}/registrymanagement/v1.0/registries/{name}/discovery",
        "managedResourceGroup": managed, "managedResourceGroupTags": {},
        "mlFlowRegistryUri": f"azureml://{data_host}/mlflow/v1.0{scope}",
    }  # fmt: skip
    identity = {"type": "SystemAssigned", "principalId": guid(sum(name.encode()), 69), "tenantId": TENANT}
    return {"tags": {}, "location": location, "identity": identity, "id": scope, "name": name,
            "type": f"{ML}/registries", "properties": properties, "systemData": None}  # fmt: skip
