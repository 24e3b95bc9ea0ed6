"""All ways out at once, over real sockets: Azure Monitor's ingestion, an OTLP receiver, a Prometheus scrape."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stocktake.core.errors import ConfigError
from stocktake.telemetry import AzureMonitorConfig, OtlpConfig, TelemetryConfig, setup_telemetry
from stocktake.telemetry import instruments as i
from stocktake.telemetry.reference import samples
from tests.integration.ingestion import Ingestion, ingestion
from tests.unit.figures import make_scan, tell_everything

REPO = Path(__file__).resolve().parents[2]
LONG = 3600.0  # an interval no test waits for: what arrives was flushed


@pytest.fixture
def received() -> Iterator[Ingestion]:
    with ingestion() as made:
        yield made


def both(received: Ingestion, storage: Path, *, interval: float = LONG, **azure: Any) -> TelemetryConfig:
    return TelemetryConfig(
        interval=interval,
        otlp=OtlpConfig(endpoint=received.endpoint, headers={"x-tenant": "blue"}),
        azure_monitor=AzureMonitorConfig(
            connection_string=received.connection_string, storage_directory=str(storage), **azure
        ),
        service_namespace="ml",
        instance="replica-1",
    )


def test_all_three_receive_every_instrument(received: Ingestion, tmp_path: Path) -> None:
    with setup_telemetry(both(received, tmp_path)) as telemetry:
        tell_everything(telemetry)
        telemetry.flush()
        text = telemetry.prometheus().decode()
        received.wait(envelopes=1, otlp=1)
    declared = {one.name for one in i.CATALOGUE}
    assert received.azure_names() == declared
    assert set(received.otlp_metrics()) == declared
    for one in i.CATALOGUE:
        for sample in samples(one):
            assert f"\n{sample}" in text
    assert received.other == []


def test_azure_receives_the_figures_with_their_dimensions(received: Ingestion, tmp_path: Path) -> None:
    with setup_telemetry(both(received, tmp_path)) as telemetry:
        tell_everything(telemetry)
    (age,) = received.azure(i.SCAN_AGE.name)
    assert age["properties"] == {"workspace": "research", "kind": "run"}
    assert 3600 <= age["metrics"][0]["value"] < 3700
    (duration,) = received.azure(i.SCAN_DURATION.name)
    assert duration["metrics"][0]["count"] == 1
    assert duration["metrics"][0]["max"] == 3.2
    tags = received.envelopes[0]["tags"]
    assert tags["ai.cloud.role"] == "ml.stocktake"
    assert tags["ai.cloud.roleInstance"] == "replica-1"


def test_otlp_carries_units_words_and_headers(received: Ingestion, tmp_path: Path) -> None:
    with setup_telemetry(both(received, tmp_path)) as telemetry:
        tell_everything(telemetry)
    metrics = received.otlp_metrics()
    for one in i.CATALOGUE:
        assert (metrics[one.name].unit, metrics[one.name].description) == (one.unit, one.description)
    point = metrics[i.SCAN_DURATION.name].histogram.data_points[0]
    assert tuple(point.explicit_bounds) == i.SCAN_DURATION.buckets
    assert any(headers.get("x-tenant") == "blue" for headers in received.headers)
    resource = received.otlp[0].resource_metrics[0].resource.attributes
    told = {attribute.key: attribute.value.string_value for attribute in resource}
    assert told["service.name"] == "stocktake"
    assert told["service.instance.id"] == "replica-1"
    assert set(told) == {"service.name", "service.namespace", "service.version", "service.instance.id"}


def test_counters_reach_azure_as_differences_and_gauges_each_time(received: Ingestion, tmp_path: Path) -> None:
    with setup_telemetry(both(received, tmp_path)) as telemetry:
        tell_everything(telemetry)
        telemetry.flush()
        telemetry.flush()  # nothing happened in between
        telemetry.scan_finished(make_scan())
        telemetry.flush()
        changes = [point["metrics"][0]["value"] for point in received.azure(i.CHANGES.name)]
        assert changes == [5, 5]
        assert len(received.azure(i.SCAN_AGE.name)) == 3


def test_it_pushes_on_its_own_at_the_interval(received: Ingestion, tmp_path: Path) -> None:
    with setup_telemetry(both(received, tmp_path, interval=0.2)) as telemetry:
        tell_everything(telemetry)
        received.wait(envelopes=1, otlp=2)


def test_a_failed_push_is_counted_kept_on_disk_and_sent_by_the_next_process(
    received: Ingestion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    received.status = 403
    with setup_telemetry(both(received, tmp_path)) as telemetry:
        tell_everything(telemetry)
        telemetry.flush()
        text = telemetry.prometheus().decode()
    assert 'stocktake_telemetry_exports_total{exporter="azure_monitor",result="failure"} 1.0' in text
    assert 'stocktake_telemetry_exports_total{exporter="otlp",result="failure"} 1.0' in text
    assert received.envelopes == []
    assert list(tmp_path.iterdir())
    received.status = 200
    for blob in tmp_path.glob("*@*.lock"):  # the lease of a minute that the first process took
        blob.rename(blob.with_name(blob.name.split("@")[0]))
    with setup_telemetry(both(received, tmp_path)) as telemetry:
        telemetry.beat()
    assert received.azure(i.SCAN_AGE.name), "the figures of the first process did not arrive"


def test_receivers_that_are_gone_do_not_hold_up_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with ingestion() as closed:
        pass  # its port now refuses
    config = both(closed, tmp_path)
    telemetry = setup_telemetry(config)
    tell_everything(telemetry)
    began = time.monotonic()
    telemetry.shutdown()
    assert time.monotonic() - began < config.shutdown_timeout + 2


def test_a_broken_connection_string_says_where_and_not_what(tmp_path: Path) -> None:
    config = AzureMonitorConfig(connection_string="InstrumentationKey=not-a-key-hunter2")
    with pytest.raises(ConfigError, match=r"telemetry\.azure_monitor") as refused:
        setup_telemetry(TelemetryConfig(azure_monitor=config))
    assert "hunter2" not in str(refused.value)


class Credential:
    """An azure-core credential as a test can have it."""

    def get_token(self, *scopes: str, **_: Any) -> Any:
        raise AssertionError("a token must never be sent without TLS")


def test_an_entra_token_is_never_sent_without_tls(
    received: Ingestion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with setup_telemetry(both(received, tmp_path, credential=Credential())) as telemetry:
        tell_everything(telemetry)
    assert received.envelopes == []


# -- in a process of its own: what it imports, whom it calls, how it ends ------------------------------------------

SCRIPT = """
import json, logging, os, signal, sys, threading
calls = []
def hook(event, args):
    if event == "socket.connect":
        calls.append(str(args[1]))
    elif event == "socket.getaddrinfo":
        calls.append(str(args[0]))
