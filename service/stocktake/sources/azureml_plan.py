"""What is asked of the resource manager for one workspace, as data: which list, in which version, and for each of what.

One row for each kind. A list that exists is asked for once (and page by page); one call per name is made only where
Azure has no list over all of them: versions for each container, deployments for each endpoint.
docs/reference/azureml.md has this table in words; `planned` is its sum, which a test counts on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from stocktake.core.assets import Kind, Mode

PROVIDER = "Microsoft.MachineLearningServices"

#: Everything, archived and disabled too: without it Azure leaves those out without a sign.
_ALL: Mapping[str, str] = {"listViewType": "All"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How a kind is listed, and how one of it is asked for by its key."""

    kind: Kind
    lists: tuple[str, ...]  # paths; {workspace}, {group}, {subscription}, {location}, and {parent} where `per` is set
    version: str  # of the API
    params: Mapping[str, str] = field(default_factory=dict)
    item: str = ""  # the path of one: {key}, or {parent} and {key}; empty: the list is read again
    per: Kind | None = None  # one list for each asset of this kind
    sweep_only: bool = False
    posture: bool = False  # of what stands around the workspace, rather than of what is in it
    #: What a GET of one says is not what a list says of it: of what is there, the list is read again for its words.
    lists_otherwise: bool = False


def _versions(kind: Kind, per: Kind, folder: str, version: str, *, lists_otherwise: bool = False) -> tuple[Row, Row]:
    """A container and its versions. Lists show no tags of a container (azure-sdk-for-python#40680), and of components
    another creation than a GET (recorded)."""
    below = f"{{workspace}}/{folder}"
    return (
        Row(kind=per, lists=(below,), version=version, params=_ALL, item=f"{below}/{{key}}", lists_otherwise=True),
        Row(
            kind=kind,
            lists=(f"{below}/{{parent}}/versions",),
            version=version,
            params=_ALL,
            item=f"{below}/{{parent}}/versions/{{key}}",
            per=per,
            lists_otherwise=lists_otherwise,
        ),
    )


def _deployments(kind: Kind, per: Kind, folder: str, endpoints: str, version: str) -> tuple[Row, Row]:
    below = f"{{workspace}}/{folder}"
    return (
        Row(kind=per, lists=(below,), version=endpoints, item=f"{below}/{{key}}"),
        Row(
            kind=kind,
            lists=(f"{below}/{{parent}}/deployments",),
            version=version,
            item=f"{below}/{{parent}}/deployments/{{key}}",
            per=per,
        ),
    )


#: The workspace itself is one GET, before everything else.
WORKSPACE = Row(kind=Kind.WORKSPACE, lists=(), version="2024-10-01-preview", item="{workspace}")

#: Root jobs: listed in a sweep, asked for by name in a hot pass. There is no filter by time.
JOBS = Row(
    kind=Kind.JOB,
    lists=("{workspace}/jobs",),
    version="2024-01-01-preview",
    params=_ALL,
    item="{workspace}/jobs/{key}",
)

#: In this order: a container before its versions, an endpoint before its deployments.
ROWS: tuple[Row, ...] = (
    Row(
        kind=Kind.COMPUTE,
        lists=("{workspace}/computes",),
        version="2023-08-01-preview",
        item="{workspace}/computes/{key}",
    ),
    Row(
        kind=Kind.SCHEDULE,
        lists=("{workspace}/schedules",),
        version="2023-06-01-preview",
        params=_ALL,
        item="{workspace}/schedules/{key}",
    ),
    *_deployments(
        Kind.ONLINE_DEPLOYMENT, Kind.ONLINE_ENDPOINT, "onlineEndpoints", "2022-02-01-preview", "2023-04-01-preview"
    ),
    *_deployments(Kind.BATCH_DEPLOYMENT, Kind.BATCH_ENDPOINT, "batchEndpoints", "2023-10-01", "2024-01-01-preview"),
    Row(
        kind=Kind.DATASTORE,
        lists=("{workspace}/datastores",),
        version="2024-10-01-preview",
        params={"count": "30"},
        item="{workspace}/datastores/{key}",
    ),
    *_versions(Kind.MODEL_VERSION, Kind.REGISTERED_MODEL, "models", "2023-08-01-preview"),
    # Recorded: a list calls the place of data by the workspace's GUID, a GET by its names.
    *_versions(Kind.DATA_VERSION, Kind.DATA, "data", "2023-04-01-preview", lists_otherwise=True),
    *_versions(Kind.ENVIRONMENT_VERSION, Kind.ENVIRONMENT, "environments", "2023-04-01-preview"),
    *_versions(Kind.COMPONENT_VERSION, Kind.COMPONENT, "components", "2024-01-01-preview"),
    Row(
        kind=Kind.REGISTRY,
        lists=(f"{{group}}/providers/{PROVIDER}/registries",),
        version="2024-04-01",
        item=f"{{group}}/providers/{PROVIDER}/registries/{{key}}",
    ),
    Row(
        kind=Kind.CONNECTION,
        lists=("{workspace}/connections",),
        version="2024-04-01",
        item="{workspace}/connections/{key}",
    ),
    Row(
        kind=Kind.QUOTA,
        lists=(
            f"{{subscription}}/providers/{PROVIDER}/locations/{{location}}/usages",
            f"{{subscription}}/providers/{PROVIDER}/locations/{{location}}/quotas",
        ),
        version="2024-04-01",
        sweep_only=True,
        posture=True,
    ),
    Row(
        kind=Kind.ROLE_ASSIGNMENT,
        lists=("{workspace}/providers/Microsoft.Authorization/roleAssignments",),
        version="2022-04-01",
        params={"$filter": "atScope()"},
        posture=True,
    ),
    Row(
        kind=Kind.PRIVATE_ENDPOINT,
        lists=("{workspace}/privateEndpointConnections",),
        version="2024-04-01",
        posture=True,
    ),
    Row(
        kind=Kind.DIAGNOSTIC_SETTING,
        lists=("{workspace}/providers/Microsoft.Insights/diagnosticSettings",),
        version="2021-05-01-preview",
        posture=True,
    ),
)

