"""The HTTP endpoint: health, readiness and metrics."""

from __future__ import annotations

from stocktake.web.app import Check, HealthView, create_app
from stocktake.web.server import WebServer, serve

__all__ = ["Check", "HealthView", "WebServer", "create_app", "serve"]
