"""From a configuration to finished scans of Azure ML workspaces, over the loopback Azure. Troubles stay apart."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from stocktake.core.assets import Mode, ScanState
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.pipeline import ScanReport
from stocktake.settings import load_settings
from stocktake.sources.arm import ArmConfig
from stocktake.sources.azure_identity import CredentialConfig, Token
from stocktake.sources.azureml import AzureMl
from stocktake.wiring import App, open_app
from tests.azure.config import TOKEN, configuration
from tests.azure.server import AzureServer, served
from tests.servers.azureml import azureml_config
from tests.servers.reading import Clock, read


@pytest.fixture
def estate() -> Estate:
    return Estate(now=datetime.now(UTC))


@pytest.fixture
def azure(estate: Estate) -> Iterator[AzureServer]:
    for number, subscription in enumerate((0, 0, 1, 1)):
        estate.add_workspace(f"w{number}", subscription=subscription, group=f"ml{number}", size=Size(jobs=20))
    with served(estate) as server:
        yield server


@pytest.fixture
def app(azure: AzureServer, database_url: str, tmp_path: Path) -> Iterator[App]:
    known = [azure.estate.workspace(f"w{number}") for number in range(4)]
    written = configuration(known, arm=azure.arm, ca_file=str(azure.ca_file), schedule=("10m", "24h"))
    file = tmp_path / "stocktake.yaml"
    file.write_text(f"{written}\ndatabase: {database_url}\n", "utf-8")
    settings = load_settings(file, {"STOCKTAKE_DATA_DIR": str(tmp_path / "data")})
    with open_app(settings, environ={TOKEN: azure.token()}) as one:
        yield one


def scan_all(app: App, mode: Mode = Mode.SWEEP) -> dict[str, ScanReport]:
    names = [one.name for one in app.settings.workspaces]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(lambda name: app.scan(name, mode), names), strict=True))


def changes(app: App, workspace: str, *types: str) -> int:
    """How many changes of some types were published of a workspace."""
    with app.engine.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM inventory.change WHERE workspace = :name AND type = ANY(:types)"),
            {"name": workspace, "types": list(types)},
        )
        return int(found.scalar_one())


def figure(app: App, name: str, workspace: str) -> float:
    line = next(
        one
        for one in app.telemetry.prometheus().decode().splitlines()
        if one.startswith(f"{name}{{") and f'workspace="{workspace}"' in one
    )
    return float(line.rpartition(" ")[2])


def test_workspaces_of_two_subscriptions_are_scanned_side_by_side_and_completely(app: App, azure: AzureServer) -> None:
    reports = scan_all(app)
    assert {name: report.state for name, report in reports.items()} == dict.fromkeys(reports, ScanState.COMPLETE)
    assert reports["w0"].counts["seen"] > 100
    assert 0 < figure(app, "stocktake_source_budget_used", "w0") < 0.01
    assert figure(app, "stocktake_source_throttled_total", "w0") == 0
    again = scan_all(app)
    assert {report.state for report in again.values()} == {ScanState.COMPLETE}
    assert changes(app, "w0", "deleted", "purged") == 0


def test_half_of_the_subscriptions_denied_leaves_the_other_half_complete_and_deletes_nothing(
    app: App, azure: AzureServer
) -> None:
    scan_all(app)
    denied = azure.estate.workspace("w2").subscription
    azure.estate.deny(f"/subscriptions/{denied}")
    reports = scan_all(app)
    assert [reports[name].state for name in ("w0", "w1")] == [ScanState.COMPLETE] * 2
    for name in ("w2", "w3"):
        assert reports[name].state is ScanState.FAILED
        assert "lacks Microsoft.MachineLearningServices/workspaces/read on" in str(reports[name].error)
        assert changes(app, name, "deleted", "purged") == 0
        assert figure(app, "stocktake_workspace_observable", name) == 0
    azure.estate.allow(f"/subscriptions/{denied}")
    assert {report.state for report in scan_all(app).values()} == {ScanState.COMPLETE}
    assert changes(app, "w2", "restored", "created") == 0


def test_a_budget_that_is_used_up_leaves_the_rest_as_it_was_known(app: App, azure: AzureServer) -> None:
    scan_all(app)
    (w0, *rest) = app.settings.workspaces
    assert w0.azureml is not None
    small = w0.model_copy(update={"azureml": w0.azureml.model_copy(update={"budget": 12})})
    limited = replace(app, settings=app.settings.model_copy(update={"workspaces": (small, *rest)}))
    report = limited.scan("w0", Mode.SWEEP)
    assert report.state is ScanState.PARTIAL
    assert "the budget of 12 requests" in str(report.error)
    assert changes(app, "w0", "deleted", "purged") == 0
    assert figure(app, "stocktake_source_budget_used", "w0") == 1.0


def test_what_is_read_and_by_whom_is_in_the_ledger_without_the_token(app: App, azure: AzureServer) -> None:
    app.scan("w0", Mode.SWEEP)
    with app.engine.connect() as connection:
        row = connection.execute(text("SELECT source, identity FROM inventory.scan")).one()
        uri = connection.execute(text("SELECT uri FROM public.workspace WHERE name = 'w0'")).scalar_one()
    assert row.source == "azureml"
    assert "token" in row.identity
    assert azure.token() not in row.identity
    assert uri.startswith(f"{azure.arm}/subscriptions/")
    assert uri.endswith("/workspaces/w0")


def test_a_token_that_ends_in_the_middle_of_a_scan_is_renewed_ahead_of_its_end(azure: AzureServer) -> None:
    estate = azure.estate
    token = Token(
        CredentialConfig(), "s/.default", credential=lambda _: azure.credential, clock=lambda: estate.now().timestamp()
    )
    azure.faults.latency(3400, estate.tick, "models", times=1)  # most of the hour that a token lives
    azure.faults.latency(3400, estate.tick, "experiments/search", times=1)
    config = azureml_config(azure, estate.workspace("w0"))
    http = replace(config.data_plane, token=token)
    clock = Clock()
    source = AzureMl(replace(config, arm=ArmConfig(http=http), data_plane=http), clock.now, sleep=clock.sleep)
    heard = read(source).heard
    source.close()
    assert [one.error for one in heard if one.error] == []
    assert len(azure.credential.asked) == 3
    assert azure.seen.count(status=401) == 0
