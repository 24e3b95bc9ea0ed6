"""Turns one JSON object of Azure (ARM, or run-history) into one Asset. Pure.

A document is the body as it came, but for what azureml_left_out names. Types that are not known (of jobs, computes,
datastores) and fields that are not known are kept. Who made something is by `systemData`; who edited it is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stocktake.core.assets import Asset, Kind, Lifecycle
from stocktake.core.errors import SourceError
from stocktake.sources.azureml_jobs import parse_child_job, parse_job
from stocktake.sources.azureml_left_out import kept
from stocktake.sources.azureml_lifting import (
    deployment_key,
    home_of,
    key_of,
    lifecycle,
    mapping,
    moment,
    quota_key,
    reference,
    tagged,
    version_key,
)
from stocktake.sources.mlflow_values import as_object, decode, first, required_text, shape_error, text

#: The key of the one asset of kind `workspace`.
WORKSPACE_KEY = "workspace"

#: The field by which the source says that a workspace is not there any more, and what it says: deleted for 14 days;
#: deleted; or one of the two, where the list that would tell is not offered.
OUR_WORD = "deletion"
GONE = frozenset({"SoftDeleted", "Deleted", "Gone"})


def parse(kind: Kind, raw: bytes, *, owner_tags: Sequence[str] = ()) -> Asset:
    """Parse one raw item of a kind. Raises SourceError(SHAPE) naming the field that is missing or wrong."""
    try:
        body = as_object(decode(raw), str(kind))
        _require_properties(kind, body)
        return _PARSERS[kind](body, owner_tags)
    except SourceError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        raise shape_error(f"{kind} of an unknown structure ({type(exc).__name__})") from exc


def _require_properties(kind: Kind, body: Mapping[str, Any]) -> None:
    """Almost everything that an asset is, is in its `properties`: where that is something else than an object, nothing
    of it can be believed. Null is the same as not there, and that is how the steps of a pipeline are shown."""
    inner = mapping(body.get("account")) if kind is Kind.STORAGE_ACCOUNT else body
    if not isinstance(inner.get("properties"), dict | None):
        name = inner.get("runId") or inner.get("name")
        named = f" {name}" if isinstance(name, str) else ""
        raise shape_error(f"{kind}{named}: its properties are not a JSON object")


def _asset(kind: Kind, key: str, body: Mapping[str, Any], owner_tags: Sequence[str], **lifted: Any) -> Asset:
    """What is the same for every resource: its document, and what is lifted where it is."""
    properties, system = mapping(body.get("properties")), mapping(body.get("systemData"))
    tags = {**mapping(body.get("tags")), **mapping(properties.get("tags"))}
    lifted = {
        "name": key,
        "state": text(properties.get("provisioningState")),
        "lifecycle": lifecycle(properties.get("isArchived")),
        "owner": first((tagged(tags, owner_tags), text(system.get("createdBy")))),
        "created_at": moment(system.get("createdAt")),
    } | lifted
    return Asset(kind=kind, key=key, document=kept(kind, body), **lifted)


def parse_workspace(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """The workspace itself. One that is soft-deleted says so by `softDeletedAt`, or by our own word."""
    properties = mapping(body.get("properties"))
    state = "SoftDeleted" if properties.get("softDeletedAt") else text(properties.get("provisioningState"))
    state = text(body.get(OUR_WORD)) or state
    created = mapping(body.get("systemData")).get("createdAt") or properties.get("creationTime")
    return _asset(
        Kind.WORKSPACE,
        WORKSPACE_KEY,
        body,
        owner_tags,
        name=required_text(body, "name", "workspace"),
        state=state,
        lifecycle=Lifecycle.DELETED if state in GONE else Lifecycle.ACTIVE,
        created_at=moment(created),
    )


def parse_compute(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A compute of any type: an instance has a state, a cluster an allocation state, an attached one neither."""
    properties = mapping(body.get("properties"))
    inner = mapping(properties.get("properties"))
    assigned = mapping(mapping(inner.get("personalComputeInstanceSettings")).get("assignedUser"))
    made = mapping(inner.get("createdBy"))
    return _asset(
        Kind.COMPUTE,
        key_of(body, "compute"),
        body,
        owner_tags,
        state=first(
            (text(inner.get("state")), text(inner.get("allocationState")), text(properties.get("provisioningState")))
        ),
        owner=first(
            (
                tagged(mapping(body.get("tags")), owner_tags),
                text(assigned.get("objectId")),
                text(made.get("userName")),
                text(made.get("userId")),
                text(mapping(body.get("systemData")).get("createdBy")),
            )
        ),
        created_at=moment(properties.get("createdOn")),
    )


