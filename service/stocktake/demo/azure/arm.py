"""What the resource manager answers: subscriptions, groups, and everything of a workspace that is read through it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from stocktake.demo.azure import graph, resources
from stocktake.demo.azure.estate import MANAGEMENT_GROUP, REGISTRY, Estate, event_body
from stocktake.demo.azure.job_views import arm_body
from stocktake.demo.azure.listed import as_told
from stocktake.demo.azure.pages import Pages
from stocktake.demo.azure.seeded import TENANT, Body
from stocktake.demo.azure.shelf import Shelf
from stocktake.demo.azure.wire import (
    Request,
    Response,
    gateway_error,
    no_item,
    no_resource,
    no_route,
    require_version,
    service_error,
)  # fmt: skip
from stocktake.demo.azure.workspace import Workspace

_ML = "microsoft.machinelearningservices"
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Kinds below a workspace as ARM writes them, by their lower case.
KINDS = {kind.lower(): kind for kind in (
    "jobs", "computes", "datastores", "data", "models", "environments", "components", "codes", "schedules",
    "connections", "onlineEndpoints", "batchEndpoints", "serverlessEndpoints", "marketplaceSubscriptions",
    "featuresets", "featurestoreEntities", "privateEndpointConnections", "outboundRules",
)}  # fmt: skip
_BELOW = {"versions", "deployments"}
_FILTER = re.compile(
    r"eventTimestamp ge '(?P<since>[^']+)'(?: and eventTimestamp le '(?P<until>[^']+)')?"
    r"(?: and (?:resourceGroupName eq '(?P<group>[^']+)'|resourceUri eq '(?P<uri>[^']+)'))?"
)


class Arm:
    """The resource manager over an estate."""

    def __init__(self, estate: Estate, page_of: Callable[[str], int] | None = None) -> None:
        self.estate = estate
        self.pages = Pages(estate, page_of)

    def answer(self, request: Request) -> Response:
        """Answer a request, or raise Refused."""
        require_version(request)
        parts = [part for part in request.path.split("/") if part]
        lowered = [part.lower() for part in parts]
        if request.method == "POST":
            if request.path.lower() == "/providers/microsoft.resourcegraph/resources":
                return Response(body=graph.answer(self.estate, request.json()))
            raise gateway_error(405, "MethodNotAllowed", "This estate can only be read.")
        if request.method not in ("GET", "HEAD"):
            raise gateway_error(405, "MethodNotAllowed", "This estate can only be read.")
        if lowered[:1] == ["subscriptions"]:
            return Response(body=self._below_subscriptions(request, parts, lowered))
        if lowered[:2] == ["providers", "microsoft.management"]:
            return Response(body=self._management_groups(request, lowered))
        if lowered == ["tenants"]:
            return Response(body={"value": [{"id": f"/tenants/{TENANT}", "tenantId": TENANT, "displayName": "Demo"}]})
        raise no_route(request.path)

    # ---- above workspaces -------------------------------------------------------------------------------------------

    def _management_groups(self, request: Request, lowered: Sequence[str]) -> Body:
        path = f"/providers/Microsoft.Management/managementGroups/{MANAGEMENT_GROUP}"
        kind = "Microsoft.Management/managementGroups"
        if lowered[2:] == ["managementgroups"]:
            properties = {"tenantId": TENANT, "displayName": "Platform"}
            return {"value": [{"id": path, "type": kind, "name": MANAGEMENT_GROUP, "properties": properties}]}
        if lowered[2:3] == ["managementgroups"] and lowered[3:4] not in ([], [MANAGEMENT_GROUP]):
            raise gateway_error(404, "NotFound", f"The management group '{lowered[3]}' cannot be found.")
        if lowered[4:] == ["descendants"]:
            rows = [{"id": f"/subscriptions/{one}", "type": f"{kind}/subscriptions", "name": one,
                     "properties": {"displayName": name, "parent": {"id": path}}}
                    for one, name in self._subscriptions()]  # fmt: skip
            return self.pages.rows(request, "descendants", rows)
        raise no_route(request.path)

    def _subscriptions(self) -> list[tuple[str, str]]:
        """Those that the caller may know of."""
        every = self.estate.subscriptions.items()
        action = "Microsoft.Resources/subscriptions/read"
        return [(one, name) for one, name in every if not self.estate.denied(f"/subscriptions/{one}", action)]

    def _below_subscriptions(self, request: Request, parts: list[str], lowered: list[str]) -> Any:
        if len(parts) == 1:
            return self.pages.rows(request, "subscriptions", [_subscription(*one) for one in self._subscriptions()])
        subscription = lowered[1]
        if not _GUID.fullmatch(subscription):
            raise gateway_error(
                400, "InvalidSubscriptionId",
                f"The provided subscription identifier '{parts[1]}' is malformed or invalid.",
            )  # fmt: skip
        if subscription not in self.estate.subscriptions:
            raise gateway_error(404, "SubscriptionNotFound", f"The subscription '{parts[1]}' could not be found.")
        rest = lowered[2:]
        if not rest:
            return _subscription(subscription, self.estate.subscriptions[subscription])
        if rest == ["locations"]:
            return {"value": [{"name": self.estate.location, "displayName": self.estate.location}]}
        if rest == ["resources"]:
            return self._resources(request, subscription)
        groups = self.estate.groups(subscription)
        if rest == ["resourcegroups"]:
            return self.pages.rows(
                request, "resourceGroups", [self._group(subscription, one) for one in groups.values()]
            )
        if rest[0] == "resourcegroups":
            if rest[1] not in groups:
                raise gateway_error(404, "ResourceGroupNotFound", f"Resource group '{parts[3]}' could not be found.")
            if len(rest) == 2:
                return self._group(subscription, groups[rest[1]])
            return self._in_group(request, subscription, groups[rest[1]], parts[4:], lowered[4:])
        if rest[0] == "providers":
            return self._at_subscription(request, subscription, lowered[3:])
        raise no_route(request.path)

    def _group(self, subscription: str, name: str) -> Body:
        return {"id": f"/subscriptions/{subscription}/resourceGroups/{name}", "name": name,
                "type": "Microsoft.Resources/resourceGroups", "location": self.estate.location, "tags": {},
                "properties": {"provisioningState": "Succeeded"}}  # fmt: skip

    def _resources(self, request: Request, subscription: str) -> Body:
        wanted = re.search(r"resourcetype eq '([^']+)'", request.query.get("$filter", "").lower())
        rows = [
            {name: body[name] for name in ("id", "name", "type", "location", "tags")}
            for body in (one.body() for one in self.estate.workspaces(subscription))
            if wanted is None or body["type"].lower() == wanted[1]
        ]
        return self.pages.rows(request, "resources", rows)

    def _at_subscription(self, request: Request, subscription: str, rest: Sequence[str]) -> Body:
        scope = f"/subscriptions/{subscription}"
        match rest:
            case [provider, "workspaces"] if provider == _ML:
                return self._workspaces(request, subscription, None)
            case [provider, "registries"] if provider == _ML:
                groups = self.estate.groups(subscription).values()
                return {"value": [self.estate.registry(subscription, group) for group in groups]}
            case [provider, "deletedworkspaces"] | [provider, "locations", _, "deletedworkspaces"] if provider == _ML:
                gone = self.estate.soft_deleted(subscription)
                return self.pages.rows(request, "deletedWorkspaces", [_deleted(one) for one in gone])
            case [provider, "locations", location, ("usages" | "quotas") as what] if provider == _ML:
                if location != self.estate.location:
                    raise gateway_error(400, "NoRegisteredProviderFound", f"No registered resource provider found for"
                                        f" location '{location}'.")  # fmt: skip
                bodies = resources.usages if what == "usages" else resources.quotas
                return {"value": bodies(scope, location, self.estate.usages(subscription))}
            case ["microsoft.authorization", "roledefinitions", role] if role in resources.ROLES:
                return resources.role_definition(scope, role)
            case ["microsoft.authorization", "roledefinitions"]:
                return {"value": [resources.role_definition(scope, role) for role in resources.ROLES]}
            case ["microsoft.insights", "eventtypes", "management", "values"]:
                return self._activity(request, scope)
        raise no_route(request.path)

    def _activity(self, request: Request, scope: str) -> Body:
        """The newest lines first; of the filter no other forms are offered than those that Azure documents."""
        asked = _FILTER.fullmatch(request.query.get("$filter", ""))
        if asked is None:
            raise gateway_error(400, "BadRequest", "The filter is not supported, or has no lower bound.")
        since, until = (at and datetime.fromisoformat(at) for at in asked.group("since", "until"))
        rows = []
        for number, event in enumerate(self.estate.activity):
            resource = event.resource.lower()
            if event.shown_at > self.estate.now() or not resource.startswith(scope):
                continue
            if (since and event.at < since) or (until and event.at > until):
                continue
            if asked["uri"] and resource != asked["uri"].lower():
                continue
            if asked["group"] and f"/resourcegroups/{asked['group'].lower()}/" not in f"{resource}/":
                continue
            rows.append(event_body(event, number))
        return self.pages.rows(request, "events", rows[::-1])

    # ---- in a resource group ----------------------------------------------------------------------------------------

    def _in_group(self, request: Request, subscription: str, group: str, parts: list[str], lowered: list[str]) -> Any:
        if lowered[:1] != ["providers"] or len(lowered) < 3:
            raise no_route(request.path)
        provider, kind = lowered[1], lowered[2]
        if provider == _ML and kind == "workspaces":
            if len(lowered) == 3:
                return self._workspaces(request, subscription, group)
            found = self.estate.find(subscription, group, lowered[3])
            if found is None or found.state != "there":
                raise no_resource(f"{resources.ML}/workspaces", parts[3], group)
            return self._in_workspace(request, found, parts[4:], lowered[4:])
        if provider == _ML and kind == "registries":
            return self._in_registry(request, subscription, group, parts[3:])
        if provider == "microsoft.storage" and kind == "storageaccounts" and len(lowered) > 3:
            return self._storage(request, subscription, group, lowered[3], lowered[4:])
        if provider == "microsoft.authorization" and kind == "roleassignments":
            inside = list(self.estate.workspaces(subscription, group))
            return self._roles(request, inside[:1], f"/subscriptions/{subscription}/resourcegroups/{group}".lower())
        raise no_route(request.path)

    def _workspaces(self, request: Request, subscription: str, group: str | None) -> Body:
        rows = [one.body() for one in self.estate.workspaces(subscription, group)]
        return self.pages.rows(request, "workspaces", rows)

    def _storage(self, request: Request, subscription: str, group: str, name: str, rest: Sequence[str]) -> Any:
        for one in self.estate.workspaces(subscription, group):
            account = one.storage()
            if account["name"] != name:
                continue
            below = resources.storage_parts(account["id"])
            if not rest:
                return account
            if "/".join(rest) in below:
                return below["/".join(rest)]
            if rest in (["inventorypolicies"], ["managementpolicies"], ["blobservices"]):
                return {"value": [body for path, body in below.items() if path.startswith(rest[0])]}
            if rest == ["providers", "microsoft.authorization", "permissions"]:
                return {"value": [{"actions": ["*/read"], "notActions": [], "dataActions": [], "notDataActions": []}]}
            if rest == ["inventorypolicies", "default"]:
                raise gateway_error(
                    404, "BlobInventoryPolicyNotFound", "No blob inventory policy found in the account."
                )
            if rest == ["blobservices", "default", "containers"]:
                return {"value": resources.blob_containers(account["id"], one.body()["properties"]["workspaceId"])}
            raise no_route(request.path)
        raise no_resource("Microsoft.Storage/storageAccounts", name, group)

    def _in_registry(self, request: Request, subscription: str, group: str, parts: Sequence[str]) -> Any:
        if not parts:
            return {"value": [self.estate.registry(subscription, group)]}
        if parts[0].lower() != REGISTRY:
            raise service_error(404, f"Registry {parts[0]} not found", "NotFound", "RegistryNotFound")
        if len(parts) == 1:
            return self.estate.registry(subscription, group)
        return self._shelved(request, self.estate.registry_shelf, parts[1:])

    # ---- in a workspace ---------------------------------------------------------------------------------------------

    def _in_workspace(self, request: Request, workspace: Workspace, parts: list[str], lowered: list[str]) -> Any:
        if not parts:
            return workspace.body()
        if lowered[0] == "jobs":
            if len(parts) == 1:
                return self.pages.jobs(request, workspace.jobs, workspace.place)
            job = workspace.jobs.find(parts[1])
            if job is None or (job.parent is not None and job.type == "Step") or len(parts) > 2:
                raise no_item("jobs", parts[1])
            return arm_body(workspace.place, job)
        if lowered[0] == "providers":
            if lowered[1:] == ["microsoft.insights", "diagnosticsettings"]:
                return self._shelved(request, workspace.shelf, ["diagnosticSettings"])
            if lowered[1:] == ["microsoft.authorization", "roleassignments"]:
                return self._roles(request, [workspace], workspace.scope.lower())
            raise no_route(request.path)
        if lowered[0] == "usages":
            return {"value": []}
        if lowered[0] not in KINDS:
            raise no_route(request.path)
        path = [KINDS[lowered[0]], *parts[1:]]
        answer = self._shelved(request, workspace.shelf, path)
        return as_told(path, answer, workspace.body()["properties"]["workspaceId"])

    def _roles(self, request: Request, workspaces: Sequence[Workspace], scope: str) -> Body:
        at_scope = request.query.get("$filter", "").replace(" ", "") == "atScope()"
        rows = {}
        for one in workspaces:
            shelf = one.shelf("roleAssignments")
            assert shelf is not None
            for name in shelf.names():
                body = shelf.find(name)
                assert body is not None
                at = body["properties"]["scope"].lower()
                inherited = scope == at or scope.startswith(at + "/")
                if inherited or (not at_scope and at.startswith(scope)):
                    rows[name] = body
        return self.pages.rows(request, "roleAssignments", list(rows.values()))

    def _shelved(self, request: Request, shelf_of: Callable[..., Shelf | None], parts: Sequence[str]) -> Any:
        """A list or an item of a shelf: KIND, KIND/NAME, KIND/NAME/versions, KIND/NAME/versions/VERSION."""
        kind = parts[0]
        shelf = shelf_of(kind)
        if shelf is None:
            raise no_route(request.path)
        if len(parts) == 1:
            return self.pages.shelf(request, kind, shelf)
        item = shelf.find(parts[1])
        if item is None:
            raise no_item(kind, parts[1])
        if len(parts) == 2:
            return item
        inner = shelf_of(kind, parts[1], parts[2]) if parts[2] in _BELOW and len(parts) < 5 else None
        if inner is None:
            raise no_route(request.path)
        if len(parts) == 3:
            return self.pages.shelf(request, f"{kind}/{parts[1]}/{parts[2]}", inner)
        below = inner.find(parts[3])
        if below is None:
            raise no_item(kind if parts[2] == "versions" else parts[2], parts[3])
        return below


def _subscription(identifier: str, name: str) -> Body:
    return {"id": f"/subscriptions/{identifier}", "subscriptionId": identifier, "displayName": name, "state": "Enabled",
            "tenantId": TENANT, "authorizationSource": "RoleBased", "managedByTenants": []}  # fmt: skip


def _deleted(workspace: Workspace) -> Body:
    body = workspace.body()
    deleted = workspace.deleted_at
    return {name: body[name] for name in ("id", "name", "type", "location", "tags")} | {
        "properties": body["properties"] | {"provisioningState": "SoftDeleted"},
        "systemData": body["systemData"] | {"deletedAt": deleted.isoformat() if deleted else None},
    }
