"""Azurite, Microsoft's emulator of Azure Storage, over TLS and with tokens of Entra's form, filled for a test.

It notes every request: what was asked can be held against what may be.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from stocktake.demo.azure.seeded import TENANT
from tests.azure.server import ca_file, certificate
from tests.needs import need, need_command

PROGRAM = Path(__file__).parents[1] / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
ACCOUNT = "devstoreaccount1"
AUDIENCE = "https://storage.azure.com"
_MARK = "mark-"
_LISTENS = re.compile(r"listens on https://127\.0\.0\.1:(\d+)")
_REQUEST = re.compile(r'"([A-Z]+) (/\S*) HTTP')


def storage_token(audience: str = AUDIENCE, *, seconds: int = 3600, **claims: Any) -> str:
    """A token of the form that Entra's have, signed by nobody: Azurite looks at its claims alone."""
    now = int(time.time())
    told = {
        "aud": audience, "iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT, "oid": "reader", "idtyp": "app",
        "iat": now - 60, "nbf": now - 60, "exp": now + seconds,
    } | claims  # fmt: skip
    parts = ({"typ": "JWT", "alg": "none"}, told)
    text = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join([*text, "unsigned"])


@dataclass(kw_only=True)
class Azurite:
    """A running Azurite with one account."""

    url: str  # https://127.0.0.1:PORT
    ca_file: Path
    lines: list[str] = field(default_factory=list)
    written: threading.Condition = field(default_factory=threading.Condition, repr=False)
    marks: int = 0

    def container(self, name: str) -> str:
        """The address of a container."""
        return f"{self.url}/{ACCOUNT}/{name}"

    def put(self, container: str, blobs: Mapping[str, bytes], **options: Any) -> None:
        """Write blobs, the container first where it is not there."""
        from azure.storage.blob import ContainerClient

        from stocktake.sources.azure_mlclient import TokenOnly

        with ContainerClient.from_container_url(
            self.container(container), credential=TokenOnly(storage_token), connection_verify=str(self.ca_file)
        ) as client:
            if not client.exists():
                client.create_container()
            for name, content in blobs.items():
                client.upload_blob(name, content, overwrite=True, **options)

    def asked(self, since: int = 0) -> list[tuple[str, str]]:
        """Method and path of every request so far, or since a mark."""
        until = self.mark()
        found = (_REQUEST.search(line) for line in self.lines[since : until - 1])
        return [(one[1], one[2]) for one in found if one and _MARK not in one[2]]

    def mark(self) -> int:
        """How many lines it has written, once everything that was asked before stands among them."""
        with self.written:
            self.marks += 1
            name = f"{_MARK}{self.marks}"
        headers = {"authorization": f"Bearer {storage_token()}", "x-ms-version": "2021-12-02"}
        with httpx.Client(verify=ssl.create_default_context(cafile=str(self.ca_file)), trust_env=False) as client:
            client.get(f"{self.container(name)}/x", headers=headers)
        with self.written:
            assert self.written.wait_for(lambda: any(f"/{name}/" in line for line in self.lines), 30)
            return next(at for at, line in enumerate(self.lines, start=1) if f"/{name}/" in line)


@contextmanager
def azurite(folder: Path) -> Iterator[Azurite]:
    """Run Azurite for as long as the block runs."""
    node = need_command("node", "nodejs")
    need(PROGRAM.exists(), "Azurite is not installed; run: npm ci --prefix tests/azurite --ignore-scripts")
    one = certificate()
    chain, key = folder / "azurite.pem", folder / "azurite.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in one.cert_chain_pems))
    one.private_key_pem.write_to_path(str(key))
    command = [
        node, str(PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--oauth", "basic",
        "--skipApiVersionCheck", "--disableTelemetry", "--cert", str(chain), "--key", str(key),
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    made, ready = Azurite(url="", ca_file=ca_file()), threading.Event()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with made.written:
                made.lines.append(line)
                made.written.notify_all()
            if found := _LISTENS.search(line):
                made.url = f"https://127.0.0.1:{found[1]}"
                ready.set()
        ready.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        assert ready.wait(60), "Azurite did not begin to listen"
        assert made.url, "".join(made.lines)
        yield made
    finally:
        process.terminate()
        process.wait(20)
        listener.join(20)
        assert process.stdout is not None
        process.stdout.close()
