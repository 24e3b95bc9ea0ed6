"""What a request asks for, in Azure's words: the action that a role must allow, at which scope, and the family."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stocktake.demo.azure.wire import Request

_NAMES = {
    "microsoft.machinelearningservices": "Microsoft.MachineLearningServices", "microsoft.storage": "Microsoft.Storage",
    "microsoft.authorization": "Microsoft.Authorization", "microsoft.insights": "Microsoft.Insights",
    "microsoft.management": "Microsoft.Management", "microsoft.resourcegraph": "Microsoft.ResourceGraph",
}  # fmt: skip
_WORKSPACE = re.compile(r"/workspaces/([^/]+)", re.IGNORECASE)
_SUBSCRIPTION = re.compile(r"/subscriptions/([^/]+)", re.IGNORECASE)
_PLANE = re.compile(r"^/(mlflow|history)/v\d\.\d(/subscriptions/.*?/workspaces/[^/]+)/?(.*)$", re.IGNORECASE)
#: POSTs that only read. Everything else that is no GET or HEAD is an act.
READING_POSTS = re.compile(
    r"(?i)/providers/microsoft\.resourcegraph/resources|.*/api/2\.0/mlflow/(runs|experiments)/search|.*/rundata"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, classified."""

    method: str
    plane: str  # arm, graph, mlflow, history, discovery
    action: str  # Microsoft.MachineLearningServices/workspaces/jobs/read
    family: str  # jobs, models/versions, workspaces, storageAccounts/blobServices, runs/search ...
    scope: str  # what the action is asked for at
    subscription: str | None
    workspace: str | None
    page: bool  # a following page of a list
    path: str

    @property
    def reads(self) -> bool:
        """Whether nothing can change by it."""
        return self.method in ("GET", "HEAD") or (self.method == "POST" and bool(READING_POSTS.fullmatch(self.path)))


def asked(request: Request) -> Asked:
    """Classify a request."""
    path = request.path.rstrip("/")
    verb = "read" if request.method in ("GET", "HEAD") or READING_POSTS.fullmatch(path) else request.method.lower()
    found = _WORKSPACE.search(path)
    subscription = _SUBSCRIPTION.search(path)
    plane = _PLANE.match(path)
    page = any(name in request.query for name in ("$skiptoken", "$continuationtoken", "continuationtoken"))
    if plane is not None:
        rest = plane[3].removeprefix("api/2.0/mlflow/")
        inner = "experiments" if rest.startswith("experiments/") else "experiments/runs"
        action = f"Microsoft.MachineLearningServices/workspaces/{inner}/{verb}"
        parts = rest.split("/")
        family = rest if plane[1].lower() == "mlflow" else "/".join(parts[:1] + parts[2:])
        page = page or b'"page_token"' in request.body or "page_token" in request.query
        kind, scope = plane[1].lower(), plane[2]
    elif path.lower().startswith(("/discovery", "/registrymanagement")):
        kind, action, family, scope = "discovery", "", "discovery", ""
    elif path.lower().startswith("/providers/microsoft.resourcegraph"):
        kind, action, family, scope = "graph", "", "resources", ""
    else:
        kind = "arm"
        scope, action, family = _arm(path, verb)
    return Asked(
        request.method, kind, action, family, scope, subscription[1].lower() if subscription else None,
        found[1] if found else None, page, path,
    )  # fmt: skip


def _arm(path: str, verb: str) -> tuple[str, str, str]:
    before, provider, rest = path.rpartition("/providers/")
    if not provider:
        parts = [part for part in path.split("/") if part]
        kinds = parts[0::2]
        words = "/".join(["subscriptions", *kinds[1:]]) if kinds else "subscriptions"
        return path, f"Microsoft.Resources/{words}/{verb}", kinds[-1] if kinds else ""
    namespace, *parts = rest.split("/")
    kinds = parts[0::2]
    named = _NAMES.get(namespace.lower(), namespace)
    # A list is asked for at what it is in; an item at itself.
    scope = path if len(parts) % 2 == 0 else path.rsplit("/", 1)[0] if len(parts) > 1 else before
    family = "/".join(kinds[1:]) if kinds[:1] == ["workspaces"] and len(kinds) > 1 else "/".join(kinds)
    return scope, "/".join([named, *kinds, verb]), family
