"""Custom events in Application Insights, each batch written at once, so that whoever writes knows whether it arrived.

No global provider, no queue and no file: what did not arrive is in the outbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from stocktake import __version__
from stocktake.core.errors import ConfigError
from stocktake.telemetry.events import EVENT_NAME
from stocktake.telemetry.exporters import EXPORT_TIMEOUT, AzureMonitorConfig, switch_side_channels


class NotTaken(Exception):
    """Events did not arrive. They may later: the exporter's log says why."""


class DirectEvents:
    """Writes custom events to one Application Insights resource."""

    def __init__(self, config: AzureMonitorConfig) -> None:
        switch_side_channels(replace(config, live_metrics=False))
        from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter

        arguments: dict[str, Any] = {
            "connection_string": config.connection_string,
            "timeout": EXPORT_TIMEOUT,
            "disable_offline_storage": True,
        }
        if config.credential is not None:
            arguments["credential"] = config.credential
        try:
            self._exporter = AzureMonitorLogExporter(**arguments)
        except ValueError as exc:
            raise ConfigError(
                f"The connection string of Application Insights is not usable ({exc}).",
                next_step="Copy it whole, 'InstrumentationKey=...;IngestionEndpoint=...'.",
            ) from exc
        self._resource = Resource({"service.name": "stocktake", "service.version": __version__})
        self._scope = InstrumentationScope("stocktake.findings", __version__)

    def write(self, events: Sequence[tuple[str, Mapping[str, str]]], *, at: datetime) -> None:
        """Write events: their names, and what they say. Raises NotTaken unless every one was taken."""
        from opentelemetry.sdk._logs.export import LogRecordExportResult

        if not events:
            return
        stamp = int(at.timestamp() * 1_000_000_000)
        records = [
            ReadableLogRecord(
                log_record=LogRecord(
                    timestamp=stamp,
                    observed_timestamp=stamp,
                    severity_number=SeverityNumber.INFO,
                    body=name,
                    attributes={**said, EVENT_NAME: name},
                ),
                resource=self._resource,
                instrumentation_scope=self._scope,
            )
            for name, said in events
        ]
        if self._exporter.export(records) is not LogRecordExportResult.SUCCESS:
            raise NotTaken("the log says why")

    def close(self) -> None:
        """Release what is held."""
        self._exporter.shutdown()
