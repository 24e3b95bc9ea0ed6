"""Baselines: what was changed by hand shows with both sides, and a file is written, checked and brought up to date."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, text

from stocktake.cli import rows
from stocktake.core.assets import Kind, Mode
from stocktake.core.governance import Governance
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.workspace import Workspace
from stocktake.settings.governing import read_file
from stocktake.sources.azureml import AzureMl
from tests.azure.server import AzureServer, served
from tests.integration.registry import Registry, found, look, stands
from tests.integration.scripted import scan
from tests.integration.test_cli import Answer, Cli, configured
from tests.servers.azureml import azureml_config

FILE = """\
# who may change this: the platform team
workspace: w
exact: [models]

experiments:
  - name: exp 1
    owner: ada
    tags: {team: '*'}   # anybody's
models:
  # the one in production
  - name: m
    aliases: {champion: 1}

# until the migration is over
waivers:
  - rule: missing-owner
    asset: n*
    owner: ada
    reason: CHG-1
    until: 2099-12-31
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "w.yaml"
    made.write_text(FILE)
    return made


@pytest.fixture
def cli(tmp_path: Path, database_url: str, file: Path) -> Cli:
    return configured(tmp_path, f'database: "{database_url}"\ngovernance: {{files: [{file.name}]}}\n')


@pytest.fixture
def world() -> Registry:
    made = Registry()
    made.add_run("run0")
    made.experiments["1"] |= {"owner": "ada", "tags": {"team": "risk"}}
    made.registered["m"] = {"name": "m", "owner": "ada", "aliases": {"champion": "1"}}
    return made


def governance(file: Path) -> Governance:
    read = read_file(file)
    made = read.content.baseline(read.source)
    return Governance(baselines=[made] if made is not None else [])


def diff(cli: Cli, *arguments: str, code: int) -> list[tuple[Any, ...]]:
    answer = cli("baseline", "diff", *arguments, "-o", "json")
    assert answer.code == code, answer
    assert all(tuple(one) == rows.OFF_BASELINE for one in answer.json())
    return [(one["what"], one["name"], one["path"], one["baseline"], one["actual"]) for one in answer.json()]


def test_a_change_by_hand_is_found_with_both_sides_and_resolves_either_way(
    engine: Engine, world: Registry, file: Path
) -> None:
    look(engine, world, governance=governance(file))
    assert stands(engine, "off-baseline") == {}
    world.registered["m"]["aliases"] = {"champion": "2"}
    look(engine, world, Mode.HOT, governance=governance(file))
    (one,) = found(engine, "off-baseline")
    assert (one.kind, one.key, one.state, one.inherited) == ("registered_model", "m", "open", False)
    assert one.evidence == {
        "what": "differs", "name": "m", "baseline": "w.yaml:11",
        "differs": [{"path": "aliases.champion", "baseline": 1, "actual": "2"}],
    }  # fmt: skip
    file.write_text(FILE.replace("champion: 1", "champion: 2"))  # it was approved
    look(engine, world, Mode.HOT, governance=governance(file))
    assert stands(engine, "off-baseline") == {"m": "resolved"}
    world.registered["m"]["aliases"] = {"champion": "3"}
    look(engine, world, Mode.HOT, governance=governance(file))
    world.registered["m"]["aliases"] = {"champion": "2"}  # it was not
    look(engine, world, Mode.HOT, governance=governance(file))
    assert stands(engine, "off-baseline") == {"m": "resolved"}


def test_what_is_missing_and_what_nobody_named(engine: Engine, world: Registry, file: Path) -> None:
    world.experiments["1"]["name"] = "another"
    world.registered["n"] = {"name": "n", "owner": "ada", "aliases": {}}
    look(engine, world, governance=governance(file))
    assert {(one.kind, one.key): one.evidence["what"] for one in found(engine, "off-baseline")} == {
        ("experiment", "exp 1"): "missing",
        ("registered_model", "n"): "not in the baseline",
    }
    world.experiments["1"]["name"] = "exp 1"
    del world.registered["n"]
    look(engine, world, governance=governance(file))
    assert set(stands(engine, "off-baseline").values()) == {"resolved"}


