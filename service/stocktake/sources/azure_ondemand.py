"""One job or one workspace on demand, read by Microsoft's own client. The one file that imports azure-ai-ml, when used.

The client sends GET and nothing else: whatever it is asked to do, a POST (as listSecrets, which answers with a key) is
refused before it is sent, and so is a request to a host that no token of ours may go to.
"""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stocktake.core.errors import ConfigError, SourceError, Trouble
from stocktake.sources.arm_errors import AzureError, explain
from stocktake.sources.azure_identity import Bearer, Cloud, Token, bearer
from stocktake.sources.azureml_history import RunHistory
from stocktake.sources.azureml_hosts import data_plane, within
from stocktake.sources.http import Answer, ForbiddenRequest, HttpClient, HttpConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL = (
    "This needs azure-ai-ml, Microsoft's client, which is not installed here."
    " Install it beside stocktake: pip install 'stocktake[azure]'"
)
#: Where a job's logs and default outputs are, unless its body says another place.
_ARTIFACTS = "workspaceartifactstore"
_READS = frozenset({"GET", "HEAD"})
_CONTAINER = re.compile(r"dcid\.[\w.\-]{1,300}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemandConfig:
    """Which workspace, and as whom."""

    cloud: Cloud
    token: Token  # for the resource manager and the data plane
    storage: Token  # for blobs
    subscription: str
    resource_group: str
    workspace: str
    ca_file: str | None = None
    timeout: float = 60.0
    data_plane: HttpConfig | None = field(default=None, repr=False)  # None: run history is not asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifacts:
    """Where the content of a job lies."""

    container: str  # https://ACCOUNT.blob.../CONTAINER
    prefix: str  # ends in a slash: what begins so is the job's, and of no job whose name merely begins like it
    datastore: str
    told_by: str  # how the place is known
    status: str | None  # of the job


class OnDemand:
    """Microsoft's client for one workspace."""

    def __init__(self, config: OnDemandConfig) -> None:
        """Make the client. Raises ConfigError when it is not installed; asks nothing yet."""
        if not installed():
            raise ConfigError(INSTALL)
        self._config = config
        self._client = _client(config)

    def who(self) -> Bearer:
        """Whom our token stands for. Raises SourceError when none can be had."""
        return bearer(self._config.token())

    def workspace(self) -> dict[str, Any]:
        """The workspace, as `az ml workspace show` writes it."""
        name = self._config.workspace
        with _in_words(f"workspace {name}"):
            return _dumped(self._client.workspaces.get(name))

    def job(self, name: str) -> dict[str, Any]:
        """A job, as `az ml job show` writes it. Raises SourceError, with status 404 where there is none."""
        job = self._job(name)
        with _in_words(f"job {name}"):
            return _described(job)

    def artifacts(self, name: str) -> Artifacts:
        """Where the logs and the default outputs of a job lie: a reused step's are in the folder of another run."""
        job = self._job(name)
        store, folder, told = _default_output(job)
        if store == _ARTIFACTS and (container := self._container_of(name)) is not None:
            folder, told = f"ExperimentRun/{container}", "run history"
        with _in_words(f"datastore {store}"):
            found = self._client.datastores.get(store)  # without secrets: never include_secrets
        return Artifacts(
            container=_container_url(found, store, self._config.cloud),
            prefix=folder.strip("/") + "/",
            datastore=store,
            told_by=told,
            status=_plain(getattr(job, "status", None)),
        )

    def _job(self, name: str) -> Any:
        with _in_words(f"job {name}"):
            return self._client.jobs.get(name)

    def _container_of(self, name: str) -> str | None:
        """The id of the folder by run history; None where it is not asked, or tells nothing."""
        config = self._config
        if config.data_plane is None:
            return None
        with _in_words(f"workspace {config.workspace}"):
            told = self._client.workspaces.get(config.workspace)
        scope = str(told.id)
        try:
            place = data_plane(told.mlflow_tracking_uri, config.cloud.data_hosts, scope)
            return _history(config.data_plane, place.history, name)
        except SourceError:
            return None  # it is documented nowhere, and a courtesy: the job's own word stands


def installed() -> bool:
    """Whether azure-ai-ml is here. Asked without importing it: that takes seconds."""
    try:
        return find_spec("azure.ai.ml") is not None
    except ModuleNotFoundError:
        return False


def _client(config: OnDemandConfig) -> Any:
    logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)  # it tells of classes that may change some day
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from azure.ai.ml import MLClient

    cloud, where = config.cloud, {"cloud": config.cloud.name}
    options: dict[str, Any] = {"connection_verify": config.ca_file} if config.ca_file else {}
    if not cloud.known:
        options["cloud_metadata"] = {
            "azure_portal": "https://portal.azure.com",
            "resource_manager": cloud.resource_manager,
            "active_directory": cloud.authority,
            "aml_resource_id": cloud.resource_manager,
            "storage_endpoint": cloud.storage,
            "registry_discovery_endpoint": cloud.resource_manager,
        }
    return MLClient(
        TokenOnly(config.token),
        config.subscription,
        config.resource_group,
        config.workspace,
        enable_telemetry=False,
        show_progress=False,
        read_timeout=config.timeout,
        per_call_policies=[_guard(cloud)],
        **where,
        **options,
    )


