"""The part of the configuration that says which Azure Machine Learning workspace is watched, and as whom."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from stocktake.settings.fields import Http, Model, Variable
from stocktake.settings.timing import Duration

CREDENTIALS = ("default", "managed-identity", "workload-identity", "service-principal", "developer", "token")

_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
#: What each credential may be given besides its name.
_TAKES = {
    "default": {"tenant", "client_id"},
    "managed-identity": {"client_id"},
    "workload-identity": {"tenant", "client_id"},
    "service-principal": {"tenant", "client_id", "client_secret_env", "client_certificate"},
    "developer": {"tenant"},
    "token": {"token_env"},
}


def subscription_id(value: str) -> str:
    """Check the id of a subscription."""
    if not re.fullmatch(_UUID, value):
        raise ValueError("is not a subscription's id. Write the UUID that `az account show --query id` prints")
    return value.lower()


def azure_name(value: str) -> str:
    """Check the name of a resource group, a workspace or a management group."""
    if not re.fullmatch(r"[\w\-.()]*[\w\-()]", value):
        raise ValueError("holds a character that Azure allows in no such name. Write the name alone, not its id")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", value):
        raise ValueError("is no host name. Write for example .api.azureml.ms (a dot before it: every host below it)")
    return value.lower()


def _https(value: str) -> str:
    if not value.startswith("https://"):
        raise ValueError("must begin with https://: a token is sent there")
    return value


Https = Annotated[Http, AfterValidator(_https)]
Host = Annotated[str, AfterValidator(_host)]


class CloudSettings(Model):
    """A cloud that is none of the three known ones: a sovereign one, or a loopback server for tests."""

    resource_manager: Https = Field(
        description="Address of the resource manager.", examples=["https://management.azure.com"]
    )
    authority: Https | None = Field(
        None, description="Where Entra gives tokens. Not needed with `credential: token`.", examples=["https://login.x"]
    )
    data_hosts: tuple[Host, ...] = Field(
        min_length=1,
        description="Hosts of the data plane (MLflow, run history); a dot before a name stands for every host below it."
        " A token is sent to no other host, whatever a workspace says its address is.",
        examples=[[".api.azureml.ms"]],
    )
    storage_endpoint: Host = Field(
        "core.windows.net", description="What storage accounts are below, as datastores name it."
    )
    blobs: str | None = Field(
        None,
        pattern=r"^https://[A-Za-z0-9.:\-]*(\{account\})[A-Za-z0-9.:/\-]*$|^https://[A-Za-z0-9.:\-]+/\{account\}$",
        description="Where the blobs of a storage account are, `{account}` for its name."
        " [default: `https://{account}.blob.` and `storage_endpoint`]",
        examples=["https://{account}.blob.core.windows.net"],
    )


class AzureIdentitySettings(Model):
    """Who we are to Azure."""

    cloud: Literal["AzureCloud", "AzureChinaCloud", "AzureUSGovernment"] = Field(
        "AzureCloud", description="The cloud that the subscription is in."
    )
    custom_cloud: CloudSettings | None = Field(None, description="In place of `cloud`: another one, by its addresses.")
    credential: Literal[
        "default", "managed-identity", "workload-identity", "service-principal", "developer", "token"
    ] = Field(
        "default",
        description="Who we are. `default` takes what the place offers: a service principal in AZURE_* variables,"
        " workload identity, managed identity, then a developer's login. `developer` is the login of the Azure CLI,"
        " PowerShell or azd; `token` is a bearer token in `token_env` that somebody else renews.",
    )
    tenant: str | None = Field(
        None, pattern=_UUID, description="Id of the tenant, where the credential could be of several."
    )
    client_id: str | None = Field(
        None, pattern=_UUID, description="Client id of the service principal, or of a user-assigned managed identity."
    )
    client_secret_env: Variable | None = Field(
        None, description="Name of the environment variable that holds the service principal's secret."
    )
    client_certificate: Path | None = Field(
        None, description="Or its certificate: a PEM file with the (RSA) key, not protected by a password."
    )
    token_env: Variable | None = Field(None, description="Name of the environment variable with the bearer token.")
    ca_file: Path | None = Field(None, description="PEM file of authorities to trust besides the system's.")

    @field_validator("client_certificate")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value if value is None else value.expanduser().absolute()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.custom_cloud is not None and "cloud" in self.model_fields_set:
            raise ValueError("names both `cloud` and `custom_cloud`. Leave one of the two out")
        takes = _TAKES[self.credential]
        for name in ("tenant", "client_id", "client_secret_env", "client_certificate", "token_env"):
            if getattr(self, name) is not None and name not in takes:
                raise ValueError(f"has `{name}`, which `credential: {self.credential}` does not use. Leave one out")
        if self.credential == "service-principal":
            for name in ("tenant", "client_id"):
                if getattr(self, name) is None:
                    raise ValueError(f"signs in with `credential: service-principal`, which needs `{name}`. Add it")
            if (self.client_secret_env is None) == (self.client_certificate is None):
                raise ValueError("needs exactly one of `client_secret_env` and `client_certificate`. Name one")
        if self.credential == "token" and self.token_env is None:
            raise ValueError("signs in with `credential: token`, which needs `token_env`. Add it")
        return self


class AzureAccessSettings(AzureIdentitySettings):
    """Who we are to Azure, and what is read of its workspaces."""

    mlflow: bool = Field(True, description="Whether experiments and runs are read from the workspace's MLflow server.")
    history: bool = Field(
        True,
        description="Whether children and times of jobs are read from run history, which Microsoft does not document.",
    )
    posture: bool = Field(
        True,
        description="Whether the storage account, role assignments, private endpoints and diagnostic settings are read:"
        " rights outside the workspace are needed for that.",
    )
    activity_log: bool = Field(
        True,
        description="Whether the Azure activity log is read, which names who changed what through the resource manager."
        " Who it names is stored: a mail address, or the id of an application.",
    )
    budget: int = Field(
        20_000,
        ge=50,
        le=1_000_000,
        description="The most requests to the resource manager in one scan. Beyond it the rest stays as it was known,"
        " and the scan is partial and says so. Azure grants 90,000 in an hour, to all that use one identity.",
    )
    timeout: Duration = Field(timedelta(seconds=60), description="How long to wait for one answer.")
    page_size: int = Field(1000, ge=1, le=50_000, description="How many MLflow runs one request asks for.")
    run_overlap: Duration = Field(
        timedelta(hours=1),
        description="How far back a hot pass looks again: clocks of machines that log runs may differ so much.",
    )


class _Place(Model):
    """Which workspace it is. A class of its own, so that the documentation names it before all else."""

    subscription: str = Field(description="Id of the subscription (a UUID).")
    resource_group: str = Field(min_length=1, max_length=90, description="Name of the resource group.")
    workspace: str = Field(min_length=1, max_length=260, description="Name of the workspace in Azure.")

    @field_validator("subscription")
    @classmethod
    def _uuid(cls, value: str) -> str:
        return subscription_id(value)

    @field_validator("resource_group", "workspace")
    @classmethod
    def _named(cls, value: str) -> str:
        return azure_name(value)


class AzureMlSettings(AzureAccessSettings, _Place):
    """One Azure Machine Learning workspace: what the resource manager lists, and its MLflow runs."""