def test_what_was_not_completely_seen_is_not_missing(engine: Engine, world: Registry, file: Path) -> None:
    world.filtered = True
    world.experiments["1"]["name"] = "another"
    look(engine, world, governance=governance(file))
    assert stands(engine, "off-baseline") == {}


def test_a_file_with_a_typo_changes_nothing_that_is_known(engine: Engine, world: Registry, file: Path) -> None:
    world.registered["m"]["aliases"] = {}
    look(engine, world, governance=governance(file))
    assert stands(engine, "off-baseline") == {"m": "open"}
    look(engine, world, Mode.HOT, governance=Governance(whole=False))
    assert stands(engine, "off-baseline") == {"m": "open"}
    look(engine, world, Mode.HOT)  # no baseline is about it any more
    assert stands(engine, "off-baseline") == {"m": "resolved"}


def test_a_pass_in_which_nothing_differs_anew_writes_nothing(engine: Engine, world: Registry, file: Path) -> None:
    world.registered["m"]["aliases"] = {}
    look(engine, world, governance=governance(file))

    def written() -> list[str]:
        with engine.connect() as connection:
            return list(connection.execute(text("SELECT xmin::text FROM off_baseline")).scalars())

    before = written()
    look(engine, world, Mode.HOT, governance=governance(file))
    assert before
    assert written() == before


# ---- by command ----------------------------------------------------------------------------------------------------


def test_a_baseline_is_written_from_what_was_seen_and_is_true_at_once(
    cli: Cli, engine: Engine, world: Registry, tmp_path: Path
) -> None:
    assert cli("baseline", "init", "-w", "w").code == 7
    look(engine, world)
    answer = cli("baseline", "init", "-w", "w")
    assert answer.code == 0, answer.err
    assert yaml.safe_load(answer.out) == {
        "workspace": "w",
        "experiments": [{"name": "exp 1", "owner": "ada", "tags": {"team": "risk"}}],
        "models": [{"name": "m", "owner": "ada", "aliases": {"champion": "1"}}],
    }
    target = tmp_path / "new.yaml"
    assert cli("baseline", "init", "-w", "w", "--file", str(target)).code == 0
    assert target.read_text() == answer.out
    assert cli("baseline", "init", "-w", "w", "--file", str(target)).code == 8
    assert cli("baseline", "check", str(target)).code == 0
    assert diff(cli, str(target), code=0) == []


def test_a_difference_has_an_exit_code_and_both_sides(cli: Cli, engine: Engine, world: Registry) -> None:
    assert cli("baseline", "diff").code == 7
    look(engine, world)
    assert diff(cli, code=0) == []
    world.registered["m"]["aliases"] = {"champion": "2", "next": "3"}
    del world.experiments["1"]["tags"]
    look(engine, world)
    assert diff(cli, code=9) == [
        ("differs", "exp 1", "tags.team", "*", None),
        ("differs", "m", "aliases.champion", 1, "2"),
        ("differs", "m", "aliases.next", None, "3"),
    ]
    table = cli("baseline", "diff")
    assert (table.code, "w.yaml:11" in table.out) == (9, True)
    world.filtered = True
    world.registered["m"]["aliases"] = {"champion": "1"}
    world.experiments["1"]["tags"] = {"team": "risk"}
    look(engine, world)
    assert diff(cli, code=3) == []


