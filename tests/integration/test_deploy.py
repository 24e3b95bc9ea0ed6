"""What deploy/ ships, tried with the tools it is for: promtool, a real Prometheus, the Kusto language service."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from stocktake.core.rules import Words
from stocktake.rules import RULES
from stocktake.store.finding_list import FindingRow
from stocktake.telemetry import TelemetryConfig, setup_telemetry
from stocktake.telemetry import instruments as i
from stocktake.telemetry.reference import samples
from stocktake.web import Check, create_app, serve
from stocktake.wiring import _event
from tests.unit.figures import make_scan, tell_everything

AT = datetime(2026, 5, 1, tzinfo=UTC)
FINDING = FindingRow(
    id=1, fingerprint="f", workspace="w", rule="missing-owner", severity="info", kind="run", key="k", name=None,
    owner=None, state="open", since=AT, inherited=False, first_seen=AT, last_seen=AT, opened_at=AT, resolved_at=None,
    acknowledged_at=None, waived_until=None, evidence={}, change=None, actor=None, actor_source=None, scan=1,
)  # fmt: skip
REPO = Path(__file__).resolve().parents[2]
DEPLOY = REPO / "deploy"
KQL = REPO / "tests" / "kql"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install --no-install-recommends prometheus"
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is missing: apt-get install --no-install-recommends prometheus",
)
needs_kusto = pytest.mark.skipif(
    shutil.which("node") is None or not (KQL / "node_modules").is_dir(),
    reason="the Kusto language service is missing: npm ci --prefix tests/kql",
)


def run(*command: str | Path, given: str = "") -> str:
    parts = [str(part) for part in command]
    done = subprocess.run(parts, check=False, input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def load(name: str) -> Any:
    return json.loads((DEPLOY / name).read_text(encoding="utf-8"))


def exposed() -> set[str]:
    """Every sample name of a real exposition in which every instrument tells something."""
    with setup_telemetry(TelemetryConfig()) as telemetry:
        telemetry._state.exporter("otlp")
        tell_everything(telemetry)
        text = telemetry.prometheus().decode()
    return set(re.findall(r"^(stocktake_\w+)", text, re.MULTILINE))


def panel_queries() -> dict[str, str]:
    """The dashboard's PromQL, with its variables filled in as Grafana does."""
    found: dict[str, str] = {}
    for panel in load("grafana/dashboard.json")["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$workspace", ".*").replace("$__rate_interval", "1m")
            found[f"{panel['title']} {target['refId']}"] = query
    return found


def alert_queries() -> dict[str, str]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def workbook_queries() -> dict[str, str]:
    """The workbook's KQL, with its parameters filled in as the portal does."""
    found: dict[str, str] = {}
    for item in load("azure/workbook.json")["items"]:
        for one in [item["content"], *item["content"].get("parameters", ())]:
            if "query" in one:
                query = one["query"].replace("{TimeRange:grain}", "5m").replace("{TimeRange}", "> ago(1d)")
                found[one.get("name") or item["name"]] = query.replace("{Workspace}", "'*'")
    return found


def azure_alert_queries() -> dict[str, str]:
    """The KQL of the alert rules for Azure Monitor."""
    return {rule["name"]: "\n".join(rule["query"]) for rule in load("azure/alerts.json")}


def guide_queries() -> dict[str, str]:
    """The KQL that the guide tells people to type."""
    text = (REPO / "docs" / "how-to" / "azure-monitor.md").read_text(encoding="utf-8")
    return {f"guide {n}": query for n, query in enumerate(re.findall(r"```kusto\n(.*?)```", text, re.DOTALL))}


# -- every name is one we really export ----------------------------------------------------------------------------


@pytest.mark.parametrize("queries", [panel_queries, alert_queries])
def test_every_prometheus_name_that_is_used_is_exported(queries: Any) -> None:
    names = exposed()
    assert len(queries()) > 5
    for where, query in queries().items():
        used = set(re.findall(r"\bstocktake_\w+", query))
        assert used, f"{where} asks for nothing of ours"
        assert used <= names, f"{where} uses {used - names}"


