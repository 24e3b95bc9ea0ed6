"""What people agree on beforehand, as types: waivers, approved change windows, and the files that hold more of them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from stocktake.core.covering import Covering
from stocktake.core.waivers import Waiver
from stocktake.core.windows import Once, Weekly, Window
from stocktake.settings.fields import Model
from stocktake.settings.timing import Duration

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(r"([a-z,\- ]+?) +(\d{1,2}):(\d{2}) *- *(\d{1,2}):(\d{2})")


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _moment(value: object) -> object:
    """A time with its offset; a date alone is over when that day is, in UTC."""
    if isinstance(value, str):
        try:
            value = (
                date.fromisoformat(value) if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else datetime.fromisoformat(value)
            )
        except ValueError:
            raise ValueError("is not a time. Write for example 2026-12-31 or 2026-12-31T18:00:00+01:00") from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("has no offset. Write for example 2026-12-31T18:00:00+01:00, or ...Z for UTC")
        return value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value + timedelta(days=1), time(), tzinfo=UTC)
    raise ValueError("is not a time. Write for example 2026-12-31 or 2026-12-31T18:00:00+01:00")


_TIME = {"type": "string", "title": "date or time", "examples": ["2026-12-31", "2026-12-31T18:00:00+01:00"]}
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema(_TIME)]
_PATTERNS = {
    "title": "pattern, or a list of them",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    "examples": ["credit-*"],
}
Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_listed),
    Field(min_length=1),
    WithJsonSchema(_PATTERNS),
]


class _About(Model):
    """Which findings are meant."""

    workspace: Patterns = Field(("*",), description="Workspaces, with * and ?.")
    kind: Patterns = Field(("*",), description="Kinds, with * and ?.")
    asset: Patterns = Field(("*",), description="Keys or names of assets, with * and ?.")

    def _covering(self, rules: tuple[str, ...]) -> Covering:
        return Covering(rules=rules, workspaces=self.workspace, kinds=self.kind, assets=self.asset)


class WaiverSettings(_About):
    """An approved exception to findings, until a time. One that is over opens its findings again."""

    rule: Patterns = Field(description="Rules, with * and ?.", examples=["missing-owner"])
    owner: str = Field(min_length=1, description="Who approved it.", examples=["ada@example.org"])
    reason: str = Field(min_length=1, description="Why, or which ticket.", examples=["CHG-4711: legacy, ends with Q1"])
    until: Moment = Field(description="Until when. A date is over with its last hour, in UTC.")

    @model_validator(mode="after")
    def _narrow(self) -> WaiverSettings:
        if self._covering(self.rule).everything:
            raise ValueError("would waive whatever is found. Name a rule, a workspace, a kind or an asset")
        return self

    def waiver(self, source: str) -> Waiver:
        """As the core judges it; `source` is where it stands."""
        return Waiver(
            covering=self._covering(self.rule), owner=self.owner, reason=self.reason, until=self.until, source=source
        )


class WindowSettings(_About):
    """An approved change window: what changes inside it is recorded with its name and does not page."""

    name: str = Field(min_length=1, description="What a finding says that it happened in.", examples=["release-42"])
    rule: Patterns = Field(("*",), description="Rules, with * and ?.")
    begins: Moment | None = Field(None, alias="from", description="When it begins, with an offset. Or `weekly`.")
    until: Moment | None = Field(None, description="When it ends. Belongs to `from`.")
    weekly: str | None = Field(
        None, description="Or the same hours of every week: days and hours.", examples=["fri 20:00-23:00"]
    )
    zone: str = Field("UTC", description="Whose clock `weekly` is by.", examples=["Europe/Berlin"])
    owner: str = Field(min_length=1, description="Who approved it.")
    ticket: str | None = Field(None, min_length=1, description="Where it was approved.", examples=["CHG-4711"])
    margin: Duration = Field(
        timedelta(hours=1),
        description="A change is known to lie between two looks; both must lie in the window, give or take this. What"
        " only sweeps see (edits of finished runs) takes a margin as long as the time between two sweeps.",
    )

    @field_validator("zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is no time zone. Write it like Europe/Berlin or UTC") from None
        return value

    @field_validator("weekly")
    @classmethod
    def _hours(cls, value: str | None) -> str | None:
        if value is not None:
            _weekly(value, "UTC")
        return value

    @model_validator(mode="after")
    def _one_time(self) -> WindowSettings:
        if (self.weekly is None) == (self.begins is None) or (self.begins is None) != (self.until is None):
            raise ValueError("needs either `from` and `until`, or `weekly`")
        if self.begins is not None and self.until is not None and self.until <= self.begins:
            raise ValueError("ends before it begins. Check `from` and `until`")
        return self

    def window(self) -> Window:
        """As the core judges it."""
        if self.weekly is not None:
            when: Weekly | Once = _weekly(self.weekly, self.zone)
        else:
            assert self.begins is not None
            assert self.until is not None
            when = Once(begins=self.begins, ends=self.until)
        return Window(
            name=self.name, covering=self._covering(self.rule), when=when, owner=self.owner, ticket=self.ticket,
            margin=self.margin,
        )  # fmt: skip


class GovernanceSettings(Model):
    """What was agreed on beforehand. The same stands in files of its own, with the baselines."""

    files: tuple[Path, ...] = Field(
        (),
        description="Files with baselines, waivers and windows, read at each scan; * and ? stand for several. A path"
        " begins at the folder of this file.",
        examples=[["governance/*.yaml"]],
    )
    waivers: tuple[WaiverSettings, ...] = Field((), description="Approved exceptions to findings.")
    windows: tuple[WindowSettings, ...] = Field((), description="Approved change windows.")


def _weekly(value: str, zone: str) -> Weekly:
    match = _WEEKLY.fullmatch(" ".join(value.lower().split()))
    problem = (
        "is not days and hours. Write for example `fri 20:00-23:00`, `mon-fri 06:00-07:30` or `sat,sun 22:00-02:00`"
    )
    if match is None:
        raise ValueError(problem)
    days: set[int] = set()
    try:
        for part in match[1].replace(" ", "").split(","):
            first, dash, last = part.partition("-")
            begin, end = _DAYS.index(first), _DAYS.index(last if dash else first)
            days |= {day % 7 for day in range(begin, (end if end >= begin else end + 7) + 1)}
        begins, ends = (time(int(match[n]) % 24, int(match[n + 1])) for n in (2, 4))
    except ValueError:
        raise ValueError(problem) from None
    if int(match[2]) > 23 or int(match[4]) > 24 or (int(match[4]) == 24 and ends.minute):
        raise ValueError(problem)
    return Weekly(days=frozenset(days), begins=begins, ends=ends, zone=ZoneInfo(zone))


class GateSettings(Model):
    """What `stocktake check` asks for, besides what `hygiene` and `production` say."""

    required_tags: tuple[str, ...] = Field(
        (),
        description="Tags that the run, or the model version, must bear: `name`, or `name=value`.",
        examples=[["reviewed=yes", "team"]],
    )
    counts: Literal["critical", "warning", "info"] = Field(
        "warning", description="The least severity of an open finding that fails the check."
    )
    max_age: Duration | None = Field(
        None, description="How old the last complete look may be. By default as old as the schedule of sweeps allows."
    )

    @field_validator("required_tags")
    @classmethod
    def _tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not one.partition("=")[0].strip() for one in value):
            raise ValueError("holds a tag without a name. Write name, or name=value")
        return value

    @property
    def tags(self) -> dict[str, str]:
        """Names, and values; * stands for any."""
        return {
            name: value if equals else "*" for name, equals, value in (t.partition("=") for t in self.required_tags)
        }
