"""Waivers and change windows over a real Postgres: nobody is ever told of what was agreed on beforehand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Mode
from stocktake.core.covering import Covering
from stocktake.core.governance import Governance
from stocktake.core.waivers import Waiver
from stocktake.core.windows import Once, Window
from stocktake.store import finding_list
from tests.integration.registry import Registry, found, history, look, stands
from tests.integration.test_cli import Cli, configured

HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> Registry:
    made = Registry()
    made.add_run("run0")
    made.experiments["1"]["owner"] = "ada"
    made.registered["m"] = {"name": "m", "owner": "ada", "aliases": {"champion": "1"}}
    made.registered["n"] = {"name": "n", "owner": "ada", "aliases": {}}
    made.versions["m/1"] = {"run_id": "run0"}
    return made


def agreed(*waivers: Waiver, **more: Any) -> Governance:
    return Governance(waivers=waivers, **more)


def waiver(until: datetime | None = None, **patterns: Any) -> Waiver:
    until = until or datetime.now(UTC) + HOUR
    given: dict[str, Any] = {name: (value,) for name, value in patterns.items()}
    return Waiver(covering=Covering(**given), owner="ada", reason="CHG-1", until=until, source="file.yaml:3")


def window(since: timedelta, until: timedelta, margin: timedelta = timedelta(seconds=1), **patterns: Any) -> Window:
    now = datetime.now(UTC)
    given: dict[str, Any] = {name: (value,) for name, value in patterns.items()}
    covering = Covering(**given)
    when = Once(begins=now + since, ends=now + until)
    return Window(name="release-42", covering=covering, when=when, owner="ada", margin=margin)


def test_what_is_waived_beforehand_never_opens(engine: Engine, world: Registry) -> None:
    look(engine, world)
    del world.registered["m"]["owner"], world.registered["n"]["owner"]
    look(engine, world, governance=agreed(waiver(rules="missing-*", assets="m")))
    assert stands(engine, "missing-owner") == {"m": "waived", "n": "open"}
    (one,) = found(engine, states=["waived"])
    assert history(engine, one) == [(None, "waived")]
    with engine.connect() as connection:
        (event,) = finding_list.shown(connection, one.id).history  # type: ignore[union-attr]
    assert (event.actor, event.reason) == ("ada", f"file.yaml:3, until {one.waived_until.isoformat()}: CHG-1")  # type: ignore[union-attr]


def test_a_waiver_covers_what_stands_and_its_end_opens_it_again(engine: Engine, world: Registry) -> None:
    del world.registered["m"]["owner"]
    look(engine, world)
    covered = agreed(waiver(rules="missing-owner"))
    look(engine, world, Mode.HOT, governance=covered)
    look(engine, world, Mode.HOT, governance=covered)
    assert stands(engine, "missing-owner") == {"m": "waived"}
    look(engine, world, Mode.HOT, governance=Governance(whole=False))  # its file has a typo now
    assert stands(engine, "missing-owner") == {"m": "waived"}
    look(engine, world, Mode.HOT)
    (one,) = found(engine, "missing-owner")
    assert history(engine, one) == [(None, "open"), ("open", "waived"), ("waived", "open")]


def test_a_waiver_that_runs_out_opens_its_finding_though_nothing_can_be_looked_at(
    engine: Engine, world: Registry
) -> None:
    del world.registered["m"]["owner"]
    look(engine, world, governance=agreed(waiver(rules="missing-owner")))
    with engine.begin() as connection:
        connection.execute(text("UPDATE finding SET waived_until = clock_timestamp() - interval '1 s'"))
    world.filtered = True
    look(engine, world, Mode.HOT)
    assert stands(engine, "missing-owner") == {"m": "open"}


def test_what_is_waived_resolves_like_anything_else(engine: Engine, world: Registry) -> None:
    del world.registered["m"]["owner"]
    covered = agreed(waiver(rules="missing-owner"))
    look(engine, world, governance=covered)
    world.registered["m"]["owner"] = "ada"
    look(engine, world, Mode.HOT, governance=covered)
    assert stands(engine, "missing-owner") == {"m": "resolved"}


def test_a_change_of_what_is_waived_tells_nobody_either(engine: Engine, world: Registry) -> None:
    look(engine, world)
    covered = agreed(waiver(rules="run-edited-after-finish"))
    for value in ("1", "2"):
        world.runs["run0"]["params"]["lr"] = value
        look(engine, world, governance=covered)
    (one,) = found(engine, "run-edited-after-finish")
    assert history(engine, one) == [(None, "waived"), ("waived", "waived")]


def test_a_change_inside_a_window_bears_its_name_and_one_outside_does_not(engine: Engine, world: Registry) -> None:
    governance = agreed(windows=[window(-HOUR, HOUR, rules="model-alias-moved")])
    look(engine, world)
    world.registered["m"]["aliases"] = {"champion": "2"}
    world.runs["run0"]["params"]["lr"] = "1"
    look(engine, world, governance=governance)
    windows = {one.rule: one.change_window for one in found(engine, "model-alias-moved", "run-edited-after-finish")}
    assert windows == {"model-alias-moved": "release-42", "run-edited-after-finish": None}
    world.registered["m"]["aliases"] = {"champion": "3"}  # after the window
    look(engine, world, governance=agreed(windows=[window(-2 * HOUR, -HOUR)]))
    (one,) = found(engine, "model-alias-moved")
    assert (one.state, one.change_window) == ("open", None)


def test_a_change_that_may_have_happened_before_the_window_is_not_in_it(engine: Engine, world: Registry) -> None:
    look(engine, world)
    with engine.begin() as connection:  # the last look was three hours ago
        for table, column in (("scope", "last_complete_at"), ("asset", "observed_at"), ("version", "valid_from")):
            connection.execute(text(f"UPDATE {table} SET {column} = {column} - interval '3 hours'"))
    world.registered["m"]["aliases"] = {"champion": "2"}
    look(engine, world, governance=agreed(windows=[window(-HOUR, HOUR)]))
    (one,) = found(engine, "model-alias-moved")
    assert one.change_window is None


def test_how_things_stand_since_a_window_bears_its_name_as_well(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.registered["k"] = {"name": "k", "aliases": {}}
    look(engine, world, governance=agreed(windows=[window(-HOUR, HOUR, kinds="registered_model")]))
    assert {one.key: one.change_window for one in found(engine, "missing-owner")} == {"k": "release-42"}


def test_what_only_comes_back_as_it_was_is_in_its_window_still(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.registered["m"]["aliases"] = {"champion": "2"}
    del world.registered["n"]["owner"]
    look(engine, world, governance=agreed(windows=[window(-HOUR, HOUR)]))
    with engine.begin() as connection:  # nobody could look for days, or one look did not show it
        connection.execute(text("UPDATE finding SET state = 'stale' WHERE rule = 'missing-owner'"))
    look(engine, world)  # the release is over, and its window out of the configuration
    stand = {one.rule: (one.state, one.change_window) for one in found(engine)}
    assert stand.keys() >= {"missing-owner", "model-alias-moved"}
    assert set(stand.values()) == {("open", "release-42")}


def test_what_was_so_at_first_sight_happened_in_no_window(engine: Engine, world: Registry) -> None:
    del world.registered["m"]["owner"]
    look(engine, world, governance=agreed(windows=[window(-HOUR, HOUR)]))
    assert {one.change_window for one in found(engine)} == {None}


# ---- by command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    return configured(tmp_path, f'database: "{database_url}"\n')


def number(cli: Cli, rule: str, **fields: Any) -> str:
    those = cli("finding", "list", "--rule", rule, "-o", "json").json()
    (one,) = [one for one in those if all(one[name] == value for name, value in fields.items())]
    return str(one["id"])


@pytest.fixture
def two(engine: Engine, world: Registry) -> Registry:
    """Two models that nobody owns."""
    del world.registered["m"]["owner"], world.registered["n"]["owner"]
    look(engine, world)
    return world


def test_a_finding_is_waived_by_command_and_only_it(cli: Cli, engine: Engine, two: Registry) -> None:
    which = number(cli, "missing-owner", key="m")
    answer = cli("finding", "waive", which, "--until", "30 days", "--reason", "CHG-1 ghp_" + "a1B2" * 9, "-o", "json")
    assert (answer.code, answer.err) == (0, "")
    (one,) = answer.json()
    assert (one["state"], one["history"][-1]["after"]) == ("waived", "waived")
    assert "@" in one["history"][-1]["actor"]
    assert "CHG-1 [redacted" in one["history"][-1]["reason"]
    assert stands(engine, "missing-owner") == {"m": "waived", "n": "open"}
    look(engine, two, Mode.HOT)
    assert stands(engine, "missing-owner") == {"m": "waived", "n": "open"}
    assert "Waived until" in cli("finding", "show", which).out
    (listed,) = cli("waiver", "list", "-o", "json").json()
    assert (listed["rules"], listed["assets"], listed["exact"]) == (["missing-owner"], ["m"], True)
    ended = cli("waiver", "end", str(listed["id"]), "--reason", "it is fixed", "-o", "json")
    assert ended.code == 0, ended.err
    assert stands(engine, "missing-owner") == {"m": "open", "n": "open"}
    (shown,) = cli("finding", "show", which, "-o", "json").json()
    assert "it is fixed" in shown["history"][-1]["reason"]
    assert "@" in shown["history"][-1]["actor"]
    assert cli("waiver", "end", str(listed["id"]), "--reason", "again").code == 8
    assert cli("waiver", "list", "-o", "json").json() == []
    assert len(cli("waiver", "list", "--all", "-o", "json").json()) == 1


def test_a_waiver_by_command_covers_what_there_is_and_what_will_be(cli: Cli, engine: Engine, two: Registry) -> None:
    answer = cli("waiver", "add", "--rule", "missing-owner", "--asset", "?", "--until", "2099-12-31", "--reason", "why")
    assert answer.code == 0, answer.err
    assert "2 findings are waived" in answer.err
    two.registered["k"] = {"name": "k", "aliases": {}}
    two.registered["kk"] = {"name": "kk", "aliases": {}}
    look(engine, two)
    assert stands(engine, "missing-owner") == {"m": "waived", "n": "waived", "k": "waived", "kk": "open"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("waiver", "add", "--until", "30 days", "--reason", "r"), 2, "would waive whatever"),
        (("waiver", "add", "--rule", "missing-owners", "--until", "30 days", "--reason", "r"), 7, "missing-owner"),
        (("waiver", "add", "--rule", "missing-*", "--until", "yesterday", "--reason", "r"), 2, "is over"),
        (("waiver", "add", "--rule", "missing-*", "--until", "soon", "--reason", "r"), 2, "time to come"),
        (("waiver", "add", "--rule", "missing-*", "--until", "30 days", "--reason", " "), 2, "Say why"),
        (("waiver", "end", "99", "--reason", "r"), 7, "There is no waiver 99"),
        (("finding", "waive", "99", "--until", "30 days", "--reason", "r"), 7, "There is no finding 99"),
    ],
)
def test_what_cannot_be_waived_is_refused_and_nothing_changes(
    cli: Cli, engine: Engine, two: Registry, arguments: tuple[str, ...], code: int, words: str
) -> None:
    answer = cli(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert words in " ".join(answer.err.split())
    assert stands(engine, "missing-owner") == {"m": "open", "n": "open"}


def test_there_is_nothing_to_waive_of_what_is_over(cli: Cli, engine: Engine, two: Registry) -> None:
    which = number(cli, "missing-owner", key="m")
    two.registered["m"]["owner"] = "ada"
    look(engine, two)
    answer = cli("finding", "waive", which, "--until", "30 days", "--reason", "r")
    assert (answer.code, answer.out) == (8, "")
    assert cli("waiver", "list", "-o", "json").json() == []


def test_waivers_of_a_file_are_listed_with_where_they_stand(cli: Cli, tmp_path: Path, two: Registry) -> None:
    (tmp_path / "agreed.yaml").write_text(
        "waivers:\n  - rule: missing-owner\n    asset: m\n    owner: ada\n    reason: CHG-1\n    until: 2099-12-31\n"
    )
    cli.config.write_text(cli.config.read_text() + "governance: {files: ['*ed.yaml']}\n")
    (one,) = cli("waiver", "list", "-o", "json").json()
    assert (one["source"], one["id"], one["until"]) == ("agreed.yaml:2", None, "2100-01-01T00:00:00Z")
    (tmp_path / "agreed.yaml").write_text("waivers:\n  - rule: missing-owner\n    owne: ada\n")
    answer = cli("waiver", "list")
    assert answer.code == 3
    assert "agreed.yaml" in answer.err
    assert "waivers[0].owne (line 3) is not a known key. Did you mean `owner`?" in answer.err
    refused = cli("waiver", "add", "--rule", "missing-*", "--until", "30 days", "--reason", "r")
    assert refused.code == 2
    assert cli("config", "check").code == 2
