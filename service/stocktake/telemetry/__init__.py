"""What stocktake tells about itself: metrics from one catalogue, and logs. It never asks the database."""

from __future__ import annotations

from stocktake.telemetry.exporters import AzureMonitorConfig, OtlpConfig
from stocktake.telemetry.figures import (
    DeliveryFigures,
    KindFigures,
    ReceiverFigures,
    RequestFigures,
    ScanFigures,
    WorkspaceFigures,
)
from stocktake.telemetry.providers import Telemetry, TelemetryConfig, setup_telemetry

__all__ = [
    "AzureMonitorConfig",
    "DeliveryFigures",
    "KindFigures",
    "OtlpConfig",
    "ReceiverFigures",
    "RequestFigures",
    "ScanFigures",
    "Telemetry",
    "TelemetryConfig",
    "WorkspaceFigures",
    "setup_telemetry",
]