sys.addaudithook(hook)
from stocktake.telemetry import AzureMonitorConfig, OtlpConfig, TelemetryConfig, setup_telemetry
from tests.unit.figures import tell_everything
port, storage, how = sys.argv[1:]
config = TelemetryConfig()
if how != "nothing":
    config = TelemetryConfig(
        interval=3600,
        otlp=OtlpConfig(endpoint=f"http://127.0.0.1:{port}"),
        azure_monitor=AzureMonitorConfig(
            connection_string="InstrumentationKey=00000000-0000-0000-0000-000000000001;"
            f"IngestionEndpoint=http://127.0.0.1:{port}/;LiveEndpoint=http://127.0.0.1:{port}/live/",
            storage_directory=storage, live_metrics=how == "live",
            statistics=how == "channels", remote_configuration=how == "channels"))
before = list(logging.getLogger().handlers)
telemetry = setup_telemetry(config)
tell_everything(telemetry)
telemetry.prometheus()
stop = threading.Event()
threads = sorted({type(t).__name__ + " " + t.name.split("-")[0] for t in threading.enumerate()})
if how == "live":
    stop.wait(4)
if how == "sigterm":
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("ready", flush=True)
    stop.wait(30)
telemetry.shutdown()
from opentelemetry import metrics, trace
print(json.dumps({
    "calls": sorted(set(calls)), "azure": any(name.startswith("azure.monitor") for name in sys.modules),
    "threads": threads, "switches": sorted(n for n, v in os.environ.items() if "DISABLED" in n and v == "true"),
    "root": [repr(h) for h in logging.getLogger().handlers if h not in before],
    "meter": type(metrics.get_meter_provider()).__name__, "tracer": type(trace.get_tracer_provider()).__name__,
}))
"""


def process(received: Ingestion, storage: Path, how: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{REPO / 'service'}{os.pathsep}{REPO}"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(received.port), str(storage), how],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(running: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def test_with_nothing_configured_nobody_is_called_and_azure_is_not_imported(
    received: Ingestion, tmp_path: Path
) -> None:
    answer = told(process(received, tmp_path, "nothing"))
    assert answer["calls"] == []
    assert answer["azure"] is False


def test_no_host_but_the_configured_ones_is_called_and_no_global_is_taken(received: Ingestion, tmp_path: Path) -> None:
    answer = told(process(received, tmp_path, "push"))
    assert {call for call in answer["calls"] if "127.0.0.1" not in call} == set()
    assert answer["calls"], "the hook saw no call at all, so it proves nothing"
    # Side channels call later than a test may wait: their threads must not even be there.
    asked_for = told(process(received, tmp_path, "channels"))
    assert set(asked_for["threads"]) - set(answer["threads"]), "no side channel was seen where all are on"
    assert len(answer["threads"]) == 3, answer["threads"]  # the main one, the readers, the store of what failed
    assert answer["switches"] == [
        "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
        "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
        "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    ]
    assert asked_for["switches"] == []
    assert received.envelopes
    assert answer["root"] == []
    assert answer["meter"] == "_ProxyMeterProvider"
    assert answer["tracer"] == "ProxyTracerProvider"


def test_live_metrics_are_there_when_asked_for(received: Ingestion, tmp_path: Path) -> None:
    told(process(received, tmp_path, "live"))
    assert any("QuickPulse" in path for path in received.other)


def test_a_sigterm_loses_no_figure(received: Ingestion, tmp_path: Path) -> None:
    running = process(received, tmp_path, "sigterm")
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    assert received.envelopes == []
    assert received.otlp == []
    running.send_signal(signal.SIGTERM)
    told(running)
    declared = {one.name for one in i.CATALOGUE}
    assert received.azure_names() == declared
    assert set(received.otlp_metrics()) == declared


def test_an_event_arrives_as_a_custom_event_and_only_where_events_go(received: Ingestion, tmp_path: Path) -> None:
    with setup_telemetry(both(received, tmp_path)) as telemetry:
        telemetry.event("stocktake.finding", {"rule": "missing-owner", "key": "x" * 5000})
    (event,) = [one["data"]["baseData"] for one in received.envelopes if one["data"]["baseType"] == "EventData"]
    assert event["name"] == "stocktake.finding"
    assert event["properties"] == {"rule": "missing-owner", "key": "x" * 1024, "logger_name": "stocktake.events"}
    assert received.other == []
    before = len(received.envelopes)
    with setup_telemetry(TelemetryConfig()) as telemetry:
        telemetry.event("stocktake.finding", {"rule": "missing-owner"})
    assert len(received.envelopes) == before
