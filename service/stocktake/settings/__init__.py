"""The configuration: one YAML file, validated once. Secrets come from the environment and are never in it."""

from __future__ import annotations

from stocktake.settings.azure import AzureAccessSettings, AzureMlSettings
from stocktake.settings.checking import Problem, check
from stocktake.settings.discovery import DiscoverySettings
from stocktake.settings.installation import installation_key, present_key
from stocktake.settings.loading import data_dir, load_settings
from stocktake.settings.models import MlflowSettings, Settings, WorkspaceSettings
from stocktake.settings.reference import json_schema, markdown
from stocktake.settings.scheduling import ScheduleSettings

__all__ = [
    "AzureAccessSettings",
    "AzureMlSettings",
    "DiscoverySettings",
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
