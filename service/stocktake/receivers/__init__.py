"""The receivers of alerts, one file each, listed by hand. None is a source: nothing that is watched is ever sent to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stocktake.receivers.alertmanager import Alertmanager
from stocktake.receivers.apprise import Apprise
from stocktake.receivers.azure_monitor import AzureMonitor
from stocktake.receivers.email import Email
from stocktake.receivers.pagerduty import PagerDuty
from stocktake.receivers.protocol import Receiver
from stocktake.receivers.slack import Slack
from stocktake.receivers.teams import Teams
from stocktake.receivers.webhook import Webhook

RECEIVERS: Mapping[str, Callable[[Any], Receiver]] = {
    "alertmanager": Alertmanager,
    "pagerduty": PagerDuty,
    "slack": Slack,
    "teams": Teams,
    "email": Email,
    "webhook": Webhook,
    "azure_monitor": AzureMonitor,
    "apprise": Apprise,
}
