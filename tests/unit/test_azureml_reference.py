"""docs/reference/azureml.md says what is asked and what is left out, as the tables of the code do."""

from __future__ import annotations

from pathlib import Path

from stocktake.core.assets import Kind, Mode
from stocktake.core.reconcile import MLFLOW_STATES
from stocktake.sources.azureml import AzureMl
from stocktake.sources.azureml_jobs import ENDED
from stocktake.sources.azureml_plan import BY_KIND, Sizes, planned
from stocktake.sources.azureml_reference import rewritten

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "azureml.md"


def test_the_page_has_the_tables_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert rewritten(text) == text, f"python -m stocktake.sources.azureml_reference {PAGE}"


def test_the_sums_on_the_page_are_those_of_the_plan() -> None:
    text = PAGE.read_text("utf-8").replace("\n", " ")
    probe_experiments_runs, with_ended = 3, 4
    sweep = planned(Mode.SWEEP, Sizes(run_pages=probe_experiments_runs)) - 1  # without the first page of jobs
    bare = planned(Mode.SWEEP, Sizes(run_pages=probe_experiments_runs, posture=False)) - 1
    hot = planned(Mode.HOT, Sizes(run_pages=with_ended))
    assert f"**{sweep} + C + E + ⌈J/p⌉ + D**" in text
    assert f"it is {bare} in place of {sweep}" in text
    assert f"**{hot} + E + c + 2n + r + D**" in text


def test_every_state_on_the_page_is_mapped_as_the_code_maps_it() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    start = lines.index("| job | MLflow run |") + 2
    told: dict[str, str] = {}
    for line in lines[start : lines.index("", start)]:
        states, status = (part.strip() for part in line.strip("|").split("|"))
        told |= dict.fromkeys(states.split(", "), status)
    assert told == {state: " or ".join(runs) for state, runs in MLFLOW_STATES.items()}
    assert set(MLFLOW_STATES) >= ENDED


def test_every_kind_of_the_source_is_in_the_plan_or_on_the_data_plane() -> None:
    assert AzureMl.kinds.keys() - BY_KIND.keys() == {Kind.EXPERIMENT, Kind.RUN, Kind.CHILD_JOB}
