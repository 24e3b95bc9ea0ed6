"""The configuration file as types: every key, its default and what it is for. Nothing here reads a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from stocktake.settings.alerting import AlertSettings
from stocktake.settings.azure import AzureMlSettings
from stocktake.settings.discovery import DiscoverySettings
from stocktake.settings.evidence import EvidenceSettings
from stocktake.settings.fields import Http, Model, Pattern, Variable, WorkspaceName, address
from stocktake.settings.governance import GateSettings, GovernanceSettings
from stocktake.settings.hygiene import HygieneSettings
from stocktake.settings.rules import RulesSettings
from stocktake.settings.scheduling import ScheduleSettings
from stocktake.settings.timing import Duration, Retention


class ConcurrencySettings(Model):
    """How much is done at once."""

    workspaces: int = Field(4, ge=1, le=64, description="How many workspaces are scanned at the same time.")
    requests_per_server: int = Field(
        2,
        ge=1,
        le=16,
        description="How many requests one watched server is asked to answer at the same time: workspaces on one host"
        " share it. A server's own Python is the limit, so more does not help much and slows its users.",
    )
    requests_to_azure: int = Field(
        16,
        ge=1,
        le=64,
        description="How many requests Azure is asked to answer at the same time, all workspaces together. Beside it"
        " stands what Azure grants: 250 requests, then 25 a second, for each subscription and identity.",
    )


class RetentionSettings(Model):
    """What is dropped, and when. The current state, the registry and the ledger are never dropped."""

    history: Retention = Field(
        timedelta(days=400),
        description="How long past states and changes of runs and traces are kept, or `forever`. Registered models,"
        " their versions and aliases, and the runs behind them are kept whatever this says. A question about a time"
        " whose states were dropped says so instead of answering with what is left.",
    )


class RedactionSettings(Model):
    """What counts as a secret, besides the patterns that are built in. Secrets are replaced before they are stored."""

    keys: tuple[Pattern, ...] = Field(
        (),
        description="Regular expressions for names (of params, tags, keys in JSON) whose values are always replaced."
        " Upper and lower case are equal; the expression is searched for anywhere in the name.",
    )
    values: tuple[Pattern, ...] = Field(
        (), description="Regular expressions for secrets inside values. What an expression matches is replaced."
    )
    allow: tuple[str, ...] = Field(
        (),
        description="Names (with * and ?) whose values are never replaced, for a name that only looks like a secret's.",
    )


class ProductionSettings(Model):
    """What makes a model version production, for `stocktake production`: any of these."""

    aliases: tuple[str, ...] = Field(("champion", "production"), description="It bears one of these aliases.")
    stages: tuple[str, ...] = Field(("Production",), description="It is in one of these stages.")
    tags: tuple[str, ...] = Field(
        (), description="It bears one of these tags, each written as `name=value`.", examples=[["stage=prod"]]
    )
    traffic: bool = Field(
        True, description="An online endpoint sends a deployment of it a share of its traffic above 0."
    )
    batch_default: bool = Field(True, description="It is what the default deployment of a batch endpoint serves.")

    @field_validator("tags")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not one.partition("=")[0] or "=" not in one:
                raise ValueError(f"{one!r} is not name=value. Write for example stage=prod")
        return value

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The tags as names and values."""
        return tuple((name, value) for name, _, value in (one.partition("=") for one in self.tags))


class GuardSettings(Model):
    """When many assets vanish at once, their removal is withheld until two sweeps agree or an operator accepts it."""

    share: float = Field(
        0.2, gt=0, le=1, description="The share of a scope that must be missing before removals are withheld."
    )
    assets: int = Field(10, ge=0, description="Up to this many missing assets are never withheld.")


class OtlpSettings(Model):
    """Push metrics to an OpenTelemetry collector over HTTP."""

    endpoint: Http = Field(description="Address of the collector, for example http://127.0.0.1:4318.")
    headers_env: Variable | None = Field(
        None, description="Name of the environment variable with the headers to send, as `name=value,name=value`."
    )


