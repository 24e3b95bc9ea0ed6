"""Addresses of artifacts as old folders hold them, turned into paths inside the folder that they were written to. Pure.

A folder is moved, copied and checked out; its addresses still name the machine that wrote them: file:///C:/..., /home/
ann/mlruns/..., ./mlruns/.... An experiment's own address tells where the folder stood then.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_TAIL = re.compile(r"(?:^|/)([^/]+/(?:models/m-)?[0-9a-f]{32}/artifacts(?:/.*)?)$")


def local_path(address: str) -> str | None:
    """The path that an address names on the machine that wrote it; None for what lies elsewhere (s3:, http:, ...)."""
    if _DRIVE.match(address):
        return address.replace("\\", "/")
    if address.lower().startswith("file:"):
        path = unquote(urlsplit(address).path).replace("\\", "/")
        return path[1:] if _DRIVE.match(path[1:]) else path
    if _SCHEME.match(address):
        return None
    return address.replace("\\", "/").removeprefix("./")


class Roots:
    """Where the folder stood: here, and wherever its experiments say it stood when they were made.

    Many servers keep artifacts apart from the folder, so another place is taken for an older one of this folder only
    if it had the same name, or was called mlruns.
    """

    def __init__(self, here: str) -> None:
        self._here = here.rstrip("/")
        self._roots = [self._here]

    def candidate(self, experiment: str, address: str | None) -> str | None:
        """The folder that an experiment's address names, if it may be an older place of this one."""
        path = (local_path(address) or "").rstrip("/") if address else ""
        root = path[: -len(experiment) - 1] if path.endswith(f"/{experiment}") else ""
        return root if root.rpartition("/")[2] in ("mlruns", self._here.rpartition("/")[2]) and root else None

    def add(self, root: str) -> None:
        """Take an older place."""
        if root not in self._roots:
            self._roots = sorted([*self._roots, root], key=len, reverse=True)

    def inside(self, address: str) -> str | None:
        """The path below the folder that an address names; None for one that lies outside, or that names no path."""
        path = local_path(address)
        if path is None:
            return None
        found = next((root for root in self._roots if path.startswith(f"{root}/")), None)
        return _plain(path[len(found) + 1 :]) if found is not None else None

    def maybe(self, address: str) -> str | None:
        """The path below the folder that an address could mean, going by its last parts alone."""
        found = _TAIL.search(local_path(address) or "")
        return _plain(found[1]) if found else None


def _plain(path: str) -> str | None:
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", ".")]
    return None if ".." in parts or not parts else "/".join(parts)