class TokenOnly:
    """Our token as the libraries of Azure ask for one: kept, renewed ahead, and refused in our own words."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def get_token(self, *_: str, **__: Any) -> Any:
        """The token, whatever the scope: it was asked for the only one that it may be sent to."""
        from azure.core.credentials import AccessToken

        text = self._token()
        ends = bearer(text).ends
        # One that is opaque is asked for again before each request; the token itself is kept all the same.
        return AccessToken(text, ends if ends is not None else int(datetime.now(UTC).timestamp()) + 60)


def _guard(cloud: Cloud) -> Any:
    from azure.core.pipeline import PipelineRequest
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    class Guard(SansIOHTTPPolicy[Any, Any]):
        """Lets nothing but reads out, and these to the cloud's own hosts alone."""

        def on_request(self, request: PipelineRequest[Any]) -> None:
            sent = request.http_request
            host = urlsplit(sent.url).hostname or ""
            home = urlsplit(cloud.resource_manager).hostname or ""
            if sent.method not in _READS:
                raise ForbiddenRequest(f"{sent.method} {urlsplit(sent.url).path} is no read, and was not sent")
            if host != home and not any(within(host, allowed) for allowed in cloud.data_hosts):
                raise SourceError(
                    Trouble.CONFIG,
                    f"the workspace leads to the host {host}, to which no token may be sent; nothing was",
                    next_step="Set `cloud` to the one this workspace is in (its data-plane hosts are part of it).",
                )

    return Guard()


def _history(http: HttpConfig, base_url: str, name: str) -> str | None:
    client = HttpClient(replace(http, base_url=base_url), now=lambda: datetime.now(UTC))
    try:
        found = RunHistory(client).one(name)
    finally:
        client.close()
    told = json.loads(found.raw).get("dataContainerId") if found is not None else None
    return told if isinstance(told, str) and _CONTAINER.fullmatch(told) else None


def _default_output(job: Any) -> tuple[str, str, str]:
    """The datastore, the folder in it, and who says so: azureml://.../datastores/STORE[/paths]/FOLDER."""
    output = (getattr(job, "outputs", None) or {}).get("default")
    path = getattr(output, "path", None)
    if isinstance(path, str) and "datastores/" in path:
        store, _, folder = path.partition("datastores/")[2].partition("/")
        folder = folder.removeprefix("paths/").strip("/")
        if store and folder:
            return store, folder, "the job's default output"
    properties: Mapping[str, str] = getattr(job, "properties", None) or {}
    reused = properties.get("azureml.reusedrunid") if properties.get("azureml.isreused") == "true" else None
    return _ARTIFACTS, f"ExperimentRun/dcid.{reused or job.name}", "the step it reuses" if reused else "the job's name"


def _container_url(store: Any, name: str, cloud: Cloud) -> str:
    account = getattr(store, "account_name", None)
    container = getattr(store, "container_name", None) or getattr(store, "filesystem", None)
    if not account or not container:
        raise SourceError(
            Trouble.UNSUPPORTED,
            f"datastore {name} is of type {getattr(store, 'type', 'unknown')}, which holds no blobs",
            next_step="Fetch its content with the tool of that store.",
        )
    endpoint = getattr(store, "endpoint", None)
    if endpoint is not None and endpoint.strip("/").casefold() != cloud.storage.casefold():
        raise SourceError(
            Trouble.CONFIG,
            f"datastore {name} says that its account is below {endpoint}; no token may be sent there, and none was",
            next_step=f"Accounts of this cloud are below {cloud.storage}. See who changed the datastore.",
        )
    return f"{cloud.blobs.replace('{account}', account)}/{container}"


def _described(job: Any) -> dict[str, Any]:
    """A job with what the client's writer leaves out: it writes command and Spark jobs as steps, without a name."""
    made, context = _dumped(job), getattr(job, "creation_context", None)
    front = {
        name: _plain(getattr(job, name, None))
        for name in (
            "name", "id", "type", "status", "display_name", "experiment_name", "description", "tags", "command", "code",
        )
    }  # fmt: skip
    front["creation_context"] = {
        name: _plain(getattr(context, name, None)) for name in ("created_at", "created_by", "created_by_type")
    }
    return {name: value for name, value in front.items() if value and name not in made} | made


def _plain(value: Any) -> Any:
    """A value as YAML has it: enumerations by their value, times as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else None if value is None else str(value)


def _dumped(entity: Any) -> dict[str, Any]:
    """What an entity says of itself, by the client's own writer (YAML, the form of its files)."""
    import yaml

    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entity.dump(text)
    made = yaml.safe_load(text.getvalue())
    return made if isinstance(made, dict) else {}


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """Turn what the client raises into our own words: of its messages only what has a fixed form is told."""
    from azure.core import exceptions

    try:
        yield
    except (SourceError, ForbiddenRequest):
        raise
    except exceptions.HttpResponseError as exc:
        if exc.response is None:
            raise _unread(what, exc) from None
        raise _explained(what, exc.response) from None
    except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as exc:
        raise SourceError(
            Trouble.UNREACHABLE,
            f"{what} could not be asked for ({type(exc).__name__})",
            next_step="Check the network, DNS and proxy between here and the resource manager, and `ca_file`.",
        ) from None
    except Exception as exc:  # noqa: BLE001 - it raises many makes on a body that it does not know
        raise _unread(what, exc) from None


def _explained(what: str, response: Any) -> SourceError:
    answer = Answer(
        what=what,
        status=response.status_code,
        body=response.body(),
        content_type=response.headers.get("content-type", ""),
        requested_at=datetime.now(UTC),
    )
    error = explain(answer)
    gone = {"ResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound", "WorkspaceNotFound"}
    if response.status_code == 404 and not (isinstance(error, AzureError) and gone & set(error.codes)):
        return SourceError(
            Trouble.NOT_FOUND, f"there is no {what}", next_step="Check the name; `stocktake list job` has those that"
            " were seen.", status=404,
        )  # fmt: skip
    return error


def _unread(what: str, exc: Exception) -> SourceError:
    return SourceError(
        Trouble.SHAPE,
        f"azure-ai-ml could not read {what} ({type(exc).__name__}): it does not know every type that Azure has",
        next_step="`stocktake show` has the whole body as the last scan saw it.",
    )
