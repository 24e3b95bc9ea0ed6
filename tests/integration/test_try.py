"""`stocktake try PATH`, as a process of its own: what it says, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stocktake.cli.exits import ExitCode
from stocktake.cli.offers import found
from tests.contract.test_cli_reference import schema
from tests.contract.test_folder_is_read_only import tree
from tests.integration.test_mlflow_files import STORES, real, rows
from tests.servers import folder as make
from tests.servers.folder import run_id
from tests.servers.json_schema import problems as wrong
from tests.servers.shared import filled_server

SERVICE = Path(__file__).parents[2] / "service"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    def figures(self) -> dict[str, dict[str, Any]]:
        return {one["figure"]: one for one in json.loads(self.out)}


def environment(home: Path) -> dict[str, str]:
    ours = ("MLFLOW_", "STOCKTAKE_", "PG", "OTEL_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"HOME": str(home), "PYTHONPATH": str(SERVICE), "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"}


def stocktake(home: Path, *arguments: str | Path, cwd: Path | None = None) -> Answer:
    """Run a command with a home of its own, where it might leave something."""
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "stocktake", *map(str, arguments)]
    done = subprocess.run(
        command, env=environment(home), cwd=cwd or home, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    folder = make.small_store(tmp_path / "mlruns", runs=4)
    make.run(folder, 2, status=4)
    make.run(folder, 3, status=1, end_time=None)
    make.run(folder, 4, lifecycle_stage="deleted", deleted_time=make.STARTED)
    make.run(folder, 5, params={"db_password": "hunter2-Qx81zz", "lr": "0.1"})
    make.run(folder, 6, params={"lr": "0.1"})
    make.run(folder, 7, params={"lr": "0.1"})
    return tmp_path / "mlruns"


def test_it_tells_what_is_worth_knowing_and_leaves_nothing_behind(mlruns: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    before = tree(mlruns)
    answer = stocktake(home, "try", mlruns, "-o", "json")
    assert (answer.code, answer.err) == (ExitCode.COMPLETE, "")
    figures = answer.figures()
    for one in figures.values():
        assert list(wrong(one, schema()["$defs"]["figure"], schema())) == []
    counts = {name: one["count"] for name, one in figures.items()}
    assert counts == {
        "experiment.total": 2, "run.total": 7, "run.finished": 5, "run.failed": 1, "run.moving": 1, "run.deleted": 1,
        "run.stale": 1, "run.duplicate": 1, "secret.value": 1, "folder.total": len(list(mlruns.rglob("*.yaml"))) + 18,
    }  # fmt: skip
    assert figures["run.duplicate"]["examples"] == [f"{run_id(7)} repeats {run_id(6)}"]
    assert figures["secret.value"]["examples"] == [f"run {run_id(5)}: params.db_password"]
    assert figures["folder.total"]["bytes"] == sum(p.stat().st_size for p in mlruns.rglob("*") if p.is_file())
    assert "hunter2" not in answer.out
    assert tree(mlruns) == before
    assert list(home.iterdir()) == []


def test_a_table_for_people_and_lines_for_programs_say_the_same(mlruns: Path, tmp_path: Path) -> None:
    table, tsv = (stocktake(tmp_path / "home", "try", mlruns, "-o", how) for how in ("table", "tsv"))
    assert table.out.startswith(f"{mlruns}, seen completely:\n")
    assert "runs that have been running for more than 7 days" in table.out
    header, *lines = tsv.out.splitlines()
    assert header.split("\t") == ["figure", "meaning", "count", "bytes", "examples"]
    assert {line.split("\t")[0]: int(line.split("\t")[2]) for line in lines}["run.failed"] == 1


def test_what_could_not_be_read_is_said_and_ends_with_3(mlruns: Path, tmp_path: Path) -> None:
    make.write(mlruns / "1" / run_id(1) / "meta.yaml", "")
    answer = stocktake(tmp_path / "home", "try", mlruns, "-o", "json")
    assert answer.code == ExitCode.PARTIAL
    assert answer.figures()["problem"]["examples"] == [f"1/{run_id(1)}/meta.yaml is empty"]
    assert answer.figures()["run.total"]["count"] == 6
    assert "Not everything could be read" in answer.err


@pytest.mark.parametrize("what", ["nothing", "an empty folder", "text"])
def test_what_is_no_store_ends_with_4_and_one_clear_message(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if what == "an empty folder":
        path.mkdir()
    elif what == "text":
        path.write_text("hello")
    answer = stocktake(tmp_path / "home", "try", path)
    assert (answer.code, answer.out) == (ExitCode.FAILED, "")
    assert str(path) in answer.err
    assert "Name " in answer.err
    assert len(answer.err.splitlines()) == 1


def database(path: Path) -> Path:
    """A copy of a real server's database, under a name that an address cannot hold as it stands."""
    source = filled_server().server.folder / "mlflow.db"
    with closing(sqlite3.connect(source)) as theirs, closing(sqlite3.connect(path)) as ours:
        theirs.backup(ours)
    return path


