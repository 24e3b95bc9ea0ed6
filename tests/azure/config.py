"""A configuration file that points stocktake at the loopback Azure, so that the whole service runs against it."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from stocktake.demo.azure.workspace import Workspace

TOKEN = "STOCKTAKE_LOOPBACK_TOKEN"


def configuration(workspaces: Iterable[Workspace], *, arm: str, ca_file: str, schedule: tuple[str, str]) -> str:
    """The text of the file: every workspace, a custom cloud, a token out of the environment."""
    hot, sweep = schedule
    named = [
        {
            "name": one.name,
            "azureml": {
                "subscription": one.subscription,
                "resource_group": one.group,
                "workspace": one.name,
                "custom_cloud": {"resource_manager": arm, "data_hosts": ["localhost"]},
                "credential": "token",
                "token_env": TOKEN,
                "ca_file": ca_file,
            },
        }
        for one in workspaces
    ]
    text: str = yaml.safe_dump({"workspaces": named, "schedule": {"hot": hot, "sweep": sweep}}, sort_keys=False)
    return "# Written by `python -m tests.azure`; edits are lost.\n" + text
