"""Events that go out to Azure Monitor as custom events: what a workbook lists one by one. Figures are no events.

Text leaves the process here, so what is handed in was redacted before. Importing Azure's exporter comes after its side
channels were switched off, which `exporters` does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from stocktake.telemetry.exporters import AzureMonitorConfig, switch_side_channels

#: The events that there are: a finding that is open, and how many of them there are in all.
FINDING, FINDINGS_TOLD = "stocktake.finding", "stocktake.findings.told"
EVENTS = frozenset({FINDING, FINDINGS_TOLD})
#: The attribute by which Azure Monitor's exporter tells an event from a log line.
EVENT_NAME = "microsoft.custom_event.name"
_LONGEST = 1024  # characters of one property


class Events:
    """Sends events, and nothing else: no log line ever goes this way."""

    def __init__(self, config: AzureMonitorConfig, resource: Resource) -> None:
        switch_side_channels(config)
        from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter

        arguments: dict[str, Any] = {"connection_string": config.connection_string}
        if config.credential is not None:
            arguments["credential"] = config.credential
        if config.storage_directory is not None:
            arguments["storage_directory"] = config.storage_directory
        self._provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(BatchLogRecordProcessor(AzureMonitorLogExporter(**arguments)))
        self._logger = self._provider.get_logger("stocktake.events")

    def send(self, name: str, properties: Mapping[str, str]) -> None:
        """Send one event, by and by."""
        self._logger.emit(
            timestamp=time.time_ns(),
            severity_number=SeverityNumber.INFO,
            body=name,
            attributes={EVENT_NAME: name, **{key: value[:_LONGEST] for key, value in properties.items()}},
        )

    def flush(self, timeout: float) -> None:
        """Send now what is pending."""
        self._provider.force_flush(int(timeout * 1000))

    def shutdown(self) -> None:
        """Send what is pending, and stop."""
        self._provider.shutdown()
