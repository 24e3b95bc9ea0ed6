"""Every schema revision that mlflow_database says it knows is read; any other is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from stocktake.core import canonical
from stocktake.core.assets import Kind, Lifecycle, ScopeState
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.mlflow_schema import REVISIONS, Schema, schema
from tests.servers.mlflow_revisions import CONTENT
from tests.servers.reading import Reading, database_source, read

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("revisions")
    command = [sys.executable, "-W", "ignore", "-m", "tests.servers.mlflow_revisions", str(made), *REVISIONS]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr[-4000:]
    return made


def reading(folder: Path, revision: str) -> Reading:
    with closing(database_source(f"sqlite:///{folder / revision}.db")) as source:
        return read(source)


def documents(found: Reading) -> dict[tuple[Kind, str], tuple[bytes, Lifecycle]]:
    return {
        (kind, key): (canonical.encode(asset.document), asset.lifecycle)
        for kind in Kind
        if kind is not Kind.WORKSPACE
        for key, asset in found.assets(kind).items()
    }


@pytest.fixture(scope="module")
def newest(folder: Path) -> Reading:
    return reading(folder, REVISIONS[-1])


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_is_read_of_a_revision_is_what_is_read_after_all_later_migrations(
    folder: Path, newest: Reading, revision: str
) -> None:
    found = reading(folder, revision)
    assert [(one.scope.kind, one.error, one.problems) for one in found.heard if one.error or one.problems] == []
    shown = documents(found)
    assert len(shown) >= 6
    assert shown.items() <= documents(newest).items()
    known = Schema(revision)
    offered = {Kind.TRACE: known.traces, Kind.LOGGED_MODEL: known.logged_models, Kind.WEBHOOK: known.webhooks}
    for kind, there in offered.items():
        assert {one.promise is not ScopeState.UNSUPPORTED for one in found.of(kind)} == {there}


def test_the_newest_shows_all_that_was_ever_filled_in(newest: Reading) -> None:
    runs, versions = newest.assets(Kind.RUN), newest.assets(Kind.MODEL_VERSION)
    assert runs.keys() == {letter * 32 for letter in "abcd"}  # and none of the other MLflow workspace
    assert newest.assets(Kind.EXPERIMENT).keys() == {"1", "2"}
    assert runs["a" * 32].document["metrics"]["bad"]["value"] == "NaN"
    assert runs["b" * 32].aside == {"deleted_time": 77}
    assert runs["c" * 32].data_version == "iris@abc"
    assert runs["d" * 32].aside == {"model_inputs": {"m-1": {}}, "model_outputs": {"m-1": {"step": 4}}}
    assert versions["m/1"].aside == {"storage_location": "s3://kept"}
    assert versions["aliased/1"].document["aliases"] == ["champion"]
    trace = newest.assets(Kind.TRACE)["tr-1"]
    assert trace.name == "answer"
    assert trace.document["trace_metadata"].keys() == {
        "mlflow.sourceRun", "mlflow.trace.session", "mlflow.trace.cost", "mlflow.trace.tokenUsage",
    }  # fmt: skip
    assert newest.assets(Kind.LOGGED_MODEL)["m-1"].document["metrics"]["f1"]["value"] == 0.6
    assert newest.assets(Kind.WEBHOOK).keys() == {"w"}
    assert set(CONTENT) <= set(REVISIONS)


def test_every_revision_of_the_installed_mlflow_is_known_from_the_oldest_on() -> None:
    """A new MLflow with a new schema fails here first: its migrations must be looked at before they are listed."""
    import mlflow.store.db_migrations as migrations

    scripts = ScriptDirectory(str(Path(next(iter(migrations.__path__)))))
    line = [script.revision for script in scripts.walk_revisions()][::-1]
    assert tuple(line[line.index(REVISIONS[0]) :]) == REVISIONS


@pytest.mark.parametrize("found", [["ffffffffffff"], ["451aebb31d03"], [], [REVISIONS[-1], REVISIONS[-2]]])
def test_any_other_revision_is_refused_with_a_way_out(found: list[str]) -> None:
    with pytest.raises(SourceError) as caught:
        schema(found)
    assert caught.value.trouble is Trouble.UNSUPPORTED
    assert "`uri`" in caught.value.next_step


def test_a_schema_that_is_not_what_its_revision_says_is_partial_not_empty(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / f"{REVISIONS[-1]}.db"
    broken.write_bytes((folder / f"{REVISIONS[-1]}.db").read_bytes())
    with closing(sqlite3.connect(broken)) as file, file:
        file.execute("ALTER TABLE latest_metrics RENAME COLUMN is_nan TO nan")
    found = reading(tmp_path, REVISIONS[-1])
    failed = [(one.scope.kind, one.error.trouble) for one in found.heard if one.error]
    assert failed == [(Kind.RUN, Trouble.SHAPE)]
