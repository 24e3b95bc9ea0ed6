"""What was not completely seen at a time, or is no longer kept, is said to be so: it is never answered with a rest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from alembic import command
from stocktake.core.assets import Kind, Mode, ScanState, Scope, ScopeState
from stocktake.core.errors import Trouble
from stocktake.settings import load_settings
from stocktake.sources.protocol import Known, Listing
from stocktake.store import migrate, retention
from stocktake.store.observation import observed
from stocktake.wiring import open_app
from stocktake.worker import _Health
from tests.contract.test_cli_reference import schema
from tests.integration import stated
from tests.integration.azure_stock import stock
from tests.integration.scripted import Scripted, World, scan
from tests.integration.test_cli import Cli, configured
from tests.servers.json_schema import problems


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    return configured(tmp_path, f'database: "{database_url}"\n')


@pytest.fixture
def world() -> World:
    made = World()
    for number in range(8):
        made.add_run(f"one{number}", experiment="1")
        made.add_run(f"two{number}", experiment="2")
    return made


def now(engine: Engine) -> str:
    """A time as the command line takes it."""
    with engine.connect() as connection:
        at: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return at.isoformat()


def refused(answer: Any) -> list[dict[str, Any]]:
    """What an answer that is none says, as documented."""
    root = schema()
    assert answer.code == 5, answer
    assert not list(problems(answer.json(), root["$defs"]["not_observed"], root))
    told: list[dict[str, Any]] = answer.json()["not_observed"]
    return told


@pytest.fixture
def cut(engine: Engine, world: World) -> str:
    """A time when the runs of experiment 2 had been read in part; by now they were listed completely."""
    world.cut = {"2"}
    assert scan(engine, world).state == ScanState.PARTIAL
    at = now(engine)
    world.cut = set()
    assert scan(engine, world).state == ScanState.COMPLETE
    return at


def test_a_list_of_all_runs_names_the_experiments_that_were_not_listed_completely_by_then(cli: Cli, cut: str) -> None:
    answer = cli("list", "run", "--at", cut, "-o", "json")
    assert answer.code == 3
    assert {one["key"] for one in answer.json()} == {f"one{n}" for n in range(8)} | {f"two{n}" for n in range(5)}
    assert "w: runs: not observed in 1 of 2 experiments (2)." in answer.err
    today = cli("list", "run", "-o", "json")
    assert (today.code, len(today.json()), today.err) == (0, 16, "")


def test_a_list_of_one_experiment_that_was_not_listed_completely_by_then_is_refused(cli: Cli, cut: str) -> None:
    (told,) = refused(cli("list", "run", "--at", cut, "--where", "partition=2", "-o", "json"))
    assert (told["workspace"], told["kind"], told["partition"]) == ("w", "run", "2")
    assert datetime.fromisoformat(told["first_observed"]) > datetime.fromisoformat(cut)
    words = cli("list", "run", "--at", cut, "--where", "partition=2")
    assert (words.code, words.out) == (5, "")
    assert "w: runs of experiment 2: observed since" in words.err
    other = cli("list", "run", "--at", cut, "--where", "partition=1", "-o", "json")
    assert (other.code, len(other.json()), other.err) == (0, 8, "")


def test_a_run_that_was_not_seen_then_is_absent_only_if_its_experiment_was_listed(
    engine: Engine, cli: Cli, world: World, cut: str
) -> None:
    (told,) = refused(cli("show", "run", "two7", "--at", cut, "-o", "json"))
    assert told["partition"] == "2"
    assert cli("show", "run", "two0", "--at", cut).code == 0  # its page came through: that it was there is a fact
    assert cli("history", "run", "two7", "--until", cut).code == 5
    assert cli("history", "run", "two7", "--since", cut).code == 3
    assert cli("history", "run", "two7").code == cli("history", "run", "one0", "--since", cut).code == 0
    world.add_run("late", experiment="1")
    scan(engine, world)
    assert cli("show", "run", "late", "--at", cut).code == 7  # experiment 1 had been listed: it was not there
    unknown = cli("show", "run", "nobody", "--at", cut)
    assert (unknown.code, unknown.out) == (7, "")
    assert "not observed in 1 of 2 experiments (2)" in unknown.err


def test_differences_and_changes_since_then_name_what_nobody_saw(
    cli: Cli, cut: str, engine: Engine, world: World
) -> None:
    world.runs["two0"]["tags"]["x"] = "1"
    world.runs["two7"]["tags"]["x"] = "1"
    scan(engine, world)
    for question in (["diff", "--from", cut], ["changes", "--since", cut]):
        answer = cli(*question, "-o", "json")
        assert answer.code == 3
        assert "not observed in 1 of 2 experiments (2)" in answer.err
        assert {one["type"] for one in answer.json()} == {"updated"}
    assert [one["key"] for one in cli("diff", "--from", cut, "-o", "json").json()] == ["two0"]
    assert cli("diff", "--from", cut, "--kind", "experiment").code == 0


def test_an_experiment_that_began_later_was_not_unobserved_before(engine: Engine, cli: Cli, world: World) -> None:
    scan(engine, world)
    before = now(engine)
    world.add_run("three0", experiment="3")
    scan(engine, world)
    for question in (["list", "run", "--at"], ["diff", "--from"], ["changes", "--since"]):
        answer = cli(*question, before, "-o", "json")
        assert (answer.code, answer.err) == (0, "")
    assert {one["key"] for one in cli("diff", "--from", before, "-o", "json").json()} == {"3", "three0"}
    assert cli("show", "run", "three0", "--at", before).code == 7


def test_the_runs_of_an_experiment_that_is_gone_were_observed_all_the_same(
    engine: Engine, cli: Cli, world: World
) -> None:
    scan(engine, world)
    then = now(engine)
    del world.experiments["2"]
    for number in range(8):
        del world.runs[f"two{number}"]
    for _ in range(3):  # the guard wants to see it twice
        scan(engine, world)
    assert cli("list", "run", "-o", "json").json() == cli("list", "run", "--where", "partition=1", "-o", "json").json()
    answer = cli("list", "run", "--at", then, "-o", "json")
    assert (answer.code, len(answer.json()), answer.err) == (0, 16, "")


def test_a_time_before_the_list_of_experiments_was_complete_is_known_in_part(engine: Engine, world: World) -> None:
    scan(engine, world)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE scope SET first_complete_at = NULL, first_listed_at = NULL WHERE partition = ''")
        )
        (one,) = observed(connection, Kind.RUN)
        (elsewhere,) = observed(connection, Kind.RUN, partition="9")
    assert (one.hidden, one.listed, one.whole) == (False, False, False)
    assert elsewhere.hidden


def test_a_server_without_experiments_has_no_runs_and_says_so(engine: Engine, cli: Cli) -> None:
    before = now(engine)
    scan(engine, World())
    answer = cli("--quiet", "list", "run", "-o", "json")
    assert (answer.code, answer.json(), answer.err) == (0, [], "")
    (told,) = refused(cli("list", "run", "--at", before, "-o", "json"))
    assert told["first_observed"] is not None


def test_a_kind_that_the_server_does_not_offer_is_not_in_question(engine: Engine, world: World) -> None:
    class Lacking(Scripted):
        def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
            yield from super().listings(mode, known)
            scope = Scope(kind=Kind.WEBHOOK, covers=())
            yield Listing(scope=scope, pages=iter(()), promise=ScopeState.UNSUPPORTED)

    report = scan(engine, world, source=Lacking)
    with engine.connect() as connection:
        assert observed(connection, Kind.WEBHOOK, at=report.finished_at) == []


def test_a_kind_that_the_source_never_lists_is_not_missing(engine: Engine, cli: Cli, world: World) -> None:
    scan(engine, world)
    for asked in (["list", "job"], ["changes", "--kind", "online_endpoint"]):
        answer = cli("--quiet", *asked, "-o", "json")
        assert (answer.code, answer.json(), answer.err) == (0, [], ""), asked
    with engine.begin() as connection:
        connection.execute(text("UPDATE workspace SET source = 'azureml'"))
        assert observed(connection, Kind.TRACE) == []
        (jobs,) = observed(connection, Kind.JOB)  # an upgrade that brings a kind: it is missing until it was listed
    assert jobs.hidden


def test_a_kind_that_is_denied_since_is_answered_as_it_was_and_not_called_whole(
    engine: Engine, cli: Cli, world: World
) -> None:
    scan(engine, world)
    whole = cli("list", "run", "-o", "json")
    then = now(engine)
    world.fail_runs_after, world.fail_with = 0, Trouble.PERMISSION
    scan(engine, world)
    assert (whole.code, whole.err) == (0, "")
    answer = cli("list", "run", "-o", "json")
    assert (answer.code, answer.json()) == (3, whole.json())
    assert "w: runs in 2 experiments: not observable since " in answer.err
    assert cli("list", "run", "--where", "partition=1").code == 3
    assert cli("history", "run", "one1").code == 3
    assert cli("changes").code == 3
    assert (cli("list", "experiment").code, cli("list", "run", "--at", then).code) == (0, 0)
    world.fail_runs_after = None
    scan(engine, world)
    assert cli("list", "run").code == 0


def test_where_traffic_goes_is_said_to_be_unknown_where_endpoints_are_denied_since(engine: Engine, cli: Cli) -> None:
    made = stock()
    stated.scan(engine, made)
    assert "not observable" not in cli("production").err
    with engine.begin() as connection:
        connection.execute(text("UPDATE scope SET state = 'unobservable' WHERE kind = 'online_endpoint'"))
    answer = cli("production")
    assert (answer.code, answer.err.count("ml: online endpoints: not observable since ")) == (3, 1)


def test_changes_since_a_time_before_the_first_look_are_a_part_of_the_answer(
    engine: Engine, cli: Cli, world: World
) -> None:
    before = now(engine)
    scan(engine, world)
    world.runs["one0"]["tags"]["x"] = "1"
    scan(engine, world)
    answer = cli("changes", "--since", before, "-o", "json")
    assert answer.code == 3
    assert [one["key"] for one in answer.json()] == ["one0"]
    assert "w: observed since" in answer.err
    refused(cli("changes", "--since", before, "--until", before, "-o", "json"))
    assert cli("changes", "-o", "json").code == 0


@pytest.fixture
def pruned(engine: Engine, world: World) -> str:
    """A time of which retention dropped a state of run one0; the other runs have the one state that they had then."""
    scan(engine, world)
    then = now(engine)
    for edit in range(2):
        world.runs["one0"]["tags"]["x"] = str(edit)
        scan(engine, world)
    scan(engine, World(), workspace="other")
    retention.prune(engine, keep=timedelta(0))
    return then


@pytest.fixture
def down(engine: Engine, world: World) -> tuple[str, str]:
    """A time when all was well, and one after the server went down."""
    assert scan(engine, world).state == ScanState.COMPLETE
    well = now(engine)
    world.fail_identify = Trouble.UNREACHABLE
    assert scan(engine, world).state == ScanState.FAILED
    return well, now(engine)


@pytest.mark.parametrize(
    "question",
    [
        ["changes", "--since", "WELL"],
        ["changes", "--since", "1 day ago"],
        ["changes", "--until", "LATE"],
        ["diff", "--from", "WELL"],
        ["list", "run"],
        ["list", "run", "--at", "LATE"],
        ["show", "run", "one0"],
        ["show", "run", "one0", "--at", "LATE"],
        ["history", "run", "one0"],
        ["history", "run", "one0", "--since", "WELL"],
    ],
)
def test_nothing_new_is_not_claimed_of_a_workspace_that_cannot_be_looked_at(
    cli: Cli, down: tuple[str, str], question: list[str]
) -> None:
    well, late = down
    answer = cli(*[{"WELL": well, "LATE": late}.get(word, word) for word in question])
    assert answer.code == 3
    assert "  w: not observable since " in answer.err
    assert " (unreachable); last complete look " in answer.err


@pytest.mark.parametrize(
    "question",
    [
        ["changes", "--until", "WELL"],
        ["list", "run", "--at", "WELL"],
        ["show", "run", "one0", "--at", "WELL"],
        ["history", "run", "one0", "--until", "WELL"],
    ],
)
def test_a_time_before_a_workspace_went_out_of_sight_is_answered_wholly(
    cli: Cli, down: tuple[str, str], question: list[str]
) -> None:
    answer = cli(*[word.replace("WELL", down[0]) for word in question])
    assert (answer.code, answer.err.replace("No changes.\n", "")) == (0, "")


def test_a_workspace_that_is_seen_again_is_answered_for(
    engine: Engine, cli: Cli, world: World, down: tuple[str, str]
) -> None:
    assert "the last look" in cli("history", "run", "one0").out
    world.fail_identify = None
    assert scan(engine, world).state == ScanState.COMPLETE
    answer = cli("changes", "--since", down[0])
    assert (answer.code, answer.err) == (0, "No changes.\n")
    assert "the last look" not in cli("history", "run", "one0").out


@pytest.fixture
def retired(engine: Engine, world: World, tmp_path: Path, database_url: str) -> Cli:
    """Workspace "old" left the configuration while its server was down; "w" is well."""
    scan(engine, world, workspace="old")
    world.fail_identify = Trouble.UNREACHABLE
    scan(engine, world, workspace="old")
    world.fail_identify = None
    scan(engine, world)
    return configured(
        tmp_path, f'database: "{database_url}"\nworkspaces: [{{name: w, mlflow: {{uri: "http://127.0.0.1:9"}}}}]\n'
    )


def test_a_question_is_about_what_is_configured_unless_it_names_a_workspace(retired: Cli) -> None:
    answer = retired("list", "run", "-o", "json")
    assert (answer.code, answer.err, {one["workspace"] for one in answer.json()}) == (0, "", {"w"})
    assert retired("changes").code == retired("show", "run", "one0").code == retired("history", "run", "one0").code == 0
    assert {one["workspace"] for one in retired("scope", "list", "-o", "json").json()} == {"w"}
    old = retired("list", "run", "-w", "old", "-o", "json")
    assert (old.code, {one["workspace"] for one in old.json()}) == (3, {"old"})
    states = [(one["name"], one["configured"]) for one in retired("status", "-o", "json").json()]
    assert states == [("w", True), ("old", False)]
    assert "old: not configured" in retired("status").out


def test_where_nothing_is_configured_a_question_is_about_all(engine: Engine, cli: Cli, world: World) -> None:
    scan(engine, world)
    scan(engine, world, workspace="old")
    assert {one["workspace"] for one in cli("list", "run", "-o", "json").json()} == {"w", "old"}


def test_a_configured_workspace_that_was_never_scanned_is_named(retired: Cli) -> None:
    words = retired.config.read_text()
    retired.config.write_text(words.replace("[{", '[{name: new, mlflow: {uri: "http://127.0.0.1:9"}}, {'))
    answer = retired("list", "run", "-o", "json")
    assert (answer.code, {one["workspace"] for one in answer.json()}) == (3, {"w"})
    assert "  new: never scanned.\n" in answer.err
    retired.config.write_text(words.replace("name: w", "name: new"))
    assert retired("list", "run").code == retired("changes").code == 5


def test_readiness_does_not_tell_of_a_workspace_that_left_the_configuration(
    retired: Cli, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKTAKE_DATA_DIR", str(retired.folder / "data"))
    with open_app(load_settings(retired.config), environ={}) as app:
        assert all(check.ok for check in _Health(app).ready())
        with engine.begin() as connection:
            connection.execute(text("UPDATE workspace SET unobservable_since = now() WHERE name = 'w'"))
        (bad,) = [check for check in _Health(app).ready() if not check.ok]
    assert bad.detail.startswith("unobservable: w;")


def test_a_purged_run_was_there_before_and_its_history_says_how_it_ended(
    engine: Engine, cli: Cli, world: World
) -> None:
    scan(engine, world)
    there = now(engine)
    del world.runs["one0"]
    scan(engine, world)
    asked = cli("show", "run", "one0", "--at", there)
    assert (asked.code, "PURGED" in asked.out, "purged later" in asked.out) == (0, False, True)
    assert "PURGED: it was gone at" in cli("show", "run", "one0").out
    (state,) = cli("history", "run", "one0", "-o", "json").json()
    assert (state["valid_to"] is None, state["ended_by"]) == (False, "purged")
    assert "purged" in cli("history", "run", "one0").out.splitlines()[-1]
    (other,) = cli("history", "run", "one1", "-o", "json").json()
    assert (other["valid_to"], other["ended_by"]) == (None, None)


def test_a_time_whose_history_was_dropped_is_not_answered_with_what_is_left(cli: Cli, pruned: str) -> None:
    (told,) = refused(cli("list", "run", "--at", pruned, "-w", "w", "-o", "json"))
    assert datetime.fromisoformat(told["dropped_before"]) > datetime.fromisoformat(pruned)
    words = cli("list", "run", "--at", pruned, "-w", "w")
    assert (words.code, words.out) == (5, "")
    assert "Dropped by retention" in words.err
    assert "w: runs: dropped by retention before" in words.err
    assert cli("list", "run", "-w", "w").code == 0
    assert cli("list", "experiment", "--at", pruned, "-w", "w").code == 0  # experiments are kept for ever


def test_the_difference_from_a_time_whose_history_was_dropped_leaves_out_that_kind(cli: Cli, pruned: str) -> None:
    answer = cli("diff", "--from", pruned, "-w", "w", "-o", "json")
    assert (answer.code, answer.json()) == (3, [])
    assert "w: runs: dropped by retention before" in answer.err
    refused(cli("diff", "--from", pruned, "-w", "w", "--kind", "run", "-o", "json"))


def test_changes_since_a_time_whose_history_was_dropped_begin_where_it_is_kept(
    engine: Engine, cli: Cli, world: World, pruned: str
) -> None:
    world.runs["one1"]["tags"]["x"] = "1"
    scan(engine, world)
    answer = cli("changes", "--since", pruned, "-w", "w", "-o", "json")
    assert (answer.code, [one["key"] for one in answer.json()]) == (3, ["one1"])
    assert "dropped by retention before" in answer.err
    (told,) = refused(cli("list", "run", "--at", pruned, "-w", "w", "-o", "json"))
    since = cli("changes", "--since", told["dropped_before"], "-w", "w", "-o", "json")
    assert (since.code, since.json()) == (0, answer.json())


def test_one_asset_is_answered_for_as_far_as_its_own_states_are_kept(cli: Cli, pruned: str) -> None:
    assert cli("show", "run", "one3", "--at", pruned).code == 0  # the state it had then is its state still
    (told,) = refused(cli("show", "run", "one0", "--at", pruned, "-o", "json"))
    assert told["dropped_before"]
    assert cli("history", "run", "one0", "--since", pruned).code == 3
    assert cli("history", "run", "one0", "--until", pruned).code == 5
    kept = cli("history", "run", "one0")
    assert kept.code == 0
    assert "States of one0 before" in kept.err
    assert cli("history", "run", "one3", "--since", pruned).code == 0


def test_the_views_show_no_remnant_of_a_time_whose_history_was_dropped(engine: Engine, pruned: str) -> None:
    with engine.connect() as connection:
        then = {"at": datetime.fromisoformat(pruned)}
        assert connection.execute(text("SELECT count(*) FROM inventory.run_at(:at)"), then).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM inventory.experiment_at(:at)"), then).scalar_one() == 2
        assert connection.execute(text("SELECT count(*) FROM inventory.run_at(now())")).scalar_one() == 16
        dropped = connection.execute(
            text("SELECT workspace, kind FROM inventory.coverage WHERE dropped_before IS NOT NULL")
        ).all()
    assert [tuple(one) for one in dropped] == [("w", "run")]


def test_what_was_dropped_or_forgotten_before_horizons_were_kept_is_reckoned_when_migrating(
    engine: Engine, world: World, cli: Cli, pruned: str
) -> None:
    then = now(engine)
    del world.experiments["2"]
    for number in range(8):
        del world.runs[f"two{number}"]
    for _ in range(3):
        scan(engine, world)
    with engine.begin() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        left = connection.execute(text("SELECT count(*) FROM inventory.run_at(:at)"), {"at": pruned}).scalar_one()
        assert left == 15
    migrate.upgrade(engine)
    refused(cli("list", "run", "--at", pruned, "-w", "w", "-o", "json"))
    answer = cli("list", "run", "--at", then, "-w", "w", "-o", "json")
    assert (answer.code, len(answer.json()), answer.err) == (0, 16, "")
