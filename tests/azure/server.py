"""The loopback Azure of the tests: the estate behind TLS, with throttling, faults and a count of every request.

It counts and classifies everything that reaches it, and a request that is no read fails the test that owns it.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import trustme

from stocktake.demo.azure.asked import Asked, asked
from stocktake.demo.azure.azure import PRINCIPAL, Azure, bearer, claims_of
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.listener import Listener
from stocktake.demo.azure.wire import Refused, Request, Response
from tests.azure.faults import Faults
from tests.azure.recordings import Recordings
from tests.azure.throttle import Throttle


@dataclass(slots=True)
class Seen:
    """Every request that reached the server, in order, with the status it got."""

    requests: list[tuple[Asked, int]] = field(default_factory=list)
    keep: bool = True  # False: only count, for loads of any length
    counts: Counter[tuple[str, str, str | None, int]] = field(default_factory=Counter)
    acts: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: Asked, status: int) -> None:
        with self.lock:
            self.counts[what.plane, what.family, what.workspace, status] += 1
            if self.keep:
                self.requests.append((what, status))
            if not what.reads:
                self.acts.append(what)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def count(
        self, *, plane: str | None = None, family: str | None = None, workspace: str | None = None,
        status: int | None = None,
    ) -> int:  # fmt: skip
        """How many requests there were of a plane, of a family, for a workspace, with a status."""
        with self.lock:
            rows = list(self.counts.items())
        return sum(
            number
            for (one, of, where, got), number in rows
            if plane in (None, one) and family in (None, of) and workspace in (None, where) and status in (None, got)
        )

    def families(self, workspace: str | None = None) -> Counter[str]:
        """Requests by plane and family, e.g. `arm jobs`."""
        found: Counter[str] = Counter()
        with self.lock:
            for (plane, family, where, _), number in self.counts.items():
                if workspace in (None, where):
                    found[f"{plane} {family}"] += number
        return found

    def clear(self) -> None:
        """Begin to count anew; acts stay."""
        with self.lock:
            self.requests.clear()
            self.counts.clear()


class Credential:
    """An object like those of azure-identity: it logs in nowhere, and its tokens end as they say."""

    def __init__(self, now: Callable[[], datetime], lifetime: timedelta = timedelta(hours=1)) -> None:
        self._now, self.lifetime = now, lifetime
        self.asked: list[tuple[str, ...]] = []
        self.principal = PRINCIPAL

    def get_token(self, *scopes: str, **_: Any) -> Any:
        """A token for scopes, as azure.core.credentials.AccessToken."""
        from azure.core.credentials import AccessToken

        self.asked.append(scopes)
        token = self.token(scopes[0])
        return AccessToken(token, int((self._now() + self.lifetime).timestamp()))

    def token(self, scope: str = "https://management.azure.com/.default") -> str:
        """The token alone."""
        audience = scope.removesuffix("/.default")
        return bearer(self._now(), audience=audience, lifetime=self.lifetime, principal=self.principal)

    def close(self) -> None:
        """Nothing is open."""


@dataclass(kw_only=True)
class AzureServer:
    """A running loopback Azure."""

    estate: Estate
    arm: str  # https://127.0.0.1:PORT
    data_host: str  # localhost:PORT
    ca_file: Path
    seen: Seen
    faults: Faults
    throttle: Throttle | None
    credential: Credential

    def token(self) -> str:
        """A token, as an HTTP client asks for one before each request."""
        return self.credential.token(f"{self.arm}/.default")

    def cloud(self) -> dict[str, str]:
        """What MLClient calls cloud_metadata: pass it with any name of a cloud."""
        return {
            "azure_portal": "https://portal.azure.com", "resource_manager": self.arm,
            "active_directory": self.arm, "aml_resource_id": self.arm,
            "storage_endpoint": "core.windows.net", "registry_discovery_endpoint": f"https://{self.data_host}/",
        }  # fmt: skip


@contextmanager
def served(
    estate: Estate,
    *,
    throttle: Throttle | None = None,
    recordings: Recordings | None = None,
    page_of: Callable[[str], int] | None = None,
    port: int = 0,
    only_reads: bool = True,
) -> Iterator[AzureServer]:
    """Serve an estate on loopback. At the end it raises if anything but reads was sent (`only_reads`)."""
    seen, faults, azure = Seen(), Faults(), Azure(estate, page_of)

    def answer(request: Request) -> Response:
        what = asked(request)
        got = _answer(request, what)
        seen.note(what, got.status)
        return got

    def _answer(request: Request, what: Asked) -> Response:
        fault = faults.before(what, request)
        if fault is not None:
            return fault
        if throttle is not None and what.plane == "arm" and what.subscription:
            token = request.headers.get("authorization", "").partition(" ")[2]
            try:
                remaining = throttle.take(what.subscription, str(claims_of(token).get("oid")))
            except Refused as refused:
                return refused.response
        else:
            remaining = "11999"
        if recordings is not None and (found := recordings.answer(request)) is not None:
            return found
        got = azure.answer(request)
        if what.plane == "arm":
            got = replace(got, headers={"x-ms-ratelimit-remaining-subscription-reads": remaining} | dict(got.headers))
        return faults.after(what, got)

    listener = Listener(answer, tls(), port)
    estate.arm, estate.data_host = f"https://127.0.0.1:{listener.port}", f"localhost:{listener.port}"
    server = AzureServer(
        estate=estate, arm=estate.arm, data_host=estate.data_host, ca_file=ca_file(), seen=seen, faults=faults,
        throttle=throttle, credential=Credential(estate.now),
    )  # fmt: skip
    with listener.running():
        yield server
    if only_reads and seen.acts:
        raise AssertionError(f"something other than a read was sent: {told(seen.acts)}")


def told(acts: Sequence[Asked]) -> str:
    """Requests, for a message."""
    return ", ".join(f"{one.method} {one.path}" for one in acts[:5])


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@cache
def ca_file() -> Path:
    """The certificate that clients must trust; it stays until the process ends."""
    handle, name = tempfile.mkstemp(prefix="stocktake-azure-", suffix=".pem")
    with os.fdopen(handle, "wb") as file:
        file.write(_authority().cert_pem.bytes())
    return Path(name)


def certificate() -> trustme.LeafCert:
    """A certificate of another loopback server, which whoever trusts this one trusts too."""
    return _authority().issue_cert("127.0.0.1", "localhost")


def tls() -> ssl.SSLContext:
    """The server's side of TLS, for 127.0.0.1 and localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _authority().issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context