#: The workspace's storage account: the account, and what lies below it. What answers 404 is not set.
STORAGE = Row(kind=Kind.STORAGE_ACCOUNT, lists=(), version="2023-05-01", posture=True)
STORAGE_PARTS: Mapping[str, str] = {
    "blobService": "/blobServices/default",
    "managementPolicy": "/managementPolicies/default",
    "inventoryPolicy": "/inventoryPolicies/default",
}

#: Who did what: the subscription's log, as far as it is of one resource group. No narrower filter is documented to take
#: in what is below a workspace. No `$select`: `caller` is not among the names that are documented for it.
ACTIVITY_LOG = "{subscription}/providers/Microsoft.Insights/eventtypes/management/values"
ACTIVITY_VERSION = "2015-04-01"

BY_KIND: Mapping[Kind, Row] = {row.kind: row for row in (WORKSPACE, JOBS, *ROWS, STORAGE)}

#: The versions of a container, and the deployments of an endpoint, by what they belong to.
CHILDREN: Mapping[Kind, Kind] = {row.per: row.kind for row in ROWS if row.per is not None}


def soft_deleted(subscription: str) -> str:
    """The list of deleted workspaces that can be brought back. It is documented nowhere, and not offered everywhere."""
    return f"/subscriptions/{subscription}/providers/{PROVIDER}/deletedWorkspaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a workspace is."""

    subscription: str
    resource_group: str
    workspace: str
    location: str = ""  # known once the workspace was read

    @property
    def group(self) -> str:
        """The path of the resource group."""
        return (
            f"/subscriptions/{quote(self.subscription, safe='')}/resourceGroups/{quote(self.resource_group, safe='')}"
        )

    @property
    def scope(self) -> str:
        """The path of the workspace."""
        return f"{self.group}/providers/{PROVIDER}/workspaces/{quote(self.workspace, safe='')}"

    def path(self, template: str, *, parent: str = "", key: str = "") -> str:
        """A path of the plan with its names filled in."""
        return template.format(
            workspace=self.scope,
            group=self.group,
            subscription=f"/subscriptions/{quote(self.subscription, safe='')}",
            location=quote(self.location, safe=""),
            parent=quote(parent, safe=""),
            key=quote(key, safe=""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much there is of what decides the number of calls, in one pass."""

    items: Mapping[Kind, int] = field(default_factory=dict)  # of lists that may be longer than a page
    page: Mapping[Kind, int] = field(default_factory=dict)  # how many Azure gives in one page; else all of them
    asked: Mapping[Kind, int] = field(default_factory=dict)  # hot: containers with something new; jobs asked by name
    timed: int = 0  # jobs whose times are asked for: those that are new or had not ended
    parents: int = 0  # jobs whose children are asked for
    child_pages: int = 0  # pages of children beyond the first of each parent
    run_pages: int = 0  # of experiments and runs, on the data plane
    act_pages: int = 1  # of the activity log; 0 where it is not read
    posture: bool = True


def planned(mode: Mode, sizes: Sizes) -> int:
    """How many requests a pass makes: the sum of the plan."""
    total = 1 + sizes.timed + sizes.parents + sizes.child_pages + sizes.run_pages + sizes.act_pages
    for row in ROWS:
        if (row.posture and not sizes.posture) or (row.sweep_only and mode is Mode.HOT):
            continue
        if row.per is None:
            total += len(row.lists) * _pages(sizes, row.kind)
        elif mode is Mode.HOT and row.per in sizes.asked:
            total += sizes.asked[row.per]
        else:
            total += sizes.items.get(row.per, 0)
    total += sizes.asked.get(Kind.JOB, 0) if mode is Mode.HOT else _pages(sizes, Kind.JOB)
    return total + (1 + len(STORAGE_PARTS) if sizes.posture else 0)


def _pages(sizes: Sizes, kind: Kind) -> int:
    items, page = sizes.items.get(kind, 0), sizes.page.get(kind, 0)
    return max(1, -(-items // page)) if page else 1
