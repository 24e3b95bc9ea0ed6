"""Retention drops closed history of what is many, and never what evidence of the registry stands on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind
from stocktake.store import history, retention
from tests.integration.scripted import World, changes, scan, twelve_runs
from tests.integration.test_store import _world


def register(
    engine: Engine, key: str, *, run: str | None = None, source: str | None = None, document: str = "{}",
    kind: str = "model_version",
) -> None:  # fmt: skip
    """Put a model version, or another kind, beside what was scanned, as if it had been read from a registry."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "WITH a AS (INSERT INTO asset (workspace_id, kind, key, partition, digest, raw_digest, epoch,"
                " observed_at, first_seen, lifecycle, baseline)"
                " SELECT workspace_id, CAST(:kind AS text), :key, '', '', '', 0, now(), now(),"
                " 'active', true FROM workspace RETURNING asset_id, workspace_id)"
                " INSERT INTO version (asset_id, valid_from, workspace_id, kind, scan_id, digest, lifecycle, partition,"
                " run, artifact_uri, document)"
                " SELECT asset_id, now(), workspace_id, CAST(:kind AS text), 1, '',"
                " 'active', '', CAST(:run AS text), CAST(:source AS text), :document FROM a"
            ),
            {"key": key, "run": run, "source": source, "document": document, "kind": kind},
        )


def test_retention_drops_closed_history_and_nothing_else(engine: Engine) -> None:
    world = _world(4)
    scan(engine, world)
    for edit in range(3):
        world.runs["run000"]["tags"]["edit"] = str(edit)
        scan(engine, world)
    del world.runs["run001"]
    scan(engine, world)
    with engine.begin() as connection:
        for column in ("valid_from", "valid_to"):
            connection.execute(text(f"UPDATE version SET {column} = {column} - interval '500 days'"))
        connection.execute(text("UPDATE change SET at = at - interval '500 days'"))
        connection.execute(
            text(
                "UPDATE asset SET gone_at = gone_at - interval '500 days',"
                " observed_at = observed_at - interval '500 days'"
            )
        )
    dropped = retention.prune(engine, keep=timedelta(days=400))
    assert dropped == {"version": 4, "change": 3, "asset": 1, "act": 0, "finding": 0}
    with engine.connect() as connection:
        assert {row.key for row in history.list_assets(connection, Kind.RUN)} == {"run000", "run002", "run003"}
        assert connection.execute(text("SELECT count(*) FROM scan")).scalar_one() == 5
    assert retention.prune(engine, keep=timedelta(days=400)) == {
        "version": 0,
        "change": 0,
        "asset": 0,
        "act": 0,
        "finding": 0,
    }


def test_retention_keeps_the_runs_behind_the_registry(engine: Engine) -> None:
    world = _world(2)
    scan(engine, world)
    world.runs["run000"]["tags"]["edit"] = "late"
    scan(engine, world)
    register(engine, "m/1", run="run000")
    with engine.begin() as connection:
        connection.execute(text("UPDATE version SET valid_to = valid_to - interval '500 days'"))
    assert retention.prune(engine, keep=timedelta(days=400))["version"] == 0


@pytest.mark.parametrize(
    "told",
    [
        {"source": "runs:/run000/model"},
        {"source": "azureml://jobs/run000/outputs/artifacts/paths/model"},
        {"kind": "online_deployment", "document": '{"properties":{"model":"azureml://jobs/run000/outputs/m"}}'},
        {"kind": "batch_deployment", "document": '{"properties":{"model":{"jobId":"/x/workspaces/w/jobs/run000"}}}'},
    ],
)
def test_the_run_behind_a_version_or_a_deployment_is_kept_however_it_is_named(
    engine: Engine, told: dict[str, str]
) -> None:
    world = _world(2)
    scan(engine, world)
    for key in ("run000", "run001"):
        world.runs[key]["tags"]["edit"] = "late"
    scan(engine, world)
    register(engine, "m/1", **told)
    assert retention.prune(engine, keep=timedelta(0))["version"] == 1
    with engine.connect() as connection:
        assert len(history.asset_history(connection, Kind.RUN, "run000")) == 2


def test_the_registry_deployments_the_ledger_and_the_chain_are_never_dropped(engine: Engine) -> None:
    world = _world(2)
    scan(engine, world)
    kinds = ("registered_model", "model_version", "online_endpoint", "online_deployment", "batch_endpoint",
             "batch_deployment", "experiment", "job", "child_job", "data_version", "environment_version", "schedule",
             "role_assignment", "compute")  # fmt: skip
    for kind in kinds:
        register(engine, "x", kind=kind)
    with engine.begin() as connection:
        connection.execute(text("UPDATE version SET valid_to = now() - interval '9 years' WHERE document = '{}'"))
        connection.execute(text("UPDATE scan SET began_at = began_at - interval '9 years'"))
    count = "SELECT (SELECT count(*) FROM scan), (SELECT count(*) FROM scope_scan), (SELECT count(*) FROM ledger_link)"
    with engine.connect() as connection:
        before = connection.execute(text(count)).one()
    assert not any(retention.prune(engine, keep=timedelta(0)).values())
    with engine.connect() as connection:
        assert connection.execute(text(count)).one() == before
        kept = connection.execute(text("SELECT kind FROM version WHERE document = '{}'")).scalars().all()
    assert set(kept) == set(kinds)


def test_the_run_of_a_logged_model_that_was_registered_without_it_is_kept(engine: Engine) -> None:
    world = World(models={"m-1": {"experiment_id": "1", "name": "forest", "source_run_id": "run00"}})
    for key in ("run00", "run01"):
        world.add_run(key)
    scan(engine, world)
    for key in ("run00", "run01"):
        world.runs[key]["tags"]["edit"] = "late"
    scan(engine, world)
    register(engine, "f/1", source="models:/m-1")
    assert retention.prune(engine, keep=timedelta(0))["version"] == 1


def test_the_creation_of_a_run_behind_the_registry_is_kept(engine: Engine) -> None:
    world = twelve_runs()
    scan(engine, world)
    world.add_run("new1")
    scan(engine, world)
    assert [one.type for one in changes(engine)] == ["created"]
    register(engine, "m/1", run="new1")
    retention.prune(engine, keep=timedelta(0))
    assert [(one.key, one.type) for one in changes(engine)] == [("new1", "created")]


def test_a_logged_model_that_was_registered_without_a_run_is_kept(engine: Engine) -> None:
    world = World(models={"m-1": {"experiment_id": "1", "name": "forest"}})
    world.add_run("run00")
    scan(engine, world)
    world.models["m-1"]["tag"] = "x"
    scan(engine, world)
    register(engine, "f/1", source="models:/m-1", document='{"model_id":"m-1"}')
    retention.prune(engine, keep=timedelta(0))
    with engine.connect() as connection:
        assert len(history.asset_history(connection, Kind.LOGGED_MODEL, "m-1")) == 2
