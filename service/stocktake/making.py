"""From a workspace's settings to its source: which one, its configuration, and what the workspaces of a process share.

It asks nothing over the network and decides nothing about what is watched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from urllib.parse import urlsplit

from stocktake.core.errors import ConfigError
from stocktake.reports.heads import Container
from stocktake.settings import AzureMlSettings, MlflowSettings, Settings, WorkspaceSettings
from stocktake.settings.azure import AzureIdentitySettings
from stocktake.settings.environment import secret, unfit
from stocktake.settings.evidence import HeadContainerSettings
from stocktake.sources import SOURCES
from stocktake.sources.arm import THROTTLE_FLOOR, ArmConfig
from stocktake.sources.arm_bucket import Bucket
from stocktake.sources.arm_errors import explain
from stocktake.sources.arm_patience import Patience
from stocktake.sources.azure_identity import CLOUDS, STORAGE_SCOPE, Cloud, CredentialConfig, Identities
from stocktake.sources.azure_ondemand import OnDemandConfig
from stocktake.sources.azureml import AzureMlConfig
from stocktake.sources.http import HttpConfig
from stocktake.sources.mlflow_database import MlflowDatabaseConfig
from stocktake.sources.mlflow_files import MlflowFilesConfig
from stocktake.sources.mlflow_rest import MlflowRestConfig
from stocktake.sources.protocol import Source

#: The one search that is POSTed to the resource manager.
RESOURCE_GRAPH = "/providers/Microsoft.ResourceGraph/resources"


class Shared:
    """What the workspaces of one process share: slots of a host, buckets of a subscription, tokens of an identity."""

    def __init__(self) -> None:
        self.identities = Identities()
        self._lock = threading.Lock()
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._buckets: dict[Hashable, Bucket] = {}

    def slots(self, host: str, many: int) -> AbstractContextManager[object]:
        """Held while a host is asked; the first who names a host says how many may ask it at the same time."""
        with self._lock:
            return self._slots.setdefault(host, threading.BoundedSemaphore(many))

    def bucket(self, cloud: Cloud, subscription: str, principal: Hashable) -> Bucket:
        """The requests that a subscription grants an identity."""
        with self._lock:
            return self._buckets.setdefault((cloud.resource_manager, subscription, principal), Bucket())


def source_name(workspace: WorkspaceSettings) -> str:
    """Return the name of the source that a workspace's settings ask for."""
    if workspace.azureml is not None:
        return "azureml"
    return next(name for setting, (name, _) in _SOURCE_OF.items() if getattr(workspace.mlflow, setting))


def address(workspace: WorkspaceSettings) -> str:
    """Return what is watched, as one string without a secret; an MLflow workspace is part of it."""
    if workspace.azureml is not None:
        given = workspace.azureml  # Azure tells upper and lower case apart in no name
        names = {"resource_group": given.resource_group.lower(), "workspace": given.workspace.lower()}
        return cloud_of(given).resource_manager + scope_of(given.model_copy(update=names))
    mlflow = workspace.mlflow
    assert mlflow is not None
    if mlflow.folder is not None:
        return mlflow.folder.as_uri()
    base = next(str(given) for setting in _SOURCE_OF if (given := getattr(mlflow, setting))).rstrip("/")
    return f"{base}#{mlflow.workspace}" if mlflow.workspace else base


def scope_of(azureml: AzureMlSettings) -> str:
    """Return a workspace's own id in the resource manager."""
    return (
        f"/subscriptions/{azureml.subscription}/resourceGroups/{azureml.resource_group}"
        f"/providers/Microsoft.MachineLearningServices/workspaces/{azureml.workspace}"
    )


def make_source(
    workspace: WorkspaceSettings,
    settings: Settings,
    environ: Mapping[str, str],
    now: Callable[[], datetime],
    shared: Shared | None = None,
) -> Source:
    """Make the source of a workspace. Raises ConfigError when a secret it names is not in the environment."""
    name, shared = source_name(workspace), shared or Shared()
    config: object
    if workspace.azureml is not None:
        config = azureml_config(workspace, workspace.azureml, settings, environ, shared)
    else:
        assert workspace.mlflow is not None
        config = dict(_SOURCE_OF.values())[name](workspace, workspace.mlflow, settings, environ, shared)
    return SOURCES[name](config, now)


