"""What lies in an `mlruns` folder becomes items, or a remark that says what was not understood. Never decides that
something is gone.

`right` maps an id to the folder that counts where several claim it; `twice` does the same for runs, logged models and
traces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stocktake.core.assets import Kind
from stocktake.sources import mlflow_files_items as items
from stocktake.sources.mlflow_files_layout import REGISTRY, RESERVED, Home, Layout
from stocktake.sources.mlflow_files_reading import META, Folder, Malformed, Remarks, read_map, unreadable, whole
from stocktake.sources.protocol import Item

VERSION = "version-"
_MOVING = (1, 2, "RUNNING", "SCHEDULED")
_LINK = "is a link, which is not followed"
_STRAY = "file that belongs to nothing"


@dataclass(frozen=True, slots=True)
class _Said:
    """Whatever goes wrong with one item in the block is a problem of its own, and the others go on."""

    remarks: Remarks
    where: str
    file: str = META

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(self, _type: object, exc: BaseException | None, _traceback: object) -> bool:
        if isinstance(exc, FileNotFoundError):
            self.remarks.problem(f"{self.where}/{self.file}", "is missing")
        elif isinstance(exc, Malformed):
            self.remarks.problem(f"{self.where}/{self.file}", str(exc))
        elif isinstance(exc, OSError):
            self.remarks.problem(self.where, unreadable(exc))
        else:
            return False
        return True


def experiments(layout: Layout, remarks: Remarks) -> Iterator[Item]:
    """Every experiment. Raises SourceError and OSError when the folder cannot be listed."""
    homes = layout.survey(remarks)
    right = first_homes(homes)
    for home in homes:
        if right[home.id] != home:
            remarks.note("experiment whose id also stands live", home.where)
        elif (item := experiment(layout, home, right, remarks)) is not None:
            yield item


def first_homes(homes: Sequence[Home]) -> dict[str, Home]:
    """Where an id stands live and in .trash, the live one counts, as for MLflow."""
    return {home.id: home for home in reversed(homes)}


def experiment(layout: Layout, home: Home, right: Mapping[str, Home], remarks: Remarks) -> Item | None:
    """The experiment that lies in a folder."""
    with _Said(remarks, home.where):
        try:
            with layout.home(home) as folder:
                meta = read_map(folder)
                said = items.meta_id(Kind.EXPERIMENT, meta)
                if said == home.id:
                    return items.experiment(folder, meta, remarks, trash=home.trash)
        except FileNotFoundError:
            if layout.exists(home):
                raise
            return None  # gone since it was listed
        if said in right:
            remarks.note("copy of another experiment", home.where)
            return None
        raise Malformed("says another experiment_id than its folder")
    return None


def registry(layout: Layout, remarks: Remarks, *, versions: bool) -> Iterator[Item]:
    """Every registered model, or the versions of all."""
    try:
        with layout.root.enter(REGISTRY) as folder:
            entries = folder.entries()
            for link in entries.links:
                remarks.problem(folder.path(link), _LINK)
            for name in entries.folders:
                yield from registered(folder, name, remarks, versions=versions)
    except FileNotFoundError:
        return
    except OSError as exc:
        remarks.problem(REGISTRY, unreadable(exc))


def registered(parent: Folder, name: str, remarks: Remarks, *, versions: bool) -> Iterator[Item]:
    """One registered model, or its versions."""
    with _Said(remarks, parent.path(name)), parent.enter(name) as folder:
        numbers = [below for below in folder.names() if below.startswith(VERSION)]
        if versions:
            aliases = items.read_aliases(folder, remarks)
            for below in numbers:
                yield from _version(folder, name, below, aliases, remarks)
        elif not numbers and not folder.has(META):
            remarks.note("folder that belongs to nothing", folder.where)
        else:
            meta = read_map(folder)
            if items.meta_id(Kind.REGISTERED_MODEL, meta) != name:
                raise Malformed("says another name than its folder")
            yield items.registered_model(folder, meta, remarks)


def _version(model: Folder, name: str, below: str, aliases: Mapping[str, str], remarks: Remarks) -> Iterator[Item]:
    with _Said(remarks, model.path(below)), model.enter(below) as folder:
        item = items.model_version(folder, read_map(folder), aliases, remarks)
        if item.key != f"{name}/{below.removeprefix(VERSION)}":
            raise Malformed("says another name or version than its folder")
        yield item


class Inside:
    """What lies in experiments: runs, logged models or traces. With `since`, only what was written later or moves."""

    def __init__(self, layout: Layout, kind: Kind, twice: Mapping[str, Home], since: float | None = None) -> None:
        self._layout = layout
        self._kind = kind
        self._below, self._file, self._build = items.IN_EXPERIMENT[kind]
        self._twice = twice
        self._since = since

    def of(self, experiments: Sequence[str], remarks: Remarks) -> Iterator[Item]:
        """Every item in some experiments, live or in .trash."""
        for home in (home for one in experiments for home in self._layout.homes_of(one)):
            try:
                with self._layout.home(home) as folder:
                    if not self._below:
                        yield from self._in(home, folder, folder, remarks)
                    elif folder.has(self._below):
                        with folder.enter(self._below) as parent:
                            yield from self._in(home, folder, parent, remarks)
            except FileNotFoundError:
                continue  # gone since it was listed: what lay in it is asked for by id
            except OSError as exc:
                remarks.problem(f"{home.where}/{self._below}".rstrip("/"), unreadable(exc))

    def _in(self, home: Home, folder: Folder, parent: Folder, remarks: Remarks) -> Iterator[Item]:
        entries = parent.entries()
        for link in entries.links:
            if parent is not folder or link != META:  # its experiment has said so
                remarks.problem(parent.path(link), _LINK)
        for file in entries.files:
            if parent is not folder or file != META:
                remarks.note(_STRAY, parent.path(file))
        for name in entries.folders:
            if parent is folder and name in RESERVED:
                continue
            if self._twice.get(name, home) != home:
                remarks.note(f"{self._kind} that stands twice", parent.path(name))
            elif (item := self.one(home, folder, parent, name, remarks)) is not None:
                yield item

    def one(self, home: Home, folder: Folder, parent: Folder, name: str, remarks: Remarks) -> Item | None:
        """The item in one folder."""
        with _Said(remarks, parent.path(name), self._file):
            try:
                with parent.enter(name) as one:
                    if not one.has(self._file):
                        self._without_meta(parent, one, name, remarks)
                        return None
                    meta = read_map(one, self._file)
                    if self._since is not None and not _moves(self._kind, one, self._file, meta, self._since):
                        return None
                    if items.meta_id(self._kind, meta) != name:
                        raise Malformed("says another id than its folder")
                    if items.home_id(self._kind, meta) != home.id:
                        raise Malformed("says another experiment than the one it lies in")
                    return self._build(one, meta, folder, remarks)
            except FileNotFoundError:
                if parent.has(name):
                    remarks.problem(parent.path(name), "changed while it was read")
        return None

    def _without_meta(self, parent: Folder, one: Folder, name: str, remarks: Remarks) -> None:
        if set(one.names()) & {"params", "metrics", "tags", "request_metadata"}:
            remarks.problem(f"{one.where}/{self._file}", "is missing")
        elif self._layout.like_a_run(parent, name) or self._kind is not Kind.RUN:
            remarks.note(f"folder of a {self._kind} that is not there", one.where)
        else:
            remarks.note("folder that belongs to nothing", one.where)


def _moves(kind: Kind, folder: Folder, file: str, meta: Mapping[str, Any], since: float) -> bool:
    """Whether something was written since, as far as the times of folders tell, or the run is not at its end."""
    if kind is Kind.RUN:
        if meta.get("status", 1) in _MOVING:
            return True
        try:
            if any((whole(meta, name) or 0) > since * 1000 for name in ("start_time", "end_time")):
                return True
        except Malformed:
            return True
    for name in (file, "tags", "params", "metrics"):
        try:
            if folder.stat(name).st_mtime > since:
                return True
        except FileNotFoundError:
            continue
    return False
