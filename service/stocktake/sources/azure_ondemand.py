"""One job or one workspace on demand, by Microsoft's own client (azure_mlclient): what it is, where its content is.

Nothing is fetched here, and no key is ever asked for: a datastore is resolved to an account and a container.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from stocktake.core.assets import Kind
from stocktake.core.errors import ConfigError, SourceError, Trouble
from stocktake.sources import azure_mlclient, azure_outputs
from stocktake.sources.azure_identity import Bearer, Cloud, Token, bearer
from stocktake.sources.azure_mlclient import INSTALL, in_words, installed, plain
from stocktake.sources.azure_outputs import ARTIFACTS, DEFAULT, Home, Stored
from stocktake.sources.azureml_history import RunHistory
from stocktake.sources.azureml_hosts import data_plane
from stocktake.sources.http import HttpClient, HttpConfig


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
class Content:
    """Where the content of one output of a job lies."""

    output: str  # its name; `default` is the logs, and what was written without a name
    container: str  # https://ACCOUNT.blob.../CONTAINER
    prefix: str  # ends in a slash: what begins so is the job's, and of no job whose name merely begins like it
    told_by: str  # how the place is known
    status: str | None  # of the job


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """An output of which nobody says where it is, or of which it is said in a way that is not followed."""

    output: str
    why: SourceError
    status: str | None


class OnDemand:
    """Microsoft's client for one workspace."""

    def __init__(self, config: OnDemandConfig) -> None:
        """Make the client. Raises ConfigError when it is not installed; asks nothing yet."""
        if not installed():
            raise ConfigError(INSTALL)
        self._config = config
        place = (config.subscription, config.resource_group, config.workspace)
        self._client = azure_mlclient.made(
            config.cloud, config.token, place, ca_file=config.ca_file, timeout=config.timeout
        )

    def who(self) -> Bearer:
        """Whom our token stands for. Raises SourceError when none can be had."""
        return bearer(self._config.token())

    def workspace(self) -> dict[str, Any]:
        """The workspace, as `az ml workspace show` writes it."""
        with in_words(f"workspace {self._config.workspace}"):
            return azure_mlclient.dumped(self._workspace)

    def job(self, name: str) -> dict[str, Any]:
        """A job, as `az ml job show` writes it. Raises SourceError, with status 404 where there is none."""
        job = self._job(name)
        with in_words(f"job {name}"):
            return _described(job)

    def content(
        self, name: str, outputs: Sequence[str] = (DEFAULT,), *, every: bool = False
    ) -> list[Content | Unplaced]:
        """Where some outputs of a job lie, or all of them. A reused step's are those of the run that it reuses.

        Raises SourceError, with status 404 where there is no such job, or no output of such a name.
        """
        job, run = self._job(name), self._run(name)
        properties: Mapping[str, str] = getattr(job, "properties", None) or {}
        reused = properties.get("azureml.reusedrunid") if properties.get("azureml.isreused") == "true" else None
        told = run.get("outputs") or (self._run(reused).get("outputs") if reused else None)
        there = dict.fromkeys([DEFAULT, *azure_outputs.named(job.outputs), *azure_outputs.named(told)])
        for one in outputs:
            if one not in there:
                raise _no_output(name, one, list(there), properties)
        status, found = plain(getattr(job, "status", None)), list[Content | Unplaced]()
        for one in there if every else outputs:
            try:
                if one == DEFAULT:
                    place, said = self._artifacts(job, run, reused)
                else:
                    place, said = self._output(job, one, told)
                container = self._container(place.store)
                found.append(Content(output=one, container=container, prefix=place.path, told_by=said, status=status))
            except SourceError as exc:
                found.append(Unplaced(output=one, why=exc, status=status))
        return found

    # ---- where outputs are ------------------------------------------------------------------------------------------

    def _artifacts(self, job: Any, run: Mapping[str, Any], reused: str | None) -> tuple[Stored, str]:
        """The folder of the logs and of what was written without a name, and who says so."""
        default = azure_outputs.stored(getattr(_outputs(job).get(DEFAULT), "path", None), self._home)
        container = azure_outputs.container(run)
        if container is not None and (default is None or default.store == ARTIFACTS):
            return Stored(ARTIFACTS, f"ExperimentRun/{container}/"), "run history"
        if default is not None:
            return default.folder, "the job's default output"
        told = "the step it reuses" if reused else "the job's name"
        return Stored(ARTIFACTS, f"ExperimentRun/dcid.{reused or job.name}/"), told

    def _output(self, job: Any, name: str, told: Any) -> tuple[Stored, str]:
        """Where a named output is: it was registered as an asset, which says where; else the job's own word."""
        became = azure_outputs.identifier(told, name)
        asset = azure_outputs.registered(became, self._home)
        if asset is not None:
            what = f"{asset.kind} {asset.name}/{asset.version}"
            with in_words(what):
                ask = self._client.models if asset.kind is Kind.MODEL_VERSION else self._client.data
                version = ask.get(asset.name, asset.version)
            of_type = version.type if asset.kind is Kind.DATA_VERSION else None
            if (place := azure_outputs.stored(version.path, self._home, of_type=of_type)) is not None:
                return place, what
            raise _elsewhere(name, str(version.path))
        own = _outputs(job).get(name)
        place = azure_outputs.stored(getattr(own, "path", None), self._home, of_type=plain(getattr(own, "type", None)))
        if place is None:
            raise _elsewhere(name, getattr(own, "path", None) or became)
        return place, "the job's own word"

    def _container(self, store: str) -> str:
        with in_words(f"datastore {store}"):
            found = self._client.datastores.get(store)  # without secrets: never include_secrets
        return _container_url(found, store, self._config.cloud)

    # ---- what is asked ----------------------------------------------------------------------------------------------

    def _job(self, name: str) -> Any:
        with in_words(f"job {name}"):
            return self._client.jobs.get(name)

    @cached_property
    def _workspace(self) -> Any:
        with in_words(f"workspace {self._config.workspace}"):
            return self._client.workspaces.get(self._config.workspace)

    @cached_property
    def _home(self) -> Home:
        return Home(scope=str(self._workspace.id), guid=plain(getattr(self._workspace, "_workspace_id", None)))

    def _run(self, name: str) -> Mapping[str, Any]:
        """What run history tells of a run; empty where it is not asked, or tells nothing."""
        config = self._config
        if config.data_plane is None:
            return {}
        scope, uri = self._home.scope, self._workspace.mlflow_tracking_uri
        try:
            place = data_plane(uri, config.cloud.data_hosts, scope)
            return _history(config.data_plane, place.history, name)
        except SourceError:
            return {}  # it is documented nowhere, and a courtesy: the job's own word stands


