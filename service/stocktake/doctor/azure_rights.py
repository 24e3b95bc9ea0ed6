"""Which rights an identity has at an Azure ML workspace, tier by tier, and what it costs not to have one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.doctor.checks import Check, ok, warn
from stocktake.settings import WorkspaceSettings
from stocktake.sources import azureml_activity
from stocktake.sources.arm import Arm
from stocktake.sources.arm_errors import AzureError, explain
from stocktake.sources.arm_rights import BLOBS, action_of, grants
from stocktake.sources.azureml import AzureMlConfig
from stocktake.sources.azureml_hosts import data_plane
from stocktake.sources.azureml_plan import ACTIVITY_LOG, JOBS, ROWS, STORAGE, STORAGE_PARTS, Place
from stocktake.sources.http import HttpClient

_GUIDE = "docs/how-to/azure-permissions.md"
_LOG_STEP = (
    "The activity log is asked of the subscription: where tier 1 is assigned at the resource group, assign it there, or"
    f" set azureml.activity_log to false ({_GUIDE})."
)
_STEP = f"Assign `stocktake 1 metadata` at the resource group, or set what is not wanted to false ({_GUIDE})."
_EXPERIMENTS = "/api/2.0/mlflow/experiments/search"
_RUNS = "/api/2.0/mlflow/runs/search"
_PERMISSIONS = "2022-04-01"

#: What the right to read who did what is told by, among the kinds.
ACTORS = "activity log"
#: What it costs not to see a kind. Whatever it is, what was known of it stays as it was, and nothing is taken for gone.
COSTS: Mapping[str, str] = {
    Kind.JOB: "jobs are not seen, with their states, inputs and outputs; runs of MLflow still are",
    Kind.SCHEDULE: "schedules are not seen, nor that one was disabled",
    Kind.COMPUTE: "compute is not seen: its size, state and idle time",
    Kind.ONLINE_ENDPOINT: "online endpoints are not seen: what serves, and with how much traffic",
    Kind.ONLINE_DEPLOYMENT: "which model version serves is not known",
    Kind.BATCH_ENDPOINT: "batch endpoints are not seen",
    Kind.BATCH_DEPLOYMENT: "which model version a batch endpoint uses is not known",
    Kind.DATASTORE: "datastores are not seen: where data and artifacts lie",
    Kind.REGISTERED_MODEL: "registered models are not seen",
    Kind.MODEL_VERSION: "model versions are not seen, so no lineage leads to a run",
    Kind.DATA: "data assets are not seen",
    Kind.DATA_VERSION: "which data a job used cannot be followed",
    Kind.ENVIRONMENT: "environments are not seen",
    Kind.ENVIRONMENT_VERSION: "which environment a job used cannot be followed",
    Kind.COMPONENT: "components are not seen",
    Kind.COMPONENT_VERSION: "versions of components are not seen",
    Kind.REGISTRY: "registries of the resource group are not seen",
    Kind.CONNECTION: "connections are not seen",
    Kind.QUOTA: "quotas of the region and their use are not seen",
    Kind.ROLE_ASSIGNMENT: "who may read the workspace and its artifacts is not known",
    Kind.PRIVATE_ENDPOINT: "private endpoints are not seen",
    Kind.DIAGNOSTIC_SETTING: "whether the workspace's logs are kept is not known",
    Kind.STORAGE_ACCOUNT: "how the storage account is secured is not known",
    Kind.EXPERIMENT: "experiments and runs are not seen",
    Kind.RUN: "runs are not seen, with their metrics, parameters and tags",
    ACTORS: "who changed something stays unknown; what changed is seen all the same",
}


@dataclass(slots=True)
class _Found:
    """What asking showed."""

    read: int = 0
    lacking: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # (right, scope) -> what it costs
    broken: list[tuple[str, SourceError]] = field(default_factory=list)

    def failed(self, kind: str, exc: SourceError, action: str, scope: str) -> None:
        if exc.trouble is not Trouble.PERMISSION:
            self.broken.append((kind, exc))
            return
        if isinstance(exc, AzureError):
            action, scope = exc.action or action, exc.scope or scope
        self.lacking.setdefault((action, scope), []).append(kind)


def rights(
    one: WorkspaceSettings, config: AzureMlConfig, arm: Arm, place: Place, properties: Mapping[str, Any]
) -> Iterator[Check]:
    """Ask for one page of everything that a scan reads, and tell what is denied, on which scope, and what it costs."""
    found = _Found()
    storage = properties.get("storageAccount")
    _resources(config, arm, place, found)
    if config.posture and isinstance(storage, str) and storage.startswith("/"):
        _storage(arm, storage, found)
    if config.mlflow:
        _mlflow(config, place, properties.get("mlFlowTrackingUri"), found)
    if config.activity_log:
        _activity(arm, place, found)
    for (action, scope), kinds in found.lacking.items():
        cost = "; ".join(COSTS.get(kind, f"{kind} is not seen") for kind in kinds)
        step = _LOG_STEP if kinds == [ACTORS] else _STEP
        yield warn("rights", f"the identity lacks {action} on {scope}: {cost}", step, one.name)
    for kind, exc in found.broken:
        yield warn(f"reading {kind}", f"{exc.what} ({exc.trouble})", exc.next_step, one.name)
    if not found.lacking and not found.broken:
        yield ok("rights", f"all {found.read} lists that a scan reads can be read", one.name)
    if isinstance(storage, str) and storage.startswith("/"):
        yield _tier(one, arm, storage, whole=not found.lacking)


def _resources(config: AzureMlConfig, arm: Arm, place: Place, found: _Found) -> None:
    """The first page of each list; of lists below others, that of the first one there is."""
    first: dict[Kind, str | None] = {}
    for row in (JOBS, *ROWS):
        if row.posture and not config.posture:
            continue
        parent = first.get(row.per) if row.per is not None else ""
        if parent is None:
            continue  # nothing there that it could be asked of, or its own list was denied
        for template in row.lists:
            path = place.path(template, parent=parent)
            try:
                page = next(arm.pages(path, row.version, row.params))
            except SourceError as exc:
                found.failed(row.kind, exc, action_of(path), path.rpartition("/")[0])
                continue
            found.read += 1
            if page.items:
                first[row.kind] = json.loads(page.items[0]).get("name")


def _storage(arm: Arm, account: str, found: _Found) -> None:
    for below in ("", *STORAGE_PARTS.values()):
        path = account + below
        try:
            arm.get(path, STORAGE.version, accept=frozenset({404}) if below else frozenset())
        except SourceError as exc:
            found.failed(Kind.STORAGE_ACCOUNT, exc, action_of(path), account)
        else:
            found.read += 1


def _mlflow(config: AzureMlConfig, place: Place, tracking: object, found: _Found) -> None:
    """One experiment and one run of it, from the workspace's own host."""
    action = f"{action_of(place.scope).removesuffix('/read')}/experiments"
    kind, right = Kind.EXPERIMENT, f"{action}/read"
    try:
        base = data_plane(tracking, config.data_hosts, place.scope).mlflow
        http = replace(config.data_plane, base_url=base, explain=explain, retries=1, posts=frozenset({_RUNS}))
        with closing(HttpClient(http, now=lambda: datetime.now(UTC))) as client:
            answer = client.get(_EXPERIMENTS, {"max_results": 1, "view_type": "ALL"}).json()
            found.read += 1
            experiments = answer.get("experiments") if isinstance(answer, dict) else None
            ids = [one.get("experiment_id") for one in experiments or () if isinstance(one, dict)]
            if ids:
                kind, right = Kind.RUN, f"{action}/runs/read"
                client.post(_RUNS, {"experiment_ids": ids[:1], "max_results": 1})
                found.read += 1
    except SourceError as exc:
        found.failed(kind, exc, right, place.scope)


