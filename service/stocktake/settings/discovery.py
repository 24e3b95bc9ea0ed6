"""The part of the configuration that says where Azure Machine Learning workspaces are looked for, by themselves."""

from __future__ import annotations

import re
import string
from datetime import timedelta

from pydantic import Field, field_validator, model_validator

from stocktake.settings.azure import AzureAccessSettings, azure_name, subscription_id
from stocktake.settings.fields import Model, WorkspaceName
from stocktake.settings.scheduling import ScheduleSettings
from stocktake.settings.timing import Duration

#: What a pattern for names may hold.
PLACEHOLDERS = ("workspace", "resource_group", "subscription", "region")
_SOONEST = timedelta(minutes=1)


class DiscoverySettings(Model):
    """One place to look for workspaces: exactly one of subscriptions, resource groups and a management group."""

    name: WorkspaceName = Field(
        min_length=1,
        max_length=63,
        description="Our name for this entry: small letters, digits and hyphens; unique. What it found stays with it.",
        examples=["platform"],
    )
    subscriptions: tuple[str, ...] = Field((), description="Ids of subscriptions (UUIDs): all workspaces in them.")
    resource_groups: tuple[str, ...] = Field(
        (),
        description="Resource groups, each as `SUBSCRIPTION/GROUP`: all workspaces in them.",
        examples=[["0a1b2c3d-0000-4000-8000-000000000001/ml-prod"]],
    )
    management_group: str | None = Field(
        None, max_length=90, description="Id of a management group: all workspaces of all subscriptions below it."
    )
    tags: tuple[str, ...] = Field(
        (),
        description="Only workspaces that have every one of these tags: `name=value`, or `name` for any value. Azure"
        " tells upper and lower case apart in values, not in names. Empty: all workspaces.",
        examples=[["stocktake=yes"]],
    )
    every: Duration = Field(timedelta(hours=1), description="How often is looked again.")
    naming: str = Field(
        "{workspace}",
        min_length=1,
        max_length=200,
        description="How a found workspace is named here, with `{workspace}`, `{resource_group}`, `{subscription}` (the"
        " first 8 characters of its id) and `{region}`. What no name may hold becomes a hyphen. Where two want the same"
        " name, six characters made of their address are added. A name is given once and kept for ever.",
    )
    owner: str | None = Field(
        None, min_length=1, description="Who answers for assets of found workspaces that name no owner themselves."
    )
    labels: dict[str, str] = Field({}, description="Labels of your own (cost centre, environment), for each of them.")
    schedule: ScheduleSettings | None = Field(
        None, description="How often found workspaces are looked at; what is not given is taken from the common one."
    )
    azureml: AzureAccessSettings = Field(
        AzureAccessSettings(), description="As whom is looked and scanned, in which cloud, and what is read."
    )

    @property
    def groups(self) -> tuple[tuple[str, str], ...]:
        """The resource groups as subscription and name."""
        return tuple((one.partition("/")[0], one.partition("/")[2]) for one in self.resource_groups)

    @property
    def wanted(self) -> tuple[tuple[str, str | None], ...]:
        """The tags as names and values; None stands for any value."""
        return tuple((name, value if equals else None) for name, equals, value in (t.partition("=") for t in self.tags))

    @field_validator("subscriptions")
    @classmethod
    def _ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(subscription_id(one) for one in value))

    @field_validator("resource_groups")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if one.count("/") != 1:
                raise ValueError(f"{one!r} is not SUBSCRIPTION/GROUP. Write the subscription's id, a slash, the name")
        split = (one.partition("/") for one in value)
        return tuple(dict.fromkeys(f"{subscription_id(left)}/{azure_name(right)}" for left, _, right in split))

    @field_validator("management_group")
    @classmethod
    def _group(cls, value: str | None) -> str | None:
        return value if value is None else azure_name(value)

    @field_validator("tags")
    @classmethod
    def _tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not one.partition("=")[0].strip():
                raise ValueError(f"{one!r} names no tag. Write name=value, or a name alone")
        return value

    @field_validator("every")
    @classmethod
    def _not_too_often(cls, value: timedelta) -> timedelta:
        if value < _SOONEST:
            raise ValueError("is shorter than 1m. New workspaces are rare; 1h is plenty")
        return value

    @field_validator("naming")
    @classmethod
    def _pattern(cls, value: str) -> str:
        try:
            parts = list(string.Formatter().parse(value))
        except ValueError as exc:
            raise ValueError(f"is no pattern ({exc}). Write for example {{subscription}}-{{workspace}}") from None
        for _, name, form, how in parts:
            if name is not None and (name not in PLACEHOLDERS or form or how):
                raise ValueError(f"holds {{{name}}}. Known: {', '.join(f'{{{one}}}' for one in PLACEHOLDERS)}")
        if not any(name == "workspace" for _, name, _, _ in parts):
            raise ValueError("must hold {workspace}: otherwise all of them want the same name")
        if re.search(r"[^a-z0-9-]", "".join(text for text, *_ in parts)):
            raise ValueError("must be small letters, digits and hyphens besides what stands in braces")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> DiscoverySettings:
        places = [self.subscriptions, self.resource_groups, self.management_group]
        if sum(bool(one) for one in places) != 1:
            raise ValueError("needs exactly one of `subscriptions`, `resource_groups` and `management_group`")
        return self
