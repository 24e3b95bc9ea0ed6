"""The source `mlflow_files` beside MLflow itself: the documents of a folder, read as files, are those that a server
gives after `mlflow migrate-filestore`, but for what is marked here as known to one of them only."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stocktake.core.assets import Kind, Lifecycle
from tests.needs import need
from tests.servers.content import V2, Content, Writer, fill, fill_more
from tests.servers.mlflow_server import mlflow_server
from tests.servers.reading import Reading, database_source, files_source, mlflow_source, read
from tests.servers.shared import filled_folder

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mlruns"
STORES = ("lostpet", "packt-hpo", "petrophysics")
_INFINITE = {1.7976931348623157e308: "Infinity", -1.7976931348623157e308: "-Infinity"}


def real(name: str, folder: Path) -> Path:
    """A real store, in a folder of the test's own."""
    source = SHARED / name
    need(source.is_dir(), f"the real stores are not here (../shared/data/mlruns/{name})")
    if (source / "data.tgz").is_file():
        with tarfile.open(source / "data.tgz") as archive:
            archive.extractall(folder, filter="data")
        return folder / "mlruns"
    copied = Path(shutil.copytree(source / "mlruns", folder / "mlruns"))
    for path in (copied, *copied.rglob("*")):
        path.chmod(0o755)
    return copied


def migrated(mlruns: Path, folder: Path) -> Reading:
    """What a server says of a folder that MLflow moved to a database."""
    with (
        mlflow_server(folder / "server", backend=migrate(mlruns, folder)) as server,
        closing(mlflow_source(server.uri)) as source,
    ):
        return read(source)