def test_every_label_that_is_used_is_declared() -> None:
    declared = {sample: set(one.attributes) | {"le"} for one in i.CATALOGUE for sample in samples(one)}
    for where, query in {**panel_queries(), **alert_queries()}.items():
        for name, matchers in re.findall(r"(stocktake_\w+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert used <= declared[name], f"{where} asks {name} for {used - declared[name]}"


def test_every_azure_name_and_dimension_that_is_used_is_declared() -> None:
    declared = {one.name: set(one.attributes) for one in i.CATALOGUE}
    declared["stocktake.finding"] = set(_event(FINDING, "title", by_azure=True))  # an event
    assert len(workbook_queries()) > 10
    assert len(azure_alert_queries()) > 5
    for where, query in {**workbook_queries(), **azure_alert_queries()}.items():
        names = set(re.findall(r"'(stocktake\.[a-z._]+)'", query))
        assert names, f"{where} asks for nothing of ours"
        assert names <= set(declared), f"{where} uses {names - set(declared)}"
        for dimension in re.findall(r"customDimensions\['(\w+)'\]", query):
            assert any(dimension in declared[name] for name in names), f"{where} asks for {dimension}"


# -- the files are whole -------------------------------------------------------------------------------------------


def test_the_dashboard_is_whole() -> None:
    dashboard = load("grafana/dashboard.json")
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"]["uid"] == "${datasource}"  # no data source of ours in it


def test_the_template_holds_the_workbook_as_it_is() -> None:
    spec = importlib.util.spec_from_file_location("pack", DEPLOY / "azure" / "pack.py")
    assert spec is not None
    assert spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    assert load("azure/azuredeploy.json") == pack.template(load("azure/workbook.json")), "python deploy/azure/pack.py"
    assert load("azure/alerts.deploy.json") == pack.alerts(load("azure/alerts.json")), "python deploy/azure/pack.py"
    for rule in load("azure/alerts.json"):
        made = re.split(r"\| (?:project|summarize) ", "\n".join(rule["query"]))[-1]
        assert all(re.search(rf"\b{name}\b", made) for name in rule["dimensions"]), rule["name"]
    (resource,) = load("azure/azuredeploy.json")["resources"]
    assert resource["type"] == "Microsoft.Insights/workbooks"
    serialized = resource["properties"]["serializedData"]
    assert not serialized.startswith("["), "ARM would take it for an expression"
    assert json.loads(serialized) == load("azure/workbook.json")


def test_the_workbook_has_unique_names_and_known_parameters() -> None:
    items = load("azure/workbook.json")["items"]
    names = [item["name"] for item in items]
    assert len(names) == len(set(names))
    (parameters,) = [item["content"]["parameters"] for item in items if item["type"] == 9]
    known = {parameter["name"] for parameter in parameters}
    for item in items:
        for used in re.findall(r"\{(\w+)(?::\w+)?\}", item["content"].get("query", "")):
            assert used in known, f"{item['name']} uses the parameter {used}"


def rule_queries() -> dict[str, str]:
    """The queries in the words of the rules, each between backticks."""
    found: dict[str, str] = {}
    for rule in RULES:
        words = " ".join(getattr(rule.words, name) for name in Words.__slots__)
        queries = re.findall(r"`((?:AzureActivity|Aml\w+) \|[^`]*)`", words)
        assert len(queries) == len(re.findall(r"(?:AzureActivity|Aml[A-Z]\w+) \|", words)), rule.id
        found |= {f"{rule.id}, query {number}": query for number, query in enumerate(queries, 1)}
    return found


# -- the tools -----------------------------------------------------------------------------------------------------


@needs_kusto
def test_the_kusto_language_service_accepts_every_query() -> None:
    wrong = {"wrong column": "customMetrics | where nam == 'x'", "wrong word": "customMetrics | summarise n = count()"}
    queries = {**workbook_queries(), **guide_queries(), **azure_alert_queries(), **rule_queries(), **wrong}
    told = json.loads(run("node", KQL / "check.mjs", given=json.dumps(queries)))
    assert all(told.pop(name) for name in wrong), "the check itself lets mistakes through"
    assert {name: errors for name, errors in told.items() if errors} == {}


@needs_promtool
def test_promtool_accepts_the_rules_and_the_configuration(tmp_path: Path) -> None:
    run("promtool", "check", "rules", "--lint-fatal", ALERTS)
    run("promtool", "check", "config", DEPLOY / "prometheus" / "scrape.yaml")
    rules = [{"record": f"test:{n}", "expr": query} for n, query in enumerate(panel_queries().values())]
    queries = tmp_path / "queries.yaml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("promtool", "check", "rules", queries)


@needs_promtool
def test_each_alert_fires_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    cases = (REPO / "tests" / "data" / "alerts_test.yaml").read_text(encoding="utf-8")
    for alert in alert_queries():
        assert alert in cases, f"{alert} has no case"
    file = tmp_path / "cases.yaml"
    file.write_text(cases.replace("- ALERTS", f"- {ALERTS}"))
    run("promtool", "test", "rules", file)


@needs_promtool
def test_promtool_finds_nothing_wrong_with_a_scrape() -> None:
    with setup_telemetry(TelemetryConfig()) as telemetry:
        telemetry._state.exporter("otlp")
        tell_everything(telemetry)
        text = telemetry.prometheus().decode()
    assert run("promtool", "check", "metrics", given=text).strip() == ""


# -- a real Prometheus ---------------------------------------------------------------------------------------------


class View:
    """Always well."""

    version = "0"
    heartbeat_limit = 60.0

    def heartbeat_age(self) -> float | None:
        return 0.0

    def ready(self) -> Sequence[Check]:
        return ()


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[httpx.Client]:
    """A real Prometheus with the rules of deploy/, scraping a real endpoint twice a second while figures come in."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stop = threading.Event()
    with setup_telemetry(TelemetryConfig()) as telemetry:
        telemetry._state.exporter("otlp")
        tell_everything(telemetry)
        with serve(create_app(View(), telemetry.prometheus), "127.0.0.1", 0, stop) as server:
            config = yaml.safe_load((DEPLOY / "prometheus" / "scrape.yaml").read_text(encoding="utf-8"))
            config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
            config["rule_files"] = [str(ALERTS)]
            config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{server.port}"]
            file = tmp_path / "prometheus.yml"
            file.write_text(yaml.safe_dump(config))
            command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'data'}"]
            with (tmp_path / "log").open("w") as log:
                process = subprocess.Popen(
                    [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
                )
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                    _wait(lambda: _samples(client, "count_over_time(stocktake_scans_total[1m]) >= 2"), tmp_path / "log")
                    tell_everything(telemetry)
                    telemetry.scan_finished(make_scan())
                    changed = 'stocktake_scans_total{mode="hot",state="complete"} >= 3'
                    _wait(lambda: _samples(client, changed), tmp_path / "log")
                    yield client
            finally:
                process.terminate()
                process.wait(20)


def _samples(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    try:
        answer = client.get("/api/v1/query", params={"query": query}).json()
    except (httpx.TransportError, ValueError):  # not up yet
        return []
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def _wait(done: Any, log: Path) -> None:
    deadline = time.monotonic() + 40
    pause = threading.Event()
    while not done():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        pause.wait(0.2)


@needs_prometheus
def test_every_panel_shows_something_in_a_real_prometheus(prometheus: httpx.Client) -> None:
    # Where nothing is an answer too: no scope is left out unless one is.
    empty = [where for where, query in panel_queries().items() if not _samples(prometheus, query)]
    assert empty == []
    rules = prometheus.get("/api/v1/rules").json()["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in rules for rule in group["rules"]}
    assert set(health) == set(alert_queries())
    assert set(health.values()) <= {"ok", "unknown"}  # unknown: not evaluated yet
