"""Tokens of Entra, by azure-identity: one credential for each identity, tokens kept and renewed ahead of their end.

It must never put a token, a secret or the library's own long messages into an error or a log.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stocktake.core.errors import SourceError, Trouble

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """One cloud's addresses."""

    name: str = "stocktake-custom"  # as Microsoft's clients know it
    resource_manager: str
    authority: str
    data_hosts: tuple[str, ...]  # of workspaces; a dot before a name stands for every host below it
    storage: str = "core.windows.net"  # what storage accounts are below, as datastores name it
    blobs: str = "https://{account}.blob.core.windows.net"  # where the blobs of an account are
    known: bool = True  # whether Entra itself can vouch for the authority

    @property
    def scope(self) -> str:
        """What a token for the resource manager, and for a workspace's own hosts, is asked for."""
        return f"{self.resource_manager.rstrip('/')}/.default"


#: What a token for blobs is asked for, in every cloud.
STORAGE_SCOPE = "https://storage.azure.com/.default"

CLOUDS: Mapping[str, Cloud] = {
    "AzureCloud": Cloud(
        name="AzureCloud",
        resource_manager="https://management.azure.com",
        authority="https://login.microsoftonline.com",
        data_hosts=(".api.azureml.ms",),
    ),
    "AzureChinaCloud": Cloud(
        name="AzureChinaCloud",
        storage="core.chinacloudapi.cn",
        blobs="https://{account}.blob.core.chinacloudapi.cn",
        resource_manager="https://management.chinacloudapi.cn",
        authority="https://login.chinacloudapi.cn",
        data_hosts=(".api.ml.azure.cn",),
    ),
    "AzureUSGovernment": Cloud(
        name="AzureUSGovernment",
        storage="core.usgovcloudapi.net",
        blobs="https://{account}.blob.core.usgovcloudapi.net",
        resource_manager="https://management.usgovcloudapi.net",
        authority="https://login.microsoftonline.us",
        data_hosts=(".api.ml.azure.us",),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialConfig:
    """Who we are. Secrets are plain values here; they come from the environment by way of wiring."""

    kind: str = "default"
    cloud: Cloud = CLOUDS["AzureCloud"]
    tenant: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    client_certificate: str | None = None
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None  # of the authority of a cloud that is not known

    @property
    def principal(self) -> Hashable:
        """What tells one identity from another, without a secret."""
        given = hash(self.token) if self.token else None
        return self.kind, self.cloud.authority, self.tenant, self.client_id, self.client_certificate, given

    @property
    def words(self) -> str:
        """Which credential it is, for people."""
        client = f" of client {self.client_id}" if self.client_id else ""
        tenant = f" in tenant {self.tenant}" if self.tenant else ""
        return f"{self.kind}{client}{tenant}"


class Token:
    """Asked for before each request, by any thread: the same token until it is about to end.

    The library renews in its own cache where it has one; the Azure CLI has none, and would be started each time.
    """

    AHEAD = 300.0  # seconds before its end that a token is renewed
    PAUSE = 30.0  # seconds between attempts to renew one that is still good

    def __init__(
        self,
        config: CredentialConfig,
        scope: str,
        *,
        credential: Callable[[CredentialConfig], TokenCredential] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._scope = scope
        self._make = credential or make_credential
        self._credential: TokenCredential | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._token: AccessToken | None = None
        self._tried = float("-inf")

    def __call__(self) -> str:
        """Return the token. Raises SourceError when none can be had."""
        if self._config.token is not None:
            return self._config.token
        with self._lock:
            now = self._clock()
            if self._token is None or now >= self._token.expires_on:
                self._token = self._fetch()
            elif now >= self._token.expires_on - self.AHEAD and now - self._tried >= self.PAUSE:
                self._tried = now
                with contextlib.suppress(SourceError):  # it is still good; its end will tell if nothing better comes
                    self._token = self._fetch()
            return self._token.token

    def _fetch(self) -> AccessToken:
        config = self._config
        try:
            if self._credential is None:
                self._credential = self._make(config)
            tenant = config.tenant if config.kind in _TENANT_LATE else None
            return self._credential.get_token(self._scope, tenant_id=tenant)
        except SourceError:
            raise
        except Exception as exc:  # noqa: BLE001 - of many makes: only what has a fixed form is told
            raise refused(config, exc) from None


class Identities:
    """The tokens of a process: one credential for each identity, whatever the number of workspaces."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[tuple[Hashable, str], Token] = {}

    def token(self, config: CredentialConfig, scope: str | None = None) -> Token:
        """Return the token of an identity, for the resource manager when no other scope is named."""
        wanted = scope or config.cloud.scope
        with self._lock:
            return self._tokens.setdefault((config.principal, wanted), Token(config, wanted))


#: Credentials that are told the tenant when a token is asked for.
_TENANT_LATE = frozenset({"default", "developer"})


def make_credential(config: CredentialConfig) -> TokenCredential:
    """Make azure-identity's credential. Imported here: it takes a third of a second that few commands need."""
    from azure import identity

    quiet = logging.getLogger("azure.identity")  # a refusal is told by `refused`, in one line and not in a dozen
    if quiet.level == logging.NOTSET:
        quiet.setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"authority": config.cloud.authority, "additionally_allowed_tenants": ["*"]}
    if not config.cloud.known:
        options["disable_instance_discovery"] = True
        if config.ca_file is not None:
            options["connection_verify"] = config.ca_file
    tenant, client = config.tenant or "", config.client_id or ""
    match config.kind:
        case "managed-identity":
            return identity.ManagedIdentityCredential(client_id=config.client_id)
        case "workload-identity":
            given = {"tenant_id": config.tenant, "client_id": config.client_id}
            return identity.WorkloadIdentityCredential(**options, **{key: v for key, v in given.items() if v})
        case "service-principal" if config.client_certificate is not None:
            return identity.CertificateCredential(tenant, client, config.client_certificate, **options)
        case "service-principal":
            return identity.ClientSecretCredential(tenant, client, config.client_secret or "", **options)
        case "developer":
            return identity.ChainedTokenCredential(
                identity.AzureCliCredential(additionally_allowed_tenants=["*"]),
                identity.AzurePowerShellCredential(additionally_allowed_tenants=["*"]),
                identity.AzureDeveloperCliCredential(additionally_allowed_tenants=["*"]),
            )
    if client:
        options |= {"managed_identity_client_id": client, "workload_identity_client_id": client}
    if tenant:
        options["workload_identity_tenant_id"] = tenant
    return identity.DefaultAzureCredential(
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_broker_credential=True,
        **options,
    )


#: Entra's own numbers, the ones an operator meets.
_ENTRA: Mapping[str, str] = {
    "AADSTS700016": "The client is not known in this tenant: check client_id and tenant.",
    "AADSTS7000215": "The secret is wrong: it must be the secret's value, not its id.",
    "AADSTS7000222": "The secret has run out: make a new one and put it into the environment variable.",
    "AADSTS700027": "The certificate is not registered with the client, or has run out.",
    "AADSTS700024": "The assertion is outside its time: check this machine's clock.",
    "AADSTS70021": "No federated credential matches: check issuer, subject and audience at the client's registration.",
    "AADSTS700213": "No federated credential matches: check issuer, subject and audience at the client's registration.",
    "AADSTS90002": "The tenant does not exist in this cloud: check tenant and cloud.",
    "AADSTS900023": "The tenant is no tenant's id: check tenant.",
    "AADSTS500011": "The resource manager is not known in this tenant: check cloud.",
    "AADSTS53003": "A conditional access policy blocks it: let it exempt this identity, or its network.",
    "AADSTS50076": "The login needs a second factor: sign in again, or use a service principal or managed identity.",
    "AADSTS50079": "The login needs a second factor: sign in again, or use a service principal or managed identity.",
    "AADSTS700082": "The login has run out: sign in again (`az login`).",
    "AADSTS7000112": "The client is disabled in this tenant: have it enabled.",
}

_STEPS: Mapping[str, str] = {
    "default": "Name one under `credential`, and see that it is there: managed identity, AZURE_* variables, az login.",
    "managed-identity": "Give this machine a managed identity; a user-assigned one needs `client_id`.",
    "workload-identity": "See that the pod has the label azure.workload.identity/use, its service account a client id.",
    "service-principal": "Check tenant, client_id, secret or certificate, and that this host reaches the authority.",
    "developer": "Sign in where stocktake runs: `az login`, Connect-AzAccount or `azd auth login`.",
}


def refused(config: CredentialConfig, exc: Exception) -> SourceError:
    """Say in words why there is no token: which credential was tried, and what to do."""
    text = str(exc)[:20_000]
    number = re.search(r"AADSTS\d{4,7}", text)
    tried = re.findall(r"^\s*(\w+Credential): ", text, re.MULTILINE)
    what = f"no token could be had by the credential {config.words}"
    if config.kind in _TENANT_LATE and tried:
        what += f"; tried {', '.join(dict.fromkeys(tried))}"
    if number:
        what += f": Entra answered {number[0]}"
    elif isinstance(exc, (ValueError, OSError)):
        what += ": it is not fully configured here"
    else:
        what += f" ({type(exc).__name__})"
    step = _ENTRA.get(number[0]) if number else None
    return SourceError(
        Trouble.AUTHENTICATION,
        what,
        next_step=step or _STEPS.get(config.kind, "Check `credential` in the configuration."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Whom a token stands for, by its claims. They are read, not verified: Azure does that."""

    object_id: str | None = None
    client_id: str | None = None
    tenant: str | None = None
    application: bool = False  # a service principal or managed identity, not a person
    ends: int | None = None

    @property
    def words(self) -> str:
        """Who it is, for people: ids alone, no name of a person."""
        kind = "application" if self.application else "user"
        parts = [f"{kind} {self.object_id}" if self.object_id else f"{kind} unknown"]
        parts += [f"client {self.client_id}"] if self.client_id else []
        parts += [f"tenant {self.tenant}"] if self.tenant else []
        return ", ".join(parts)


def bearer(token: str) -> Bearer:
    """Read whom a token stands for; of a token that is opaque, nothing."""
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError):
        return Bearer()
    if not isinstance(claims, dict):
        return Bearer()

    def text(*names: str) -> str | None:
        found = next((claims[name] for name in names if isinstance(claims.get(name), str)), None)
        return found if found and re.fullmatch(r"[\w.-]{1,80}", found) else None

    ends = claims.get("exp")
    return Bearer(
        object_id=text("oid", "sub"),
        client_id=text("appid", "azp"),
        tenant=text("tid"),
        application=claims.get("idtyp") == "app" or ("upn" not in claims and "scp" not in claims),
        ends=ends if isinstance(ends, int) else None,
    )
