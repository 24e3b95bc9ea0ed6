"""What a 404 of the resource manager says about the asset that was asked for. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from stocktake.core.assets import Kind
from stocktake.sources import arm_errors
from stocktake.sources.http import Answer

#: Codes by which any service says that what was asked for is not there.
_ABSENT = frozenset({"NotFound", "NotFoundError", "ResourceNotFound"})
_MODEL = frozenset({"ModelNotFound", "NoSuchModelRegistered"})
_DATA = frozenset({"DataNotFound", "DatasetNotFound"})
_ENVIRONMENT = frozenset({"EnvironmentNotFound"})
_COMPONENT = frozenset({"ComponentNotFound"})
_ENDPOINT = frozenset({"EndpointNotFound", "NoSuchEndpoint"})
_DEPLOYMENT = _ENDPOINT | {"DeploymentNotFound", "NoSuchDeployment"}
#: Codes by which the service that keeps a kind says it. Any other tells of something else that is not there, of which
#: nothing follows about the asset: a storage account, a key vault, the group, the workspace.
_ABSENT_OF: Mapping[Kind, frozenset[str]] = {
    Kind.JOB: frozenset({"JobNotFound"}),
    Kind.SCHEDULE: frozenset({"ScheduleNotFound", "TriggerNotFound"}),
    Kind.COMPUTE: frozenset({"ComputeNotFound"}),
    Kind.DATASTORE: frozenset({"DataStoreNotFound", "DatastoreNotFound", "NoSuchDataStore"}),
    Kind.REGISTERED_MODEL: _MODEL,
    Kind.MODEL_VERSION: _MODEL,
    Kind.DATA: _DATA,
    Kind.DATA_VERSION: _DATA,
    Kind.ENVIRONMENT: _ENVIRONMENT,
    Kind.ENVIRONMENT_VERSION: _ENVIRONMENT,
    Kind.COMPONENT: _COMPONENT,
    Kind.COMPONENT_VERSION: _COMPONENT,
    Kind.ONLINE_ENDPOINT: _ENDPOINT,
    Kind.BATCH_ENDPOINT: _ENDPOINT,
    Kind.ONLINE_DEPLOYMENT: _DEPLOYMENT,
    Kind.BATCH_DEPLOYMENT: _DEPLOYMENT,
    Kind.REGISTRY: frozenset({"RegistryNotFound"}),
    Kind.CONNECTION: frozenset({"ConnectionNotFound"}),
}
#: What a code looks like that says of anything that it is not there, or that nothing like it is offered.
_MISSING = re.compile(r"NotFound|NoSuch|NotRegistered|^Invalid|^NoRegistered|Unsupported|Dependency")


def says_absent(kind: Kind, answer: Answer) -> bool:
    """Whether a 404 is about the asset that was asked for, rather than about the place it would be in, or about
    something that it needs.

    The service says so by a code of its own; of a compute it answers without a body (recorded). What is missing in the
    way of a proxy or a gateway says neither.
    """
    codes = arm_errors.codes(answer)
    if not codes:
        return kind is Kind.COMPUTE and answer.body.strip() in (b"", b"null")
    missing = {code for code in codes if code in arm_errors.MEANINGS or _MISSING.search(code)}
    return bool(missing) and missing <= _ABSENT | _ABSENT_OF.get(kind, frozenset())
