"""A folder scanned twice by the pipeline, with changes between: what happened is told, and nothing that did not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine

from stocktake import pipeline
from stocktake.core.assets import Kind, Mode, ScanState, ScopeState
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.sources.mlflow_files import MlflowFiles, MlflowFilesConfig
from stocktake.store import history
from tests.integration.scripted import KEY
from tests.integration.test_cli import configured
from tests.servers import folder as make
from tests.servers.folder import run_id


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    make.small_store(tmp_path / "mlruns", runs=12)
    make.run(make.experiment(tmp_path / "mlruns", "2"), 20)
    return tmp_path / "mlruns"


def scan(engine: Engine, mlruns: Path, mode: Mode = Mode.SWEEP) -> pipeline.ScanReport:
    return pipeline.scan(
        engine,
        lambda now: MlflowFiles(MlflowFilesConfig(folder=mlruns), now),
        workspace="archive",
        source_name="mlflow_files",
        uri=mlruns.as_uri(),
        mode=mode,
        redactor=Redactor(KEY),
        key=KEY,
        guard=Guard(),
    )


def told(engine: Engine) -> list[tuple[str, str, str]]:
    """What changed so far, in order, apart from what the folder says of itself."""
    with engine.connect() as connection:
        found = list(history.changes(connection))
    return sorted((one.kind, one.key, one.type) for one in found if one.kind != Kind.WORKSPACE)


def live(engine: Engine, kind: Kind = Kind.RUN) -> set[str]:
    with engine.connect() as connection:
        return {row.key for row in history.list_assets(connection, kind)}


def test_what_happened_in_a_folder_is_told(engine: Engine, mlruns: Path) -> None:
    first = scan(engine, mlruns)
    assert (first.state, first.counts["baseline"]) == (ScanState.COMPLETE, 3 + 13 + 1)
    assert scan(engine, mlruns).counts.get("updated", 0) == 0
    assert told(engine) == []

    make.run(mlruns / "1", 3, lifecycle_stage="deleted", deleted_time=make.STARTED)
    make.write(mlruns / "1" / run_id(4) / "tags" / "mlflow.user", "grace")
    make.run(mlruns / "1", 13)
    shutil.rmtree(mlruns / "1" / run_id(5))
    second = scan(engine, mlruns)
    assert second.state == ScanState.COMPLETE
    assert told(engine) == [
        ("run", run_id(3), "deleted"),
        ("run", run_id(4), "updated"),
        ("run", run_id(5), "purged"),
        ("run", run_id(13), "created"),
    ]
    with engine.connect() as connection:
        (deleted,) = [row for row in history.list_assets(connection, Kind.RUN) if row.key == run_id(3)]
    assert deleted.aside == {"deleted_time": make.STARTED}


def test_an_experiment_moved_to_the_trash_is_deleted_and_its_runs_stay_what_they_say(
    engine: Engine, mlruns: Path
) -> None:
    scan(engine, mlruns)
    (mlruns / ".trash").mkdir()
    (mlruns / "2").rename(mlruns / ".trash" / "2")
    assert scan(engine, mlruns).state == ScanState.COMPLETE
    assert told(engine) == [("experiment", "2", "deleted")]
    (mlruns / ".trash" / "2").rename(mlruns / "2")
    scan(engine, mlruns)
    assert told(engine) == [("experiment", "2", "deleted"), ("experiment", "2", "restored")]


@pytest.mark.parametrize("how", ["not there", "an empty mount point"])
def test_a_folder_that_is_not_mounted_is_unobservable_and_nothing_is_purged(
    engine: Engine, mlruns: Path, how: str
) -> None:
    scan(engine, mlruns)
    mlruns.rename(mlruns.with_name("away"))
    if how == "an empty mount point":
        mlruns.mkdir()
    for mode in Mode:
        report = scan(engine, mlruns, mode)
        assert report.state == ScanState.FAILED
        assert report.trouble == "not-found"
        assert str(mlruns) in (report.error or "")
        assert "mount" in (report.next_step or "")
    assert told(engine) == []
    assert len(live(engine)) == 13
    if mlruns.exists():
        mlruns.rmdir()
    mlruns.with_name("away").rename(mlruns)
    assert scan(engine, mlruns).state == ScanState.COMPLETE
    assert told(engine) == []


def test_a_broken_meta_makes_its_scope_partial_and_the_run_is_carried_forward(engine: Engine, mlruns: Path) -> None:
    scan(engine, mlruns)
    (mlruns / "1" / run_id(6) / "meta.yaml").unlink()
    shutil.rmtree(mlruns / "1" / run_id(7))
    report = scan(engine, mlruns)
    assert report.state == ScanState.PARTIAL
    assert f"1/{run_id(6)}/meta.yaml is missing" in (report.error or "")
    (scope,) = [one for one in report.scopes if one.state == ScopeState.PARTIAL]
    assert scope.kind == Kind.RUN
    assert told(engine) == []
    make.run(mlruns / "1", 6)
    assert scan(engine, mlruns).state == ScanState.COMPLETE
    assert told(engine) == [("run", run_id(7), "purged")]


def test_many_runs_gone_at_once_are_withheld_and_published_by_the_second_sweep(engine: Engine, mlruns: Path) -> None:
    scan(engine, mlruns)
    shutil.rmtree(mlruns / "1")
    report = scan(engine, mlruns)
    assert report.counts["withheld"] == 12
    assert {run_id(number) for number in range(1, 13)} <= live(engine)
    scan(engine, mlruns)
    assert live(engine) == {run_id(20)}


def test_a_hot_pass_sees_what_is_new_and_what_was_edited_lately(engine: Engine, mlruns: Path) -> None:
    scan(engine, mlruns)
    make.run(mlruns / "1", 13, status=1, end_time=None)
    make.write(mlruns / "1" / run_id(4) / "tags" / "note", "late")
    report = scan(engine, mlruns, Mode.HOT)
    assert report.state == ScanState.COMPLETE
    assert told(engine) == [("run", run_id(4), "updated"), ("run", run_id(13), "created")]


def test_another_folder_under_the_same_name_is_refused(engine: Engine, mlruns: Path, tmp_path: Path) -> None:
    scan(engine, mlruns)
    make.small_store(tmp_path / "other")
    refused = scan(engine, tmp_path / "other")
    assert (refused.state, "'archive' was read from" in str(refused.error)) == (ScanState.FAILED, True)
    assert len(live(engine)) == 13


def test_a_configured_folder_is_scanned_checked_and_listed(mlruns: Path, tmp_path: Path, database_url: str) -> None:
    words = f"database: {database_url}\nworkspaces:\n- name: archive\n  mlflow: {{folder: {mlruns}}}\n"
    cli = configured(tmp_path / "cli", words)
    assert cli.process("config", "check").code == 0
    first = cli.process("scan", "-o", "json")
    assert first.code == 0, first.err
    (report,) = first.json()
    assert (report["state"], report["seen"]) == ("complete", 17)
    listed = {row["key"]: row["partition"] for row in cli("list", "run", "-w", "archive", "-o", "json").json()}
    assert (len(listed), listed[run_id(20)]) == (13, "2")
    (status,) = cli("status", "-o", "json").json()
    assert (status["source"], status["uri"]) == ("mlflow_files", mlruns.as_uri())
    doctor = cli.process("doctor", "-w", "archive", "-o", "json")
    assert doctor.code == 0, doctor.out
    assert {one["check"]: one["level"] for one in doctor.json() if one["workspace"] == "archive"} == {
        "reach": "ok", "identity": "ok", "schedule": "ok",
    }  # fmt: skip
    mlruns.rename(mlruns.with_name("away"))
    answer = cli.process("config", "check")
    assert answer.code == 2
    assert "names a folder that is not there" in answer.err
    assert cli.process("scan").code == 4
