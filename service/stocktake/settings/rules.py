"""Which rules judge what is seen, how severe each is, how long things last, and where an operator's own rules lie."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from stocktake.settings.fields import Model
from stocktake.settings.timing import Duration


class RulesSettings(Model):
    """By which rules what is seen is judged. `stocktake rules list` shows what came of it."""

    profile: Literal["auto", "team", "personal"] = Field(
        "auto",
        description="`personal` leaves out the rules that make no sense where one person works alone (an experiment"
        " without an owner); `team` has them all. `auto` is `personal` for what is read from a local folder or file,"
        " and `team` for everything else.",
    )
    enable: tuple[str, ...] = Field(
        (),
        description="Rules that are on whatever the profile says, by their ids; or groups: drift, hygiene, capacity,"
        " integrity, service. A rule's own id counts more than its group.",
        examples=[["missing-owner"]],
    )
    disable: tuple[str, ...] = Field(
        (),
        description="Rules, or groups, that are off. What they had found ends with an event that says so; nothing is"
        " said of the assets.",
    )
    severity: dict[str, Literal["info", "warning", "critical"]] = Field(
        {}, description="Another severity for a rule, by its id.", examples=[{"run-deleted": "critical"}]
    )
    stale_after: Duration = Field(
        timedelta(days=2),
        description="A finding is stale when nobody could look completely at what its rule needs for so long.",
    )
    reopen_within: Duration = Field(
        timedelta(days=14),
        description="What is found again within this time after it was resolved is the same finding, with its history.",
    )
    timeout: Duration = Field(
        timedelta(seconds=30), description="How long the statement of one rule may take. One that takes longer fails."
    )
    folder: Path | None = Field(
        None,
        description="A folder of rules of your own: `.sql` files, and `.py` files that define RULE. `stocktake rules"
        " check` says what is wrong with them.",
        examples=["/etc/stocktake/rules"],
    )

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value if value is None else value.expanduser().absolute()

    @field_validator("timeout")
    @classmethod
    def _bearable(cls, value: timedelta) -> timedelta:
        if value > timedelta(minutes=30):
            raise ValueError("is longer than 30m. A scan waits for its rules; 30s to 5m is plenty")
        return value

    @model_validator(mode="after")
    def _either(self) -> RulesSettings:
        for name in self.enable:
            if name in self.disable:
                raise ValueError(f"has {name!r} both under `enable` and `disable`. Leave one of the two out")
        return self
