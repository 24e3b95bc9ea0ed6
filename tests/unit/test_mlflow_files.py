"""An `mlruns` folder with something wrong in it: said, never taken for "gone", and nothing else is hidden by it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stocktake.core import canonical
from stocktake.core.assets import Kind, Lifecycle, Mode
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.mlflow_files import MlflowFiles
from tests.servers import folder as make
from tests.servers.folder import run_id
from tests.servers.known import PlainKnown
from tests.servers.reading import Reading, files_source, read


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    make.small_store(tmp_path / "mlruns")
    return tmp_path / "mlruns"


class Look:
    """One pass over a folder, with what was noted."""

    def __init__(self, mlruns: Path) -> None:
        self.source: MlflowFiles = files_source(mlruns)
        self.noted: list[tuple[str, str]] = []
        self.source.on_note = lambda kind, what, where: self.noted.append((what, where))
        self.reading: Reading = read(self.source)

    @property
    def problems(self) -> list[str]:
        return [problem for heard in self.reading.heard for problem in heard.problems]

    def keys(self, kind: Kind = Kind.RUN) -> set[str]:
        return set(self.reading.assets(kind))

    def gone(self, kind: Kind, key: str) -> bool:
        """Whether the source says that it does not exist."""
        return self.source.confirm(kind, [key]) == {key: None}


Break = Callable[[Path], object]


def instead(make_it: Callable[[Path], object]) -> Break:
    """Put something else in a file's place."""

    def breaking(path: Path) -> None:
        path.unlink()
        make_it(path)

    return breaking


BROKEN_META: dict[str, tuple[Break, str]] = {
    "missing": (lambda path: path.unlink(), "is missing"),
    "empty": (lambda path: path.write_text(""), "is empty"),
    "blank": (lambda path: path.write_text(" \n\n"), "is empty"),
    "not yaml": (lambda path: path.write_text("a: [1, 2\nb: }"), "is not YAML"),
    "a reference to itself": (lambda path: path.write_text("a: &x [1]\nb: [*x, *x]\n"), "refers to itself"),
    "a list": (lambda path: path.write_text("- a\n- b\n"), "is not a map"),
    "text": (lambda path: path.write_text("hello"), "is not a map"),
    "binary": (lambda path: path.write_bytes(b"\x00\xff\xfe\x01"), "is not YAML"),
    "an object of Python": (lambda path: path.write_text("!!python/object/apply:os.getcwd []"), "is not YAML"),
    "a pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    "huge": (lambda path: path.write_bytes(b"a: '" + b"x" * (2 << 20) + b"'"), "is longer than"),
    "a link": (instead(lambda path: path.symlink_to("/etc/passwd")), "is a link"),
    "a folder": (instead(Path.mkdir), "is no plain file"),
    "a pipe": (instead(os.mkfifo), "is no plain file"),
}


def age(mlruns: Path) -> None:
    """Make everything an hour old: what was just written is read again, in case it is being written."""
    for path in (mlruns, *mlruns.rglob("*")):
        facts = path.lstat()
        os.utime(path, (facts.st_atime - 3600, facts.st_mtime - 3600), follow_symlinks=False)


@pytest.mark.parametrize("how", BROKEN_META)
def test_a_run_whose_meta_is_broken_is_a_problem_and_not_gone(mlruns: Path, how: str) -> None:
    breaking, words = BROKEN_META[how]
    breaking(mlruns / "1" / run_id(2) / "meta.yaml")
    age(mlruns)
    look = Look(mlruns)
    (problem,) = look.problems
    assert words in problem
    assert f"1/{run_id(2)}" in problem
    assert look.keys() == {run_id(1), run_id(3)}
    assert not look.gone(Kind.RUN, run_id(2))