def cloud_of(azureml: AzureIdentitySettings) -> Cloud:
    """Return the addresses of the cloud that a workspace is in."""
    custom = azureml.custom_cloud
    if custom is None:
        return CLOUDS[azureml.cloud]
    return Cloud(
        name=f"custom {custom.resource_manager}",  # Microsoft's client keeps the first of a name for ever
        resource_manager=custom.resource_manager,
        authority=custom.authority or "",
        data_hosts=custom.data_hosts,
        storage=custom.storage_endpoint,
        blobs=custom.blobs or f"https://{{account}}.blob.{custom.storage_endpoint}",
        known=False,
    )


def credential_of(
    workspace: WorkspaceSettings | str, azureml: AzureIdentitySettings, environ: Mapping[str, str]
) -> CredentialConfig:
    """Return who we are to Azure. Raises ConfigError when a secret it names is not in the environment."""
    return CredentialConfig(
        kind=azureml.credential,
        cloud=cloud_of(azureml),
        tenant=azureml.tenant,
        client_id=azureml.client_id,
        client_secret=_secret(environ, "client_secret_env", azureml.client_secret_env, _whose(workspace)),
        client_certificate=str(azureml.client_certificate) if azureml.client_certificate else None,
        token=_secret(environ, "token_env", azureml.token_env, _whose(workspace)),
        ca_file=str(azureml.ca_file) if azureml.ca_file else None,
    )


def head_container(wanted: HeadContainerSettings, environ: Mapping[str, str]) -> Container:
    """Return where heads of the evidence chain are added, and as whom. Asks nothing, not even for a token."""
    credential = credential_of("evidence.container", wanted, environ)
    return Container(
        address=wanted.address, token=Identities().token(credential, STORAGE_SCOPE), ca_file=credential.ca_file
    )


def ondemand_config(
    workspace: WorkspaceSettings,
    azureml: AzureMlSettings,
    settings: Settings,
    environ: Mapping[str, str],
    shared: Shared | None = None,
) -> OnDemandConfig:
    """Return how one job or workspace is asked for on demand. Asks nothing, not even for a token."""
    shared = shared or Shared()
    credential = credential_of(workspace, azureml, environ)
    scanning = azureml_config(workspace, azureml, settings, environ, shared)
    return OnDemandConfig(
        cloud=credential.cloud,
        token=shared.identities.token(credential),
        storage=shared.identities.token(credential, STORAGE_SCOPE),
        subscription=azureml.subscription,
        resource_group=azureml.resource_group,
        workspace=azureml.workspace,
        ca_file=credential.ca_file,
        timeout=azureml.timeout.total_seconds(),
        data_plane=scanning.data_plane if azureml.history else None,
    )


def azureml_config(
    workspace: WorkspaceSettings,
    azureml: AzureMlSettings,
    settings: Settings,
    environ: Mapping[str, str],
    shared: Shared,
) -> AzureMlConfig:
    """Return the configuration of the source of an Azure ML workspace. Asks nothing, not even for a token."""
    credential = credential_of(workspace, azureml, environ)
    cloud, many = credential.cloud, settings.concurrency.requests_to_azure
    token = shared.identities.token(credential)
    ca_file = str(azureml.ca_file) if azureml.ca_file else None
    return AzureMlConfig(
        arm=ArmConfig(
            http=HttpConfig(
                base_url=cloud.resource_manager,
                token=token,
                ca_file=ca_file,
                posts=frozenset({RESOURCE_GRAPH}),
                read_timeout=azureml.timeout.total_seconds(),
                slots=shared.slots(cloud.resource_manager, many),
            ),
            bucket=shared.bucket(cloud, azureml.subscription, credential.principal),
            member=workspace.name,
            budget=azureml.budget,
        ),
        subscription=azureml.subscription,
        resource_group=azureml.resource_group,
        workspace=azureml.workspace,
        data_plane=HttpConfig(
            base_url="",  # the workspace itself says where its hosts are
            token=token,
            ca_file=ca_file,
            read_timeout=azureml.timeout.total_seconds(),
            throttle_floor=THROTTLE_FLOOR,
            slots=shared.slots(f"data plane of {cloud.resource_manager}", many),
            explain=explain,
            heard=Patience().heard,
        ),
        data_hosts=cloud.data_hosts,
        principal=credential.words,
        mlflow=azureml.mlflow,
        history=azureml.history,
        posture=azureml.posture,
        activity_log=azureml.activity_log,
        owner_tags=settings.owner_tags,
        run_overlap=azureml.run_overlap,
        page_size=azureml.page_size,
    )


