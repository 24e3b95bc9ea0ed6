"""Where the content of a job goes: a folder that no name leads out of, and what is told when its disk is full."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from stocktake.core.errors import SourceError, Trouble

#: What has come of a blob lies here until it is whole.
PARTS = ".stocktake-parts"
_CHUNK = 4 * 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskTrouble(SourceError):
    """The folder cannot be written to, or not so much."""


class InTheWay(Exception):
    """Something in the folder keeps this one blob from its place."""


def place(root: Path, name: str) -> Path:
    """Where in the folder a blob goes. Raises ValueError, with the reason, for a name that could lead elsewhere."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("its name leads out of the folder, or nowhere")
    if "\\" in name or any(ord(letter) < 32 or letter == "\x7f" for letter in name):
        raise ValueError("its name holds a character that no file's may hold")
    if os.name == "nt" and any(set(part) & set('<>:"|?*') or part[-1] in ". " for part in parts):
        raise ValueError("its name holds a character that no file's may hold here")
    if parts[0] == PARTS:
        raise ValueError("its name is one that is needed here")
    if any(len(part.encode()) > 255 for part in parts):
        raise ValueError("a part of its name is longer than a file's may be")
    return root.joinpath(*parts)


def room_for(folder: Path, size: int) -> None:
    """Raise DiskTrouble where a folder's disk has less room than `size`."""
    there = next((one for one in (folder.absolute(), *folder.absolute().parents) if one.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    if free < size:
        raise DiskTrouble(
            Trouble.CONFIG,
            f"the disk of {folder} has {free / 1e6:,.1f} MB free, and {size / 1e6:,.1f} MB are still to come",
            next_step="Free some space, or name a folder on another disk with --download-path.",
        )


def settle(part: Path, target: Path, root: Path, stamp: int) -> None:
    """Put what is whole in its place, with the time of the blob. Raises InTheWay or DiskTrouble."""
    within = target.relative_to(root)
    if any((root / above).is_symlink() for above in within.parents):
        raise InTheWay("a link in the folder could lead out of it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.utime(part, ns=(stamp, stamp))
        part.replace(target)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as exc:
        raise InTheWay("a file is where a folder must be, or a folder where a file must be") from exc
    except OSError as exc:
        raise trouble(root, exc) from exc


def prepared(folder: Path) -> Path:
    """Make the folder. Raises DiskTrouble."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        root = folder.resolve()
        (root / PARTS).mkdir(exist_ok=True)
    except OSError as exc:
        raise trouble(folder, exc) from exc
    return root


def written(file: BinaryIO, chunk: bytes, part: Path) -> None:
    """Write a chunk of a part. Raises DiskTrouble."""
    try:
        file.write(chunk)
        file.flush()  # what is written can be gone on with, however this ends
    except OSError as exc:
        raise trouble(part.parent.parent, exc) from exc


def trouble(folder: Path, exc: OSError) -> DiskTrouble:
    """What went wrong with the disk, in words."""
    if exc.errno in _FULL:
        what, step = f"the disk of {folder} is full", "Free some space and run the command again: it goes on from here."
    else:
        what = f"{folder} cannot be written to: {exc.strerror or type(exc).__name__}"
        step = "Name another folder with --download-path, or check who may write there."
    return DiskTrouble(Trouble.CONFIG, what, next_step=step)


def digest_of(file: Path) -> bytes:
    """The MD5 of a file, as storage accounts keep it."""
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()
