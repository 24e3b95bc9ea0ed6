"""A workspace looked at in another way, or told of in another: what is the same has not changed, and what cannot be
understood takes nothing else away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake import pipeline
from stocktake.core.assets import Kind, Mode, ScanState, ScopeState
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.sources.azureml import AzureMl
from tests.azure.server import served
from tests.integration.azureml_told import Told
from tests.servers.azureml import azureml_config

KEY = b"k" * 32  # as the story has it: another key is another normalisation


@pytest.fixture
def told(engine: Engine) -> Iterator[Told]:
    estate = Estate()
    workspace = estate.add_workspace("w1", size=Size(jobs=12, live=0, children=0))
    with served(estate) as server:
        yield Told(engine, server, workspace)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("models", Kind.REGISTERED_MODEL),
        ("components", Kind.COMPONENT),
        ("data/versions", Kind.DATA_VERSION),
        ("computes", Kind.COMPUTE),
        ("jobs", Kind.JOB),
    ],
)
def test_what_a_list_leaves_out_once_and_a_get_shows_in_other_words_has_not_changed(
    told: Told, family: str, kind: Kind
) -> None:
    told.scan(Mode.SWEEP)
    told.server.faults.change(family, lambda body: body | {"value": body["value"][1:]}, times=1)
    told.server.seen.clear()
    report = told.scan(Mode.SWEEP)
    assert told.changes(runs=True) == []
    assert next(line.state for line in report.scopes if line.kind == kind) == ScopeState.COMPLETE
    told.scan()
    told.scan(Mode.SWEEP)
    assert told.changes(runs=True) == []


def test_a_child_that_waits_in_the_queue_has_not_changed_because_the_queue_was_looked_at_again(told: Told) -> None:
    told.workspace.submit_job("pipeline-1", kind="Pipeline")
    told.workspace.move_job("pipeline-1", "Running")
    told.workspace.spawn_children("pipeline-1", 2, status="Queued")
    looks, why = count(), ["Job is in scheduling state"]

    def waiting(body: dict[str, Any]) -> dict[str, Any]:
        at = f"2023-03-28T05:32:{next(looks):02d}.2586317+00:00"
        info = {"code": "Scheduling", "message": why[0], "lastRefreshTimestamp": at}  # recorded
        return body | {"value": [one | {"queueingInfo": info} for one in body["value"]]}

    told.server.faults.change("runs/children", waiting)
    told.scan(Mode.SWEEP)
    told.changes()
    told.scan()
    told.scan(Mode.SWEEP)
    assert told.changes() == []
    why[0] = "The quota is used up"
    told.scan()
    assert {change[2:] for change in told.changes()} == {("updated", ("queueingInfo.message",))}


@pytest.mark.parametrize(
    ("family", "kind"), [("jobs", Kind.JOB), ("runs/children", Kind.CHILD_JOB), ("computes", Kind.COMPUTE)]
)
def test_one_whose_properties_are_no_object_is_named_and_nothing_else_is_lost(
    told: Told, family: str, kind: Kind
) -> None:
    told.workspace.submit_job("pipeline-1", kind="Pipeline")
    told.workspace.spawn_children("pipeline-1", 3)
    told.scan(Mode.SWEEP)
    before, told.told = told.keys(kind), 0
    broken = list[str]()

    def spoil(body: dict[str, Any]) -> dict[str, Any]:
        if not body["value"]:
            return body
        first, *others = body["value"]
        broken.append(first.get("runId") or first["name"])
        return body | {"value": [first | {"properties": "?"}, *others[1:]]}  # and one that is not there

    told.server.faults.change(family, spoil)
    told.workspace.move_job("pipeline-1", "Completed")
    report = told.scan(Mode.SWEEP)
    line = next(line for line in report.scopes if line.kind == kind)
    assert line.state == ScopeState.PARTIAL
    assert f"{kind} {broken[0]}: its properties are not a JSON object" in (line.reason or "")
    assert told.changes() == [] if kind is Kind.JOB else [("job", "pipeline-1", "updated", ("properties.status",))]
    assert told.keys(kind) == before
    told.server.faults.clear()
    assert told.scan(Mode.SWEEP).state == ScanState.COMPLETE
    assert told.keys(kind) == before


def spelt(told: Told, write: Callable[[str], str], mode: Mode) -> pipeline.ScanReport:
    """A scan by a configuration that writes Azure's names in another way."""
    config = azureml_config(told.server, told.workspace, retries=0)
    names: dict[str, Any] = {
        name: write(getattr(config, name)) for name in ("subscription", "resource_group", "workspace")
    }
    return pipeline.scan(
        told.engine,
        lambda now: AzureMl(replace(config, **names), now),
        workspace="w",
        source_name="azureml",
        uri=told.server.arm + told.workspace.scope,
        mode=mode,
        redactor=Redactor(KEY),
        key=KEY,
        guard=Guard(),
    )


def test_a_workspace_that_is_configured_in_another_case_is_the_same_one(told: Told) -> None:
    told.scan(Mode.SWEEP)
    with told.engine.connect() as connection:
        edges = connection.execute(text("SELECT * FROM inventory.lineage ORDER BY 1, 2, 3, 4, 5")).all()
    for mode in (Mode.SWEEP, Mode.HOT):
        report = spelt(told, str.upper, mode)
        assert report.state == ScanState.COMPLETE, report
        assert told.changes(runs=True) == []
    with told.engine.connect() as connection:
        assert connection.execute(text("SELECT * FROM inventory.lineage ORDER BY 1, 2, 3, 4, 5")).all() == edges
    told.workspace.soft_delete()
    spelt(told, str.upper, Mode.HOT)
    assert told.state(Kind.WORKSPACE, "workspace") == "SoftDeleted"
