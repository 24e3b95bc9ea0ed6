"""A zip that is the same whenever the same is put into it, with the SHA-256 sum of every file. Streams both ways.

Names are ours and lie below the top; no file is written twice. The sums come last, as `sha256sum -c` reads them.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

MANIFEST = "MANIFEST.sha256"
_WHEN = (1980, 1, 1, 0, 0, 0)  # a zip's first day: when a file was made is told inside
_BLOCK = 1 << 20
#: What reading a zip that anybody may have made or damaged can end in: bad sums, bad flags, ways to pack that we lack.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)
_MOST_LINE = 64 << 20  # of a file of lines; a document of 10 MB fits six times


class BundleError(Exception):
    """A bundle is not whole, or not as it was made."""


class Writer:
    """Writes a bundle."""

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self.sums: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _exc: object, _tb: TracebackType | None) -> None:
        if kind is None:
            lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.sums.items()))
            self.add(MANIFEST, [lines.encode()])
        self._zip.close()

    def add(self, name: str, parts: Iterable[bytes]) -> None:
        """Add a file, part by part."""
        assert name not in self.sums
        digest = hashlib.sha256()
        info = zipfile.ZipInfo(name, _WHEN)
        info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
        with self._zip.open(info, "w", force_zip64=True) as opened:
            for part in parts:
                digest.update(part)
                opened.write(part)
        self.sums[name] = digest.hexdigest()

    def add_json(self, name: str, value: Any) -> None:
        """Add a value as JSON for people: indented."""
        self.add(name, [msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"])

    def add_lines(self, name: str, values: Iterable[Any]) -> None:
        """Add values as JSON, one a line."""
        self.add(name, (msgspec.json.encode(value) + b"\n" for value in values))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file of the disk."""

        def parts() -> Iterator[bytes]:
            with path.open("rb") as opened:
                while part := opened.read(_BLOCK):
                    yield part

        self.add(name, parts())


class Reader:
    """Reads a bundle that anybody may have made: nothing of it is believed, and nothing written anywhere."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except _UNREADABLE as exc:
            raise BundleError(f"This is no zip that can be read: {exc}.") from exc
        self.names = self._zip.namelist()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._zip.close()

    def check(self) -> Iterator[str]:
        """Yield what the sums do not bear out: a file that is altered, missing, too many, or there twice."""
        if len(set(self.names)) != len(self.names):
            yield "a name is there twice"
        if MANIFEST not in self.names:
            yield f"{MANIFEST} is missing"
            return
        told: dict[str, str] = {}
        for line in self.text(MANIFEST).splitlines():
            digest, _, name = line.partition("  ")
            told[name] = digest
        for name in sorted(set(told) - set(self.names)):
            yield f"{name} is missing"
        for name in self.names:
            if name == MANIFEST:
                continue
            if name not in told or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                yield f"{name} is in no manifest"
                continue
            try:
                if self._sum(name) != told[name]:
                    yield f"{name} is not what the manifest says"
            except _UNREADABLE as exc:
                yield f"{name} cannot be read: {exc}"

    def _sum(self, name: str) -> str:
        digest = hashlib.sha256()
        with self._zip.open(name) as opened:
            while part := opened.read(_BLOCK):
                digest.update(part)
        return digest.hexdigest()

    def sum(self, name: str) -> str:
        """The SHA-256 of a file."""
        with self._readable(name):
            return self._sum(name)

    def text(self, name: str) -> str:
        """A small file as text."""
        with self._readable(name), self._zip.open(name) as opened:
            return opened.read(_MOST_LINE).decode()

    def json(self, name: str) -> Any:
        """A small file's value."""
        with self._readable(name):
            return msgspec.json.decode(self.text(name))

    def lines(self, name: str) -> Iterator[Any]:
        """The values of a file of lines."""
        with self._readable(name), self._zip.open(name) as opened:
            while line := opened.readline(_MOST_LINE):
                yield msgspec.json.decode(line)

    @contextmanager
    def _readable(self, name: str) -> Iterator[None]:
        try:
            yield
        except KeyError as exc:
            raise BundleError(f"{name} is missing") from exc
        except _UNREADABLE as exc:
            raise BundleError(f"{name} cannot be read: {exc}") from exc