def _mlflow_rest(
    workspace: WorkspaceSettings,
    mlflow: MlflowSettings,
    settings: Settings,
    environ: Mapping[str, str],
    shared: Shared,
) -> MlflowRestConfig:
    token: str | Callable[[], str] | None = None
    if mlflow.auth == "bearer":
        token = _secret(environ, "token_env", mlflow.token_env, _whose(workspace))
    elif mlflow.auth == "azure":
        token = shared.identities.token(CredentialConfig())
    http = HttpConfig(
        base_url=mlflow.uri or "",
        username=mlflow.username,
        password=_secret(environ, "password_env", mlflow.password_env, _whose(workspace)) if mlflow.username else None,
        token=token,
        ca_file=str(mlflow.ca_file) if mlflow.ca_file else None,
        insecure_tls=mlflow.insecure_tls,
        read_timeout=mlflow.timeout.total_seconds(),
        slots=shared.slots(urlsplit(mlflow.uri or "").netloc, settings.concurrency.requests_per_server),
    )
    return MlflowRestConfig(
        http=http,
        workspace=mlflow.workspace,
        visibility=mlflow.visibility,
        page_size=mlflow.page_size,
        run_overlap=mlflow.run_overlap,
        owner_tags=settings.owner_tags,
    )


def _mlflow_database(
    workspace: WorkspaceSettings,
    mlflow: MlflowSettings,
    settings: Settings,
    environ: Mapping[str, str],
    shared: Shared,  # noqa: ARG001 - a scan asks one question at a time
) -> MlflowDatabaseConfig:
    return MlflowDatabaseConfig(
        url=mlflow.database or "",
        password=_secret(environ, "password_env", mlflow.password_env, _whose(workspace)),
        workspace=mlflow.workspace,
        visibility=mlflow.visibility,
        timeout=mlflow.timeout.total_seconds(),
        page_size=mlflow.page_size,
        run_overlap=mlflow.run_overlap,
        owner_tags=settings.owner_tags,
    )


def _mlflow_files(
    workspace: WorkspaceSettings,  # noqa: ARG001 - the folder says it all
    mlflow: MlflowSettings,
    settings: Settings,
    environ: Mapping[str, str],  # noqa: ARG001 - a folder has no secret
    shared: Shared,  # noqa: ARG001 - nor a server that answers
) -> MlflowFilesConfig:
    assert mlflow.folder is not None
    return MlflowFilesConfig(folder=mlflow.folder, owner_tags=settings.owner_tags, run_overlap=mlflow.run_overlap)


#: The setting that names what is watched -> the source that reads it, and what makes its configuration.
_SOURCE_OF: Mapping[str, tuple[str, Callable[..., object]]] = {
    "uri": ("mlflow_rest", _mlflow_rest),
    "database": ("mlflow_database", _mlflow_database),
    "folder": ("mlflow_files", _mlflow_files),
}


def _whose(workspace: WorkspaceSettings | str) -> str:
    return workspace if isinstance(workspace, str) else f"workspace {workspace.name!r}"


def _secret(environ: Mapping[str, str], key: str, name: str | None, whose: str) -> str | None:
    if name is None:
        return None
    if why := unfit(environ, name, token=key == "token_env"):
        raise ConfigError(
            f"The {key} of {whose} {why}.",
            next_step=f"Set {name} to the secret alone where stocktake runs, or change the configuration.",
        )
    return secret(environ, name)