@pytest.mark.parametrize("how", BROKEN_META)
def test_an_experiment_whose_meta_is_broken_still_shows_its_runs(mlruns: Path, how: str) -> None:
    breaking, words = BROKEN_META[how]
    breaking(mlruns / "1" / "meta.yaml")
    age(mlruns)
    look = Look(mlruns)
    (problem,) = look.problems
    assert words in problem
    assert look.reading.only(Kind.EXPERIMENT).problems == [problem]
    assert look.keys(Kind.EXPERIMENT) == {"0"}
    assert look.keys() == {run_id(1), run_id(2), run_id(3)}
    assert not look.gone(Kind.EXPERIMENT, "1")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"status": 9}, "status that MLflow does not know"),
        ({"lifecycle_stage": "gone"}, "neither active nor deleted"),
        ({"start_time": "yesterday"}, "start_time that is no whole number"),
        ({"run_id": run_id(7), "run_uuid": run_id(7)}, "another id than its folder"),
        ({"experiment_id": "0"}, "another experiment than the one it lies in"),
        ({"run_id": None, "run_uuid": None}, "another id than its folder"),
        ({"run_name": ["a"]}, "run_name that is no text"),
    ],
)
def test_a_run_that_says_what_cannot_be_is_a_problem(mlruns: Path, values: dict[str, Any], words: str) -> None:
    make.run(mlruns / "1", 2, **values)
    look = Look(mlruns)
    assert [words in problem for problem in look.problems] == [True]
    assert look.keys() == {run_id(1), run_id(3)}
    assert not look.gone(Kind.RUN, run_id(2))


def test_a_run_moved_into_another_experiment_is_said_and_not_gone(mlruns: Path) -> None:
    (mlruns / "1" / run_id(2)).rename(mlruns / "0" / run_id(2))
    look = Look(mlruns)
    assert look.problems == [f"0/{run_id(2)}/meta.yaml says another experiment than the one it lies in"]
    assert not look.gone(Kind.RUN, run_id(2))


@pytest.mark.parametrize("where", [".", ".trash"])
def test_a_run_outside_any_experiment_is_noted_and_not_gone(mlruns: Path, where: str) -> None:
    key = run_id(2).replace("0", "a")  # an id of digits alone would be an experiment's
    make.meta(mlruns / where / key, run_id=key, experiment_id="1", status=3)
    look = Look(mlruns)
    assert look.noted == [("run outside any experiment", f"{where}/{key}".removeprefix("./"))]
    assert look.problems == []
    assert not look.gone(Kind.RUN, key)


def test_names_of_any_bytes_are_said_as_text(mlruns: Path) -> None:
    shutil.copytree(mlruns / "1" / run_id(2), os.fsdecode(os.fsencode(mlruns / "1") + b"/caf\xe9"))
    make.write(Path(os.fsdecode(os.fsencode(mlruns / "1" / run_id(1)) + b"/tags/\xff")), "x")
    look = Look(mlruns)
    assert look.problems == ["1/caf\\udce9/meta.yaml says another id than its folder"]
    assert look.reading.assets(Kind.RUN)[run_id(1)].document["tags"] == {"mlflow.user": "ada", "\udcff": "x"}
    assert canonical.encode(look.reading.assets(Kind.RUN)[run_id(1)].document)


def test_an_input_whose_tags_are_no_map_is_read_without_them(mlruns: Path) -> None:
    make.meta(mlruns / "1" / "datasets" / "d1", name="iris", digest="abc", source_type="local", source="iris.csv")
    folder = mlruns / "1" / run_id(1) / "inputs"
    make.meta(folder / "i1", source_type="DATASET", source_id="d1", tags=["a"])
    make.meta(folder / "i2", source_type="DATASET", source_id="../../0", tags={})
    make.write(folder / "i3" / "meta.yaml", "[")
    look = Look(mlruns)
    assert set(look.reading.assets(Kind.RUN)[run_id(1)].document["inputs"]["datasets"]) == {"iris@abc"}
    assert sorted(look.noted) == [
        ("dataset of a run that is not there", f"1/{run_id(1)}/inputs/i2"),
        ("input or output of a run without a usable meta.yaml", f"1/{run_id(1)}/inputs/i3"),
    ]


def test_a_run_in_a_folder_of_another_name_is_not_gone(mlruns: Path) -> None:
    (mlruns / "1" / run_id(2)).rename(mlruns / "0" / "my best run")
    look = Look(mlruns)
    assert look.problems == ["0/my best run/meta.yaml says another id than its folder"]
    assert not look.gone(Kind.RUN, run_id(2))


def test_a_run_whose_folder_was_removed_is_gone(mlruns: Path) -> None:
    look = Look(mlruns)
    shutil.rmtree(mlruns / "1" / run_id(2))
    assert look.gone(Kind.RUN, run_id(2))
    assert not look.gone(Kind.RUN, run_id(3))


