"""How often a workspace is looked at: the common schedule, one workspace's own, and that of what discovery finds."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from stocktake.settings.fields import Model
from stocktake.settings.timing import When


class ScheduleSettings(Model):
    """How often a workspace is looked at. The two periods are the published bound on how stale an answer may be."""

    hot: When = Field(
        timedelta(minutes=10),
        description="How often the small kinds (registry, aliases, experiments, server facts) are listed completely and"
        " runs that are new or moving are read. A duration, or cron in five fields (UTC).",
    )
    sweep: When = Field(
        timedelta(hours=24),
        description="How often everything is read. Only a sweep sees late edits of finished runs, and runs that are"
        " gone. A duration, or cron in five fields (UTC).",
    )
    splay: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="The largest random delay of a pass, as a share of its period, so that many workspaces are not all"
        " asked at the same second.",
    )
