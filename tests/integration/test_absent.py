"""What is only named was not there, or nobody looked, or it names no version: never one said for another."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, Mode, ScanState
from stocktake.store import retention
from tests.contract.test_cli_reference import schema
from tests.integration.azure_stock import deployment, stock, traffic
from tests.integration.stated import Stock, scan
from tests.integration.test_cli import Cli, configured
from tests.servers.json_schema import problems

GHOST = ("run", "ghost")


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    return configured(tmp_path, f'database: "{database_url}"\n')


@pytest.fixture
def world() -> Stock:
    """A stock whose model version fraud/3 names a run that is nowhere; so does a deployment, and the newest fraud."""
    made = stock()
    made.put(Kind.RUN, "other", {"status": "FINISHED"}, partition="8", state="FINISHED")
    made.put(Kind.MODEL_VERSION, "fraud/3", {"aliases": ["champion"]}, parent="fraud", run="ghost")
    made.put(Kind.ONLINE_DEPLOYMENT, "shop/latest", deployment("azureml:fraud@latest"), parent="shop")
    made.put(Kind.ONLINE_DEPLOYMENT, "shop/any", deployment("azureml:fraud:3", environmentId="azureml:conda@latest"))
    made.change(Kind.ONLINE_ENDPOINT, "shop", traffic(blue=40, green=20, any=20, latest=20))
    return made


def now(engine: Engine) -> datetime:
    with engine.connect() as connection:
        at: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return at


def began(engine: Engine, kind: str) -> list[datetime]:
    """When the lists of a kind began, oldest first."""
    statement = text("SELECT min(began_at) FROM scope_scan WHERE kind = :kind GROUP BY scan_id ORDER BY scan_id")
    with engine.connect() as connection:
        return list(connection.execute(statement, {"kind": kind}).scalars())


def asked(cli: Cli, *question: str) -> dict[tuple[str, str], tuple[str | None, datetime | None]]:
    answer = cli("lineage", *question, "--format", "json")
    assert answer.code in (0, 3), answer.err
    (told,) = answer.json()
    root = schema()
    assert not list(problems(told, root["$defs"]["lineage"], root))
    return {(one["kind"], one["key"]): (one["why"], read(one["listed_at"])) for one in told["nodes"]}


def read(at: str | None) -> datetime | None:
    return datetime.fromisoformat(at) if at is not None else None


def test_the_three_reasons_are_told_apart(engine: Engine, cli: Cli, world: Stock) -> None:
    assert scan(engine, world).state == ScanState.COMPLETE
    told = asked(cli, "online_endpoint", "shop")
    (environments,) = began(engine, "environment_version")
    (runs,) = began(engine, "experiment")  # of runs all are listed only where all experiments were
    assert told["environment_version", "serve/4"] == ("not in the complete list", environments)
    assert told[GHOST] == ("not in the complete list", runs)
    assert told["environment_version", "conda@latest"] == ("names no version", None)
    assert told["model_version", "fraud@latest"] == ("names no version", None)
    assert told["model_version", "azureml://registries/azureml/models/bert/versions/6"] == (None, None)
    assert told["run", "train-1"] == (None, None)
    components = asked(cli, "batch_endpoint", "night")
    assert components["component_version", "score/2"] == ("nobody looked completely", None)


def test_the_tree_and_the_diagram_say_why(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, world)
    for form in ("tree", "mermaid"):
        told = cli("lineage", "online_endpoint", "shop", "--format", form).out
        assert "[not observed: not in the complete list of environment versions of 20" in told
        assert "[not observed: names no version]" in told
        assert "[not observed: not in the complete list of runs of 20" in told
    told = cli("lineage", "batch_endpoint", "night").out
    assert "component version score/2 [not observed: nobody looked completely]" in told


def test_a_list_that_was_cut_off_proves_no_absence(engine: Engine, cli: Cli, world: Stock) -> None:
    world.failing = {Kind.ENVIRONMENT_VERSION, Kind.RUN}
    scan(engine, world)
    told = asked(cli, "online_endpoint", "shop")
    assert told["environment_version", "serve/4"] == told[GHOST] == ("nobody looked completely", None)
    world.failing = set()
    scan(engine, world)
    world.failing = {Kind.ENVIRONMENT_VERSION, Kind.RUN}
    scan(engine, world)
    told = asked(cli, "online_endpoint", "shop")
    assert told["environment_version", "serve/4"][1] == began(engine, "environment_version")[1], "the last whole one"
    assert told[GHOST][1] == began(engine, "run")[1]


def test_a_run_is_absent_only_if_every_experiment_was_listed(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, world)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE scope SET last_complete_at = NULL, first_complete_at = NULL, first_listed_at = NULL"
                 " WHERE kind = 'run' AND partition = '8'")
        )  # fmt: skip
    assert asked(cli, "model_version", "fraud/3")[GHOST] == ("nobody looked completely", None)


def test_of_a_time_the_last_list_that_had_ended_by_then_counts(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, world)
    world.failing = {Kind.ENVIRONMENT_VERSION}
    scan(engine, world)
    at = now(engine)
    world.failing = set()
    scan(engine, world)
    then, today = asked(cli, "online_endpoint", "shop", "--at", at.isoformat()), asked(cli, "online_endpoint", "shop")
    environments, runs = began(engine, "environment_version"), began(engine, "experiment")
    assert then["environment_version", "serve/4"] == ("not in the complete list", environments[0])
    assert today["environment_version", "serve/4"] == ("not in the complete list", environments[2])
    assert (then[GHOST][1], today[GHOST][1]) == (runs[1], runs[2])


def test_equal_hot_passes_are_one_row_of_which_the_last_counts(engine: Engine, cli: Cli, world: Stock) -> None:
    scan(engine, world)
    for _ in range(3):
        scan(engine, world, mode=Mode.HOT)
    at = now(engine)
    with engine.connect() as connection:
        hot = connection.execute(text("SELECT passes, last_began_at FROM scan WHERE mode = 'hot'")).one()
    assert hot.passes == 3
    why, listed_at = asked(cli, "online_endpoint", "shop", "--at", at.isoformat())["environment_version", "serve/4"]
    assert (why, listed_at) == ("not in the complete list", hot.last_began_at)


def test_what_retention_dropped_is_not_called_absent(engine: Engine, cli: Cli, world: Stock) -> None:
    world.put(Kind.RUN, "child", {"status": "FINISHED"}, partition="8", parent="other")
    scan(engine, world)
    world.change(Kind.RUN, "other", {"status": "FINISHED", "tags": {"a": "b"}})
    at = now(engine)
    scan(engine, world)
    assert asked(cli, "run", "child", "--at", at.isoformat())["run", "other"] == (None, None)
    retention.prune(engine, keep=timedelta(0))
    assert asked(cli, "run", "child", "--at", at.isoformat())["run", "other"] == ("dropped by retention", None)


def test_a_step_is_never_called_absent_and_a_job_only_among_root_jobs(engine: Engine, cli: Cli, world: Stock) -> None:
    world.put(Kind.DATA_VERSION, "clean/4", {}, artifact_uri="azureml://jobs/nobody/outputs/clean")
    scan(engine, world)
    told = asked(cli, "data_version", "clean/4")
    assert told["job", "nobody"][0] == "not in the complete list"
    assert "complete list of root jobs of" in cli("lineage", "data_version", "clean/4").out


def test_production_says_why_a_run_was_not_observed(engine: Engine, cli: Cli, world: Stock) -> None:
    world.failing = {Kind.RUN}
    scan(engine, world)

    def told() -> dict[str, Any]:
        answer = cli("production", "fraud", "--tz", "UTC", "-o", "json")
        root = schema()
        (one,) = [one for one in answer.json() if one["version"] == "3"]
        assert not list(problems(one, root["$defs"]["production"], root))
        found: dict[str, Any] = one
        return found

    one = told()
    assert (one["run"], one["run_state"], one["run_why"]) == ("ghost", "not observed", "nobody looked completely")
    assert "(not observed: nobody looked completely)" in cli("production", "fraud", "--tz", "UTC").out
    world.failing = set()
    scan(engine, world)
    one = told()
    assert (one["run_why"], read(one["run_listed_at"])) == ("not in the complete list", began(engine, "experiment")[1])
    assert "(not observed: not in the complete list of runs of 20" in cli("production", "fraud", "--tz", "UTC").out
