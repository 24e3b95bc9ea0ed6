"""The content of a job, from its storage account into a folder: by our own identity, never by a key of the account.

Names of blobs are written by whoever runs jobs: none of them leads out of the folder. What is there already is not
fetched again, and what was cut short goes on where it stopped, if it is still the same blob.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.azure_blobs_folder import (
    PARTS,
    InTheWay,
    digest_of,
    place,
    prepared,
    settle,
    trouble,
    written,
)
from stocktake.sources.azure_identity import Token
from stocktake.sources.azure_mlclient import TokenOnly

AT_ONCE = 8  # blobs
_CHUNK = 4 * 1024 * 1024  # bytes of each of them in memory
_GRACE = 5.0  # seconds for what is under way, when something else ended it all
_NAMED = 5  # of those that were refused, so many are told


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob of a listing."""

    name: str  # below the prefix
    path: str  # in its container
    size: int
    etag: str
    modified: datetime
    md5: bytes | None = None


@dataclass(slots=True)
class Stock:
    """What is below a prefix."""

    blobs: int = 0
    bytes: int = 0
    there: int = 0  # bytes in the folder already, by their size alone


@dataclass(slots=True)
class Fetched:
    """What has come so far."""

    blobs: int = 0  # whole, in the folder now, those that were there before too
    bytes: int = 0  # of these
    there: int = 0  # of these blobs, how many were there before
    refused: int = 0  # not fetched: their names, or something in their way
    examples: list[str] = field(default_factory=list)  # of the refused, with the reason

    def refuse(self, why: str) -> None:
        """Leave one out, and remember why."""
        self.refused += 1
        if len(self.examples) < _NAMED:
            self.examples.append(why)