def test_an_experiment_in_the_trash_is_deleted_whatever_it_says(mlruns: Path) -> None:
    folder = make.experiment(mlruns, "2", trash=True)
    make.run(folder, 20)
    look = Look(mlruns)
    experiments = look.reading.assets(Kind.EXPERIMENT)
    assert experiments["2"].lifecycle is Lifecycle.DELETED
    assert experiments["2"].document["lifecycle_stage"] == "deleted"
    assert look.noted == [("experiment in .trash that says it is active", ".trash/2")]
    assert look.reading.assets(Kind.WORKSPACE)["server"].document["notes"] == {look.noted[0][0]: 1}
    assert look.reading.assets(Kind.RUN)[run_id(20)].partition == "2"
    assert look.problems == []


def test_an_id_live_and_in_the_trash_counts_once_and_shows_the_runs_of_both(mlruns: Path) -> None:
    folder = make.experiment(mlruns, "1", trash=True, name="an older one")
    make.run(folder, 20)
    look = Look(mlruns)
    assert look.reading.assets(Kind.EXPERIMENT)["1"].name == "experiment 1"
    assert ("experiment whose id also stands live", ".trash/1") in look.noted
    assert look.keys() == {run_id(1), run_id(2), run_id(3), run_id(20)}
    assert look.problems == []


@pytest.mark.parametrize("copied_to", ["0", "2"])
def test_a_run_that_stands_twice_counts_where_it_belongs(mlruns: Path, copied_to: str) -> None:
    make.experiment(mlruns, "2")
    shutil.copytree(mlruns / "1" / run_id(2), mlruns / copied_to / run_id(2))
    look = Look(mlruns)
    assert look.reading.assets(Kind.RUN)[run_id(2)].partition == "1"
    assert look.noted == [("run that stands twice", f"{copied_to}/{run_id(2)}")]
    assert look.problems == []
    (item,) = look.source.confirm(Kind.RUN, [run_id(2)]).values()
    assert item is not None
    assert look.source.parse(Kind.RUN, item.raw).partition == "1"


def test_a_copy_of_an_experiment_is_noted_and_a_renamed_one_is_a_problem(mlruns: Path) -> None:
    shutil.copytree(mlruns / "1", mlruns / "1 copy", ignore=shutil.ignore_patterns("0*"))
    look = Look(mlruns)
    assert look.noted == [("copy of another experiment", "1 copy")]
    assert look.problems == []
    (mlruns / "0").rename(mlruns / "first")
    look = Look(mlruns)
    assert look.problems == ["first/meta.yaml says another experiment_id than its folder"]
    assert not look.gone(Kind.EXPERIMENT, "0")
    assert look.gone(Kind.EXPERIMENT, "77")


def test_what_belongs_to_nothing_is_noted_and_hides_nothing(mlruns: Path) -> None:
    make.write(mlruns / "notes.txt", "x")
    make.write(mlruns / ".ipynb_checkpoints" / "a", "x")
    make.write(mlruns / run_id(9) / "artifacts" / "model", "x")
    make.write(mlruns / "1" / run_id(8) / "artifacts" / "model", "x")
    make.write(mlruns / "1" / ".ipynb_checkpoints" / "a", "x")
    look = Look(mlruns)
    assert sorted(look.noted) == [
        ("file that belongs to nothing", "notes.txt"),
        ("folder of a run outside any experiment", run_id(9)),
        ("folder of a run that is not there", f"1/{run_id(8)}"),
        ("folder that belongs to nothing", ".ipynb_checkpoints"),
        ("folder that belongs to nothing", "1/.ipynb_checkpoints"),
    ]
    assert look.problems == []


