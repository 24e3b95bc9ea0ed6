"""What the rules about good order go by: tags that must be there, sets that are compared, how long silence may last."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import Field, field_validator, model_validator

from stocktake.settings.fields import Model
from stocktake.settings.timing import Duration


class RequiredTags(Model):
    """Tags that some experiments, or the runs in them, must bear."""

    experiments: str = Field(
        min_length=1, description="Which experiments, by name: * stands for anything, ? for one character."
    )
    tags: tuple[str, ...] = Field((), description="Tags that each of these experiments must bear itself.")
    run_tags: tuple[str, ...] = Field((), description="Tags that each of their runs of late must bear.")

    @model_validator(mode="after")
    def _something(self) -> RequiredTags:
        if not self.tags and not self.run_tags:
            raise ValueError("names no tags. Give `tags` of the experiments, or `run_tags` of their runs")
        return self

    @property
    def pattern(self) -> str:
        """The same as a regular expression, for Python and for Postgres."""
        return "^" + "".join(_GLOB.get(one) or re.sub(r"(\W)", r"\\\1", one) for one in self.experiments) + "$"


_GLOB: Mapping[str, str] = {"*": ".*", "?": "."}


class HygieneSettings(Model):
    """What the rules about good order go by. Each rule's page in the runbook names what it reads of this."""

    required_tags: tuple[RequiredTags, ...] = Field((), description="Which tags must be there; none by default.")
    comparison_parameters: tuple[str, ...] = Field(
        (),
        description="Parameters in which runs that are compared must not differ. Runs declare it by the tag"
        " `stocktake.comparison`, whose value names the set; one may name parameters of its own, with commas between,"
        " in the tag `stocktake.comparison.match`.",
    )
    silent_after: Duration = Field(
        timedelta(hours=24), description="How long a run may say RUNNING without logging anything."
    )
    lookback: Duration = Field(
        timedelta(days=30),
        description="How far back runs are looked at by the rules that compare runs with each other, and for tags that"
        " they must bear. Runs that began before are left alone.",
    )

    @field_validator("comparison_parameters")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not one for one in value):
            raise ValueError("holds an empty name. Leave it out")
        return value

    def parameters(self) -> dict[str, Any]:
        """What rules call it."""
        return {
            "required_tags": json.dumps(
                [
                    {"pattern": one.pattern, "tags": list(one.tags), "run_tags": list(one.run_tags)}
                    for one in self.required_tags
                ]
            ),
            "comparison_parameters": list(self.comparison_parameters),
            "silent_after": self.silent_after,
            "lookback": self.lookback,
        }