def parse_schedule(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A schedule; one that is disabled is still there."""
    properties, key = mapping(body.get("properties")), key_of(body, "schedule")
    enabled = properties.get("isEnabled")
    return _asset(
        Kind.SCHEDULE,
        key,
        body,
        owner_tags,
        name=text(properties.get("displayName")) or key,
        state="Enabled" if enabled is True else "Disabled" if enabled is False else _provisioned(properties),
    )


def _provisioned(properties: Mapping[str, Any]) -> str | None:
    return text(properties.get("provisioningState"))


def parse_datastore(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A datastore, and the address of the place that it names."""
    return _asset(
        Kind.DATASTORE,
        key_of(body, "datastore"),
        body,
        owner_tags,
        artifact_uri=_place(mapping(body.get("properties"))),
    )


_SERVICE = {"AzureBlob": "blob", "AzureDataLakeGen2": "dfs", "AzureFile": "file"}


def _place(properties: Mapping[str, Any]) -> str | None:
    service, account = _SERVICE.get(str(properties.get("datastoreType"))), text(properties.get("accountName"))
    container = first(text(properties.get(name)) for name in ("containerName", "filesystem", "fileShareName"))
    if not (service and account and container):
        return None
    protocol, host = properties.get("protocol") or "https", properties.get("endpoint") or "core.windows.net"
    return f"{protocol}://{account}.{service}.{host}/{container}"


def _version(kind: Kind, body: Mapping[str, Any], owner_tags: Sequence[str], **lifted: Any) -> Asset:
    name, version = version_key(body, str(kind))
    key = f"{name}/{version}"
    return _asset(kind, key, body, owner_tags, parent=name, **lifted)


def parse_model_version(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A version of a model; `jobName` is the job (and so the MLflow run) that made it."""
    properties = mapping(body.get("properties"))
    return _version(
        Kind.MODEL_VERSION,
        body,
        owner_tags,
        state=text(properties.get("stage")),
        run=text(properties.get("jobName")) or None,
        artifact_uri=text(properties.get("modelUri")) or None,
    )


def parse_data_version(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A version of a data asset."""
    return _version(
        Kind.DATA_VERSION,
        body,
        owner_tags,
        artifact_uri=text(mapping(body.get("properties")).get("dataUri")) or None,
    )


def parse_environment_version(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A version of an environment: an image, a build context, conda dependencies."""
    build = mapping(mapping(body.get("properties")).get("build"))
    return _version(Kind.ENVIRONMENT_VERSION, body, owner_tags, artifact_uri=text(build.get("contextUri")) or None)


def parse_component_version(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A version of a component."""
    spec = mapping(mapping(body.get("properties")).get("componentSpec"))
    return _version(Kind.COMPONENT_VERSION, body, owner_tags, code_version=reference(spec.get("code"), home_of(body)))


def _deployment(kind: Kind) -> Callable[[Mapping[str, Any], Sequence[str]], Asset]:
    def parse_deployment(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
        """A deployment: of which model, in which environment, on which machines."""
        endpoint, name = deployment_key(body, str(kind))
        code = mapping(mapping(body.get("properties")).get("codeConfiguration"))
        return _asset(
            kind,
            f"{endpoint}/{name}",
            body,
            owner_tags,
            name=name,
            parent=endpoint,
            code_version=reference(code.get("codeId"), home_of(body)),
        )

    return parse_deployment


def parse_role_assignment(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """Who may do what here; `properties.scope` says whether it was given here or is inherited."""
    properties = mapping(body.get("properties"))
    return _asset(
        Kind.ROLE_ASSIGNMENT,
        key_of(body, "role_assignment"),
        body,
        owner_tags,
        state=None,
        created_at=moment(properties.get("createdOn")),
    )


def parse_private_endpoint(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A connection of a private endpoint, and whether it is approved."""
    link = mapping(mapping(body.get("properties")).get("privateLinkServiceConnectionState"))
    key = key_of(body, "private_endpoint")
    return _asset(Kind.PRIVATE_ENDPOINT, key, body, owner_tags, state=text(link.get("status")))


def parse_quota(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A limit, or what is used of one. The key is the id below the provider: the same name is in several places."""
    named = mapping(body.get("name"))
    name = first((text(named.get("localizedValue")), text(named.get("value"))))
    return _asset(Kind.QUOTA, quota_key(body, "quota"), body, owner_tags, name=name, state=None)


def parse_storage_account(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """The workspace's storage account: the account, its blob service, its lifecycle and inventory policies."""
    account = as_object(body.get("account"), "storage_account.account")
    properties = mapping(account.get("properties"))
    return _asset(
        Kind.STORAGE_ACCOUNT,
        required_text(account, "name", "storage_account.account"),
        body,
        owner_tags,
        state=text(properties.get("provisioningState")),
        owner=tagged(mapping(account.get("tags")), owner_tags),
        created_at=moment(properties.get("creationTime")),
        artifact_uri=text(mapping(properties.get("primaryEndpoints")).get("blob")),
    )


def _plain(kind: Kind) -> Callable[[Mapping[str, Any], Sequence[str]], Asset]:
    """Kinds of which nothing is lifted but what every resource has."""
    return lambda body, owner_tags: _asset(kind, key_of(body, str(kind)), body, owner_tags)


_PARSERS: Mapping[Kind, Callable[[Mapping[str, Any], Sequence[str]], Asset]] = {
    Kind.WORKSPACE: parse_workspace,
    Kind.JOB: parse_job,
    Kind.CHILD_JOB: parse_child_job,
    Kind.SCHEDULE: parse_schedule,
    Kind.COMPUTE: parse_compute,
    Kind.ONLINE_ENDPOINT: _plain(Kind.ONLINE_ENDPOINT),
    Kind.ONLINE_DEPLOYMENT: _deployment(Kind.ONLINE_DEPLOYMENT),
    Kind.BATCH_ENDPOINT: _plain(Kind.BATCH_ENDPOINT),
    Kind.BATCH_DEPLOYMENT: _deployment(Kind.BATCH_DEPLOYMENT),
    Kind.DATASTORE: parse_datastore,
    Kind.REGISTERED_MODEL: _plain(Kind.REGISTERED_MODEL),
    Kind.MODEL_VERSION: parse_model_version,
    Kind.DATA: _plain(Kind.DATA),
    Kind.DATA_VERSION: parse_data_version,
    Kind.ENVIRONMENT: _plain(Kind.ENVIRONMENT),
    Kind.ENVIRONMENT_VERSION: parse_environment_version,
    Kind.COMPONENT: _plain(Kind.COMPONENT),
    Kind.COMPONENT_VERSION: parse_component_version,
    Kind.REGISTRY: _plain(Kind.REGISTRY),
    Kind.CONNECTION: _plain(Kind.CONNECTION),
    Kind.QUOTA: parse_quota,
    Kind.ROLE_ASSIGNMENT: parse_role_assignment,
    Kind.PRIVATE_ENDPOINT: parse_private_endpoint,
    Kind.DIAGNOSTIC_SETTING: _plain(Kind.DIAGNOSTIC_SETTING),
    Kind.STORAGE_ACCOUNT: parse_storage_account,
}
