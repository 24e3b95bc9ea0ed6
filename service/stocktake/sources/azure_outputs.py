"""Where the outputs of a job lie: what its own words and those of run-history mean. Pure.

Such words are written by whoever runs jobs: they name a datastore of this workspace and a path in it, or nothing that
is followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stocktake.core import references
from stocktake.core.assets import Kind
from stocktake.core.references import versioned

#: The output that every job has: its logs, and what it wrote without naming it.
DEFAULT = "default"
#: Where that is, unless the job's body says another place.
ARTIFACTS = "workspaceartifactstore"
_CONTAINER = re.compile(r"dcid\.[\w.\-]{1,300}")
_STORED = re.compile(r"azureml:/?/(.*/)?datastores/([^/]+)/(?:paths/)?+(.+)", re.IGNORECASE)
_WORKSPACE = re.compile(r"(?:subscriptions/([^/]+)/resourcegroups/([^/]+)(?:/providers/[^/]+)?/)?workspaces/([^/]+)/",
                        re.IGNORECASE)  # fmt: skip
_LOCATED = re.compile(r"azureml:/?/locations/[^/]+/workspaces/([^/]+)/", re.IGNORECASE)
_TEMPLATE = "${{"
_FILE = frozenset({"uri_file", "urifile"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """This workspace, by all of its names."""

    scope: str  # /subscriptions/.../workspaces/NAME
    guid: str | None = None

    def has(self, place: str) -> bool:
        """Whether an address is in this workspace. Azure's names know no case."""
        found = _WORKSPACE.fullmatch(place)
        if found is None:
            return False
        parts = self.scope.casefold().strip("/").split("/")
        if found[1] is None:
            return self.guid is not None and found[3].casefold() == self.guid.casefold()
        return [one.casefold() for one in found.groups()] == [parts[1], parts[3], parts[-1]]


@dataclass(frozen=True, slots=True)
class Stored:
    """A path in a datastore of this workspace."""

    store: str
    path: str  # ends in a slash where it is a folder; else it may be either

    @property
    def folder(self) -> Stored:
        """The same, as a folder."""
        return Stored(self.store, self.path.strip("/") + "/")


@dataclass(frozen=True, slots=True)
class Asset:
    """A version of a data asset or a model that an output was registered as."""

    kind: Kind
    name: str
    version: str


def stored(address: Any, home: Home, *, of_type: Any = None) -> Stored | None:
    """Read azureml://[...]datastores/STORE/paths/PATH; None where it is no place in a datastore of this workspace."""
    found = _STORED.fullmatch(address) if isinstance(address, str) else None
    if found is None or _TEMPLATE in found[0] or (found[1] and not home.has(found[1])):
        return None
    if not found[3].strip("/"):  # a whole datastore is nobody's output
        return None
    made = Stored(found[2], found[3].lstrip("/"))
    is_file = str(of_type).casefold() in _FILE
    return Stored(made.store, made.path.rstrip("/")) if is_file else made if of_type is None else made.folder


def identifier(outputs: Any, name: str) -> str | None:
    """The id of what run-history says that an output became: {NAME: {"assetId": azureml://..., "type": ...}}."""
    told = outputs.get(name) if isinstance(outputs, Mapping) else None
    found = told.get("assetId") if isinstance(told, Mapping) else None
    return found if isinstance(found, str) else None


def registered(asset_id: str | None, home: Home) -> Asset | None:
    """The asset that is meant; None where it is none of this workspace."""
    by_guid = _LOCATED.match(asset_id or "")
    if by_guid is not None and home.guid is not None and by_guid[1].casefold() != home.guid.casefold():
        return None
    found = versioned(asset_id, Kind.DATA_VERSION, references.home({"id": home.scope}))
    if found is None or found[0] not in (Kind.DATA_VERSION, Kind.MODEL_VERSION) or found[1].count("/") != 1:
        return None
    return Asset(found[0], *found[1].split("/"))


def named(outputs: Any) -> list[str]:
    """The names of outputs, in either's words."""
    return [str(name) for name in outputs] if isinstance(outputs, Mapping) else []


def container(run: Mapping[str, Any]) -> str | None:
    """The folder of a run's artifacts by run-history; None where it is no folder of that kind."""
    told = run.get("dataContainerId")
    return told if isinstance(told, str) and _CONTAINER.fullmatch(told) else None
