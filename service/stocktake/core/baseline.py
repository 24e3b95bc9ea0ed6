"""How things should be, and in what they are not: a baseline compared with what was seen. Pure.

Only what a baseline names is compared. Of a map that stands for itself (aliases, traffic) all of it is meant, of tags
those that are required; `*` as a value means any. What is not there, or not named, is only said of a kind that was
completely seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stocktake.core.assets import Kind

#: A value of a baseline that any value meets, as long as there is one.
ANY = "*"
#: The kinds that a baseline can speak of.
KINDS = (
    Kind.EXPERIMENT,
    Kind.REGISTERED_MODEL,
    Kind.ONLINE_ENDPOINT,
    Kind.BATCH_ENDPOINT,
    Kind.WORKSPACE,
    Kind.STORAGE_ACCOUNT,
    Kind.ROLE_ASSIGNMENT,
)
#: Maps of which only the names that a baseline gives are compared.
_IN_PART = frozenset({"tags"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How one asset should be. `name` is empty where there is one of its kind alone."""

    kind: Kind
    name: str
    fields: Mapping[str, Any]
    source: str  # file and line


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a file says of a workspace. `exact`: of these kinds there is to be nothing else."""

    workspace: str
    wanted: Sequence[Wanted]
    exact: Collection[Kind] = ()
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """How an asset is, as far as a baseline can speak of it."""

    kind: Kind
    key: str
    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Off:
    """In what an asset is not as it should be, both sides."""

    kind: Kind
    key: str
    name: str
    what: str  # differs, missing, not in the baseline
    source: str
    differs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)  # path, baseline, actual

    @property
    def evidence(self) -> dict[str, Any]:
        """As a finding holds it."""
        return {"what": self.what, "name": self.name, "baseline": self.source, "differs": list(self.differs)}


def compare(baseline: Baseline, actual: Sequence[Actual], seen: Collection[str]) -> Iterator[Off]:
    """Say in what a workspace differs. `seen`: the kinds of it that were completely seen."""
    by_name: dict[tuple[Kind, str], list[Actual]] = {}
    for one in actual:
        by_name.setdefault((one.kind, _named(one.kind, one.name)), []).append(one)
    met: set[tuple[Kind, str]] = set()
    for wanted in baseline.wanted:
        there = by_name.get((wanted.kind, _named(wanted.kind, wanted.name)), [])
        if not there and wanted.kind in seen:
            yield Off(
                kind=wanted.kind, key=wanted.name or str(wanted.kind), name=wanted.name, what="missing",
                source=wanted.source,
            )  # fmt: skip
        for one in there:
            met.add((one.kind, one.key))
            if differs := list(_differs(wanted.fields, one.fields)):
                yield Off(
                    kind=one.kind, key=one.key, name=one.name, what="differs", source=wanted.source, differs=differs
                )
    for one in actual:
        if one.kind in baseline.exact and (one.kind, one.key) not in met:
            yield Off(
                kind=one.kind, key=one.key, name=one.name, what="not in the baseline", source=baseline.source,
                differs=[{"path": path, "baseline": None, "actual": value} for path, value in _flat(one.fields)],
            )  # fmt: skip


def _named(kind: Kind, name: str) -> str:
    """Where there is one of a kind alone, it is meant whatever it is called."""
    if kind in (Kind.WORKSPACE, Kind.STORAGE_ACCOUNT):
        return ""
    return name.lower() if kind == Kind.ROLE_ASSIGNMENT else name


def _differs(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path, value in wanted.items():
        found = actual.get(path)
        if not isinstance(value, Mapping):
            if not _meets(value, found):
                yield {"path": path, "baseline": value, "actual": found}
            continue
        inside = found if isinstance(found, Mapping) else {}
        names = value.keys() if path in _IN_PART else {**value, **inside}
        for name in names:
            if name not in value or not _meets(value[name], inside.get(name)):
                yield {"path": f"{path}.{name}", "baseline": value.get(name), "actual": inside.get(name)}


def _meets(wanted: Any, found: Any) -> bool:
    if wanted == ANY:
        return found not in (None, "")
    if isinstance(wanted, bool) or isinstance(found, bool) or found is None:
        return bool(wanted == found)
    return str(wanted) == str(found)


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, value in fields.items():
        if isinstance(value, Mapping):
            yield from ((f"{path}.{name}", inner) for name, inner in value.items())
        elif value is not None:
            yield path, value


# ---- how an asset is, out of its document ----------------------------------------------------------------------------


def actual(kind: Kind, key: str, name: str | None, owner: str | None, document: Mapping[str, Any]) -> Actual:
    """What a baseline can speak of in an asset of one of its kinds."""
    properties = _map(document.get("properties"))
    tags = _map(document.get("tags")) or _map(properties.get("tags"))
    fields: dict[str, Any]
    if kind in (Kind.EXPERIMENT, Kind.REGISTERED_MODEL):
        fields = {"owner": owner, "tags": dict(tags)}
        if kind == Kind.REGISTERED_MODEL:
            fields["aliases"] = dict(_map(document.get("aliases")))
    elif kind == Kind.ONLINE_ENDPOINT:
        fields = {
            "traffic": {to: share for to, share in _map(properties.get("traffic")).items() if share},
            "auth_mode": properties.get("authMode"),
            "public_network_access": properties.get("publicNetworkAccess"),
        }
    elif kind == Kind.BATCH_ENDPOINT:
        fields = {
            "default": _map(properties.get("defaults")).get("deploymentName"),
            "auth_mode": properties.get("authMode"),
        }
    elif kind == Kind.WORKSPACE:
        fields = {
            "public_network_access": properties.get("publicNetworkAccess"),
            "isolation_mode": _map(properties.get("managedNetwork")).get("isolationMode"),
            "identity": _map(document.get("identity")).get("type"),
        }
    elif kind == Kind.STORAGE_ACCOUNT:
        inner = _map(_map(document.get("account")).get("properties"))
        fields = {
            "public_network_access": inner.get("publicNetworkAccess"),
            "default_action": _map(inner.get("networkAcls")).get("defaultAction"),
            "allow_blob_public_access": inner.get("allowBlobPublicAccess"),
            "allow_shared_key_access": inner.get("allowSharedKeyAccess"),
        }
    else:
        principal, role, scope = (properties.get(one) for one in ("principalId", "roleDefinitionId", "scope"))
        return Actual(kind=kind, key=key, name=role_name(str(principal), str(role), str(scope)), fields={})
    return Actual(kind=kind, key=key, name=name or key, fields=fields)


def role_name(principal: str, role: str, scope: str) -> str:
    """Who, as what, where: what an assignment is known by in a baseline. Azure gives each a random name."""
    return f"{principal} {role.rstrip('/').rpartition('/')[2]} {scope}".lower()


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
