"""The words of the inventory as values: kinds, scopes, assets, changes.

Nothing here reads a clock or a database; every time is an argument and timezone-aware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """What an asset is."""

    WORKSPACE = "workspace"  # the watched server itself: version, store type, features
    EXPERIMENT = "experiment"
    RUN = "run"
    LOGGED_MODEL = "logged_model"  # MLflow 3 models, ids m-...
    REGISTERED_MODEL = "registered_model"
    MODEL_VERSION = "model_version"
    TRACE = "trace"  # metadata only: a referrer of artifacts
    WEBHOOK = "webhook"
    # Of Azure Machine Learning. Model containers and versions of a workspace are REGISTERED_MODEL and MODEL_VERSION.
    JOB = "job"  # a root job, of any type; its name is the id of its MLflow run
    CHILD_JOB = "child_job"  # a step, trial or iteration of a job
    SCHEDULE = "schedule"
    COMPUTE = "compute"
    ONLINE_ENDPOINT = "online_endpoint"
    ONLINE_DEPLOYMENT = "online_deployment"  # key ENDPOINT/DEPLOYMENT
    BATCH_ENDPOINT = "batch_endpoint"
    BATCH_DEPLOYMENT = "batch_deployment"
    DATASTORE = "datastore"
    DATA = "data"  # a container of versions, as the three that follow
    DATA_VERSION = "data_version"  # key NAME/VERSION
    ENVIRONMENT = "environment"
    ENVIRONMENT_VERSION = "environment_version"
    COMPONENT = "component"
    COMPONENT_VERSION = "component_version"
    REGISTRY = "registry"  # one of the resource group's; shared between workspaces
    CONNECTION = "connection"
    QUOTA = "quota"  # a limit of the region and what is used of it
    ROLE_ASSIGNMENT = "role_assignment"  # who may do what at the workspace, given there or inherited
    PRIVATE_ENDPOINT = "private_endpoint"
    DIAGNOSTIC_SETTING = "diagnostic_setting"
    STORAGE_ACCOUNT = "storage_account"  # the workspace's own: how it is secured and what it keeps


#: Kinds that are listed experiment by experiment: an asset's partition is the id of its experiment.
PARTITIONED = frozenset({Kind.RUN, Kind.LOGGED_MODEL, Kind.TRACE})

#: Kinds that a source of Azure's never lists, and kinds that no other source does: of them nothing is missing there.
NOT_OF_AZURE = frozenset({Kind.LOGGED_MODEL, Kind.TRACE, Kind.WEBHOOK})
ONLY_OF_AZURE = frozenset(tuple(Kind)[tuple(Kind).index(Kind.JOB) :])

#: Kinds that are read parent by parent, where something happens: there may never be a list of all of them.
PIECEMEAL = frozenset({Kind.CHILD_JOB})


class Mode(StrEnum):
    """How much one scan promises to look at."""

    HOT = "hot"  # small kinds completely, runs that are new or moving
    SWEEP = "sweep"  # everything
    RECHECK = "recheck"  # what one finding needs, completely: a look at nothing else


class Lifecycle(StrEnum):
    """Whether the source marks an asset deleted (or archived); a purged asset has no version at all."""

    ACTIVE = "active"
    DELETED = "deleted"


class ChangeType(StrEnum):
    """What happened to an asset between two looks."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"  # the source marks it deleted, or no longer shows it and shows no deleted ones
    RESTORED = "restored"  # was deleted or purged, is back
    PURGED = "purged"  # gone, confirmed by id


class Category(StrEnum):
    """What a changed field is about, weightiest first: a change takes the first that any of its fields has."""

    IDENTITY = "identity"  # what it is and where it lies: name, artifact location, source, links
    CONFIG = "config"  # what people decided: params, tags, aliases, descriptions
    STATE = "state"  # where it stands: status, lifecycle, stage, end time
    TELEMETRY = "telemetry"  # what it measured: metrics


class ScopeState(StrEnum):
    """How completely a scope was listed. Absence is concluded in COMPLETE alone."""

    COMPLETE = "complete"
    INCREMENTAL = "incremental"  # by design only what is new or moving; no promise about the rest
    FILTERED = "permission-filtered"  # the server hides what the identity may not read, without saying so
    PARTIAL = "partial"  # a page failed, a cap was reached, an item was not understood
    UNOBSERVABLE = "unobservable"  # unreachable, or access denied
    UNSUPPORTED = "unsupported"  # this server does not offer the kind


class ScanState(StrEnum):
    """How a whole scan ended."""

    RUNNING = "running"
    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"  # nothing could be seen
    ABANDONED = "abandoned"  # killed, stopped, or overtaken by another worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a listing promises to list completely.

    `partition` is a label for the ledger ("" for a whole kind). `covers` are the partitions (experiment ids)
    whose absence may be judged at the end marker; ("",) for kinds that have no partitions, () where nothing may.
    """

    kind: Kind
    partition: str = ""
    covers: tuple[str, ...] = ("",)


class Asset(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One state of one item, as a source's parse function understood it (before redaction).

    `document` is what is compared: JSON values only, maps keyed by name instead of lists of pairs, volatile fields
    left out. `aside` is what only some sources can know (deleted_time, storage_location): kept, never compared.
    The other fields are lifted out of the document, so that nobody digs in JSON to filter, group or join.
    A struct and no dataclass: one is made for each of a million runs, at a fifth of the cost.
    """

    kind: Kind
    key: str  # the source's immutable id
    document: Mapping[str, Any]
    partition: str = ""  # the experiment id of runs, logged models and traces
    aside: Mapping[str, Any] = msgspec.field(default_factory=dict)
    name: str | None = None
    state: str | None = None  # run status, logged model status, model version stage, trace state
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    owner: str | None = None
    parent: str | None = None  # key of the parent run; of a model version, its registered model
    run: str | None = None  # key of the run that made it (logged model, model version, trace)
    created_at: datetime | None = None  # the source's own time: an attribute, never used for order
    started_at: datetime | None = None
    ended_at: datetime | None = None
    artifact_uri: str | None = None
    code_version: str | None = None  # git commit, or source name and version
    data_version: str | None = None  # names and digests of the logged datasets, sorted, one string
    params_digest: str | None = None  # canonical digest (hex) of the parameters; None where a kind has none


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One differing field. `path` is RFC 9535 JSONPath without the leading `$.`; None means absent."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs between two documents of one asset."""

    type: ChangeType
    category: Category
    fields: Sequence[FieldChange]
