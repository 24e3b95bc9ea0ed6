"""Sets telemetry up and takes the figures: one meter, the instruments of the catalogue, as many readers as configured.

Nothing here touches the process's global providers, loggers or HTTP libraries, and nothing here asks the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from uuid import uuid4

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from stocktake import __version__
from stocktake.core.assets import Mode, ScanState
from stocktake.core.errors import ConfigError
from stocktake.telemetry import instruments as i
from stocktake.telemetry.events import Events
from stocktake.telemetry.exporters import (
    AzureMonitorConfig,
    OtlpConfig,
    PrometheusReader,
    azure_reader,
    otlp_reader,
)
from stocktake.telemetry.figures import DeliveryFigures, RequestFigures, ScanFigures, WorkspaceFigures
from stocktake.telemetry.state import State, WorkspaceNames

log = logging.getLogger(__name__)

#: Ends of a scan that a scan can have; counters for them begin at nought, so that the first one is an increase.
_ENDS = (ScanState.COMPLETE, ScanState.PARTIAL, ScanState.FAILED, ScanState.ABANDONED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """What is exported and where. With nothing set, Prometheus text is made on demand and nothing leaves."""

    interval: float = 300.0  # seconds between two pushes; an envelope per series is sent each time
    otlp: OtlpConfig | None = None
    azure_monitor: AzureMonitorConfig | None = None
    service_namespace: str | None = None  # the first half of cloud_RoleName in Azure Monitor
    instance: str | None = None  # told apart from other replicas; a random one when None
    workspace_limit: int = 200  # those past it share the series `_OTHER`; a scrape of so many takes a second
    shutdown_timeout: float = 10.0


class Telemetry:
    """Takes figures from the other rooms. Every method is safe from any thread, quick, and asks nobody anything."""

    def __init__(
        self,
        config: TelemetryConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        readers: Iterable[MetricReader] = (),
    ) -> None:
        if config.interval <= 0:
            raise ConfigError("telemetry.interval must be longer than nought, such as 300s.")
        self._timeout = config.shutdown_timeout
        self._names = WorkspaceNames(config.workspace_limit)
        self._state = State(version=__version__, names=self._names, clock=clock)
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self._scrape = threading.Lock()
        self._shutdown = False
        self._events: Events | None = None
        self._azure = config.azure_monitor
        self._registry = CollectorRegistry()
        resource = self._resource = _resource(config)
        self._readers: list[MetricReader] = [
            PrometheusReader(scope_info_enabled=False, registry=self._registry),
            *readers,
        ]
        try:
            if config.otlp is not None:
                told = self._watch("otlp")
                self._readers.append(otlp_reader(config.otlp, interval=config.interval, told=told))
            if config.azure_monitor is not None:
                told = self._watch("azure_monitor")
                self._readers.append(
                    azure_reader(config.azure_monitor, interval=config.interval, resource=resource, told=told)
                )
        except BaseException:
            self.shutdown()
            raise
        self._provider = MeterProvider(
            metric_readers=self._readers,
            resource=resource,
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,  # shutdown() below is bounded and does not stop at the first reader that hangs
        )
        meter = self._provider.get_meter("stocktake", __version__)
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for declaration in i.CATALOGUE:
            self._create(meter, declaration)
        if config.azure_monitor is not None and config.azure_monitor.performance_counters:
            from azure.monitor.opentelemetry.exporter._performance_counters import enable_performance_counters

            enable_performance_counters(meter_provider=self._provider)  # type: ignore[no-untyped-call]

    # -- figures ---------------------------------------------------------------------------------------------------

    def watching(self, workspace: str) -> None:
        """Make a workspace known: its rare counters begin at nought, so that the first event is an increase."""
        label = self._names.label(workspace)
        with self._lock:
            if label in self._known:
                return
            self._known.add(label)
        for mode in Mode:
            for end in _ENDS:
                self._add(i.SCANS, 0, {"workspace": label, "mode": mode, "state": end})
        for declaration in (i.THROTTLED, i.RETRIES, i.BYTES_READ, i.WAITED):
            self._add(declaration, 0, {"workspace": label})

    def scan_finished(self, figures: ScanFigures) -> None:
        """Count a scan and what it published."""
        self.watching(figures.workspace)
        label = self._names.label(figures.workspace)
        self._add(i.SCANS, 1, {"workspace": label, "mode": figures.mode, "state": figures.state})
        self._record(i.SCAN_DURATION, figures.seconds, {"workspace": label, "mode": figures.mode})
        for (kind, change, category), count in figures.changes.items():
            attributes = {"workspace": label, "kind": kind, "type": change, "category": category}
            self._add(i.CHANGES, count, attributes)
        for kind, count in figures.redactions.items():
            self._add(i.REDACTIONS, count, {"workspace": label, "kind": kind})
        if figures.waited:
            self._add(i.WAITED, figures.waited, {"workspace": label})
        if figures.budget_used is not None:
            self._state.budget(figures.workspace, figures.budget_used)

    def inventory(self, figures: WorkspaceFigures) -> None:
        """Replace what is known of a workspace: after each scan, and once at start from the database."""
        self.watching(figures.workspace)
        self._state.put(figures)

    def forget(self, workspace: str) -> None:
        """Tell no state of a workspace any more (it left the configuration); its counters stay as they are."""
        self._state.forget(workspace)

    def request(self, figures: RequestFigures) -> None:
        """Count one request to a watched server, answered or not."""
        label = self._names.label(figures.workspace)
        status = "none" if figures.status is None else f"{figures.status // 100}xx"
        self._add(i.REQUESTS, 1, {"workspace": label, "status_class": status})
        self._record(i.REQUEST_DURATION, figures.seconds, {"workspace": label})
        for declaration, amount in (
            (i.BYTES_READ, figures.bytes_read),
            (i.THROTTLED, int(figures.throttled)),
            (i.RETRIES, int(figures.retried)),
        ):
            if amount:
                self._add(declaration, amount, {"workspace": label})

    def beat(self) -> None:
        """The worker's loop has turned."""
        self._state.beat()

    def heartbeat_age(self) -> float | None:
        """Seconds since the worker's loop last turned; None where it never did."""
        return self._state.heartbeat_age()

    def database(self, size: int) -> None:
        """The size of stocktake's own database in bytes."""
        self._state.database(size)

    def transitions(self, workspace: str, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Count findings that came to stand otherwise: by rule, severity and the state they came to."""
        label = self._names.label(workspace)
        for (rule, severity, state), count in counts.items():
            attributes = {"workspace": label, "rule": rule, "severity": severity, "state": state}
            self._add(i.TRANSITIONS, count, attributes)

    def event(self, name: str, properties: Mapping[str, str]) -> None:
        """Send an event to where events go, if there is such a place. What it says was redacted before."""
        if self._azure is None:
            return
        with self._lock:
            if self._events is None and not self._shutdown:  # its threads begin with the first event
                self._events = Events(self._azure, self._resource)
            events = self._events
        if events is not None:
            events.send(name, properties)

    def receivers(self, names: Iterable[str]) -> None:
        """Make known whom alerts are planned for and sent to from now on, so that their counters begin at nought."""
        self._state.receivers(names)
        for name in names:
            for outcome in i.OUTCOMES:
                self._add(i.DELIVERY_ATTEMPTS, 0, {"receiver": name, "outcome": outcome})

    def planned(self) -> None:
        """Alerts were planned: by this worker, or by another that was at it."""
        self._state.planned()

    def attempted(self, receiver: str, outcome: str) -> None:
        """Count an attempt to deliver."""
        self._add(i.DELIVERY_ATTEMPTS, 1, {"receiver": self._state.receiver(receiver), "outcome": outcome})

    def outbox(self, figures: DeliveryFigures) -> None:
        """Replace what is known of the outbox."""
        self._state.outbox(figures)

    def head(self, age_limit: float) -> None:
        """A head of the evidence chain was published, or is to be from now on; how old it may become, in seconds."""
        self._state.head(age_limit)

    def discovered(self, standings: Mapping[str, int], not_looked: int) -> None:
        """How many found workspaces stand how, and how many scopes could not be looked at."""
        self._state.discovered(standings, not_looked)

    # -- ways out --------------------------------------------------------------------------------------------------

    def prometheus(self) -> bytes:
        """Everything as Prometheus text (format 0.0.4)."""
        with self._scrape:  # the reader keeps one queue: two scrapes at once would share out the samples
            return generate_latest(self._registry)

    def flush(self) -> None:
        """Push now what is pending. A return is no proof of delivery: see `stocktake.telemetry.exports`."""
        self._provider.force_flush(timeout_millis=self._timeout * 1000)
        if self._events is not None:
            self._events.flush(self._timeout)

    def shutdown(self) -> None:
        """Push what is pending and stop, in bounded time: each reader has its share, one that hangs costs no other."""
        with self._lock:
            if self._shutdown:
                return
            self._shutdown = True
        if self._events is not None:
            self._events.shutdown()
        share = self._timeout * 1000 / len(self._readers)
        for reader in self._readers:
            try:
                reader.shutdown(timeout_millis=share)
            except Exception:  # the process is ending, and the others still have figures to deliver
                log.warning("telemetry did not stop cleanly", extra={"action": "telemetry_shutdown"}, exc_info=True)

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.shutdown()

    # -- instruments -----------------------------------------------------------------------------------------------

    def _create(self, meter: Meter, declaration: i.Declaration) -> None:
        name, unit, words = declaration.name, declaration.unit, declaration.description
        match declaration.instrument:
            case i.Instrument.GAUGE:
                meter.create_observable_gauge(name, [self._observer(declaration)], unit=unit, description=words)
            case i.Instrument.OBSERVABLE_COUNTER:
                meter.create_observable_counter(name, [self._observer(declaration)], unit=unit, description=words)
            case i.Instrument.COUNTER:
                self._counters[name] = meter.create_counter(name, unit=unit, description=words)
            case i.Instrument.HISTOGRAM:
                self._histograms[name] = meter.create_histogram(
                    name,
                    unit=unit,
                    description=words,
                    explicit_bucket_boundaries_advisory=[float(bound) for bound in declaration.buckets],
                )

    def _observer(self, declaration: i.Declaration) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> list[Observation]:
            return [Observation(value, attributes) for attributes, value in self._state.observe(declaration)]

        return observe

    def _add(self, declaration: i.Declaration, amount: float, attributes: Mapping[str, str]) -> None:
        self._counters[declaration.name].add(amount, i.checked(declaration, attributes))

    def _record(self, declaration: i.Declaration, value: float, attributes: Mapping[str, str]) -> None:
        self._histograms[declaration.name].record(max(0.0, value), i.checked(declaration, attributes))

    def _watch(self, exporter: str) -> Callable[[bool], None]:
        self._state.exporter(exporter)

        def told(success: bool) -> None:
            self._state.exported(exporter, success=success)

        return told


def setup_telemetry(config: TelemetryConfig) -> Telemetry:
    """Everything the configuration asks for, ready to take figures. Call `shutdown` (or use `with`) at the end."""
    return Telemetry(config)


def _resource(config: TelemetryConfig) -> Resource:
    attributes = {
        "service.name": "stocktake",
        "service.version": __version__,
        "service.instance.id": config.instance or str(uuid4()),
    }
    if config.service_namespace:
        attributes["service.namespace"] = config.service_namespace
    # Not Resource.create: it runs detectors, and OTEL_RESOURCE_ATTRIBUTES could carry anything.
    return Resource(attributes)
