"""What of an answer of Azure is not kept: one table with the reason of each row. Everything else is kept as it came.

A field that is null is a field that is not there: which of its many empty fields Azure writes out differs from one API
version to the next, and says nothing. Fields of the class SECRET go out here, before the redaction that every document
passes afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from stocktake.core.assets import Kind


class Why(StrEnum):
    """Why a field is left out."""

    MOVES = "moves by itself"  # nobody decides it, and it differs at every look
    REPEATS = "repeats"  # says again what the key, the parent or the workspace says
    SECRET = "secret"  # noqa: S105 - credentials, or keys to a machine
    PERSONAL = "personal"  # numbers of a person in the directory, of no use to an inventory


class Row(NamedTuple):
    """Where the field is ("*": any name; "**." before a name: at any depth), why it goes, and what that means."""

    path: str
    why: Why
    reason: str


_RUN_PLUMBING = "numbers of the person in the directory; the name is kept"

#: Of every kind.
EVERYWHERE: Sequence[Row] = (
    Row("etag", Why.MOVES, "a new one at every write, also of writes that change nothing"),
    Row("systemData.lastModifiedAt", Why.MOVES, "what was modified shows as a change with its own times"),
    Row("systemData.lastModifiedBy", Why.MOVES, "goes with lastModifiedAt; it names services as often as people"),
    Row("systemData.lastModifiedByType", Why.MOVES, "goes with lastModifiedBy"),
)

#: Of kinds that lie in the workspace: their id is the workspace's and the key.
_BELOW: Sequence[Row] = (
    Row("id", Why.REPEATS, "the workspace's id, the kind and the key"),
    Row("name", Why.REPEATS, "the key, or its last part"),
    Row("type", Why.REPEATS, "the kind"),
)

_CONTAINER: Sequence[Row] = (
    Row("properties.nextVersion", Why.MOVES, "of components it is the present time; else it follows latestVersion"),
)

_DEPLOYED: Sequence[Row] = (
    Row("properties.keys", Why.SECRET, "keys of an endpoint; lists do not hold them, and they are never asked for"),
    Row("properties.properties.AzureAsyncOperationUri", Why.MOVES, "the address of the last operation's status"),
)

#: Of one kind.
BY_KIND: Mapping[Kind, Sequence[Row]] = {
    Kind.WORKSPACE: (
        Row("properties.sdkTelemetryAppInsightsKey", Why.SECRET, "an instrumentation key: whoever has it can write"),
        Row("properties.notebookInfo.notebookPreparationError", Why.MOVES, "of the last start of the notebook service"),
    ),
    Kind.JOB: (
        *_BELOW,
        Row("properties.tags._aml_system_ComputeTargetStatus", Why.MOVES, "node counts of the cluster while it runs"),
    ),
    Kind.CHILD_JOB: (
        Row("runId", Why.REPEATS, "the key"),
        Row("token", Why.SECRET, "the token that the run itself logs with"),
        Row("tokenExpiryTimeUtc", Why.MOVES, "of that token"),
        Row("revision", Why.MOVES, "counts writes"),
        Row("statusRevision", Why.MOVES, "counts writes"),
        Row("lastModifiedUtc", Why.MOVES, "what was modified shows as a change with its own times"),
        Row("lastModifiedBy", Why.MOVES, "goes with lastModifiedUtc; it is the service as often as a person"),
        Row("currentComputeTime", Why.MOVES, "a clock that runs while the job does"),
        Row("queueingInfo.lastRefreshTimestamp", Why.MOVES, "when the queue was last looked at; why it waits is kept"),
        Row("lastStartTimeUtc", Why.MOVES, "moves while the job runs; startTimeUtc is kept"),
        Row("effectiveStartTimeUtc", Why.MOVES, "moves while the job runs; startTimeUtc is kept"),
        Row("tags._aml_system_ComputeTargetStatus", Why.MOVES, "node counts of the cluster while it runs"),
        Row("actionUris", Why.REPEATS, "addresses to write to, made of the key"),
        Row("cancelUri", Why.REPEATS, "an address to write to, made of the key"),
        Row("completeUri", Why.REPEATS, "an address to write to, made of the key"),
        Row("diagnosticsUri", Why.REPEATS, "an address to write to, made of the key"),
        Row("userId", Why.PERSONAL, _RUN_PLUMBING),
        *(
            Row(f"createdBy.{name}", Why.PERSONAL, _RUN_PLUMBING)
            for name in ("userObjectId", "userPuId", "userIdp", "userAltSecId", "userIss", "userTenantId", "upn")
        ),
    ),
    Kind.SCHEDULE: _BELOW,
    Kind.COMPUTE: (
        *_BELOW,
        Row("properties.modifiedOn", Why.MOVES, "moves with every start, stop and resize, which show by themselves"),
        *(
            Row(f"**.{name}", Why.SECRET, "a way into the machine")
            for name in (
                "adminPublicKey",
                "adminUserPassword",
                "adminUserSshPublicKey",
                "password",
                "publicKeyData",
                "privateKeyData",
                "databricksAccessToken",
                "sslConfiguration",
                "scriptData",
            )
        ),
    ),
    Kind.ONLINE_ENDPOINT: (*_BELOW, *_DEPLOYED),
    Kind.ONLINE_DEPLOYMENT: (*_BELOW, *_DEPLOYED),
    Kind.BATCH_ENDPOINT: (*_BELOW, *_DEPLOYED),
    Kind.BATCH_DEPLOYMENT: (*_BELOW, *_DEPLOYED),
    Kind.DATASTORE: (
        *_BELOW,
        *(
            Row(f"properties.credentials.{name}", Why.SECRET, "lists do not hold it, and listSecrets is never called")
            for name in ("secrets", "key", "sasToken", "clientSecret", "certificate", "password", "accountKey")
        ),
    ),
    Kind.REGISTERED_MODEL: (*_BELOW, *_CONTAINER),
    Kind.DATA: (*_BELOW, *_CONTAINER),
    Kind.ENVIRONMENT: (*_BELOW, *_CONTAINER),
    Kind.COMPONENT: (*_BELOW, *_CONTAINER),
    Kind.MODEL_VERSION: _BELOW,
    Kind.DATA_VERSION: _BELOW,
    Kind.ENVIRONMENT_VERSION: _BELOW,
    Kind.COMPONENT_VERSION: _BELOW,
    Kind.CONNECTION: (
        *_BELOW,
        Row("properties.credentials", Why.SECRET, "whatever it holds; authType says of which kind it is"),
        Row("properties.value", Why.SECRET, "credentials as older API versions wrote them"),
    ),
    Kind.ROLE_ASSIGNMENT: (
        Row("properties.updatedOn", Why.MOVES, "an assignment cannot be changed but for its condition, which is kept"),
        Row("properties.updatedBy", Why.MOVES, "goes with updatedOn"),
    ),
    Kind.STORAGE_ACCOUNT: (
        Row("account.etag", Why.MOVES, "a new one at every write"),
        Row("managementPolicy.properties.lastModifiedTime", Why.MOVES, "the rules themselves are compared"),
        Row("inventoryPolicy.properties.lastModifiedTime", Why.MOVES, "the rules themselves are compared"),
    ),
}

#: Of a child job, until it has ended: how long it has run so far.
WHILE_RUNNING: Sequence[Row] = (
    Row("computeDuration", Why.MOVES, "a clock that runs while the job does"),
    Row("duration", Why.MOVES, "a clock that runs while the job does"),
)


def rows(kind: Kind) -> Sequence[Row]:
    """Every row that holds for a kind."""
    return (*EVERYWHERE, *BY_KIND.get(kind, ()))


class _Tree(dict[str, "_Tree | None"]):
    """Names to go down by; None under a name that goes out."""


def _trees() -> Mapping[Kind, tuple[_Tree, frozenset[str]]]:
    result = {}
    for kind in Kind:
        tree, anywhere = _Tree(), set[str]()
        for row in rows(kind):
            if row.path.startswith("**."):
                anywhere.add(row.path.removeprefix("**."))
                continue
            *above, last = row.path.split(".")
            branch = tree
            for name in above:
                below = branch.setdefault(name, _Tree())
                assert below is not None, f"{row.path} lies below a field that is left out"
                branch = below
            branch[last] = None
        result[kind] = (tree, frozenset(anywhere))
    return result


_TREES = _trees()
_NOTHING: Mapping[str, _Tree | None] = {}


def kept(kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    """Everything of an answer but what the table names, and what is null."""
    tree, anywhere = _TREES[kind]
    return _kept(body, tree, anywhere)


def _kept(
    value: Mapping[str, Any], tree: Mapping[str, _Tree | None] | None, anywhere: frozenset[str]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    tree = tree or _NOTHING
    for name, item in value.items():
        if item is None or name in anywhere or (name in tree and tree[name] is None):
            continue
        if type(item) is dict:
            result[name] = _kept(item, tree.get(name), anywhere)
        elif type(item) is list:
            result[name] = [_kept(one, None, anywhere) if type(one) is dict else one for one in item]
        else:
            result[name] = item
    return result
