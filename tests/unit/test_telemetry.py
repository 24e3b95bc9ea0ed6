"""The catalogue, its page, and what the figures become."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stocktake.core.assets import Category, ChangeType, Kind, Lifecycle, Mode, ScanState, ScopeState
from stocktake.core.errors import ConfigError
from stocktake.core.findings import State
from stocktake.telemetry import (
    AzureMonitorConfig,
    OtlpConfig,
    ReceiverFigures,
    Telemetry,
    TelemetryConfig,
    setup_telemetry,
)
from stocktake.telemetry import instruments as i
from stocktake.telemetry.__main__ import BEGIN, END
from stocktake.telemetry.events import EVENTS
from stocktake.telemetry.reference import page, prometheus_name, samples
from tests.unit.figures import NOW, make_kind, make_outbox, make_scan, make_workspace, tell_everything

REPO = Path(__file__).resolve().parents[2]


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def telemetry(clock: Clock) -> Iterator[Telemetry]:
    with Telemetry(TelemetryConfig(), clock=clock) as made:
        yield made


def scrape(telemetry: Telemetry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a scrape; two samples of one series are an error here, as they are for Prometheus."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(telemetry.prometheus().decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} came twice"
            found[key] = sample.value
    return found


def figure(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return scrape(telemetry).get((name, frozenset(labels.items())))


# -- the catalogue and its page ------------------------------------------------------------------------------------


def test_the_page_tells_the_catalogue_row_by_row() -> None:
    text = (REPO / "docs" / "metrics.md").read_text(encoding="utf-8")
    written = text.split(BEGIN)[1].split(END)[0]
    assert written.strip().splitlines() == page().strip().splitlines(), (
        "renew it: python -m stocktake.telemetry --write docs/metrics.md"
    )


def test_the_page_names_no_instrument_that_is_not_declared() -> None:
    known = {one.name for one in i.CATALOGUE} | {"stocktake.telemetry"} | EVENTS
    known |= {name for one in i.CATALOGUE for name in (prometheus_name(one), *samples(one))}
    for page_name in ("metrics.md", "how-to/azure-monitor.md", "how-to/prometheus-grafana.md"):
        file = REPO / "docs" / page_name
        text = file.read_text(encoding="utf-8")
        for name in re.findall(r"\bstocktake_[a-z_]+|\bstocktake(?:\.[a-z_]+)+\b(?!\()", text):
            if not name.endswith((".md", ".py")):
                assert name in known, f"{file.name} names {name}"


def test_every_name_unit_and_attribute_is_well_formed() -> None:
    names = [one.name for one in i.CATALOGUE]
    assert len(names) == len(set(names))
    for one in i.CATALOGUE:
        assert re.fullmatch(r"stocktake(\.[a-z][a-z_]*)+", one.name)
        assert re.fullmatch(r"s|By|1|\{[a-z]+\}", one.unit)
        assert one.description.endswith(".")
        assert "|" not in one.description
        assert set(one.attributes) <= set(i.ATTRIBUTES)
        assert len(one.attributes) <= 10  # Azure Monitor's limit of dimensions
        assert bool(one.buckets) == (one.instrument is i.Instrument.HISTOGRAM)
        assert list(one.buckets) == sorted(set(one.buckets))


def test_no_attribute_can_name_a_run_an_asset_or_a_person() -> None:
    forbidden = {"run", "run_id", "key", "name", "asset", "user", "owner", "partition", "experiment", "scan", "uri"}
    assert not forbidden & set(i.ATTRIBUTES)
    open_lists = {name for name, attribute in i.ATTRIBUTES.items() if attribute.values is None}
    assert open_lists == {"workspace", "rule", "receiver", "version", "python"}  # names that the operator gave


def test_every_declared_instrument_is_exported_and_nothing_else(telemetry: Telemetry) -> None:
    telemetry._state.exporter("otlp")
    tell_everything(telemetry)
    exported = {name for name, _ in scrape(telemetry)} - {"target_info"}
    assert exported == {sample for one in i.CATALOGUE for sample in samples(one)}


def test_every_series_carries_exactly_the_declared_attributes(telemetry: Telemetry) -> None:
    telemetry._state.exporter("otlp")
    tell_everything(telemetry)
    declared = {sample: set(one.attributes) for one in i.CATALOGUE for sample in samples(one)}
    for name, labels in scrape(telemetry):
        if name != "target_info":
            assert {label for label, _ in labels} - {"le"} == declared[name]


def test_an_attribute_that_is_not_declared_raises(telemetry: Telemetry) -> None:
    with pytest.raises(i.UndeclaredAttribute, match=r"stocktake\.scans takes"):
        telemetry._add(i.SCANS, 1, {"workspace": "research", "mode": "hot", "state": "complete", "run": "abc"})
    with pytest.raises(i.UndeclaredAttribute):
        telemetry._record(i.SCAN_DURATION, 1, {"workspace": "research"})


def test_a_value_outside_its_list_adds_no_series() -> None:
    attributes = {"workspace": "research", "kind": "run-4711"}
    assert i.checked(i.SCAN_AGE, attributes) == {"workspace": "research", "kind": "_OTHER"}


# -- state ---------------------------------------------------------------------------------------------------------


def test_an_age_grows_while_nothing_happens(telemetry: Telemetry, clock: Clock) -> None:
    telemetry.inventory(make_workspace())
    labels = {"workspace": "research", "kind": "run"}
    assert figure(telemetry, "stocktake_scan_age_seconds", **labels) == 3600
    clock.now += 600
    assert figure(telemetry, "stocktake_scan_age_seconds", **labels) == 4200


def test_a_kind_never_completely_seen_is_as_old_as_the_watch(telemetry: Telemetry) -> None:
    telemetry.inventory(make_workspace(kinds=[make_kind(oldest_complete=None, scopes={ScopeState.FILTERED: 2})]))
    labels = {"workspace": "research", "kind": "run"}
    assert figure(telemetry, "stocktake_scan_age_seconds", **labels) == timedelta(days=2).total_seconds()
    assert figure(telemetry, "stocktake_scan_coverage", **labels) == 0


def test_a_source_clock_ahead_of_ours_makes_no_negative_age(telemetry: Telemetry) -> None:
    telemetry.inventory(make_workspace(kinds=[make_kind(oldest_complete=NOW + timedelta(hours=1))]))
    assert figure(telemetry, "stocktake_scan_age_seconds", workspace="research", kind="run") == 0


def test_a_kind_the_server_does_not_offer_tells_nothing(telemetry: Telemetry) -> None:
    unsupported = make_kind(Kind.WEBHOOK, scopes={ScopeState.UNSUPPORTED: 1}, assets={}, oldest_complete=None)
    telemetry.inventory(make_workspace(kinds=[make_kind(), unsupported]))
    assert not [key for key in scrape(telemetry) if ("kind", "webhook") in key[1]]


def test_coverage_is_the_share_of_complete_scopes(telemetry: Telemetry) -> None:
    scopes = {ScopeState.COMPLETE: 3, ScopeState.PARTIAL: 1, ScopeState.UNSUPPORTED: 4}
    telemetry.inventory(make_workspace(kinds=[make_kind(scopes=scopes)]))
    assert figure(telemetry, "stocktake_scan_coverage", workspace="research", kind="run") == 0.75


def test_a_state_left_behind_goes_to_nought_and_does_not_vanish(telemetry: Telemetry) -> None:
    labels = {"workspace": "research", "kind": "run", "state": "partial"}
    telemetry.inventory(make_workspace(kinds=[make_kind(scopes={ScopeState.PARTIAL: 2})]))
    assert figure(telemetry, "stocktake_scopes", **labels) == 2
    telemetry.inventory(make_workspace(kinds=[make_kind(scopes={ScopeState.COMPLETE: 2})]))
    assert figure(telemetry, "stocktake_scopes", **labels) == 0


def test_assets_that_were_never_looked_at_are_not_told_as_nought(telemetry: Telemetry) -> None:
    telemetry.inventory(make_workspace(kinds=[make_kind(assets={})]))
    assert figure(telemetry, "stocktake_assets", workspace="research", kind="run", lifecycle="active") is None
    telemetry.inventory(make_workspace(kinds=[make_kind(assets={Lifecycle.ACTIVE: 3})]))
    assert figure(telemetry, "stocktake_assets", workspace="research", kind="run", lifecycle="deleted") == 0


def test_gauges_stay_scrape_after_scrape_and_a_flush_doubles_nothing(telemetry: Telemetry) -> None:
    tell_everything(telemetry)
    first = scrape(telemetry)
    telemetry.flush()
    telemetry.flush()
    second = scrape(telemetry)
    assert first == second == scrape(telemetry)


def test_a_workspace_that_left_is_forgotten(telemetry: Telemetry) -> None:
    telemetry.inventory(make_workspace("archive"))
    telemetry.forget("archive")
    assert figure(telemetry, "stocktake_workspace_observable", workspace="archive") is None


def test_workspaces_past_the_limit_share_one_series(clock: Clock) -> None:
    with Telemetry(TelemetryConfig(workspace_limit=2), clock=clock) as telemetry:
        for number in range(5):
            observable = number != 3
            kinds = [make_kind(oldest_complete=NOW - timedelta(hours=number), assets={Lifecycle.ACTIVE: 10})]
            telemetry.inventory(make_workspace(f"w{number}", observable=observable, kinds=kinds))
            telemetry.scan_finished(make_scan(f"w{number}"))
        other = {"workspace": "_OTHER", "kind": "run"}
        assert figure(telemetry, "stocktake_assets", **other, lifecycle="active") == 30
        assert figure(telemetry, "stocktake_scan_age_seconds", **other) == 4 * 3600
        assert figure(telemetry, "stocktake_workspace_observable", workspace="_OTHER") == 0
        assert figure(telemetry, "stocktake_scans_total", workspace="_OTHER", mode="hot", state="complete") == 3
        workspaces = {value for _, labels in scrape(telemetry) for label, value in labels if label == "workspace"}
        assert workspaces == {"w0", "w1", "_OTHER"}


def test_the_heartbeat_ages(telemetry: Telemetry, clock: Clock) -> None:
    assert telemetry.heartbeat_age() is None
    telemetry.beat()
    clock.now += 42
    assert telemetry.heartbeat_age() == 42
    assert figure(telemetry, "stocktake_worker_heartbeat_age_seconds") == 42


# -- events --------------------------------------------------------------------------------------------------------


def test_the_first_failure_is_an_increase(telemetry: Telemetry) -> None:
    labels = {"workspace": "research", "mode": "sweep", "state": "failed"}
    telemetry.watching("research")
    assert figure(telemetry, "stocktake_scans_total", **labels) == 0


def test_a_scan_counts_its_changes_and_redactions(telemetry: Telemetry) -> None:
    telemetry.scan_finished(make_scan())
    telemetry.scan_finished(make_scan(state=ScanState.PARTIAL))
    assert figure(telemetry, "stocktake_scans_total", workspace="research", mode=Mode.HOT, state="partial") == 1
    change = {"kind": Kind.RUN, "type": ChangeType.CREATED, "category": Category.IDENTITY}
    assert figure(telemetry, "stocktake_changes_total", workspace="research", **change) == 10
    assert figure(telemetry, "stocktake_redactions_total", workspace="research", kind="run") == 4
    assert figure(telemetry, "stocktake_scan_duration_seconds_count", workspace="research", mode="hot") == 2


def test_requests_are_counted_by_class_of_answer(telemetry: Telemetry) -> None:
    tell_everything(telemetry)
    for status, count in {"2xx": 1, "4xx": 1, "none": 1}.items():
        assert figure(telemetry, "stocktake_source_requests_total", workspace="research", status_class=status) == count
    assert figure(telemetry, "stocktake_source_throttled_total", workspace="research") == 1
    assert figure(telemetry, "stocktake_source_retries_total", workspace="research") == 1
    assert figure(telemetry, "stocktake_source_read_bytes_total", workspace="research") == 1000
    assert figure(telemetry, "stocktake_source_request_duration_seconds_count", workspace="research") == 3


def test_scrapes_at_once_each_get_everything_once(telemetry: Telemetry) -> None:
    tell_everything(telemetry)
    whole = scrape(telemetry)
    answers: list[bool] = []

    def ask() -> None:
        answers.extend(scrape(telemetry) == whole for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 80


def test_the_prometheus_names_are_those_of_a_real_export(telemetry: Telemetry) -> None:
    telemetry._state.exporter("otlp")
    tell_everything(telemetry)
    text = telemetry.prometheus().decode()
    for one in i.CATALOGUE:
        assert f"# TYPE {prometheus_name(one)} " in text


# -- configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["collector:4317", "grpc://collector:4317", "http://", "http://me:pw@collector"])
def test_an_endpoint_that_cannot_serve_is_refused_with_a_next_step(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.otlp\.endpoint") as refused:
        setup_telemetry(TelemetryConfig(otlp=OtlpConfig(endpoint=endpoint)))
    assert "pw" not in str(refused.value)


def test_an_interval_of_nought_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.interval"):
        setup_telemetry(TelemetryConfig(interval=0))


def test_secrets_do_not_show_in_the_configuration() -> None:
    config = TelemetryConfig(
        otlp=OtlpConfig(endpoint="http://collector:4318", headers={"authorization": "Bearer hunter2"}),
        azure_monitor=AzureMonitorConfig(connection_string="InstrumentationKey=hunter2"),
    )
    assert "hunter2" not in repr(config)


def test_shutting_down_twice_is_harmless() -> None:
    telemetry = setup_telemetry(TelemetryConfig())
    telemetry.shutdown()
    telemetry.shutdown()


def test_the_budget_that_the_last_scan_used_is_told_until_the_workspace_leaves(telemetry: Telemetry) -> None:
    telemetry.scan_finished(make_scan())
    telemetry.scan_finished(replace(make_scan(), budget_used=0.75))
    assert figure(telemetry, "stocktake_source_budget_used", workspace="research") == 0.75
    assert figure(telemetry, "stocktake_source_waited_seconds_total", workspace="research") == 3.0
    telemetry.forget("research")
    assert "stocktake_source_budget_used" not in {name for name, _ in scrape(telemetry)}


def test_findings_that_are_left_behind_go_to_nought_and_do_not_vanish(telemetry: Telemetry) -> None:
    labels = {"workspace": "research", "rule": "missing-owner", "severity": "info"}
    for stands, number in ((State.OPEN, 2), (State.RESOLVED, 0)):
        telemetry.inventory(replace(make_workspace(), findings={("missing-owner", "info"): {stands: 2}}))
        assert figure(telemetry, "stocktake_findings", state="open", **labels) == number
    assert figure(telemetry, "stocktake_findings", state="resolved", **labels) is None


def test_a_head_that_nobody_publishes_has_no_age() -> None:
    now = [100.0]
    with Telemetry(TelemetryConfig(), clock=lambda: now[0]) as telemetry:
        assert not [name for name, _ in scrape(telemetry) if "evidence_head" in name]
        telemetry.head(86400.0)
        now[0] += 50
        assert figure(telemetry, "stocktake_evidence_head_age_seconds") == 50
        assert figure(telemetry, "stocktake_evidence_head_age_limit_seconds") == 86400


def test_a_receiver_goes_to_nought_and_does_not_vanish(telemetry: Telemetry, clock: Clock) -> None:
    telemetry.receivers(["ops", "team"])
    assert "stocktake_delivery_waiting" not in {name for name, _ in scrape(telemetry)}  # never read is not nought
    telemetry.outbox(make_outbox())
    clock.now += 60
    figures = {"delivery_waiting": 2, "delivery_oldest_age_seconds": 3660, "delivery_dead": 1, "receiver_resting": 1}
    for name, value in figures.items():
        assert figure(telemetry, f"stocktake_{name}", receiver="ops") == value
        assert figure(telemetry, f"stocktake_{name}", receiver="team") == 0
    telemetry.outbox(replace(make_outbox(), receivers=[]))
    clock.now += 60
    for name in figures:
        assert figure(telemetry, f"stocktake_{name}", receiver="ops") == 0


def test_receivers_that_the_configuration_does_not_name_share_one_series(telemetry: Telemetry) -> None:
    telemetry.receivers(["ops"])
    gone = [
        ReceiverFigures(receiver=f"gone{n}", waiting=1, oldest=NOW - timedelta(hours=n), dead=1, resting=True)
        for n in (1, 3, 2)
    ]
    telemetry.outbox(make_outbox(*gone))
    telemetry.attempted("gone1", "dead")
    assert figure(telemetry, "stocktake_delivery_waiting", receiver="_OTHER") == 3
    assert figure(telemetry, "stocktake_delivery_dead", receiver="_OTHER") == 3
    assert figure(telemetry, "stocktake_delivery_oldest_age_seconds", receiver="_OTHER") == 3 * 3600
    assert figure(telemetry, "stocktake_receiver_resting", receiver="_OTHER") is None  # nobody tries them
    assert figure(telemetry, "stocktake_delivery_attempts_total", receiver="_OTHER", outcome="dead") == 1
    assert {value for _, labels in scrape(telemetry) for label, value in labels if label == "receiver"} == {
        "ops",
        "_OTHER",
    }


def test_the_first_delivery_that_fails_is_an_increase(telemetry: Telemetry) -> None:
    telemetry.receivers(["ops"])
    for outcome in i.OUTCOMES:
        assert figure(telemetry, "stocktake_delivery_attempts_total", receiver="ops", outcome=outcome) == 0
    telemetry.attempted("ops", "failed")
    assert figure(telemetry, "stocktake_delivery_attempts_total", receiver="ops", outcome="failed") == 1


def test_planning_ages_until_it_is_done_again_and_has_no_age_where_nobody_is_told(
    telemetry: Telemetry, clock: Clock
) -> None:
    assert figure(telemetry, "stocktake_alerts_planning_age_seconds") is None
    telemetry.receivers(["ops"])
    clock.now += 400
    assert figure(telemetry, "stocktake_alerts_planning_age_seconds") == 400
    telemetry.planned()
    assert figure(telemetry, "stocktake_alerts_planning_age_seconds") == 0


def test_a_delivery_planned_by_a_clock_ahead_of_ours_has_no_negative_age(telemetry: Telemetry) -> None:
    telemetry.receivers(["ops"])
    telemetry.outbox(make_outbox(ReceiverFigures(receiver="ops", waiting=1, oldest=NOW + timedelta(minutes=1))))
    assert figure(telemetry, "stocktake_delivery_oldest_age_seconds", receiver="ops") == 0