def _activity(arm: Arm, place: Place, found: _Found) -> None:
    """The last minute of the activity log."""
    now = datetime.now(UTC)
    try:
        next(azureml_activity.pages(arm, place, None, now - timedelta(minutes=1), now))
        found.read += 1
    except SourceError as exc:
        path = place.path(ACTIVITY_LOG)
        found.failed(ACTORS, exc, action_of(path), path.partition("/providers/")[0])


def _tier(one: WorkspaceSettings, arm: Arm, account: str, *, whole: bool) -> Check:
    """Say how far our rights reach over blobs, by what the resource manager says that we may do at the account."""
    first = "1 (what the resource manager and MLflow tell)" + ("" if whole else ", with what is missing above")
    path = f"{account}/providers/Microsoft.Authorization/permissions"
    try:
        held = grants(arm.get(path, _PERMISSIONS).json())
    except SourceError as exc:
        denied = exc.trouble is Trouble.PERMISSION
        step = f"Assign Microsoft.Authorization/permissions/read to know more ({_GUIDE})." if denied else exc.next_step
        return warn("tier", f"{first}; how far it reaches over blobs is not told: {exc.what}", step, one.name)
    over_blobs = [grant for grant in held if grant.allows_data(BLOBS)]
    if not over_blobs:
        blobs = "blobs are neither listed (3) nor read (4): what artifacts take and which are orphans is not known"
        return ok("tier", f"{first}; {blobs}, unless the inventory's container is open to it (2)", one.name)
    if all(grant.condition and "Blob.List" in grant.condition for grant in over_blobs):
        return ok("tier", f"3 (it may list blobs, and not read them); {first}", one.name)
    step = f"Take it away where no content is wanted: assign tier 3 with its condition in its place ({_GUIDE})."
    return warn("tier", f"4 (it may read the content of every blob of the account); {first}", step, one.name)
