"""A file of source control: how a workspace should be, and the waivers and windows that belong to it. As types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from stocktake.core.assets import Kind
from stocktake.core.baseline import Baseline, Wanted, role_name
from stocktake.settings.fields import Model, WorkspaceName
from stocktake.settings.governance import WaiverSettings, WindowSettings

#: A section of the file, and the kind that it is about; endpoints say it themselves.
SECTIONS: Mapping[str, tuple[Kind, ...]] = {
    "experiments": (Kind.EXPERIMENT,),
    "models": (Kind.REGISTERED_MODEL,),
    "endpoints": (Kind.ONLINE_ENDPOINT, Kind.BATCH_ENDPOINT),
    "network": (Kind.WORKSPACE,),
    "storage": (Kind.STORAGE_ACCOUNT,),
    "roles": (Kind.ROLE_ASSIGNMENT,),
}
Exact = Literal["experiments", "models", "endpoints", "roles"]


class ExperimentBaseline(Model):
    """An experiment that should be there."""

    name: str = Field(min_length=1, description="Its name.")
    owner: str | None = Field(None, description="Who owns it; * for anybody.")
    tags: dict[str, str] = Field({}, description="Tags that it must have; * for any value.")


class ModelBaseline(Model):
    """A registered model that should be there."""

    name: str = Field(min_length=1, description="Its name.")
    owner: str | None = Field(None, description="Who owns it; * for anybody.")
    tags: dict[str, str] = Field({}, description="Tags that it must have; * for any value.")
    aliases: dict[str, str | int] | None = Field(
        None, description="All of its aliases, each with its version; * for any version. Absent: not compared."
    )


class EndpointBaseline(Model):
    """An endpoint that should be there."""

    name: str = Field(min_length=1, description="Its name.")
    kind: Literal["online", "batch"] = Field("online", description="Which sort it is.")
    traffic: dict[str, int] | None = Field(
        None, description="The share of each deployment, of an online endpoint. Absent: not compared."
    )
    default: str | None = Field(None, description="The default deployment, of a batch endpoint.")
    auth_mode: str | None = Field(None, description="Key, AMLToken or AADToken.")
    public_network_access: str | None = Field(None, description="Enabled or Disabled, of an online endpoint.")

    @model_validator(mode="after")
    def _of_its_sort(self) -> EndpointBaseline:
        wrong = ("default",) if self.kind == "online" else ("traffic", "public_network_access")
        for name in wrong:
            if getattr(self, name) is not None:
                raise ValueError(f"is of kind {self.kind}, which has no `{name}`. Leave it out, or correct `kind`")
        return self


class NetworkBaseline(Model):
    """How the workspace itself should be reached, and as whom it acts."""

    public_network_access: str | None = Field(None, description="Enabled or Disabled.")
    isolation_mode: str | None = Field(
        None, description="Of the managed network: Disabled, AllowInternetOutbound, AllowOnlyApprovedOutbound."
    )
    identity: str | None = Field(None, description="SystemAssigned, UserAssigned, ...")


class StorageBaseline(Model):
    """How the workspace's storage account should be reached."""

    public_network_access: str | None = Field(None, description="Enabled or Disabled.")
    default_action: str | None = Field(None, description="Of its network rules: Allow or Deny.")
    allow_blob_public_access: bool | None = Field(None, description="Whether blobs may be public.")
    allow_shared_key_access: bool | None = Field(None, description="Whether its keys open it.")


class RoleBaseline(Model):
    """A role assignment that should be there."""

    principal: str = Field(min_length=1, description="The object id of who has it.")
    role: str = Field(min_length=1, description="The id of the role's definition (a GUID, or the whole id).")
    scope: str = Field(min_length=1, description="Where it was given: the id of the workspace, group or subscription.")


class BaselineFile(Model):
    """A file that `governance.files` names."""

    workspace: WorkspaceName | None = Field(None, description="Which workspace the sections below are about.")
    exact: tuple[Exact, ...] = Field(
        (), description="Sections that name all there is to be: what they do not name is off the baseline too."
    )
    experiments: tuple[ExperimentBaseline, ...] | None = Field(None, description="Experiments that should be there.")
    models: tuple[ModelBaseline, ...] | None = Field(None, description="Registered models that should be there.")
    endpoints: tuple[EndpointBaseline, ...] | None = Field(None, description="Endpoints that should be there.")
    network: NetworkBaseline | None = Field(None, description="The network and the identity of the workspace.")
    storage: StorageBaseline | None = Field(None, description="The network of its storage account.")
    roles: tuple[RoleBaseline, ...] | None = Field(None, description="Role assignments that should be there.")
    waivers: tuple[WaiverSettings, ...] = Field((), description="Approved exceptions to findings.")
    windows: tuple[WindowSettings, ...] = Field((), description="Approved change windows.")

    @model_validator(mode="after")
    def _whose(self) -> BaselineFile:
        named = [name for name in SECTIONS if getattr(self, name) is not None]
        if named and self.workspace is None:
            raise ValueError(f"has `{named[0]}`, but does not say of which workspace. Add `workspace:`")
        for name in self.exact:
            if getattr(self, name) is None:
                raise ValueError(f"calls `{name}` exact, but does not have it. Add it (`{name}: []` for none at all)")
        for name in ("experiments", "models", "endpoints"):
            names = [(getattr(one, "kind", ""), one.name) for one in getattr(self, name) or ()]
            for kind, one in names:
                if names.count((kind, one)) > 1:
                    raise ValueError(f"names {one!r} twice in `{name}`. Remove one")
        return self

    def baseline(self, source: Callable[..., str]) -> Baseline | None:
        """As the core compares it. `source` says where a part stands: file and line."""
        if self.workspace is None or not any(getattr(self, name) is not None for name in SECTIONS):
            return None
        return Baseline(
            workspace=self.workspace,
            wanted=list(self._wanted(source)),
            exact=frozenset(kind for name in self.exact for kind in SECTIONS[name]),
            source=source(),
        )

    def _wanted(self, source: Callable[..., str]) -> Iterator[Wanted]:
        for section, kinds in (("experiments", SECTIONS["experiments"]), ("models", SECTIONS["models"])):
            for number, one in enumerate(getattr(self, section) or ()):
                fields = _given(one, "name")
                yield Wanted(kind=kinds[0], name=one.name, fields=fields, source=source(section, number))
        for number, endpoint in enumerate(self.endpoints or ()):
            kind = Kind.ONLINE_ENDPOINT if endpoint.kind == "online" else Kind.BATCH_ENDPOINT
            fields = _given(endpoint, "name", "kind")
            if "traffic" in fields:
                fields["traffic"] = {name: share for name, share in fields["traffic"].items() if share}
            yield Wanted(kind=kind, name=endpoint.name, fields=fields, source=source("endpoints", number))
        for section in ("network", "storage"):
            if (one := getattr(self, section)) is not None:
                yield Wanted(kind=SECTIONS[section][0], name="", fields=_given(one), source=source(section))
        for number, role in enumerate(self.roles or ()):
            name = role_name(role.principal, role.role, role.scope)
            yield Wanted(kind=Kind.ROLE_ASSIGNMENT, name=name, fields={}, source=source("roles", number))


def _given(one: Model, *but: str) -> dict[str, Any]:
    """What a file says of a thing: what it leaves out is not compared."""
    return {
        name: value
        for name, value in one.model_dump().items()
        if name not in but and value is not None and not (name == "tags" and not value)
    }