def test_an_approved_change_is_written_into_the_file_and_the_rest_stays_letter_for_letter(
    cli: Cli, engine: Engine, world: Registry, file: Path
) -> None:
    look(engine, world)
    assert cli("baseline", "update", str(file)).code == 0
    world.registered["m"]["aliases"] = {"champion": "2"}
    world.registered["new"] = {"name": "new", "owner": "bo", "aliases": {}}
    look(engine, world)
    shown = cli("baseline", "update", str(file))
    assert shown.code == 9
    assert "-    aliases: {champion: 1}" in shown.out
    assert file.read_text() == FILE
    assert cli("baseline", "update", str(file), "--write").code == 0
    after = file.read_text()
    assert after.startswith(FILE[: FILE.index("models:")])
    assert after.endswith(FILE[FILE.index("# until the migration") :])
    assert yaml.safe_load(after)["models"] == [
        {"name": "m", "aliases": {"champion": "2"}},
        {"name": "new", "owner": "bo", "aliases": {}},
    ]
    assert diff(cli, code=0) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "owner: ada\n    tags",
            "owne: ada\n    tags",
            "experiments[0].owne (line 7) is not a known key. Did you mean",
        ),
        ("missing-owner", "missing-owners", "waivers[0].rule (line 16) names no rule: 'missing-owners'. Did you mean"),
        ("exact: [models]", "exact: [model]", "exact[0] (line 3) must be one of"),
        ("until: 2099-12-31", "until: soon", "waivers[0].until (line 20) is not a time"),
        ("workspace: w\n", "", "does not say of which workspace"),
        ("  - name: exp 1", " - name: exp 1\n\t", "is not valid YAML"),
        ("workspace: w\n", "workspace: w\nworkspace: v\n", "is given twice"),
        ("aliases: {champion: 1}", "aliases: [champion]", "models[0].aliases (line 12) must be a map"),
    ],
)
def test_a_typo_is_named_with_its_file_and_line(cli: Cli, file: Path, old: str, new: str, words: str) -> None:
    assert old in FILE
    file.write_text(FILE.replace(old, new))
    answer = cli("baseline", "check", str(file))
    assert (answer.code, answer.out) == (2, "")
    assert str(file) in answer.err
    assert words in answer.err
    assert "Traceback" not in answer.err


def test_a_file_that_is_not_there_is_said(cli: Cli, tmp_path: Path) -> None:
    for command in ("check", "diff", "update"):
        assert cli("baseline", command, str(tmp_path / "none.yaml")).code == 2


# ---- on the loopback Azure ------------------------------------------------------------------------------------------


@pytest.fixture
def azure() -> Iterator[tuple[AzureServer, Workspace]]:
    estate = Estate()
    workspace = estate.add_workspace("w1", size=Size(jobs=3))
    with served(estate) as server:
        yield server, workspace


def test_what_is_done_in_the_portal_shows_against_a_baseline_of_azure(
    azure: tuple[AzureServer, Workspace], engine: Engine, tmp_path: Path, database_url: str
) -> None:
    server, workspace = azure
    cli = configured(tmp_path, f'database: "{database_url}"\ngovernance: {{files: [a.yaml]}}\n')
    target = tmp_path / "a.yaml"

    def sweep() -> None:
        agreed = governance(target) if target.exists() else Governance()
        source: Any = lambda _, now: AzureMl(azureml_config(server, workspace), now)  # noqa: E731
        assert scan(engine, Registry(), workspace="az", source=source, governance=agreed).state == "complete"

    def off() -> set[tuple[str, str]]:
        return {(str(one.kind), one.evidence["what"]) for one in found(engine, "off-baseline")}

    sweep()
    answer: Answer = cli("baseline", "init", "-w", "az", "--file", str(target))
    assert answer.code == 0, answer.err
    said = yaml.safe_load(target.read_text())
    assert set(said) >= {"experiments", "models", "endpoints", "network", "storage", "roles"}
    assert said["exact"] == ["endpoints", "roles"]
    sweep()
    assert off() == set()
    endpoint = next(iter(one["name"] for one in said["endpoints"] if one["kind"] == "online" and one.get("traffic")))
    workspace.shift_traffic(endpoint, {"elsewhere": 100})
    workspace.edit_workspace(properties={"publicNetworkAccess": "Disabled"})
    workspace.edit_storage(publicNetworkAccess="Disabled")
    sweep()
    assert off() == {("online_endpoint", "differs"), ("workspace", "differs"), ("storage_account", "differs")}
    assert cli("baseline", "update", str(target), "--write").code == 0
    assert cli("baseline", "diff").code == 0
    sweep()
    assert off() == set()
    assert {str(one) for one in Kind} >= {one.kind for one in found(engine, "off-baseline", states=["resolved"])}
