"""What no single answer shows: a server that goes away and comes back, a clock that is wrong, a right taken away."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from stocktake import pipeline
from stocktake.core.assets import Mode, ScanState
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.pipeline import ScanReport
from stocktake.sources.http import HttpConfig
from stocktake.sources.mlflow_rest import MlflowRest, MlflowRestConfig
from tests.faults.matrix import KEY, documents, scan
from tests.servers.content import V2, V3, Writer, fill
from tests.servers.mlflow_server import ADMIN, mlflow_server, stop
from tests.servers.recording_proxy import Reply, Seen, edit, recording_proxy, status
from tests.servers.shared import filled_server, server_with_users

CHANGES = ("created", "updated", "deleted", "restored", "purged")


def changes(report: ScanReport) -> dict[str, int]:
    return {kind: report.counts[kind] for kind in CHANGES if report.counts.get(kind)}


def test_a_server_restarted_in_the_middle_of_a_scan_loses_nothing(engine: Engine, tmp_path: Path) -> None:
    with mlflow_server(tmp_path) as first:
        fill(first.uri)
        with recording_proxy(first.uri) as proxy:
            assert scan(engine, proxy, Mode.SWEEP).state == ScanState.COMPLETE
            before = documents(engine)

            def fall(seen: Seen, ask: object) -> Reply | None:
                stop(first.process)
                return None

            proxy.fault("runs/search", fall, after=1)
            broken = scan(engine, proxy, Mode.SWEEP)
            proxy.clear()
            with mlflow_server(tmp_path) as second:
                proxy.upstream = second.uri
                clean = scan(engine, proxy, Mode.SWEEP)
    assert (broken.state, changes(broken)) == (ScanState.PARTIAL, {})
    assert broken.error is not None
    assert "broke the connection off" in broken.error
    assert (clean.state, changes(clean)) == (ScanState.COMPLETE, {})
    assert documents(engine) == before


def test_a_hot_pass_sees_runs_whose_clocks_are_ten_minutes_off(engine: Engine, tmp_path: Path) -> None:
    with mlflow_server(tmp_path) as server, recording_proxy(server.uri) as proxy:
        writer = Writer(server.uri)
        experiment = writer.experiment("by other clocks")
        scan(engine, proxy, Mode.SWEEP)
        for minutes in (-10, 10):
            run = writer.run(experiment, start=int((time.time() + minutes * 60) * 1000))
            assert changes(scan(engine, proxy, Mode.HOT)) == {"created": 1}
            assert ("run", run) in documents(engine)
        writer.close()


@pytest.mark.parametrize("gone", [True, False])
def test_a_run_that_seems_to_have_lost_its_params_is_asked_for_by_id(engine: Engine, gone: bool) -> None:
    with recording_proxy(filled_server().server.uri) as proxy:
        scan(engine, proxy, Mode.SWEEP)
        before = documents(engine)
        run = filled_server().content.run
        tear = edit(lambda page: {**page, "runs": [_without_data(one, run) for one in page.get("runs", [])]})
        nothing = Reply(headers={"content-type": "application/json"}, body=b"{}")
        proxy.fault("runs/search", lambda seen, ask: nothing if b"IN (" in seen.body else tear(seen, ask))
        if gone:
            error = b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'
            proxy.fault("runs/get", status(404, {"content-type": "application/json"}, error))
        torn = scan(engine, proxy, Mode.SWEEP)
    assert (torn.state, changes(torn)) == (ScanState.COMPLETE, {"purged": 1} if gone else {})
    assert before.keys() - documents(engine).keys() == ({("run", run)} if gone else set())


def _without_data(run: dict[str, Any], which: str) -> dict[str, Any]:
    return run | {"data": {}} if run["info"]["run_id"] == which else run


def test_a_right_taken_away_and_given_back_changes_nothing(engine: Engine) -> None:
    filled = server_with_users()
    admin = Writer(filled.server.uri, ADMIN)
    admin.send(f"{V2}/users/create", {"username": "mallory", "password": "mallory-password-1"})
    rights = [("experiment", filled.content.experiment), ("registered_model", "plain")]

    def right(verb: str) -> None:
        for kind, name in rights:
            body = {"username": "mallory", "resource_type": kind, "resource_id": name, "permission": "READ"}
            admin.send(f"{V3}/users/permissions/{verb}", body)

    def sweep() -> ScanReport:
        http = HttpConfig(base_url=filled.server.uri, username="mallory", password="mallory-password-1")
        return pipeline.scan(
            engine,
            lambda now: MlflowRest(MlflowRestConfig(http=http), now),
            workspace="w",
            source_name="mlflow_rest",
            uri="the server",
            mode=Mode.SWEEP,
            redactor=Redactor(KEY),
            key=KEY,
            guard=Guard(),
        )

    right("grant")
    sweep()
    before = documents(engine)
    assert ("run", filled.content.run) in before
    right("revoke")
    blind = sweep()
    assert changes(blind) == {}
    assert blind.counts["carried"] > 0
    assert documents(engine) == before
    right("grant")
    assert changes(sweep()) == {}
    assert documents(engine) == before
    admin.close()
