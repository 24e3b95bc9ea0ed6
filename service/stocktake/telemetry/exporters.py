"""The readers that carry the figures out: Prometheus text, OTLP over HTTP, Azure Monitor.

Azure's exporter is imported only when it is configured, after its side channels (statistics about itself, remote
configuration, live diagnostics, the metadata address) have been switched off: it reads those switches on import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

from stocktake.core.errors import ConfigError

#: One push may take this long; the next is not begun before it ended.
EXPORT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpConfig:
    """Where OTLP/HTTP goes. `endpoint` is the receiver's base URL; `/v1/metrics` is added unless it is there."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureMonitorConfig:
    """Where Azure Monitor's figures go. `credential` (an azure-core TokenCredential) is for Entra; None uses the key.

    The four switches open side channels to hosts other than the ingestion endpoint. `storage_directory` holds what
    could not be delivered till the next attempt, also that of the next process.
    """

    connection_string: str = field(repr=False)
    credential: Any = field(default=None, repr=False)
    storage_directory: str | None = None
    live_metrics: bool = False
    performance_counters: bool = False
    statistics: bool = False
    remote_configuration: bool = False


class PrometheusReader(PrometheusMetricReader):
    """Prometheus text on demand. A flush does nothing: it would leave a second, older copy for the next scrape."""

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002 - the name is the interface's
        return True


class WatchedExporter(MetricExporter):
    """Hands figures to an exporter and tells whether they were taken: a failed push is otherwise a log line only."""

    def __init__(self, exporter: MetricExporter, told: Callable[[bool], None]) -> None:
        super().__init__(
            preferred_temporality=exporter._preferred_temporality,
            preferred_aggregation=exporter._preferred_aggregation,
        )
        self._exporter = exporter
        self._told = told

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        success = False
        try:
            result = self._exporter.export(metrics_data, timeout_millis=timeout_millis, **kwargs)
            success = result is MetricExportResult.SUCCESS
            return result
        finally:
            self._told(success)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._exporter.shutdown(timeout_millis, **kwargs)


def otlp_reader(config: OtlpConfig, *, interval: float, told: Callable[[bool], None]) -> MetricReader:
    """A reader that pushes to an OTLP/HTTP receiver every `interval` seconds."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(
        endpoint=_metrics_url(config.endpoint),
        headers=dict(config.headers),
        certificate_file=config.ca_file,
        timeout=EXPORT_TIMEOUT,
        compression=Compression.Gzip,
    )
    return _periodic(exporter, interval=interval, told=told)


def azure_reader(
    config: AzureMonitorConfig, *, interval: float, resource: Resource, told: Callable[[bool], None]
) -> MetricReader:
    """A reader that pushes to Azure Monitor every `interval` seconds.

    The exporter of azure-monitor-opentelemetry in a reader of our own, not `configure_azure_monitor`: that one claims
    the process's global providers, its logging and its HTTP libraries, and takes its interval from the environment.
    """
    switch_side_channels(config)
    from azure.monitor.opentelemetry.exporter import AzureMonitorMetricExporter

    arguments: dict[str, Any] = {"connection_string": config.connection_string, "timeout": EXPORT_TIMEOUT}
    if config.credential is not None:
        arguments["credential"] = config.credential
    if config.storage_directory is not None:
        arguments["storage_directory"] = config.storage_directory
    try:
        exporter = AzureMonitorMetricExporter(**arguments)
    except ValueError as exc:
        # The exporter's words name the part that is wrong, never the key.
        raise ConfigError(
            f"telemetry.azure_monitor: the connection string is not usable ({exc}). Copy it whole from the "
            "Application Insights resource, 'InstrumentationKey=...;IngestionEndpoint=...'."
        ) from exc
    if config.live_metrics:
        from azure.monitor.opentelemetry.exporter._quickpulse import enable_live_metrics

        enable_live_metrics(connection_string=config.connection_string, credential=config.credential, resource=resource)
    return _periodic(exporter, interval=interval, told=told)


def _periodic(exporter: MetricExporter, *, interval: float, told: Callable[[bool], None]) -> MetricReader:
    return PeriodicExportingMetricReader(
        WatchedExporter(exporter, told),
        export_interval_millis=interval * 1000,
        export_timeout_millis=EXPORT_TIMEOUT * 1000,
    )


def _metrics_url(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "telemetry.otlp.endpoint must be an http or https URL such as http://collector:4318 "
            "(OTLP over HTTP; the gRPC port 4317 does not serve)."
        )
    if parts.username or parts.password:
        raise ConfigError("telemetry.otlp.endpoint holds a password. Put it into the variable headers_env names.")
    if parts.path.rstrip("/").endswith("/v1/metrics"):
        return endpoint
    return parts._replace(path=parts.path.rstrip("/") + "/v1/metrics").geturl()


def switch_side_channels(config: AzureMonitorConfig) -> None:
    """The one place that sets process-wide switches of Azure's exporter; it must run before the first import of it."""
    switches = {
        "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": not config.statistics,
        "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": not config.statistics,
        "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": not config.remote_configuration,
    }
    for name, off in switches.items():
        os.environ[name] = "true" if off else "false"
    os.environ["OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"] = "otel"  # the others ask the metadata address
