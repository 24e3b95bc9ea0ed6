"""The head of the chain, published to a place that whoever administers the database cannot rewrite.

A file is appended to; into a container each head is added as a blob of its own. Nothing is ever read, replaced or
deleted there.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
from sqlalchemy import Engine

from stocktake import __version__
from stocktake.core import chain
from stocktake.core.errors import SourceError, Trouble
from stocktake.store import chain_check, evidence

FORMAT = 1
_VERSION = "2021-12-02"  # of the interface of Blob Storage
_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Where blobs are added, and as whom."""

    address: str
    token: Callable[[], str] = field(repr=False)
    ca_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The heads of all workspaces at one time, and the one digest of them all."""

    at: datetime
    digest: str
    workspaces: dict[str, tuple[int, str]]

    @property
    def line(self) -> bytes:
        """As it is published: JSON, one line."""
        said = {"format": FORMAT, "at": self.at, "head": self.digest, "workspaces": self.workspaces}
        return msgspec.json.encode(said) + b"\n"


def head(engine: Engine, key: bytes) -> Head:
    """Take what the last passes added into the chain, and return its head. `key` is the key of the salts."""
    with engine.connect() as connection:
        known = chain_check.workspaces(connection)
    for wid, _ in known:
        with engine.begin() as connection:
            evidence.settle(connection, wid, key)
    with engine.connect() as connection:
        found = chain_check.heads(connection)
        at = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return Head(at=at.astimezone(UTC), digest=chain.head_of(found), workspaces=dict(sorted(found.items())))


def publish(one: Head, file: Path | None, container: Container | None) -> None:
    """Publish a head; a file that cannot be written keeps it from no container. Raises OSError and SourceError."""
    failure: OSError | None = None
    if file is not None:
        try:
            to_file(file, one)
        except OSError as exc:
            failure = exc
    if container is not None:
        to_container(container, one)
    if failure is not None:
        raise failure


def to_file(path: Path, one: Head) -> None:
    """Append a head to a file. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        line = one.line
        if os.write(handle, line) != len(line):  # a disk that is full; the next one begins on a line of its own
            os.write(handle, b"\n")
            raise OSError(28, "No space left on device")
        os.fsync(handle)
    finally:
        os.close(handle)


def to_container(container: Container, one: Head) -> str:
    """Add a head to a container; return the blob's name. Raises SourceError."""
    name = f"stocktake-head-{one.at:%Y%m%dT%H%M%SZ}-{one.digest[:12]}.jsonl"
    context = httpx.create_ssl_context()
    if container.ca_file:
        context.load_verify_locations(container.ca_file)
    try:
        answer = httpx.put(
            f"{container.address}/{name}",
            content=one.line,
            headers={
                "Authorization": f"Bearer {container.token()}",
                "Content-Type": "application/x-ndjson",
                "If-None-Match": "*",  # never over another
                "User-Agent": f"stocktake/{__version__}",
                "x-ms-blob-type": "BlockBlob",
                "x-ms-version": _VERSION,
            },
            verify=context,
            timeout=_SECONDS,
        )
    except (httpx.HTTPError, ssl.SSLError) as exc:
        raise SourceError(
            Trouble.UNREACHABLE,
            f"The container for heads cannot be reached ({type(exc).__name__})",
            next_step="Look at `evidence.container.address` and at the network rules of the storage account.",
        ) from exc
    if answer.status_code in (201, 409, 412):  # it is there, from us or from another worker who said the same
        return name
    code = answer.headers.get("x-ms-error-code", "")
    if answer.status_code in (401, 403):
        raise SourceError(
            Trouble.PERMISSION,
            f"The container for heads refused the blob ({answer.status_code} {code})".rstrip(),
            next_step="Give the identity the right to add blobs to this container (docs/how-to/evidence.md).",
            status=answer.status_code,
        )
    raise SourceError(
        Trouble.SERVER if answer.status_code >= 500 else Trouble.CONFIG,
        f"The container for heads answered {answer.status_code} {code}".rstrip(),
        next_step="Look at `evidence.container.address`: is the container there? The next attempt is made on schedule.",
        status=answer.status_code,
    )