def _outputs(job: Any) -> Mapping[str, Any]:
    return getattr(job, "outputs", None) or {}


def _history(http: HttpConfig, base_url: str, name: str) -> Mapping[str, Any]:
    client = HttpClient(replace(http, base_url=base_url), now=lambda: datetime.now(UTC))
    try:
        found = RunHistory(client).one(name)
    finally:
        client.close()
    told = json.loads(found.raw) if found is not None else None
    return told if isinstance(told, dict) else {}


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


def _no_output(job: str, name: str, there: Sequence[str], properties: Mapping[str, str]) -> SourceError:
    best = properties.get("best_child_run_id")
    trial = f" Its best trial is {best}: ask for that one's." if best else ""
    return SourceError(
        Trouble.NOT_FOUND, f"job {job} has no output {name}; it has: {', '.join(there)}",
        next_step=f"Name one of these with --output-name, or take --all.{trial}", status=404,
    )  # fmt: skip


def _elsewhere(name: str, address: Any) -> SourceError:
    if not isinstance(address, str) or not address:
        what = f"nobody says where output {name} lies: the job may not have written it yet"
        step = "Ask again once the job has ended; with `history: false` nothing but the job's own word is read."
    else:
        what = f"output {name} lies at {address.partition('?')[0]}, which is no place in a datastore of this workspace"
        step = "Fetch it with the tool of that place."
    return SourceError(Trouble.UNSUPPORTED, what, next_step=step)


def _described(job: Any) -> dict[str, Any]:
    """A job with what the client's writer leaves out: it writes command and Spark jobs as steps, without a name."""
    made, context = azure_mlclient.dumped(job), getattr(job, "creation_context", None)
    front = {
        name: plain(getattr(job, name, None))
        for name in (
            "name", "id", "type", "status", "display_name", "experiment_name", "description", "tags", "command", "code",
        )
    }  # fmt: skip
    front["creation_context"] = {
        name: plain(getattr(context, name, None)) for name in ("created_at", "created_by", "created_by_type")
    }
    return {name: value for name, value in front.items() if value and name not in made} | made
