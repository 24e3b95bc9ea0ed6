"""Tokens: kept, renewed ahead, and refused in words; azure-identity's real client against a loopback Entra."""

from __future__ import annotations

import base64
import json
import logging
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.azure_identity import (
    CLOUDS,
    Cloud,
    CredentialConfig,
    Identities,
    Token,
    bearer,
    make_credential,
    refused,
)
from tests.servers.recording_proxy import RecordingProxy, recording_proxy, status

TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
CLIENT = "0a1b2c3d-0000-4000-8000-00000000000b"
JSON = {"content-type": "application/json"}


class Entra:
    """A credential as azure-identity's callers know it, that gives a token for an hour."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.at = 1_000_000.0
        self.broken: Exception | None = None

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.asked.append((*scopes, options.get("tenant_id")))
        if self.broken is not None:
            raise self.broken
        return AccessToken(f"token-{len(self.asked)}", int(self.at) + 3600)

    def token(self, **config: Any) -> Token:
        return Token(CredentialConfig(**config), "https://x/.default", credential=lambda _: self, clock=lambda: self.at)


def test_a_token_is_fetched_once_and_renewed_ahead_of_its_end() -> None:
    entra = Entra()
    token = entra.token()
    assert {token() for _ in range(5)} == {"token-1"}
    entra.at += 3600 - 301
    assert token() == "token-1"
    entra.at += 2
    assert token() == "token-2"
    assert len(entra.asked) == 2


def test_a_token_that_cannot_be_renewed_is_used_to_its_end_and_asked_for_at_intervals() -> None:
    entra = Entra()
    token = entra.token()
    token()
    entra.broken = ClientAuthenticationError(message="AADSTS90033 try later")
    entra.at += 3400
    assert {token() for _ in range(5)} == {"token-1"}
    assert len(entra.asked) == 2
    entra.at += 31
    assert token() == "token-1"
    assert len(entra.asked) == 3
    entra.at += 200
    with pytest.raises(SourceError):
        token()
    entra.broken = None
    assert token() == "token-5"


def test_eight_threads_that_need_a_token_at_once_fetch_one() -> None:
    entra = Entra()
    token, got, barrier = entra.token(), list[str](), threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        got.append(token())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == ["token-1"] * 8


def test_one_credential_serves_every_workspace_of_an_identity() -> None:
    identities = Identities()
    one = identities.token(CredentialConfig(tenant=TENANT))
    assert identities.token(CredentialConfig(tenant=TENANT)) is one
    assert identities.token(CredentialConfig()) is not one
    assert identities.token(CredentialConfig(tenant=TENANT, cloud=CLOUDS["AzureChinaCloud"])) is not one


@pytest.mark.parametrize(("kind", "tenant"), [("default", TENANT), ("developer", TENANT), ("managed-identity", None)])
def test_a_login_that_could_be_of_several_tenants_is_told_which(kind: str, tenant: str | None) -> None:
    entra = Entra()
    entra.token(kind=kind, tenant=TENANT)()
    assert entra.asked == [("https://x/.default", tenant)]


DEFAULT = """DefaultAzureCredential failed to retrieve a token from the included credentials.
Attempted credentials:
\tEnvironmentCredential: EnvironmentCredential authentication unavailable. Environment variables are not configured.
Visit https://aka.ms/azsdk/python/identity/environmentcredential/troubleshoot to troubleshoot this issue.
\tManagedIdentityCredential: ManagedIdentityCredential authentication unavailable. secret=hunter2
\tAzureCliCredential: Azure CLI not found on path
To mitigate this issue, please refer to the troubleshooting guidelines"""


@pytest.mark.parametrize(
    ("kind", "exc", "what", "step"),
    [
        ("default", ClientAuthenticationError(message=DEFAULT), "tried EnvironmentCredential, Managed", "credential"),
        ("service-principal", ClientAuthenticationError(message="AADSTS7000222: x"), "AADSTS7000222", "run out"),
        ("service-principal", ClientAuthenticationError(message="AADSTS700016: x"), "AADSTS700016", "client_id"),
        ("service-principal", ClientAuthenticationError(message="AADSTS12345: x"), "AADSTS12345", "Check tenant"),
        ("workload-identity", ValueError("no file"), "not fully configured", "azure.workload.identity/use"),
        ("managed-identity", RuntimeError("x"), "(RuntimeError)", "user-assigned"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_line_that_names_the_credential_and_what_to_do(
    kind: str, exc: Exception, what: str, step: str
) -> None:
    error = refused(CredentialConfig(kind=kind, client_id=CLIENT), exc)
    assert (error.trouble, "\n" in str(error), "hunter2" in str(error)) == (Trouble.AUTHENTICATION, False, False)
    assert f"the credential {kind} of client {CLIENT}" in error.what
    assert what in error.what
    assert step in error.next_step


# ---- the real library, on the wire


@pytest.fixture
def entra(tmp_path: Path) -> Iterator[tuple[RecordingProxy, CredentialConfig]]:
    """A loopback Entra, and a service principal that is known there when the wire says so."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    with recording_proxy("http://127.0.0.1:1", tls=context) as wire:
        base = f"{wire.uri}/{TENANT}"
        found = {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
        }
        wire.fault("openid-configuration", status(200, JSON, json.dumps(found).encode()))
        cloud = Cloud(resource_manager="https://rm.example", authority=wire.uri, data_hosts=("h",), known=False)
        yield (
            wire,
            CredentialConfig(
                kind="service-principal",
                cloud=cloud,
                tenant=TENANT,
                client_id=CLIENT,
                client_secret="hunter2~secret",
                ca_file=str(ca),
            ),
        )


