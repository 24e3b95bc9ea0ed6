"""Which folders of an `mlruns` store nobody refers to, and which are referred to but missing, with their bytes.

Looks at names, sizes and times alone; follows no link; writes nothing. Nothing is called orphaned unless everything
that could refer to it was read, nothing does, and it has rested for a week.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from stocktake.core.assets import Asset, Kind, Lifecycle
from stocktake.reports.addresses import Roots
from stocktake.reports.figures import Figure, Tallies
from stocktake.sources.mlflow_files_reading import Folder

#: What changed less than this ago may be the work of a run that is under way.
GUARD = timedelta(days=7)
_TRASH = ".trash"
_DEEPEST = 60
_HISTORY = "mlflow.log-model.history"

_DECLARED = {
    "folder.total": "files in the folder",
    "folder.orphaned": "folders that nothing refers to",
    "folder.unsure": "folders that nothing seems to refer to, but too young or not everything could be read",
    "folder.missing": "folders that something refers to, and that are missing",
    "folder.elsewhere": "runs and models whose files lie elsewhere: not looked at",
}


@dataclass(slots=True)
class Size:
    """What lies below a folder."""

    files: int = 0
    bytes: int = 0
    newest: float = 0.0
    whole: bool = True  # everything could be looked at


class Places:
    """The folders of one store. Experiments come before what lies in them, model versions before runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = Folder.open(path)
        self._places = set[str]()
        self._roots = Roots(str(path))
        self._tallies = Tallies(_DECLARED, frozenset({"folder.total"}))
        self._candidates = list[str]()
        self._referred = set[str]()
        self._sources = list[tuple[str, str]]()  # what, and the address of its files
        self._wanted = set[str]()  # runs and logged models that model versions came from
        self._files_of = dict[str, str | None]()

    def close(self) -> None:
        """Release the folder."""
        self._root.close()

    def note(self, what: str, where: str) -> None:
        """Take what a source noted: the folder of something that is not there may be an orphan."""
        if what.startswith("folder of a "):
            self._candidates.append(where)

    def add(self, asset: Asset) -> int | None:
        """Take what an asset refers to; returns the bytes of its own folder."""
        if asset.kind is Kind.EXPERIMENT:
            self._learn(self._roots.candidate(asset.key, asset.artifact_uri))
        elif asset.kind is Kind.MODEL_VERSION:
            self._version(asset)
        elif asset.kind in (Kind.RUN, Kind.LOGGED_MODEL, Kind.TRACE):
            return self._inside(asset)
        return None

    def figures(self, now: datetime, text: Callable[[str], str], *, complete: bool) -> list[Figure]:
        """What was found. `complete`: everything that could refer to a folder was read."""
        for label, address in self._sources:
            self._check(label, self._resolve(address))
        referred = sorted(self._referred)
        for where in sorted(self._candidates):
            if any(one == where or one.startswith(f"{where}/") for one in referred):
                continue
            size = self.size(where)
            rested = size.newest < (now - GUARD).timestamp()
            known = complete and size.whole and rested
            self._tallies["folder.orphaned" if known else "folder.unsure"].add(
                f"{where} ({size.files:,} files)", size.bytes
            )
        total = self.size("")
        self._tallies["folder.total"].count, self._tallies["folder.total"].bytes = total.files, total.bytes
        return self._tallies.figures(text)

    def _learn(self, root: str | None) -> None:
        """Take an older place of this folder, unless another folder stands there now."""
        if root is None or root in self._places:
            return
        self._places.add(root)
        there = Path(root)
        if there.is_absolute() and there.is_dir() and not there.samefile(self._path):
            return
        self._roots.add(root)

    def _version(self, asset: Asset) -> None:
        if asset.lifecycle is Lifecycle.DELETED:
            return
        address = str(asset.aside.get("storage_location") or asset.artifact_uri or "")
        if address:
            self._sources.append((f"model version {asset.key}", address))
        scheme, _, rest = address.partition(":/")
        if scheme in ("runs", "models"):
            self._wanted.add(rest.lstrip("/").partition("/")[0])

    def _inside(self, asset: Asset) -> int | None:
        below = {Kind.LOGGED_MODEL: "models/", Kind.TRACE: "traces/"}.get(asset.kind, "")
        own = f"{asset.partition}/{below}{asset.key}"
        address = asset.artifact_uri or ""
        path = self._roots.inside(address)
        if asset.key in self._wanted:
            self._files_of[asset.key] = path
        if path is None:
            if address and asset.kind is not Kind.TRACE:
                self._tallies["folder.elsewhere"].add(asset.key)
            path = self._roots.maybe(address)
        elif asset.lifecycle is Lifecycle.ACTIVE:
            for label, expected in _promised(asset, path):
                self._check(label, expected)
        if path is not None and not path.startswith(f"{own}/"):
            self._refer(path)
        return self.size(own).bytes + self.size(f"{_TRASH}/{own}").bytes

    def _refer(self, path: str) -> None:
        self._referred |= {path, f"{_TRASH}/{path}"}

    def _resolve(self, address: str) -> str | None:
        """The path below the folder of an address, through the run or the logged model that it names."""
        scheme, _, rest = address.partition(":/")
        if scheme not in ("runs", "models"):
            return self._roots.inside(address)
        key, _, below = rest.lstrip("/").partition("/")
        path = self._files_of.get(key)
        return path and (f"{path}/{below}" if below and scheme == "runs" else path)

    def _check(self, label: str, path: str | None) -> None:
        """Note what something refers to, and whether it is missing."""
        if path is None:
            return
        self._refer(path)
        if not self._exists(path) and not self._exists(f"{_TRASH}/{path}"):
            self._tallies["folder.missing"].add(f"{path} (of {label})")

    def _exists(self, path: str) -> bool:
        *above, last = path.split("/")
        try:
            with _entered(self._root, above) as folder:
                return folder.has(last)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # it cannot be told: nothing is claimed

    def size(self, path: str) -> Size:
        """What lies below a path; nothing where there is none."""
        size = Size()
        try:
            with _entered(self._root, path.split("/") if path else []) as folder:
                _measure(folder, size, 0)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            size.whole = False
        return size


