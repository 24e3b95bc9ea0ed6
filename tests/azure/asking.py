"""A client of the loopback Azure, for tests of it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.workspace import Workspace
from tests.azure.server import AzureServer, served

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asking:
    """A client of one server."""

    server: AzureServer
    http: httpx.Client

    def get(self, path: str, **query: str) -> httpx.Response:
        """GET a path of the resource manager, with an API version."""
        return self.http.get(self.server.arm + path, params={"api-version": "2024-04-01"} | query)

    def names(self, path: str, **query: str) -> list[str]:
        """The names of all items of a list, over all of its pages."""
        found, answer = list[str](), self.get(path, **query)
        while True:
            assert answer.status_code == 200, answer.text
            body = answer.json()
            found += [item["name"] for item in body["value"]]
            if "nextLink" not in body:
                return found
            answer = self.http.get(body["nextLink"])


@contextmanager
def asking(estate: Estate, **how: Any) -> Iterator[Asking]:
    """Serve an estate and make a client of it, with a token."""
    with served(estate, **how) as server:
        context = ssl.create_default_context(cafile=str(server.ca_file))
        headers = {"authorization": f"Bearer {server.token()}"}
        with httpx.Client(verify=context, headers=headers, trust_env=False) as http:
            yield Asking(server, http)


def small(**size: Any) -> tuple[Estate, Workspace]:
    """An estate of one workspace, w1."""
    estate = Estate(now=NOW)
    return estate, estate.add_workspace("w1", size=Size(**size))


def history(workspace: Workspace, name: str, what: str = "") -> str:
    """A path of the run history."""
    return f"/history/v1.0{workspace.scope}/runs/{name}{what}"


def code(answer: httpx.Response) -> str:
    """The code of an error."""
    return str(answer.json()["error"]["code"])