def test_a_service_principal_gets_a_token_for_the_resource_manager_of_its_cloud(
    entra: tuple[RecordingProxy, CredentialConfig],
) -> None:
    wire, config = entra
    given = {"token_type": "Bearer", "expires_in": 3600, "access_token": "the-token"}
    wire.fault("oauth2/v2.0/token", status(200, JSON, json.dumps(given).encode()))
    token = Identities().token(config)
    assert (token(), token()) == ("the-token", "the-token")
    (asked,) = wire.asked("oauth2/v2.0/token")
    assert b"scope=https%3A%2F%2Frm.example%2F.default" in asked.body
    assert b"client_id=" + CLIENT.encode() in asked.body


def test_a_secret_that_ran_out_is_told_in_one_line_and_the_library_logs_nothing_of_it(
    entra: tuple[RecordingProxy, CredentialConfig], caplog: pytest.LogCaptureFixture
) -> None:
    wire, config = entra
    caplog.set_level(logging.NOTSET, "azure.identity")  # as it is where nobody has set up logging
    refusal = {"error": "invalid_client", "error_description": "AADSTS7000222: The keys for app 'hunter' are expired."}
    wire.fault("oauth2/v2.0/token", status(401, JSON, json.dumps(refusal).encode()))
    with pytest.raises(SourceError) as caught:
        Identities().token(config)()
    assert str(caught.value) == (
        f"no token could be had by the credential service-principal of client {CLIENT} in tenant {TENANT}: Entra"
        " answered AADSTS7000222 (authentication). The secret has run out: make a new one and put it into the"
        " environment variable."
    )
    assert "hunter" not in caplog.text


def test_what_stands_in_a_log_of_ours_holds_nothing_of_the_librarys(tmp_path: Path) -> None:
    from stocktake.telemetry.logs import LogConfig, setup_logging

    before = {name: logging.getLogger(name).level for name in ("azure", "azure.identity", "stocktake")}
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        setup_logging(LogConfig(level="DEBUG"))
        assert not logging.getLogger("azure.identity._credentials.chained").isEnabledFor(logging.WARNING)
    finally:
        logging.captureWarnings(False)
        root.handlers[:], root.level = handlers, level
        for name, old in before.items():
            logging.getLogger(name).setLevel(old)


# ---- whom a token stands for


def jwt(**claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{body}.signature"


def test_a_token_says_whom_it_stands_for_by_ids_and_without_a_persons_name() -> None:
    person = bearer(jwt(oid="0-1", appid=CLIENT, tid=TENANT, upn="ann@example.org", name="Ann", scp="x", exp=7))
    assert person.words == f"user 0-1, client {CLIENT}, tenant {TENANT}"
    assert (bearer(jwt(oid="0-2", azp=CLIENT, idtyp="app")).words, person.ends) == (
        f"application 0-2, client {CLIENT}",
        7,
    )


@pytest.mark.parametrize("token", ["", "opaque", "a.b.c", "a.!!.c", jwt(oid="x y z <script>"), f"a.{'W10'}.c"])
def test_a_token_that_says_nothing_stands_for_nobody_known(token: str) -> None:
    assert bearer(token).object_id is None


def test_a_token_given_as_it_is_is_never_fetched() -> None:
    config = replace(CredentialConfig(), kind="token", token="given")
    assert Token(config, "s", credential=lambda _: pytest.fail("not needed"))() == "given"


@pytest.mark.parametrize("cloud", ["AzureCloud", "AzureChinaCloud", "AzureUSGovernment"])
@pytest.mark.parametrize("kind", ["default", "developer", "managed-identity", "service-principal", "workload-identity"])
def test_every_credential_is_one_that_the_library_takes(
    kind: str, cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
    config = CredentialConfig(kind=kind, cloud=CLOUDS[cloud], tenant=TENANT, client_id=CLIENT, client_secret="x")
    credential = make_credential(config)
    assert callable(credential.get_token)
    if kind == "service-principal":
        file = tmp_path / "client.pem"
        trustme.CA().issue_cert("client", key_type=trustme.KeyType.RSA).private_key_and_cert_chain_pem.write_to_path(
            str(file)
        )
        assert callable(make_credential(replace(config, client_certificate=str(file))).get_token)


def test_a_workload_identity_that_is_not_set_up_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SourceError) as caught:
        Identities().token(CredentialConfig(kind="workload-identity"))()
    assert "not fully configured here" in caught.value.what
    assert "azure.workload.identity/use" in caught.value.next_step
