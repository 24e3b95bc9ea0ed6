"""Reads the small files of an `mlruns` folder: strictly, bounded, and never through a link out of it.

Everything is opened relative to its open parent folder and without following links, so that nobody who may write to
the folder can make us read something else. Nothing is ever opened for writing.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from stocktake.core.errors import SourceError, Trouble

META = "meta.yaml"
META_LIMIT = 1 << 20
VALUE_LIMIT = 8 << 20
_DEPTH = 30  # of names with slashes, which are folders
_LITTER = (".DS_Store", "._")  # what other programs leave among params and tags
FRESH = 5.0  # seconds in which a file may still be in the middle of being written
#: What a volume that went away answers to everything.
_GONE = {errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO}

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Malformed(Exception):
    """A file holds something else than MLflow writes. Says what, never a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What a folder holds, by name, sorted."""

    folders: Sequence[str]
    files: Mapping[str, int]  # name -> bytes
    links: Sequence[str]


@dataclass(slots=True)
class Remarks:
    """What is odd: problems hide something from us, so that absence proves nothing; notes are fully understood."""

    problems: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)  # (what it is, where)

    def problem(self, where: str, what: str) -> None:
        """Something could not be seen."""
        self.problems.append(f"{_printable(where)} {what}")

    def note(self, what: str, where: str) -> None:
        """Something is odd."""
        self.notes.append((what, _printable(where)))


def _printable(where: str) -> str:
    """A path that any database and terminal takes, whatever bytes a name is made of."""
    return where.encode("utf-8", "backslashreplace").decode()


class Folder:
    """An open folder; `where` is its path from the root, for messages."""

    def __init__(self, descriptor: int, where: str = "") -> None:
        self._descriptor = descriptor
        self.where = where

    @classmethod
    def open(cls, path: Path) -> Folder:
        """Open the root. Raises OSError."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release it; once more does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def path(self, name: str) -> str:
        """A path from the root, for messages."""
        return f"{self.where}/{name}" if self.where else name

    def stat(self, name: str | None = None) -> os.stat_result:
        """Facts of the folder itself, or of something in it (never of what a link points to). Raises OSError."""
        if name is None:
            return os.fstat(self._descriptor)
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def enter(self, name: str) -> Folder:
        """Open a folder in it. Raises OSError, also when it is a link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return Folder(os.open(name, flags, dir_fd=self._descriptor), self.path(name))
        except NotADirectoryError as exc:  # what Linux says of a link, too
            if stat.S_ISLNK(self.stat(name).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from exc
            raise

    def has(self, name: str) -> bool:
        """Whether there is something of that name, whatever it is."""
        try:
            self.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def entries(self) -> Entries:
        """List it. Raises OSError."""
        folders, files, links = [], {}, []
        with os.scandir(self._descriptor) as found:
            for entry in found:
                if entry.is_symlink():
                    links.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    try:
                        files[entry.name] = entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue  # gone since it was listed
        return Entries(folders=sorted(folders), files=dict(sorted(files.items())), links=sorted(links))

    def names(self, *, links: bool = False) -> Sequence[str]:
        """The names of the folders in it (and of links), sorted; cheaper than `entries`. Raises OSError."""
        with os.scandir(self._descriptor) as found:
            return sorted(
                entry.name for entry in found if entry.is_dir(follow_symlinks=False) or (links and entry.is_symlink())
            )

    def read(self, name: str, limit: int, *, ends: bytes = b"") -> bytes:
        """Read a small file. Raises OSError, and Malformed for what is no plain file or longer than `limit`.

        MLflow empties a file, then writes it: one that was touched just now and is empty, or does not end as it
        should, is read again.
        """
        for _ in range(3):
            with self.file(name) as (file, age):
                raw = file.read(limit + 1)
            if (raw and raw.endswith(ends)) or age > FRESH:
                break
            time.sleep(0.03)
        if len(raw) > limit:
            raise Malformed(f"is longer than {limit:,} bytes")
        return raw

    @contextmanager
    def file(self, name: str) -> Iterator[tuple[BinaryIO, float]]:
        """Open a file: its bytes, and how many seconds ago it was written. Raises OSError, and Malformed."""
        # a pipe that somebody left there must not make us wait: not to block, then see what it is
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=self._descriptor)
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            os.close(descriptor)
            raise Malformed("is no plain file")
        with os.fdopen(descriptor, "rb", buffering=1 << 14) as file:
            yield file, abs(time.time() - facts.st_mtime)


def unreadable(exc: OSError) -> str:
    """Say that something cannot be read; raises SourceError when the whole volume is gone."""
    if exc.errno in _GONE:
        raise SourceError(
            Trouble.UNREACHABLE,
            f"the volume of the folder does not answer ({exc.strerror})",
            next_step="Check that it is mounted; the next scan tries again.",
        ) from exc
    return "is a link, which is not followed" if exc.errno == errno.ELOOP else f"cannot be read ({exc.strerror})"


def read_map(folder: Folder, name: str = META) -> dict[str, Any]:
    """A YAML file that holds a map. Raises OSError, and Malformed."""
    raw = folder.read(name, META_LIMIT, ends=b"\n")
    if not raw.strip():
        raise Malformed("is empty")
    if raw.startswith(b"version https://git-lfs"):
        raise Malformed("is a pointer of Git LFS, not the file")
    try:
        if b"&" in raw and b"*" in raw and any(isinstance(one, yaml.AliasEvent) for one in yaml.parse(raw, _Loader)):
            raise Malformed("refers to itself, which MLflow never writes")  # a few lines can stand for gigabytes
        found = yaml.load(raw, Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise Malformed("is not YAML") from exc
    if not isinstance(found, dict):
        raise Malformed("is not a map")
    return {str(key): value for key, value in found.items()}


def scalar(meta: Mapping[str, Any], name: str) -> str | None:
    """A text, as MLflow wrote it; a number or a date that YAML made of it is text again."""
    value = meta.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (dict, list, set, bytes)):
        raise Malformed(f"has a {name} that is no text")
    return str(value)


def whole(meta: Mapping[str, Any], name: str) -> int | None:
    """A whole number, in quotes or not."""
    value = meta.get(name)
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or int(value) != float(value):
            raise ValueError
    except (ValueError, OverflowError):
        raise Malformed(f"has a {name} that is no whole number") from None
    return int(value)


def read_values(parent: Folder, name: str, remarks: Remarks) -> list[dict[str, str]]:
    """Params or tags: each file is a value, its path the name. Raises OSError for what cannot be read."""
    return [{"key": key, "value": raw.decode("utf-8", "surrogateescape")} for key, raw in _files(parent, name, remarks)]


def _files(parent: Folder, name: str, remarks: Remarks) -> Iterator[tuple[str, bytes]]:
    for folder, file, key in walk(parent, name, remarks):
        try:
            yield key, folder.read(file, VALUE_LIMIT)
        except Malformed as exc:
            remarks.note(f"value left out: {exc}", folder.path(file))


def walk(
    parent: Folder, name: str, remarks: Remarks, depth: int = 0, above: str = ""
) -> Iterator[tuple[Folder, str, str]]:
    """The files below a folder: (its folder, its name, its path below `name`). A folder that is not there is empty."""
    try:
        folder = parent.enter(name)
    except FileNotFoundError:
        return
    with folder:
        found = folder.entries()
        for link in found.links:
            remarks.note("link, not followed", folder.path(link))
        for file in found.files:
            if file.startswith(_LITTER):
                remarks.note("left by another program", folder.path(file))
            else:
                yield folder, file, above + file
        for below in found.folders:
            if depth == _DEPTH:
                remarks.note("too deep, not looked at", folder.path(below))
            else:
                yield from walk(folder, below, remarks, depth + 1, f"{above}{below}/")