def test_no_link_is_followed(mlruns: Path, tmp_path: Path) -> None:
    outside = make.small_store(tmp_path / "outside", runs=9)
    (mlruns / "5").symlink_to(outside)
    (mlruns / "1" / run_id(5)).symlink_to(outside / run_id(5))
    (mlruns / "1" / run_id(1) / "params").symlink_to(outside / run_id(5) / "tags")
    secret = make.write(tmp_path / "secret", "hunter2")
    (mlruns / "1" / run_id(2) / "tags" / "stolen").symlink_to(secret)
    look = Look(mlruns)
    assert "hunter2" not in str([asset.document for asset in look.reading.assets(Kind.RUN).values()])
    assert sorted(look.problems) == [
        f"1/{run_id(1)} is a link, which is not followed",
        f"1/{run_id(5)} is a link, which is not followed",
        "5 is a link, which is not followed",
    ]
    assert ("link, not followed", f"1/{run_id(2)}/tags/stolen") in look.noted
    assert not look.gone(Kind.RUN, run_id(5))
    assert not look.gone(Kind.EXPERIMENT, "5")
    assert not look.gone(Kind.RUN, run_id(99))  # it may lie behind the link
    (mlruns / "5").unlink()
    assert look.gone(Kind.RUN, run_id(99))
    assert not look.gone(Kind.RUN, run_id(5))


METRICS = {
    "the last step counts": ("5 1.0 3\n9 2.0 1\n", (1.0, 5, 3)),
    "then the time": ("5 1.0 3\n9 2.0 3\n7 3.0 3\n", (2.0, 9, 3)),
    "then the value": ("5 1.0 3\n5 2.0 3\n5 -3.0 3\n", (2.0, 5, 3)),
    "two fields": ("5 1.5\n", (1.5, 5, 0)),
    "five fields keep their step": ("5 1.5 4 iris abc\n", (1.5, 5, 4)),
    "not finite": ("5 nan 1\n6 -inf 2\n", ("-Infinity", 6, 2)),
    "not a number": ("6 nan 2\n", ("NaN", 6, 2)),
    "no newline at the end": ("5 1.0 3\n6 2.0 4", (2.0, 6, 4)),
}


@pytest.mark.parametrize("case", METRICS)
def test_the_last_value_of_a_metric(mlruns: Path, case: str) -> None:
    lines, (value, timestamp, step) = METRICS[case]
    make.write(mlruns / "1" / run_id(1) / "metrics" / "a" / "b", lines)
    age(mlruns)
    look = Look(mlruns)
    metrics = look.reading.assets(Kind.RUN)[run_id(1)].document["metrics"]
    assert metrics["a/b"] == {"value": value, "timestamp": timestamp, "step": step}
    assert look.noted == []


def test_half_a_line_that_is_being_written_is_left_for_the_next_scan(mlruns: Path) -> None:
    make.write(mlruns / "1" / run_id(1) / "metrics" / "loss", "5 1.0 3\n6 2")
    metrics = Look(mlruns).reading.assets(Kind.RUN)[run_id(1)].document["metrics"]
    assert metrics["loss"] == {"value": 1.0, "timestamp": 5, "step": 3}


@pytest.mark.parametrize(
    "lines", ["", "\n", "5\n", "a b c\n", "5 1 2 3\n", "5 1.0 x\n", f"5 1.0 {1 << 70}\n", "7" * 9000]
)
def test_a_metric_that_is_not_understood_is_noted_and_left_out(mlruns: Path, lines: str) -> None:
    make.write(mlruns / "1" / run_id(1) / "metrics" / "odd", lines)
    age(mlruns)
    look = Look(mlruns)
    assert set(look.reading.assets(Kind.RUN)[run_id(1)].document["metrics"]) == {"loss"}
    assert ("metric without a value", f"1/{run_id(1)}/metrics/odd") in look.noted
    assert look.problems == []


def test_a_trace_shows_as_much_of_long_values_as_the_api_does(mlruns: Path) -> None:
    trace = mlruns / "1" / "traces" / "tr-1"
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "1"}}
    told = {"trace_id": "tr-1", "trace_location": place, "request_time": "2026-01-02T03:04:05Z", "state": "OK"}
    make.meta(trace, **told).rename(trace / "trace_info.yaml")
    make.write(trace / "tags" / "long", "t" * 5000)
    make.write(trace / "request_metadata" / "long", "m" * 300)
    make.write(trace / "request_metadata" / "mlflow.traceInputs", "what was asked")
    document = Look(mlruns).reading.assets(Kind.TRACE)["tr-1"].document
    assert (document["tags"], document["trace_metadata"]) == ({"long": "t" * 4096}, {"long": "m" * 250})
    assert document["request_time"] == 1767323045000