class Blobs:
    """The blobs below a prefix of a container; one without a slash at its end may be a blob itself."""

    def __init__(
        self, container: str, prefix: str, token: Token, *, ca_file: str | None = None, retries: int = 3
    ) -> None:
        """Ask nothing yet. `container` is https://ACCOUNT.../CONTAINER."""
        from azure.storage.blob import ContainerClient

        options: dict[str, Any] = {"retry_total": retries, "initial_backoff": 2, "increment_base": 2}
        options |= {"max_single_get_size": _CHUNK, "max_chunk_get_size": _CHUNK}
        options |= {"connection_verify": ca_file} if ca_file else {}
        self._prefix = prefix
        self._where = container
        self._client = ContainerClient.from_container_url(container, credential=TokenOnly(token), **options)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def list(self) -> Iterator[Blob]:
        """Every blob, page by page. Markers of folders are none."""
        with self._in_words():
            for one in self._client.list_blobs(name_starts_with=self._prefix, include=["metadata"]):
                metadata: Mapping[str, str] = one.metadata or {}
                if {name.lower(): text for name, text in metadata.items()}.get("hdi_isfolder") == "true":
                    continue
                name = _below(self._prefix, one.name)
                if name is None or (one.name.endswith("/") and not one.size):
                    continue
                md5 = one.content_settings.content_md5 if one.content_settings else None
                yield Blob(
                    name=name, path=one.name, size=one.size, etag=one.etag,
                    modified=one.last_modified, md5=bytes(md5) if md5 else None,
                )  # fmt: skip

    def measure(self, folder: Path) -> Stock:
        """How many blobs there are, how many bytes they have, and how many of these are in a folder already."""
        stock = Stock()
        for one in self.list():
            stock.blobs, stock.bytes = stock.blobs + 1, stock.bytes + one.size
            with suppress(OSError, ValueError):
                stock.there += one.size if place(folder, one.name).stat().st_size == one.size else 0
        return stock

    def fetch(self, folder: Path, fetched: Fetched, *, tell: Callable[[int], object] = lambda _: None) -> None:
        """Fetch all into a folder, some at a time; `fetched` says how far it came, whatever ends it.

        `tell` hears of bytes as they come. Raises SourceError; DiskTrouble where it is the folder's.
        """
        root, stop = prepared(folder), threading.Event()
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
        running: dict[Future[bool], Blob] = {}
        try:
            for one in self.list():
                try:
                    target = place(root, one.name)
                except ValueError as exc:
                    fetched.refuse(f"{one.name}: {exc}")
                    continue
                if len(running) >= AT_ONCE:
                    _gather(running, fetched)
                running[pool.submit(self._one, one, target, root, stop, tell)] = one
            while running:
                _gather(running, fetched)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            wait(running, timeout=_GRACE)  # one that waits for a silent server is not waited for: its part can stay
            for done, one in running.items():  # what ended well meanwhile is there, though something else failed
                if done.done() and not done.cancelled() and done.exception() is None:
                    _count(fetched, one, there=done.result())
        with suppress(OSError):
            (root / PARTS).rmdir()

    def _one(self, one: Blob, target: Path, root: Path, stop: threading.Event, tell: Callable[[int], object]) -> bool:
        """Fetch one blob; True where it was there already."""
        stamp = int(one.modified.timestamp() * 10**9)
        with suppress(OSError):
            found = target.stat(follow_symlinks=False)
            same = found.st_size == one.size and found.st_mtime_ns == stamp  # to the second: the time of a blob
            if same and (one.md5 is None or digest_of(target) == one.md5):
                tell(one.size)
                return True
        part = root / PARTS / hashlib.sha256(f"{one.path}\n{one.etag}".encode()).hexdigest()[:32]
        try:
            self._download(one, part, stop, tell)
            if one.md5 is not None and digest_of(part) != one.md5:
                part.unlink()
                raise SourceError(
                    Trouble.SHAPE,
                    f"{one.path} came with another content than its storage account has (MD5)",
                    next_step="Run the command again: what came whole is kept. Look for a proxy that alters answers.",
                )
            settle(part, target, root, stamp)
        except OSError as exc:
            raise trouble(root, exc) from exc
        return False

    def _download(self, one: Blob, part: Path, stop: threading.Event, tell: Callable[[int], object]) -> None:
        from azure.core import MatchConditions

        have = part.stat().st_size if part.exists() else 0
        if have > one.size:
            part.unlink()
            have = 0
        tell(have)
        with part.open("ab") as file:
            if have == one.size:
                return
            with self._in_words():
                stream = self._client.download_blob(
                    one.path, offset=have, length=one.size - have, etag=one.etag,
                    match_condition=MatchConditions.IfNotModified, max_concurrency=1,
                )  # fmt: skip
                for chunk in stream.chunks():
                    written(file, chunk, part)
                    tell(len(chunk))
                    if stop.is_set():
                        raise _Ended
        if part.stat().st_size != one.size:
            raise SourceError(
                Trouble.TRUNCATED,
                f"{one.path} came with {part.stat().st_size:,} of {one.size:,} bytes",
                next_step="Run the command again: it goes on where this stopped.",
            )

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Say in words what storage answered."""
        from azure.core import exceptions

        try:
            yield
        except exceptions.ResourceModifiedError:
            raise SourceError(
                Trouble.SHAPE,
                f"a blob of {self._where} was written anew while it was fetched",
                next_step="Run the command again: it begins with that one; the job may still be running.",
            ) from None
        except (
            exceptions.IncompleteReadError,
            exceptions.ServiceRequestError,
            exceptions.ServiceResponseError,
        ) as exc:
            raise SourceError(
                Trouble.UNREACHABLE,
                f"{self._where} cannot be reached ({type(exc).__name__})",
                next_step="Check DNS, proxy and the account's firewall; run the command again, and it goes on.",
            ) from None
        except exceptions.HttpResponseError as exc:
            raise _explained(self._where, exc) from None


def _below(prefix: str, path: str) -> str | None:
    """The name of a blob in the folder; None for one that merely begins like the prefix."""
    if path == prefix:
        return path.rpartition("/")[2]
    below = path.removeprefix(prefix if prefix.endswith("/") else f"{prefix}/")
    return below if below != path else None


class _Ended(Exception):
    """Another blob failed, or a person wants it to end."""


def _gather(running: dict[Future[bool], Blob], fetched: Fetched) -> None:
    """Wait for one at least, and count what has ended. Raises what ended one of them, unless it was its place alone."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        try:
            there = future.result()
        except InTheWay as exc:
            fetched.refuse(f"{running.pop(future).name}: {exc}")
        else:
            _count(fetched, running.pop(future), there=there)


def _count(fetched: Fetched, one: Blob, *, there: bool) -> None:
    fetched.blobs += 1
    fetched.bytes += one.size
    fetched.there += there


def _explained(where: str, exc: Any) -> SourceError:
    status, code = exc.status_code, getattr(exc, "error_code", None)
    code = str(getattr(code, "value", code) or "")
    trouble, step = {
        401: (
            Trouble.AUTHENTICATION,
            "Storage takes a token for storage alone: use another `credential` than `token`.",
        ),
        403: (
            Trouble.PERMISSION,
            "Give the identity the role Storage Blob Data Reader on the account, and let this network in."
            " (docs/how-to/azure-jobs.md)",
        ),
        404: (Trouble.NOT_FOUND, "The container is gone, or the account is another one now."),
        429: (Trouble.THROTTLED, "Run the command again later: it goes on where this stopped."),
    }.get(status, (Trouble.SERVER, "Run the command again: it goes on where this stopped."))
    named = f" {code}" if code.isalnum() else ""
    return SourceError(trouble, f"{where} answered with status {status}{named}", next_step=step, status=status)