def migrate(mlruns: Path, folder: Path) -> str:
    """Let MLflow move a copy of a folder to a database; returns its address."""
    copied = Path(shutil.copytree(mlruns, folder / "copy"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    env |= {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "migrate-filestore", "--source", str(copied)]
    command += ["--target", f"sqlite:///{folder / 'mlflow.db'}", "--no-progress"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return f"sqlite:///{folder / 'mlflow.db'}"


def documents(reading: Reading, kind: Kind) -> dict[str, dict[str, Any]]:
    return {key: dict(asset.document) for key, asset in reading.assets(kind).items()}


def as_migrated(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of the folder with what the migration loses: it reads values as text files, whose lines end in \\n."""
    told = dict(document)
    told["tags"] = {key: value.replace("\r\n", "\n") for key, value in told["tags"].items()}
    return told


def as_files(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of the database without what the migration made up: it has no word for infinity."""
    told = dict(document)
    for metric in (told.get("metrics") or {}).values():
        metric["value"] = _INFINITE.get(metric["value"], metric["value"])
    return told


KINDS = (Kind.EXPERIMENT, Kind.RUN, Kind.LOGGED_MODEL, Kind.REGISTERED_MODEL, Kind.MODEL_VERSION, Kind.TRACE)


@dataclass(frozen=True, slots=True)
class Ours:
    """A folder that MLflow wrote, read as files and as its migration."""

    files: Reading
    theirs: Reading
    content: Content
    gone_model: str  # a logged model that was deleted


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Ours:
    base = tmp_path_factory.mktemp("ours")
    content, mlruns = filled_folder().content, Path(shutil.copytree(filled_folder().path, base / "mlruns"))
    with mlflow_server(base, backend=str(mlruns), environment={"MLFLOW_ALLOW_FILE_STORE": "true"}) as server:
        writer = Writer(server.uri)
        points = [(1.0, 5, 2), (7.0, 9, 1), (3.0, 5, 2), (-1.0, 4, 2), (0.25, 1, 0)]
        metrics = [{"key": "many", "value": value, "timestamp": at, "step": step} for value, at, step in points]
        metrics += [{"key": "gone", "value": "NaN", "timestamp": 3, "step": 9}]
        metrics += [{"key": "low", "value": "-Infinity", "timestamp": 3, "step": -9}]
        tags = [{"key": "deep/er/tag", "value": "  spaces\r\nand lines\n"}, {"key": "empty", "value": ""}]
        batch = {"run_id": content.child, "metrics": metrics, "tags": tags, "params": [{"key": "a/b", "value": "1"}]}
        writer.send(f"{V2}/runs/log-batch", batch)
        on = {"dataset_name": "iris", "dataset_digest": "abc", "model_id": content.logged_model, "step": 4}
        for at, value in ((7, 0.5), (8, 0.75)):
            body = {"run_id": content.run, "key": "acc on data", "value": value, "timestamp": at}
            writer.send(f"{V2}/runs/log-metric", body | on)
        gone = writer.logged_model(content.experiment, content.child, "gone")
        writer.send(f"{V2}/logged-models/{gone}", {}, method="DELETE")
        version = {"name": "classifier", "version": "1"}
        writer.send(f"{V2}/model-versions/set-tag", version | {"key": "a", "value": "b"})
        stage = version | {"stage": "Production", "archive_existing_versions": False}
        writer.send(f"{V2}/model-versions/transition-stage", stage)
        writer.registered_model("thinned", content.run, versions=2)
        writer.send(f"{V2}/model-versions/delete", {"name": "thinned", "version": "1"}, method="DELETE")
        writer.close()
    return Ours(read(files_source(mlruns)), migrated(mlruns, base), content, gone)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_folder_reads_as_its_migration_does(ours: Ours, kind: Kind) -> None:
    only_files = {Kind.LOGGED_MODEL: {ours.gone_model}, Kind.MODEL_VERSION: {"thinned/1"}}.get(kind, set())
    want = {key: as_files(document) for key, document in documents(ours.theirs, kind).items()}
    assert want
    assert not only_files & want.keys()
    found = {key: as_migrated(it) for key, it in documents(ours.files, kind).items() if key not in only_files}
    assert found == want
    assert only_files <= ours.files.assets(kind).keys()


def test_what_only_the_folder_knows_stands_beside_the_document(ours: Ours) -> None:
    runs, versions = ours.files.assets(Kind.RUN), ours.files.assets(Kind.MODEL_VERSION)
    assert {key for key, run in runs.items() if run.aside.get("deleted_time", 0) > 10**12} == {
        ours.content.deleted_run,
        ours.content.run_of_deleted_experiment,
    }
    assert versions["plain/1"].aside == {"storage_location": f"runs:/{ours.content.run}/model"}
    assert versions["thinned/1"].lifecycle is Lifecycle.DELETED
    assert ours.files.assets(Kind.LOGGED_MODEL)[ours.gone_model].lifecycle is Lifecycle.DELETED
    assert [heard.problems for heard in ours.files.heard] == [[]] * len(ours.files.heard)


def test_a_folder_says_what_the_database_says_that_it_is_moved_to(tmp_path: Path) -> None:
    """Everything that both know: what the API hides too, and what stands beside the documents."""
    mlruns = tmp_path / "mlruns"
    with mlflow_server(tmp_path, backend=str(mlruns), environment={"MLFLOW_ALLOW_FILE_STORE": "true"}) as server:
        content = fill(server.uri, webhooks=False)
        fill_more(server.uri, content, folder=True)
    with closing(database_source(migrate(mlruns, tmp_path))) as source:
        theirs = read(source)
    files = read(files_source(mlruns))
    for kind in KINDS:
        want = {key: (as_files(one.document), dict(one.aside)) for key, one in theirs.assets(kind).items()}
        found = {key: (as_files(one.document), dict(one.aside)) for key, one in files.assets(kind).items()}
        assert want
        assert found == want


@pytest.mark.parametrize("name", STORES)
def test_a_real_folder_reads_as_its_migration_does(name: str, tmp_path: Path) -> None:
    """But for experiments in .trash that say they are active, which the migration brings back to life, and for times
    that old versions of MLflow did not write: the database then says that the experiment was made when it moved."""
    mlruns = real(name, tmp_path)
    files, began = read(files_source(mlruns)), time.time() * 1000
    theirs = migrated(mlruns, tmp_path)
    for kind in (Kind.EXPERIMENT, Kind.RUN):
        want = {key: as_files(document) for key, document in documents(theirs, kind).items()}
        if kind is Kind.EXPERIMENT:
            for key in want:
                if "creation_time" not in files.assets(kind)[key].document:
                    assert want[key].pop("creation_time") > began
                if (mlruns / ".trash" / key).is_dir():
                    assert want[key]["lifecycle_stage"] == "active"
                    want[key]["lifecycle_stage"] = "deleted"
        assert documents(files, kind) == want


def rows(table: str, name: str) -> list[dict[str, str]]:
    """The rows of a store in one of the tables that were counted without MLflow."""
    with (SHARED / table).open(newline="") as file:
        return [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["dataset"] == name]


@pytest.mark.parametrize("name", STORES)
def test_a_real_folder_holds_what_was_counted(name: str, tmp_path: Path) -> None:
    source = files_source(real(name, tmp_path))
    notes = Counter[str]()
    source.on_note = lambda kind, what, where: notes.update([what])
    reading = read(source)
    runs, experiments = reading.assets(Kind.RUN).values(), reading.assets(Kind.EXPERIMENT).values()
    assert [heard.problems for heard in reading.heard] == [[]] * len(reading.heard)
    state = Counter(run.state for run in runs)
    lifecycle = Counter(str(one.lifecycle) for one in runs)
    (truth,) = rows("GROUNDTRUTH.tsv", name)
    found = {
        "exps_total": len(experiments),
        "exps_deleted": sum(one.lifecycle is Lifecycle.DELETED for one in experiments),
        "exps_trash_but_meta_active": notes["experiment in .trash that says it is active"],
        "runs_total": len(runs),
        "runs_active": lifecycle["active"],
        "runs_deleted": lifecycle["deleted"],
        "st_RUNNING": state["RUNNING"],
        "st_FINISHED": state["FINISHED"],
        "st_FAILED": state["FAILED"],
        "params": sum(len(run.document["params"]) for run in runs),
        "metric_files": sum(len(run.document["metrics"]) for run in runs),
        "tags": sum(len(run.document["tags"]) for run in runs),
        "registered_models": len(reading.assets(Kind.REGISTERED_MODEL)),
        "logged_models": len(reading.assets(Kind.LOGGED_MODEL)),
        "dup_run_ids": notes["run that stands twice"],
        "bad_metric_lines": notes["line of a metric that is not understood"],
    }
    assert found == {key: int(truth[key]) for key in found}
    kinds = Counter(row["kind"] for row in rows("FINDINGS.tsv", name))
    assert notes["folder of a run outside any experiment"] == kinds["run_dir_outside_experiment"]
    assert notes["folder that belongs to nothing"] == kinds["unknown_dir_in_experiment"]
    assert notes["experiment in .trash that says it is active"] == kinds["exp_lifecycle_vs_location"]


@pytest.mark.parametrize("name", STORES)
def test_every_run_of_a_real_folder_is_what_was_counted(name: str, tmp_path: Path) -> None:
    runs = read(files_source(real(name, tmp_path))).assets(Kind.RUN)
    told = [
        (run.partition, key, run.state, str(run.lifecycle), *(len(run.document[one]) for one in _COUNTED))
        for key, run in runs.items()
    ]
    want = [
        (row["experiment_id"], row["run_id"], row["status"], row["lifecycle"], *(int(row[one]) for one in _COUNTED))
        for row in rows("RUNS.tsv", name)
    ]
    assert sorted(told) == sorted(want)


_COUNTED = ("params", "metrics", "tags")