def test_values_of_any_bytes_are_carried(mlruns: Path) -> None:
    run = mlruns / "1" / run_id(1)
    make.write(run / "params" / "latin", b"caf\xe9")
    make.write(run / "tags" / "zero", b"a\x00b\r\n ")
    make.write(run / "tags" / ".DS_Store", b"\x00\x01")
    look = Look(mlruns)
    document = look.reading.assets(Kind.RUN)[run_id(1)].document
    assert document["params"] == {"latin": "caf\udce9"}
    assert document["tags"] == {"mlflow.user": "ada", "zero": "a\x00b\r\n "}
    assert look.noted == [("left by another program", f"1/{run_id(1)}/tags/.DS_Store")]


def test_an_old_meta_with_run_uuid_only_and_numbers_for_ids_is_understood(mlruns: Path) -> None:
    values = {"run_uuid": run_id(4), "experiment_id": 1, "status": 1, "start_time": make.STARTED, "name": ""}
    make.meta(mlruns / "1" / run_id(4), **values)
    make.write(mlruns / "1" / run_id(4) / "tags" / "mlflow.runName", "from the tag")
    asset = Look(mlruns).reading.assets(Kind.RUN)[run_id(4)]
    assert (asset.name, asset.state, asset.lifecycle) == ("from the tag", "RUNNING", Lifecycle.ACTIVE)


@pytest.mark.parametrize("what", ["nothing", "an empty folder", "a file", "a folder of other things"])
def test_what_is_no_store_is_refused(tmp_path: Path, what: str) -> None:
    """An empty folder is what an unmounted volume leaves: all runs would seem to be gone."""
    path = tmp_path / "x"
    if what == "an empty folder":
        path.mkdir()
    elif what == "a file":
        path.touch()
    elif what == "a folder of other things":
        make.write(path / "src" / "main.py", "x")
    source = files_source(path)
    for ask in (source.identify, lambda: list(source.listings(Mode.SWEEP, PlainKnown()))):
        with pytest.raises(SourceError) as caught:
            ask()
        assert caught.value.trouble is Trouble.NOT_FOUND
        assert str(path) in caught.value.what
    assert source.confirm(Kind.RUN, [run_id(1)]) == {}


@pytest.mark.parametrize("how", ["removed", "emptied", "replaced"])
def test_a_folder_that_went_away_confirms_nothing(mlruns: Path, how: str) -> None:
    look = Look(mlruns)
    mlruns.rename(mlruns.with_name("away"))
    if how != "removed":
        mlruns.mkdir()
    if how == "replaced":
        make.small_store(mlruns, runs=0)
    for kind in look.source.kinds:
        if kind is not Kind.WORKSPACE:
            assert look.source.confirm(kind, ["77", run_id(77), "a model", "a model/1"]) == {}


def test_a_broken_registry_is_said_and_not_gone(mlruns: Path) -> None:
    model = mlruns / "models" / "owl"
    make.meta(model, name="owl", creation_timestamp=1)
    make.write(model / "aliases" / "best", "2")
    for number in (1, 2, 3):
        make.meta(model / f"version-{number}", name="owl", version=number, current_stage="None", status="READY")
    make.write(model / "version-3" / "meta.yaml", "")
    make.meta(mlruns / "models" / "other", name="owl")
    make.write(mlruns / "models" / ".ipynb_checkpoints" / "a", "x")
    age(mlruns)
    look = Look(mlruns)
    assert look.keys(Kind.REGISTERED_MODEL) == {"owl"}
    assert look.keys(Kind.MODEL_VERSION) == {"owl/1", "owl/2"}
    assert look.reading.assets(Kind.MODEL_VERSION)["owl/2"].document["aliases"] == ["best"]
    assert look.problems == [
        "models/other/meta.yaml says another name than its folder",
        "models/owl/version-3/meta.yaml is empty",
    ]
    assert look.source.confirm(Kind.MODEL_VERSION, ["owl/1", "owl/3", "owl/4", "gone/1"]).keys() == {
        "owl/1", "owl/4", "gone/1",
    }  # fmt: skip
    assert not look.gone(Kind.REGISTERED_MODEL, "other")
    assert look.gone(Kind.REGISTERED_MODEL, "third")