class AzureMonitorSettings(Model):
    """Push metrics to Azure Monitor (Application Insights)."""

    connection_string_env: Variable = Field(
        "APPLICATIONINSIGHTS_CONNECTION_STRING",
        description="Name of the environment variable with the connection string of Application Insights.",
    )
    credential: Literal["none", "entra"] = Field(
        "none", description="`entra` signs in with the identity of the machine where key-based ingestion is disabled."
    )
    findings: Literal["list", "alert", "off"] = Field(
        "list",
        description="`list`: each open finding is a custom event once a day, for the workbook. `alert`: the alert rules"
        " of deploy/azure fire on them as well, and stocktake's own receivers are told nothing: never both.",
    )
    findings_at_most: int = Field(
        1000,
        ge=1,
        le=2000,
        description="So many findings are told a day, the worst first, and how many there are.",
    )
    live_metrics: bool = Field(False, description="Whether the live metrics stream is on. It sends every few seconds.")


class TelemetrySettings(Model):
    """Where metrics go, besides the page for Prometheus."""

    interval: Duration = Field(timedelta(seconds=300), description="How often metrics are pushed.")
    prometheus: bool = Field(True, description="Whether /metrics answers Prometheus.")
    otlp: OtlpSettings | None = Field(None, description="Push to an OpenTelemetry collector. Absent: no push.")
    azure_monitor: AzureMonitorSettings | None = Field(None, description="Push to Azure Monitor. Absent: no push.")

    @field_validator("interval")
    @classmethod
    def _not_too_often(cls, value: timedelta) -> timedelta:
        if value < timedelta(seconds=10):
            raise ValueError("is shorter than 10s. Metrics are prepared after each scan; 60s to 300s is plenty")
        return value