def test_a_database_file_is_summed_up_too_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "a 100% café?"
    folder.mkdir()
    path = database(folder / "mlflow.db")
    before = tree(folder)
    answer = stocktake(tmp_path / "home", "try", path, "-o", "json")
    assert (answer.code, answer.err) == (ExitCode.COMPLETE, "")
    counts = {name: one["count"] for name, one in answer.figures().items()}
    assert {name: count for name, count in counts.items() if name.endswith((".total", ".deleted"))} == {
        "experiment.total": 3, "experiment.deleted": 1, "run.total": 6, "run.deleted": 2, "logged_model.total": 1,
        "registered_model.total": 2, "model_version.total": 3, "trace.total": 1,
    }  # fmt: skip
    assert counts["run.failed"] == counts["run.stale"] == 1
    assert "folder" not in answer.figures()["run.deleted"]["meaning"]  # it looked at none
    assert tree(folder) == before
    assert list((tmp_path / "home").iterdir()) == []


def test_a_file_that_is_no_database_of_mlflow_ends_with_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    answer = stocktake(tmp_path / "home", "try", path)
    assert (answer.code, answer.out) == (ExitCode.FAILED, "")
    assert str(path) in answer.err
    assert len(answer.err.splitlines()) == 1


def test_up_finds_the_database_too(tmp_path: Path) -> None:
    path = database(tmp_path / "mlflow.db")
    assert list(found(tmp_path)) == [("./mlflow.db", f"sqlite:///{path}")]


@pytest.mark.parametrize("name", STORES)
def test_a_real_store_is_summed_up_as_it_was_counted(name: str, tmp_path: Path) -> None:
    mlruns = real(name, tmp_path)
    (truth,) = rows("GROUNDTRUTH.tsv", name)
    figures = stocktake(tmp_path / "home", "try", mlruns, "-o", "json").figures()
    for figure, column in {
        "experiment.total": "exps_total", "experiment.deleted": "exps_deleted", "run.total": "runs_total",
        "run.deleted": "runs_deleted", "run.failed": "st_FAILED", "run.finished": "st_FINISHED",
        "odd.experiment_in_trash_that_says_it_is_active": "exps_trash_but_meta_active",
    }.items():  # fmt: skip
        assert figures.get(figure, {"count": 0})["count"] == int(truth[column]), figure
    apart = int(truth["runs_in_deleted_exps"]) - figures.get("run.in_deleted_experiment", {"count": 0})["count"]
    assert 0 <= apart <= int(truth["runs_deleted"])  # a run that is deleted itself is told there
    # Three folders of runs were counted outside any experiment; two are where runs in the trash say their files are.
    kept = figures.get("folder.orphaned", {"count": 0})["count"] + figures.get("folder.unsure", {"count": 0})["count"]
    assert kept == int(truth["orphan_artifact_dirs"]) - int(truth["runs_uri_elsewhere"])
    # ... which is why the models counted as missing beside those runs are not: they are found where the runs say.
    assert "folder.missing" not in figures


def test_up_finds_the_folder_that_lies_here_and_nothing_else(mlruns: Path) -> None:
    here = mlruns.parent
    assert list(found(here)) == [("./mlruns", str(here / "mlruns"))]
    (here / "mlflow.db").write_text("not a database")
    assert list(found(here)) == [("./mlruns", str(here / "mlruns"))]
    mlruns.rename(here / "other")
    mlruns.mkdir()
    assert list(found(here)) == []


def test_up_without_a_terminal_does_not_guess_whether_what_lies_here_is_meant(mlruns: Path, tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "stocktake", "up"], env=environment(home), cwd=mlruns.parent, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, ""), done.stderr
    assert f"MLFLOW_TRACKING_URI={mlruns} stocktake up" in done.stderr
    assert "stocktake up --demo" in done.stderr
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("way", ["Ctrl-C", "Ctrl-D"])
def test_leaving_at_the_question_of_up_is_no_error(mlruns: Path, tmp_path: Path, way: str) -> None:
    (home := tmp_path / "home").mkdir()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "stocktake", "up"], env=environment(home), cwd=mlruns.parent, stdin=theirs,
        stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        said = ""
        while "[Y/n]" not in said:
            said += os.read(ours, 4096).decode()
        if way == "Ctrl-C":
            process.send_signal(signal.SIGINT)
        else:
            os.write(ours, b"\x04")
        assert process.wait(60) == ExitCode.INTERRUPTED
        with contextlib.suppress(OSError):  # the end of a terminal that nobody holds
            while more := os.read(ours, 4096).decode():
                said += more
        assert said.partition("[Y/n]:")[2].replace("^D", "").strip("\b \r\n") == ""
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_up_asks_on_a_terminal_before_it_watches_what_lies_here(mlruns: Path, tmp_path: Path) -> None:
    """Said no to, it goes on to its demonstration, which a closed terminal ends."""
    home = tmp_path / "home"
    home.mkdir()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "stocktake", "up"]
    process = subprocess.Popen(
        command, env=environment(home), cwd=mlruns.parent, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    try:
        said = ""
        while "[Y/n]" not in said:
            said += os.read(ours, 4096).decode()
        assert "Found ./mlruns: `stocktake try ./mlruns` takes stock of it once" in said
        assert "Watch ./mlruns (read-only)?" in said
    finally:
        process.kill()
        process.wait()
        os.close(ours)
