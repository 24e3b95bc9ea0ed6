"""The summary of a stock: what is counted, and what is never claimed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stocktake.core.assets import Asset, Kind, Lifecycle
from stocktake.reports.addresses import Roots, local_path
from stocktake.reports.places import Places
from stocktake.reports.stock import Stock
from tests.servers import folder as make
from tests.servers.folder import run_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def asset(kind: Kind, key: str, **values: Any) -> Asset:
    return Asset(kind=kind, key=key, **({"document": {"params": {"a": "1"}}} | values))


def a_run(key: str, **values: Any) -> Asset:
    told = {"partition": "1", "state": "FINISHED", "params_digest": "d1", "started_at": NOW - timedelta(days=9)}
    return asset(Kind.RUN, key, **(told | values))


def counted(*assets: Asset) -> dict[str, int]:
    stock = Stock(NOW)
    for one in assets:
        stock.add(one)
    return {one.figure: one.count for one in stock.figures(str) if one.count}


def test_runs_are_counted_by_what_became_of_them() -> None:
    gone = Lifecycle.DELETED
    figures = counted(
        asset(Kind.EXPERIMENT, "1", name="a"),
        asset(Kind.EXPERIMENT, "2", name="a", lifecycle=gone),
        a_run("r1", params_digest="x"),
        a_run("r2", state="FAILED"),
        a_run("r3", state="KILLED"),
        a_run("r4", lifecycle=gone),
        a_run("r5", partition="2", params_digest="y"),
    )
    assert figures == {
        "experiment.total": 2, "experiment.deleted": 1, "experiment.same_name": 1, "run.total": 5, "run.finished": 3,
        "run.failed": 1, "run.killed": 1, "run.deleted": 1, "run.in_deleted_experiment": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "stale"),
    [
        ({"state": "RUNNING"}, 1),
        ({"state": "SCHEDULED"}, 1),
        ({"state": "RUNNING", "started_at": None}, 1),
        ({"state": "RUNNING", "started_at": NOW - timedelta(days=6)}, 0),
        ({"state": "RUNNING", "lifecycle": Lifecycle.DELETED}, 0),
        ({"state": "FINISHED"}, 0),
    ],
)
def test_a_run_that_runs_for_more_than_a_week_is_stale(values: dict[str, Any], stale: int) -> None:
    assert counted(a_run("r", **values)).get("run.stale", 0) == stale


@pytest.mark.parametrize(
    ("values", "repeats"),
    [
        ({}, 1),
        ({"params_digest": "d2"}, 0),
        ({"partition": "2"}, 0),
        ({"code_version": "abc"}, 0),
        ({"data_version": "iris@1"}, 0),
        ({"parent": "p"}, 0),
        ({"state": "FAILED"}, 0),
        ({"lifecycle": Lifecycle.DELETED}, 0),
        ({"document": {"params": {}}}, 0),
    ],
)
def test_a_run_repeats_another_only_if_everything_is_the_same(values: dict[str, Any], repeats: int) -> None:
    assert counted(a_run("r1"), a_run("r2", **values)).get("run.duplicate", 0) == repeats


def test_what_a_version_or_a_child_refers_to_and_is_not_there_is_counted() -> None:
    version = asset(Kind.MODEL_VERSION, "owl/1", run="r1"), asset(Kind.MODEL_VERSION, "owl/2", run="gone")
    figures = counted(*version, a_run("r1"), a_run("r2", parent="r1"), a_run("r3", parent="lost", state="FAILED"))
    assert figures["model_version.run_missing"] == figures["run.parent_missing"] == 1


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///home/ann/my%20work/mlruns/1/r/artifacts", "/home/ann/my work/mlruns/1/r/artifacts"),
        ("file:///C:/repos/mlruns/1", "C:/repos/mlruns/1"),
        ("C:\\repos\\mlruns\\1", "C:/repos/mlruns/1"),
        ("./mlruns/1", "mlruns/1"),
        ("mlruns/1", "mlruns/1"),
        ("/data/mlruns/1", "/data/mlruns/1"),
        ("s3://bucket/1", None),
        ("mlflow-artifacts:/1/r/artifacts", None),
        ("runs:/r/model", None),
    ],
)
def test_an_address_is_the_path_that_its_machine_knew(address: str, path: str | None) -> None:
    assert local_path(address) == path


def test_a_folder_that_was_moved_is_recognised_by_its_experiments_and_another_place_is_not() -> None:
    roots = Roots("/here/mlruns")
    for experiment, address in (("1", "file:///C:/old/mlruns/1"), ("2", "./mlruns/2")):
        root = roots.candidate(experiment, address)
        assert root is not None
        roots.add(root)
    assert roots.candidate("3", "file:///srv/artifacts/3") is None
    assert roots.candidate("3", "file:///srv/mlruns/4") is None
    assert roots.candidate("3", None) is None
    assert roots.inside("file:///C:/old/mlruns/x/artifacts") == "x/artifacts"
    assert roots.inside("mlruns/2/r") == "2/r"
    assert roots.inside("/here/mlruns/1/r") == "1/r"
    assert roots.inside("/here/mlruns/../../etc/passwd") is None
    assert roots.inside("file:///srv/artifacts/3/r") is None
    assert roots.maybe(f"file:///srv/artifacts/3/{run_id(7)}/artifacts") == f"3/{run_id(7)}/artifacts"


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    make.small_store(tmp_path / "mlruns")
    return tmp_path / "mlruns"


@pytest.fixture
def places(mlruns: Path) -> Iterator[Places]:
    made = Places(mlruns)
    made.add(asset(Kind.EXPERIMENT, "1", artifact_uri="file:///elsewhere/mlruns/1"))
    yield made
    made.close()


def orphan(mlruns: Path, name: str, *, days: int = 30) -> str:
    """The artifacts of a run that is not there; returns where."""
    file = make.write(mlruns / name / "artifacts" / "model" / "weights", "x" * 1000)
    at = time.time() - days * 86400
    for path in (file, *file.relative_to(mlruns).parents):
        if str(path) != ".":
            os.utime(mlruns / path, (at, at))
    return name


def found(places: Places, *, complete: bool = True) -> dict[str, tuple[int, int | None]]:
    figures = places.figures(datetime.now(UTC), str, complete=complete)
    return {one.figure: (one.count, one.bytes) for one in figures if one.figure != "folder.total"}


def test_a_folder_that_nothing_refers_to_is_an_orphan_with_its_bytes(mlruns: Path, places: Places) -> None:
    places.note("folder of a run that is not there", orphan(mlruns, f"1/{run_id(9)}"))
    places.note("folder of a run outside any experiment", orphan(mlruns, run_id(8)))
    assert found(places) == {"folder.orphaned": (2, 2000)}


def test_unknown_is_not_orphan(mlruns: Path, places: Places) -> None:
    places.note("folder of a run that is not there", orphan(mlruns, f"1/{run_id(9)}", days=3))
    assert found(places) == {"folder.unsure": (1, 1000)}


def test_nothing_is_an_orphan_where_not_everything_was_read(mlruns: Path, places: Places) -> None:
    places.note("folder of a run that is not there", orphan(mlruns, f"1/{run_id(9)}"))
    assert found(places, complete=False) == {"folder.unsure": (1, 1000)}


def test_what_belongs_to_nothing_is_of_no_known_class(mlruns: Path, places: Places) -> None:
    places.note("folder that belongs to nothing", orphan(mlruns, ".ipynb_checkpoints"))
    assert found(places) == {}


@pytest.mark.parametrize(
    "address",
    [
        f"file:///elsewhere/mlruns/{run_id(9)}/artifacts",
        f"file:///elsewhere/mlruns/{run_id(9)}",
        f"file:///elsewhere/mlruns/.trash/../{run_id(9)}/artifacts/model",
    ],
)
def test_a_folder_that_a_run_or_a_version_refers_to_is_none(mlruns: Path, places: Places, address: str) -> None:
    places.note("folder of a run outside any experiment", orphan(mlruns, run_id(9)))
    places.add(a_run(run_id(1), artifact_uri=address))
    orphaned = found(places).get("folder.orphaned")
    assert orphaned == ((1, 1000) if ".." in address else None)


def test_a_version_may_be_all_that_refers_to_the_files_of_a_run_that_was_removed(mlruns: Path, places: Places) -> None:
    where = orphan(mlruns, f"1/{run_id(9)}")
    places.note("folder of a run that is not there", where)
    version = asset(Kind.MODEL_VERSION, "owl/1", artifact_uri=f"file:///elsewhere/mlruns/{where}/artifacts/model")
    places.add(version)
    assert found(places) == {}


def test_files_that_something_refers_to_and_are_not_there_are_missing(mlruns: Path, places: Places) -> None:
    places.add(asset(Kind.MODEL_VERSION, "owl/1", artifact_uri=f"runs:/{run_id(1)}/model"))
    places.add(asset(Kind.MODEL_VERSION, "owl/2", artifact_uri=f"runs:/{run_id(2)}/model"))
    places.add(asset(Kind.MODEL_VERSION, "owl/3", artifact_uri="runs:/unknown/model"))
    make.write(mlruns / "1" / run_id(2) / "artifacts" / "model" / "MLmodel", "x")
    for number in (1, 2):
        address = f"file:///elsewhere/mlruns/1/{run_id(number)}/artifacts"
        tags = {"mlflow.log-model.history": '[{"artifact_path": "model"}]'}
        places.add(a_run(run_id(number), artifact_uri=address, document={"params": {}, "tags": tags}))
    (missing,) = [one for one in places.figures(NOW, str, complete=True) if one.figure == "folder.missing"]
    assert missing.examples == (
        f"1/{run_id(1)}/artifacts/model (of run {run_id(1)})",
        f"1/{run_id(1)}/artifacts/model (of model version owl/1)",
    )


def test_files_that_lie_elsewhere_are_neither_looked_for_nor_missing(mlruns: Path, places: Places) -> None:
    for number, address in enumerate(("s3://bucket/1/r/artifacts", f"/srv/artifacts/1/{run_id(2)}/artifacts"), start=1):
        tags = {"mlflow.log-model.history": '[{"artifact_path": "model"}]'}
        places.add(a_run(run_id(number), artifact_uri=address, document={"params": {}, "tags": tags}))
    assert found(places) == {"folder.elsewhere": (2, None)}


def test_no_size_is_taken_of_what_a_link_points_to(mlruns: Path, places: Places, tmp_path: Path) -> None:
    make.write(tmp_path / "big" / "file", "x" * 10_000)
    (mlruns / "1" / run_id(1) / "artifacts").symlink_to(tmp_path / "big")
    (mlruns / "1" / run_id(9)).symlink_to(tmp_path / "big")
    assert places.size(f"1/{run_id(1)}").bytes < 1000
    assert places.size(f"1/{run_id(9)}").bytes == 0
