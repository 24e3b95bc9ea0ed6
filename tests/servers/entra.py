"""A loopback Entra: gives a service principal a token for what it asks for, as azure-identity expects it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from stocktake.demo.azure.listener import Listener
from stocktake.demo.azure.seeded import TENANT
from stocktake.demo.azure.wire import Request, Response
from tests.azure.server import tls
from tests.servers.azurite import storage_token

CLIENT = "0a1b2c3d-0000-4000-8000-00000000000b"


@dataclass(kw_only=True)
class Entra:
    """A running loopback Entra, and the scopes it was asked for."""

    uri: str
    scopes: list[str] = field(default_factory=list)


@contextmanager
def entra() -> Iterator[Entra]:
    """Run it for as long as the block runs."""
    made = Entra(uri="")

    def answer(request: Request) -> Response:
        base = f"{made.uri}/{TENANT}"
        if request.path.endswith("/.well-known/openid-configuration"):
            return Response(body={
                "issuer": f"{base}/v2.0", "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
            })  # fmt: skip
        scope = parse_qs(request.body.decode())["scope"][0]
        made.scopes.append(scope)
        token = storage_token(scope.removesuffix("/.default"), seconds=36_000, appid=CLIENT)
        return Response(body={"token_type": "Bearer", "expires_in": 36_000, "access_token": token})

    listener = Listener(answer, tls())
    made.uri = f"https://127.0.0.1:{listener.port}"
    with listener.running():
        yield made
