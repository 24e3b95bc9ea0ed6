"""A loopback receiver of pushed figures: Azure Monitor's ingestion and an OTLP/HTTP collector in one server."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

KEY = "00000000-0000-0000-0000-000000000001"


class Ingestion:
    """What was received, and what to answer."""

    def __init__(self) -> None:
        self.envelopes: list[dict[str, Any]] = []
        self.otlp: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.other: list[str] = []
        self.status = 200
        self.port = 0
        self.arrived = threading.Condition()

    @property
    def connection_string(self) -> str:
        return f"InstrumentationKey={KEY};IngestionEndpoint=http://127.0.0.1:{self.port}/"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def azure(self, name: str) -> list[dict[str, Any]]:
        """The data points of one instrument that came as Azure envelopes."""
        points = [envelope["data"]["baseData"] for envelope in self.envelopes]
        return [point for point in points if point["metrics"][0]["name"] == name]

    def azure_names(self) -> set[str]:
        return {envelope["data"]["baseData"]["metrics"][0]["name"] for envelope in self.envelopes}

    def otlp_metrics(self) -> dict[str, Any]:
        """The last of each instrument that came by OTLP."""
        return {
            metric.name: metric
            for request in self.otlp
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def wait(self, *, envelopes: int = 0, otlp: int = 0, timeout: float = 15) -> None:
        with self.arrived:
            assert self.arrived.wait_for(
                lambda: len(self.envelopes) >= envelopes and len(self.otlp) >= otlp, timeout=timeout
            ), f"{len(self.envelopes)} envelopes and {len(self.otlp)} OTLP requests came"


@contextmanager
def ingestion() -> Iterator[Ingestion]:
    """The receiver, listening on a free port of the loopback address."""
    received = Ingestion()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            with received.arrived:
                answer, kind = self._take(body)
                received.headers.append({name.lower(): value for name, value in self.headers.items()})
                received.arrived.notify_all()
            self.send_response(received.status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            received.other.append(self.path)
            self.send_error(404)

        def _take(self, body: bytes) -> tuple[bytes, str]:
            if received.status != 200:
                return b"{}", "application/json"
            if self.path == "/v2.1/track":
                envelopes = json.loads(body)
                received.envelopes.extend(envelopes)
                count = len(envelopes)
                answer = {"itemsReceived": count, "itemsAccepted": count, "errors": []}
                return json.dumps(answer).encode(), "application/json"
            if self.path == "/v1/metrics":
                received.otlp.append(ExportMetricsServiceRequest.FromString(body))
                return ExportMetricsServiceResponse().SerializeToString(), "application/x-protobuf"
            received.other.append(self.path)
            return b"{}", "application/json"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface's name
            """Be quiet: pytest shows what failed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
