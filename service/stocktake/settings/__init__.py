"""The configuration: one YAML file, validated once. Secrets come from the environment and are never in it."""

from __future__ import annotations

from stocktake.settings.azure import AzureMlSettings
from stocktake.settings.checking import Problem, check
from stocktake.settings.installation import installation_key, present_key
from stocktake.settings.loading import data_dir, load_settings
from stocktake.settings.models import MlflowSettings, ScheduleSettings, Settings, WorkspaceSettings
from stocktake.settings.reference import json_schema, markdown

__all__ = [
    "AzureMlSettings",
    "MlflowSettings",
    "Problem",
    "ScheduleSettings",
    "Settings",
    "WorkspaceSettings",
    "check",
    "data_dir",
    "installation_key",
    "json_schema",
    "load_settings",
    "markdown",
    "present_key",
]
