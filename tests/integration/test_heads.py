"""Heads of the chain go where nobody who administers the database can rewrite them; findings are told once a day."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from stocktake import wiring
from stocktake.core import chain
from stocktake.core.errors import SourceError
from stocktake.making import head_container
from stocktake.reports import heads
from stocktake.reports.heads import Container
from stocktake.settings import Settings
from stocktake.store import chain_check
from tests.integration.ingestion import Ingestion, ingestion
from tests.integration.ondemand import storage_in
from tests.integration.registry import Registry, look
from tests.integration.scripted import KEY, World, scan
from tests.servers.azurite import Azurite, storage_token

SALTS = chain.salt_key(KEY)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with storage_in(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def container(storage: Azurite) -> Container:
    storage.put("heads", {})
    return Container(address=storage.container("heads"), token=storage_token, ca_file=str(storage.ca_file))


def test_a_head_names_each_workspace_and_one_digest_binds_them_all(engine: Engine) -> None:
    for name in ("b", "a"):
        world = World()
        world.add_run("run0")
        scan(engine, world, workspace=name)
    one = heads.head(engine, SALTS)
    said = json.loads(one.line)
    assert list(said["workspaces"]) == ["a", "b"]
    assert said["head"] == chain.head_of(one.workspaces) == one.digest
    assert heads.head(engine, SALTS).digest == one.digest  # nothing happened since
    world.add_run("run1")
    scan(engine, world, workspace="a")
    assert heads.head(engine, SALTS).digest != one.digest


def test_what_equal_passes_added_is_in_the_head(engine: Engine) -> None:
    from stocktake.core.assets import Mode

    world = World()
    world.add_run("run0")
    for mode in (Mode.SWEEP, Mode.HOT, Mode.HOT, Mode.HOT):
        scan(engine, world, mode)
    before = heads.head(engine, SALTS)
    with engine.connect() as connection, connection.begin():
        ((wid, name),) = chain_check.workspaces(connection)
        assert chain_check.check(connection, wid, name, SALTS, {}).waiting == 0
    scan(engine, world, Mode.HOT)
    assert heads.head(engine, SALTS).digest != before.digest


def test_heads_are_appended_and_nothing_before_them_is_touched(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    path.write_text("kept\n")
    one = heads.head(engine, SALTS)
    for _ in range(2):
        heads.to_file(path, one)
    assert path.read_bytes() == b"kept\n" + one.line * 2
    with pytest.raises(OSError, match="No such file"):
        heads.to_file(tmp_path / "nowhere" / "heads.jsonl", one)


def test_a_head_is_added_as_a_blob_and_never_written_over(
    engine: Engine, storage: Azurite, container: Container
) -> None:
    one = heads.head(engine, SALTS)
    before = storage.mark()
    name = heads.to_container(container, one)
    assert heads.to_container(container, replace(one, workspaces={"w": (9, "another")})) == name
    asked = storage.asked(before)
    assert {method for method, _ in asked} == {"PUT"}
    assert httpx.get(
        f"{container.address}/{name}",
        headers={"Authorization": f"Bearer {storage_token()}", "x-ms-version": "2021-12-02"},
        verify=ssl.create_default_context(cafile=str(storage.ca_file)),
    ).content == one.line  # fmt: skip


def test_a_container_that_refuses_or_is_not_there_is_told_in_words(
    engine: Engine, storage: Azurite, container: Container
) -> None:
    one = heads.head(engine, SALTS)
    stranger = replace(container, token=lambda: storage_token("https://elsewhere"))
    with pytest.raises(SourceError, match=r"refused the blob") as refused:
        heads.to_container(stranger, one)
    assert "right to add blobs" in refused.value.next_step
    missing = replace(container, address=storage.container("nowhere"))
    with pytest.raises(SourceError, match=r"answered 404 ContainerNotFound"):
        heads.to_container(missing, one)
    silent = replace(container, address="https://127.0.0.1:9/x/heads")
    with pytest.raises(SourceError, match=r"cannot be reached"):
        heads.to_container(silent, one)


def test_a_file_that_cannot_be_written_keeps_a_head_from_no_container(
    engine: Engine, storage: Azurite, container: Container, tmp_path: Path
) -> None:
    one = heads.head(engine, SALTS)
    with pytest.raises(OSError, match="No such file"):
        heads.publish(one, tmp_path / "nowhere" / "x", container)
    before = storage.mark()
    heads.to_container(container, one)  # it is there: refused as such
    assert [method for method, _ in storage.asked(before)] == ["PUT"]


def settings(database_url: str, tmp_path: Path, **more: object) -> Settings:
    made = Settings.model_validate({"database": database_url.replace("+psycopg", ""), **more})
    made._data_dir = tmp_path
    return made


def test_the_container_is_entered_by_the_identity_that_the_configuration_names(tmp_path: Path) -> None:
    made = settings(
        "postgresql://x@y/z",
        tmp_path,
        evidence={
            "container": {
                "address": "https://a.blob.core.windows.net/heads/",
                "credential": "token",
                "token_env": "HEADS_TOKEN",
            }
        },
    )
    assert made.evidence.container is not None
    found = head_container(made.evidence.container, {"HEADS_TOKEN": "secret-token-1"})
    assert (found.address, found.token()) == ("https://a.blob.core.windows.net/heads", "secret-token-1")
    assert "secret-token-1" not in repr(found)


@pytest.mark.parametrize(
    "address", ["http://a.blob.core.windows.net/heads", "https://a.blob.core.windows.net", "https://a/heads?sig=x"]
)
def test_an_address_that_is_no_container_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"evidence\.container\.address"):
        settings("postgresql://x@y/z", tmp_path, evidence={"container": {"address": address}})


def test_the_worker_publishes_and_the_age_of_the_last_is_a_figure(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    world = World()
    world.add_run("run0")
    scan(engine, world)
    made = settings(database_url, tmp_path, evidence={"file": str(tmp_path / "heads.jsonl"), "every": "12h"})
    with wiring.open_app(made, migrate_database=False, environ={"STOCKTAKE_REDACTION_KEY": KEY.hex()}) as app:
        assert b"stocktake_evidence_head_age_seconds" not in app.telemetry.prometheus()
        one = app.publish_head()
        assert b"stocktake_evidence_head_age_limit_seconds 43200.0" in app.telemetry.prometheus()
    assert (tmp_path / "heads.jsonl").read_bytes() == one.line


@pytest.fixture
def received() -> Iterator[Ingestion]:
    with ingestion() as made:
        yield made


@pytest.mark.parametrize(("findings", "alert"), [("list", "false"), ("alert", "true"), ("off", None)])
def test_each_open_finding_is_an_event_the_worst_first_up_to_a_limit(
    engine: Engine, database_url: str, tmp_path: Path, received: Ingestion, findings: str, alert: str | None
) -> None:
    world = Registry()
    for number in range(4):
        world.add_run(f"run{number}")
    world.registered["m"] = {"name": "m", "aliases": {}}
    look(engine, world)
    for number in range(4):
        world.runs[f"run{number}"]["params"]["lr"] = "1"
    look(engine, world)
    azure = {"connection_string_env": "CONNECTION", "findings": findings, "findings_at_most": 3}
    made = settings(database_url, tmp_path, telemetry={"azure_monitor": azure})
    environ = {
        "STOCKTAKE_REDACTION_KEY": KEY.hex(),
        "CONNECTION": received.connection_string,
    }
    with wiring.open_app(made, migrate_database=False, environ=environ) as app:
        told = app.tell_findings()
        assert app.settings.azure_alerts is (findings == "alert")
    events = [one["data"]["baseData"] for one in received.envelopes if one["data"]["baseType"] == "EventData"]
    if alert is None:
        assert (told, events) == (0, [])
        return
    assert told == 3
    *each, total = events
    assert {(one["name"], one["properties"]["rule"], one["properties"]["alert"]) for one in each} == {
        ("stocktake.finding", "run-edited-after-finish", alert)
    }
    assert total["name"] == "stocktake.findings.told"
    assert int(total["properties"]["findings"]) > 3
    assert total["properties"]["told"] == "3"


def test_moves_of_findings_are_counted_once(engine: Engine, database_url: str, tmp_path: Path) -> None:
    world = Registry()
    world.add_run("run0")
    look(engine, world)
    made = settings(database_url, tmp_path, workspaces=[{"name": "w", "mlflow": {"uri": "https://x.invalid"}}])
    with wiring.open_app(made, migrate_database=False, environ={"STOCKTAKE_REDACTION_KEY": KEY.hex()}) as app:
        app.refresh_figures("w")
        world.runs["run0"]["params"]["lr"] = "1"
        look(engine, world)
        for _ in range(2):
            app.refresh_figures("w")
        text = app.telemetry.prometheus().decode()
    (line,) = [one for one in text.splitlines() if one.startswith("stocktake_finding_transitions_total{")]
    assert 'rule="run-edited-after-finish",severity="warning",state="open",workspace="w"} 1.0' in line
    assert (
        'stocktake_findings{rule="run-edited-after-finish",severity="warning",state="open",workspace="w"} 1.0' in text
    )
    assert 'stocktake_rules_not_judged{workspace="w"}' in text
