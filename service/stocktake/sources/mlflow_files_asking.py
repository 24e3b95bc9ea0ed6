"""Asking an `mlruns` folder for assets by id, wherever they may lie in it: what still lies anywhere is not gone.

An answer is an item; or None for what lies nowhere; or nothing at all for what lies there and is not understood: under
another name, in another experiment, without its meta.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from stocktake.core.assets import Kind
from stocktake.sources import mlflow_files_items as items
from stocktake.sources.mlflow_files_finding import VERSION, Inside, experiment, first_homes, registered
from stocktake.sources.mlflow_files_layout import REGISTRY, Home, Layout
from stocktake.sources.mlflow_files_reading import META, Malformed, Remarks, read_map
from stocktake.sources.protocol import Item

_Found = tuple[dict[str, Item], set[str]]


def ask(layout: Layout, kind: Kind, keys: Set[str]) -> Mapping[str, Item | None]:
    """Look for ids. Raises OSError and SourceError when some of the folder cannot be looked at."""
    remarks = Remarks()
    homes = layout.survey(remarks)
    if kind is Kind.EXPERIMENT:
        found, doubtful = _experiments(layout, homes, keys)
    elif kind in (Kind.REGISTERED_MODEL, Kind.MODEL_VERSION):
        found, doubtful = _registry(layout, kind, keys)
    else:
        found, doubtful = _inside(layout, homes, kind, keys)
    if not layout.still_there():
        return {}
    if remarks.problems and kind not in (Kind.REGISTERED_MODEL, Kind.MODEL_VERSION):
        return found  # a folder that could not be entered, or a link out of here, may hold the others
    return found | dict.fromkeys(keys - found.keys() - doubtful)


def _inside(layout: Layout, homes: Sequence[Home], kind: Kind, keys: Set[str]) -> _Found:
    below, file, _ = items.IN_EXPERIMENT[kind]
    holders: dict[str, list[Home]] = {}
    doubtful = set(keys & layout.astray)
    for home in homes:
        for name in layout.names(kind, home, links=True):
            if name in keys:
                holders.setdefault(name, []).append(home)
            elif not _named_by_id(kind, name):
                doubtful |= keys & _says(layout, kind, home, below, name, file)
    found: dict[str, Item] = {}
    inside = Inside(layout, kind, {})
    for name, several in holders.items():
        home = layout.right(kind, name, several)
        with layout.home(home) as folder, layout.home(home, below) as parent:
            item = inside.one(home, folder, parent, name, Remarks())
        if item is not None:
            found[name] = item
        elif any(name in layout.names(kind, home, links=True) for home in several):
            doubtful.add(name)
    return found, doubtful


def _named_by_id(kind: Kind, name: str) -> bool:
    plain = name.removeprefix({Kind.LOGGED_MODEL: "m-", Kind.TRACE: "tr-"}.get(kind, ""))
    return len(plain) == 32 and plain.isalnum()


def _says(layout: Layout, kind: Kind, home: Home, below: str, name: str, file: str) -> set[str]:
    """The id that a folder of another name gives itself."""
    try:
        with layout.home(home, below) as parent, parent.enter(name) as one:
            said = items.meta_id(kind, read_map(one, file))
    except (FileNotFoundError, NotADirectoryError, Malformed):
        return set()
    return {said} if said else set()


def _experiments(layout: Layout, homes: Sequence[Home], keys: Set[str]) -> _Found:
    right = first_homes(homes)
    found: dict[str, Item] = {}
    doubtful = set[str]()
    for home in homes:
        if home.id in keys and right[home.id] == home:
            if (item := experiment(layout, home, right, Remarks())) is not None:
                found[item.key] = item
            elif layout.exists(home):
                doubtful.add(home.id)
        elif not home.id.isdigit():
            try:
                with layout.home(home) as folder:
                    doubtful |= keys & {items.meta_id(Kind.EXPERIMENT, read_map(folder)) or ""}
            except (Malformed, FileNotFoundError):
                continue
    return found, doubtful


def _registry(layout: Layout, kind: Kind, keys: Set[str]) -> _Found:
    if not layout.root.has(REGISTRY):
        return {}, set()
    versions = kind is Kind.MODEL_VERSION
    found: dict[str, Item] = {}
    doubtful = set[str]()
    with layout.root.enter(REGISTRY) as folder:
        there = set(folder.names(links=True))
        links = there - set(folder.names())
        doubtful |= {key for key in keys if (key.rpartition("/")[0] if versions else key) in links}
        there -= links
        for name in sorted({key.rpartition("/")[0] if versions else key for key in keys} & there):
            for item in registered(folder, name, Remarks(), versions=versions):
                if item.key in keys:
                    found[item.key] = item
            with folder.enter(name) as model:
                if versions:
                    there_below = model.names(links=True)
                    doubtful |= keys & {f"{name}/{one.removeprefix(VERSION)}" for one in there_below}
                elif model.has(META) or model.names():
                    doubtful.add(name)
    return found, doubtful