class WebSettings(Model):
    """The HTTP endpoint: health, readiness, metrics."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 inside a container.")
    port: int = Field(8321, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")


class LogSettings(Model):
    """What is logged, to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least level that is written.")
    format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto` writes text to a terminal and JSON, one object a line, elsewhere."
    )

    @field_validator("level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


class MlflowSettings(Model):
    """One MLflow tracking server, by its address or by its backend database; or an `mlruns` folder."""

    uri: Http | None = Field(
        None, description="Address of the tracking server (http or https). Or `database`, or `folder`."
    )
    database: str | None = Field(
        None,
        description="Backend database of the server, read without the server and read-only: sqlite:////path/mlflow.db"
        " or postgresql://user@host/db. Much faster, and sees what the server does not show. Or `uri`.",
    )
    folder: Path | None = Field(
        None,
        description="An `mlruns` folder (a FileStore of MLflow), read as it lies: nothing is written and no link is"
        " followed. Shows deleted logged models and when runs were deleted. Or `uri`.",
        examples=["/data/mlruns"],
    )
    auth: Literal["none", "basic", "bearer", "azure"] = Field(
        "none",
        description="How to sign in. `basic` is taken when `username` is given, `bearer` when `token_env` is given;"
        " `azure` asks Entra for a token of the machine's identity (Azure Machine Learning workspaces).",
    )
    username: str | None = Field(None, min_length=1, description="User name for basic authentication.")
    password_env: Variable | None = Field(
        None,
        description="Name of the environment variable that holds the password: of `username`, or of the user in"
        " `database`.",
    )
    token_env: Variable | None = Field(
        None, description="Name of the environment variable that holds the bearer token."
    )
    ca_file: Path | None = Field(None, description="PEM file of the authorities to trust instead of the system's.")
    insecure_tls: bool = Field(False, description="Trust any certificate. For a test only: anyone can listen.")
    workspace: str | None = Field(
        None, min_length=1, description="MLflow workspace inside the server (MLflow 3.10 and later, where enabled)."
    )
    visibility: Literal["auto", "complete", "filtered"] = Field(
        "auto",
        description="Whether our identity sees everything. `auto` asks the server; `filtered` says that lists are cut"
        " by permission, so that absence proves nothing; `complete` says they are not.",
    )
    timeout: Duration = Field(timedelta(seconds=60), description="How long to wait for one answer.")
    page_size: int = Field(1000, ge=1, le=50_000, description="How many runs one request asks for.")
    run_overlap: Duration = Field(
        timedelta(hours=1),
        description="How far back a hot pass looks again: clocks of machines that log runs may differ so much.",
    )

    @field_validator("database")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is None:
            return None
        example = "sqlite:////data/mlflow.db or postgresql://user@host/mlflow"
        if re.match(r"(mysql|mssql)\b", value):
            raise ValueError("is a database that is not read directly. Give the address of its server under `uri`")
        address(re.sub(r"^(postgres(?:ql)?)(\+\w+)?:", "postgresql:", value), ("sqlite", "postgresql"), example)
        if value.startswith("sqlite:") and not re.match(r"sqlite:///.", value):
            raise ValueError(f"needs three slashes and a path (four for an absolute one). Write for example {example}")
        return value

    @field_validator("username")
    @classmethod
    def _sendable(cls, value: str | None) -> str | None:
        if value is not None and re.search(r"[:\x00-\x1f\x7f\ud800-\udfff]", value):
            raise ValueError("holds a colon or a control character, which basic authentication cannot send")
        return value

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value if value is None else value.expanduser().absolute()

    @model_validator(mode="before")
    @classmethod
    def _infer_auth(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("auth") is None and "auth" not in data:
            kind = "basic" if data.get("username") else "bearer" if data.get("token_env") else None
            return {**data, "auth": kind} if kind else data
        return data

    @model_validator(mode="after")
    def _agree(self) -> MlflowSettings:
        places = [name for name in ("uri", "database", "folder") if getattr(self, name) is not None]
        if len(places) != 1:
            raise ValueError(
                "needs exactly one of `uri` (a tracking server), `database` (its backend database) and `folder` (an"
                " mlruns folder)"
            )
        if (place := places[0]) != "uri":
            apart = ("workspace", "password_env") if place == "folder" else ()
            belongs = ("username", "token_env", "ca_file", *apart)
            for name in belongs:
                if getattr(self, name) is not None:
                    raise ValueError(f"has `{name}`, which belongs to `uri`. Leave it out with `{place}`")
            if self.auth != "none" or self.insecure_tls:
                raise ValueError(f"has `auth` or `insecure_tls`, which belong to `uri`. Leave them out with `{place}`")
            return self
        needs = {"basic": ("username", "password_env"), "bearer": ("token_env",)}.get(self.auth, ())
        for name in needs:
            if getattr(self, name) is None:
                raise ValueError(f"signs in with `auth: {self.auth}`, which needs `{name}`. Add it")
        for name in ("username", "password_env", "token_env"):
            if getattr(self, name) is not None and name not in needs:
                raise ValueError(f"has `{name}`, which `auth: {self.auth}` does not use. Leave one of the two out")
        return self


class WorkspaceSettings(Model):
    """One place to watch."""

    name: WorkspaceName = Field(
        min_length=1,
        max_length=63,
        description="Our name for it: small letters, digits and hyphens; unique. History hangs on it: do not rename.",
        examples=["research"],
    )
    mlflow: MlflowSettings | None = Field(
        None, description="The MLflow tracking server to watch. Exactly one of `mlflow` and `azureml`."
    )
    azureml: AzureMlSettings | None = Field(None, description="The Azure Machine Learning workspace to watch.")
    schedule: ScheduleSettings | None = Field(
        None, description="How often this workspace is looked at; what is not given is taken from the common schedule."
    )
    owner: str | None = Field(None, min_length=1, description="Who answers for assets that name no owner themselves.")
    labels: dict[str, str] = Field({}, description="Labels of your own (cost centre, environment), shown with it.")

    @model_validator(mode="after")
    def _one_place(self) -> WorkspaceSettings:
        if (self.mlflow is None) == (self.azureml is None):
            raise ValueError("needs exactly one of `mlflow` (a tracking server) and `azureml` (an Azure ML workspace)")
        return self


class Settings(Model):
    """The whole configuration. A file may leave everything out but the workspaces."""

    database: str = Field(
        "embedded",
        description="`embedded` runs a Postgres of our own in the data folder; or postgresql://user@host/db. The"
        " password comes from STOCKTAKE_DATABASE_PASSWORD or PGPASSWORD, never from the file.",
    )
    database_auth: Literal["password", "entra"] = Field(
        "password", description="`entra` signs in to Azure Database for PostgreSQL with the machine's identity."
    )
    workspaces: tuple[WorkspaceSettings, ...] = Field((), description="The places to watch.")
    discovery: tuple[DiscoverySettings, ...] = Field(
        (), description="Where to look for Azure Machine Learning workspaces that are not named one by one."
    )
    schedule: ScheduleSettings = Field(ScheduleSettings(), description="How often they are looked at.")
    concurrency: ConcurrencySettings = Field(ConcurrencySettings(), description="How many things are done at once.")
    retention: RetentionSettings = Field(RetentionSettings(), description="What is dropped, and after how long.")
    redaction: RedactionSettings = Field(RedactionSettings(), description="What counts as a secret.")
    owner_tags: tuple[str, ...] = Field(
        ("owner", "team", "contact"),
        description="Tags that name an owner; the first that is there wins, then the workspace's `owner`.",
    )
    production: ProductionSettings = Field(ProductionSettings(), description="Which model versions are production.")
    governance: GovernanceSettings = Field(
        GovernanceSettings(), description="Waivers, approved change windows and baselines."
    )
    gate: GateSettings = Field(GateSettings(), description="What the check before a release asks for.")
    hygiene: HygieneSettings = Field(HygieneSettings(), description="What the rules about good order go by.")
    rules: RulesSettings = Field(RulesSettings(), description="By which rules what is seen is judged.")
    guard: GuardSettings = Field(GuardSettings(), description="When removals are withheld.")
    alerts: AlertSettings | None = Field(None, description="Who is told of findings, and when. [default: nobody]")
    telemetry: TelemetrySettings = Field(TelemetrySettings(), description="Where metrics go.")
    web: WebSettings = Field(WebSettings(), description="The HTTP endpoint.")
    log: LogSettings = Field(LogSettings(), description="What is logged.")
    evidence: EvidenceSettings = Field(EvidenceSettings(), description="Where heads of the evidence chain go.")

    _data_dir: Path = PrivateAttr(default=Path())
    _file: Path | None = PrivateAttr(default=None)

    @property
    def data_dir(self) -> Path:
        """The folder of the embedded database and the installation key (not part of the file)."""
        return self._data_dir

    @property
    def azure_alerts(self) -> bool:
        """Whether findings alert through the rules of Azure Monitor, and not through receivers of our own."""
        return self.telemetry.azure_monitor is not None and self.telemetry.azure_monitor.findings == "alert"

    @property
    def file(self) -> Path | None:
        """The file that was read, if any."""
        return self._file

    def database_url(self, environ: Mapping[str, str]) -> str:
        """Return the database's address for SQLAlchemy and psycopg 3, without a password. Not for `embedded`."""
        del environ  # libpq reads PGHOST, PGUSER and the rest itself
        return re.sub(r"^postgres(?:ql)?(?:\+psycopg)?:", "postgresql+psycopg:", self.database)

    @field_validator("database")
    @classmethod
    def _postgres(cls, value: str) -> str:
        if value == "embedded":
            return value
        example = "postgresql://user@host/db, or the word embedded"
        known = re.sub(r"^postgres(?:ql)?(?:\+psycopg)?:", "postgresql:", value)
        address(known, ("postgresql",), example)
        return value

    @model_validator(mode="before")
    @classmethod
    def _inherit_schedule(cls, data: Any) -> Any:
        """Fill what a workspace's schedule leaves out from the common one."""
        if not isinstance(data, Mapping) or not isinstance(common := data.get("schedule"), Mapping):
            return data
        known = {key: common[key] for key in ScheduleSettings.model_fields if key in common}
        filled = {
            part: [
                {**item, "schedule": {**known, **item["schedule"]}}
                if isinstance(item, Mapping) and isinstance(item.get("schedule"), Mapping)
                else item
                for item in data[part]
            ]
            for part in ("workspaces", "discovery")
            if isinstance(data.get(part), list | tuple)
        }
        return {**data, **filled}

    @field_validator("workspaces", "discovery")
    @classmethod
    def _unique(cls, value: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        names = [item.name for item in value]
        what = "workspace" if info.field_name == "workspaces" else "entry"
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"has the name {name!r} twice. Give each {what} a name of its own")
        return value