def _promised(asset: Asset, path: str) -> Iterator[tuple[str, str]]:
    """The folders that an asset says it has files in."""
    if asset.kind is Kind.LOGGED_MODEL and asset.state == "READY":
        yield f"logged model {asset.key}", path
    if asset.kind is not Kind.RUN or asset.document.get("outputs"):
        return  # since MLflow 3 the files of a logged model are its own
    tags = asset.document.get("tags")
    try:
        logged = json.loads(tags.get(_HISTORY) or "[]") if isinstance(tags, Mapping) else []
    except ValueError:
        return
    for one in logged if isinstance(logged, list) else ():
        below = one.get("artifact_path") if isinstance(one, dict) and not one.get("model_id") else None
        if isinstance(below, str) and below and ".." not in below.split("/"):
            yield f"run {asset.key}", f"{path}/{below.strip('/')}"


class _entered:  # noqa: N801 - a context manager, used like a function
    """Folder in folder, opened one by one and closed again."""

    def __init__(self, root: Folder, parts: list[str]) -> None:
        self._root = root
        self._parts = parts
        self._open = list[Folder]()

    def __enter__(self) -> Folder:
        folder = self._root
        try:
            for part in self._parts:
                folder = folder.enter(part)
                self._open.append(folder)
        except BaseException:
            self._close()
            raise
        return folder

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        for folder in reversed(self._open):
            folder.close()


def _measure(folder: Folder, size: Size, depth: int) -> None:
    if depth > _DEEPEST:
        size.whole = False
        return
    size.newest = max(size.newest, folder.stat().st_mtime)
    entries = folder.entries()
    size.files += len(entries.files)
    size.bytes += sum(entries.files.values())
    for name in entries.folders:
        try:
            with folder.enter(name) as below:
                _measure(below, size, depth + 1)
        except FileNotFoundError:
            continue
        except OSError:
            size.whole = False
