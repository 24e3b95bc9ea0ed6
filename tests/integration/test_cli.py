"""The command line as people and programs use it: a process of its own, a real database, a real MLflow server."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from stocktake.cli import run
from stocktake.store.engine import make_engine
from tests.conftest import clone
from tests.contract.test_cli_reference import schema
from tests.servers.content import V2, Content, Writer, fill
from tests.servers.json_schema import problems
from tests.servers.mlflow_server import free_port, mlflow_server

SERVICE = Path(__file__).parents[2] / "service"
FOLDED = 12  # runs of the experiment that is deleted


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it wrote, read as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Cli:
    """The command with one configuration and one data folder."""

    folder: Path
    config: Path

    def environment(self) -> dict[str, str]:
        """Nothing of the developer's own settings."""
        ours = ("MLFLOW_", "STOCKTAKE_", "PG", "OTEL_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {
            "PYTHONPATH": str(SERVICE), "STOCKTAKE_DATA_DIR": str(self.folder / "data"), "TZ": "UTC",
            "STOCKTAKE_CONFIG": str(self.config), "COLUMNS": "100", "PYTHONWARNINGS": "default",
        }  # fmt: skip

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command."""
        command = [sys.executable, "-m", "stocktake", *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment(), cwd=self.folder, **(pipes | more))

    def __call__(self, *arguments: str) -> Answer:
        """Ask something that only reads, in this process: imports are paid for once."""
        out, err = io.StringIO(), io.StringIO()
        before, ours = dict(os.environ), self.environment()
        os.environ.clear()
        os.environ.update(ours)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run(list(arguments))
        finally:
            os.environ.clear()
            os.environ.update(before)
        return Answer(code, out.getvalue(), err.getvalue())

    def process(self, *arguments: str) -> Answer:
        """Run a command to its end in a process of its own."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return Answer(process.returncode, out, err)


def configured(folder: Path, words: str) -> Cli:
    """A command line with a configuration file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "stocktake.yaml"
    config.write_text(words)
    return Cli(folder, config)


@dataclass(frozen=True, slots=True)
class World:
    """What was scanned, changed and scanned again."""

    cli: Cli
    content: Content
    folded: str  # the experiment that was deleted with its runs
    before: str  # a time before the first scan
    between: str  # a time between the two scans
    first: Answer
    second: Answer
    database: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, pg_server: str, pg_template: str) -> Iterator[World]:
    """Two scans of a real server, with changes between them, and a second workspace that nobody can reach."""
    folder = tmp_path_factory.mktemp("cli")
    with mlflow_server(folder / "mlflow") as server, clone(pg_server, pg_template) as database:
        content = fill(server.uri)
        writer = Writer(server.uri)
        doomed = writer.experiment("doomed")
        for number in range(FOLDED):
            writer.run(doomed, f"doomed-{number}")
        cli = configured(
            folder,
            f'database: "{database}"\n'
            "workspaces:\n"
            f'  - {{name: research, mlflow: {{uri: "{server.uri}"}}}}\n'
            f'  - {{name: dead, mlflow: {{uri: "http://127.0.0.1:{free_port()}"}}}}\n',
        )
        before = _now()
        first = cli.process("scan", "--output", "json")
        between = _now()
        writer.send(f"{V2}/experiments/delete", {"experiment_id": doomed})
        writer.send(f"{V2}/registered-models/alias", {"name": "classifier", "alias": "champion", "version": "1"})
        late = {"run_id": content.run, "key": "review\tstate", "value": "ok \x1b[31m\nnext"}
        writer.send(f"{V2}/runs/set-tag", late | {"key": "review.state"})
        writer.run(content.experiment, "brand new", tags={"api_password": "hunter2-hunter2"})
        writer.close()
        second = cli.process("scan", "research")
        yield World(cli, content, doomed, before, between, first, second, database)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time())) + f".{int(time.time() % 1 * 1e6):06d}Z"


def _valid(items: Any, name: str) -> None:
    root = schema()
    assert isinstance(items, list)
    assert items
    for item in items:
        assert not list(problems(item, root["$defs"][name], root))


def test_a_scan_of_several_workspaces_is_partial_when_one_is_out_of_reach(world: World) -> None:
    assert world.first.code == 3
    research, dead = world.first.json()
    assert (research["workspace"], research["state"], research["error"]) == ("research", "complete", None)
    assert research["baseline"] == research["seen"] > 20
    assert {scope["state"] for scope in research["scopes"]} == {"complete"}
    assert (dead["workspace"], dead["state"], dead["trouble"]) == ("dead", "failed", "unreachable")
    assert dead["seen"] == 0
    assert dead["next_step"]
    assert world.second.code == 0
    assert "1 secrets replaced" in world.second.out
    assert "hunter2" not in world.second.out + world.second.err


def test_a_list_as_json_is_as_documented(world: World) -> None:
    answer = world.cli.process("list", "run", "-w", "research", "-o", "json")
    assert answer == world.cli("list", "run", "-w", "research", "-o", "json")  # as in this process
    assert answer.code == 0
    _valid(answer.json(), "asset")
    found = {one["key"]: one for one in answer.json()}
    assert found[world.content.deleted_run]["lifecycle"] == "deleted"
    assert found[world.content.run]["owner"] == "grace"
    assert found[world.content.child]["parent"] == world.content.run
    assert found[world.content.run]["document"]["tags"]["review.state"] == "ok \x1b[31m\nnext"


def test_a_list_of_the_past_is_the_past(world: World) -> None:
    now = world.cli("list", "runs", "-o", "json", "-w", "research").json()
    then = world.cli("list", "runs", "-o", "json", "-w", "research", "--at", world.between).json()
    assert len(now) == len(then) + 1
    states = {one["key"]: one["lifecycle"] for one in then if one["partition"] == world.folded}
    assert set(states.values()) == {"active"}
    assert len(states) == FOLDED
    few = world.cli("list", "run", "-o", "tsv", "-w", "research", "--where", "state=FAILED", "--no-deleted", "-n", "1")
    header, row = few.out.splitlines()
    assert dict(zip(header.split("\t"), row.split("\t"), strict=True))["key"] == world.content.failed


def test_a_state_is_asked_for_in_any_case_and_a_mistyped_one_is_told_what_there_is(world: World) -> None:
    asked = ["list", "run", "-w", "research", "-o", "json", "--where"]
    whole = world.cli(*asked, "state=FINISHED")
    assert whole.json()
    assert world.cli(*asked, "state=finished") == whole
    mistyped = world.cli(*asked, "state=finishd")
    states = ", ".join(sorted({one["state"] for one in world.cli(*asked[:-1]).json()}))
    assert (mistyped.json(), mistyped.err) == ([], f"No runs.\nstate: {states}.\n")
    both = world.cli(*asked, "state=Finished", "--where", "owner=nobody")
    assert "state:" not in both.err
    assert "owner: " in both.err


def test_tables_show_what_tells_assets_apart(world: World) -> None:
    runs = world.cli("list", "run", "-w", "research").out.splitlines()
    assert "EXPERIMENT" in runs[0]
    doomed = [line for line in runs if line.startswith("doomed-")]
    assert len(doomed) == FOLDED
    assert all("  doomed  " in line for line in doomed)
    assert "champion: 1" in world.cli("list", "registered_model", "-w", "research").out
    versions = world.cli("list", "model_version", "-w", "research", "-o", "json").json()
    champion = next(one for one in versions if one["document"]["aliases"])
    header, *lines = world.cli("list", "model_version", "-w", "research").out.splitlines()
    (line,) = [line for line in lines if champion["key"] in line]
    assert line[header.index("ALIASES") :].startswith(", ".join(champion["document"]["aliases"]) + "  ")
    assert line[header.index("RUN") :].startswith(champion["run"] + "  ")
    assert "EXPERIMENT" not in header


def test_changes_as_json_are_as_documented(world: World) -> None:
    answer = world.cli("changes", "-w", "research", "-o", "json")
    assert answer.code == 0
    _valid(answer.json(), "change")
    by_key = {(one["kind"], one["key"], one["type"]): one for one in answer.json()}
    story = by_key["experiment", world.folded, "deleted"]
    assert story["includes"] == {"run": FOLDED}
    assert story["actor"] == "unknown"
    assert story["not_before"] < story["at"] <= story["not_after"]
    model = by_key["registered_model", "classifier", "updated"]
    assert {"path": "aliases.champion", "before": "2", "after": "1"} in model["fields"]
    assert not [one for one in answer.json() if one["kind"] == "run" and one["type"] == "deleted"]


def test_expanded_changes_name_the_story_that_they_are_a_part_of(world: World) -> None:
    told = world.cli("changes", "--expand", "-o", "json").json()
    story = next(one for one in told if one["key"] == world.folded)
    parts = [one for one in told if one["part_of"] == story["id"]]
    assert len(parts) == FOLDED
    only = world.cli("changes", "--category", "config", "--kind", "run", "-o", "json").json()
    assert [one["key"] for one in only] == [world.content.run]


def test_the_table_of_changes_reads_as_a_story(world: World) -> None:
    out = world.cli("changes", "-w", "research").out
    assert f"experiment deleted by unknown; doomed; {world.folded}; and {FOLDED} runs" in out
    assert "aliases.champion: 2 -> 1" in out
    assert "tags['review.state']: set to ok \\x1b[31m\\nnext" in out
    assert "\x1b" not in out
    assert "┃" not in out
    assert "ago" in out or "now" in out


def test_a_reader_of_tsv_gets_one_line_a_change(world: World) -> None:
    as_json = world.cli("changes", "-o", "json").json()
    header, *lines = world.cli("changes", "-o", "tsv").out.splitlines()
    assert len(lines) == len(as_json)
    for line, change in zip(lines, as_json, strict=True):
        row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
        assert row["key"] == change["key"].replace("\\", "\\\\")
        assert row["not_after"] == change["not_after"]


def test_the_difference_of_two_times_is_net(world: World) -> None:
    told = world.cli("diff", "--from", world.between, "--to", "now", "-w", "research", "-o", "json")
    assert told.code == 0
    _valid(told.json(), "change")
    assert {"created", "updated", "deleted"} == {one["type"] for one in told.json()}
    assert world.cli("diff", "--from", world.between, "--to", world.between, "-o", "json").json() == []


def test_a_difference_is_folded_into_the_same_stories_as_changes(world: World) -> None:
    def told(*arguments: str) -> dict[tuple[str, str, str], dict[str, int]]:
        answer = world.cli(*arguments, "-w", "research", "-o", "json").json()
        return {(one["kind"], one["key"], one["type"]): one["includes"] for one in answer}

    net = ("diff", "--from", world.between)
    assert told(*net) == told("changes", "--since", world.between)
    assert told(*net)["experiment", world.folded, "deleted"] == {"run": FOLDED}
    assert told(*net)["registered_model", "classifier", "updated"] == {"model_version": 2}
    assert told(*net, "--expand").keys() == told("changes", "--since", world.between, "--expand").keys()
    assert told(*net, "--kind", "experiment") == {("experiment", world.folded, "deleted"): {"run": FOLDED}}
    assert len([one for one in told(*net, "--kind", "run") if one[2] == "deleted"]) == FOLDED


def test_a_filter_folds_what_its_story_explains_and_shows_what_it_left_without_one(world: World) -> None:
    def told(*arguments: str) -> list[str]:
        return [one["kind"] for one in world.cli("changes", *arguments, "-w", "research", "-o", "json").json()]

    assert told("--type", "deleted") == told("--category", "state") == ["experiment"]
    assert told("--type", "deleted", "--kind", "run") == ["run"] * FOLDED
    assert told("--type", "deleted", "--expand").count("run") == FOLDED


@pytest.mark.parametrize("command", [["list", "run", "--at"], ["changes", "--until"], ["diff", "--from"]])
def test_a_time_before_the_first_scan_is_not_observed_rather_than_nothing(world: World, command: list[str]) -> None:
    answer = world.cli(*command, world.before, "-o", "json")
    assert answer.code == 5
    root = schema()
    assert not list(problems(answer.json(), root["$defs"]["not_observed"], root))
    known = {one["workspace"]: one["first_observed"] for one in answer.json()["not_observed"]}
    assert known["dead"] is None
    assert world.before < known["research"] < world.between
    table = world.cli(*command, world.before)
    assert (table.code, table.out) == (5, "")
    assert "Not observed" in table.err
    assert "research" in table.err


def test_show_and_history_before_the_first_scan_are_not_observed(world: World) -> None:
    asked = world.cli("show", "run", world.content.run, "--at", world.before)
    assert (asked.code, asked.out) == (5, "")
    assert world.cli("history", "run", world.content.run, "--until", world.before).code == 5


def test_one_unseen_workspace_is_named_while_the_others_are_answered_for(world: World) -> None:
    answer = world.cli("list", "experiment", "-o", "json")
    assert answer.code == world.cli("changes", "-o", "json").code == 3
    assert {one["workspace"] for one in answer.json()} == {"research"}
    assert "dead: experiments: no complete scan yet" in answer.err
    assert world.cli("list", "experiment", "-w", "dead").code == 5


def test_show_finds_by_key_and_by_name_and_hides_the_secret(world: World) -> None:
    by_key = world.cli("show", "run", world.content.run)
    assert by_key.code == 0
    assert "owner          grace" in by_key.out
    assert "\x1b" not in by_key.out
    named = world.cli("show", "run", "brand new", "-o", "json")
    (run,) = named.json()
    assert run["document"]["tags"]["api_password"].startswith("[redacted")
    missing = world.cli("show", "run", "no such run")
    assert (missing.code, missing.out) == (7, "")
    assert "stocktake list run" in missing.err


def test_the_history_of_an_asset_says_what_differed(world: World) -> None:
    answer = world.cli("history", "experiment", "doomed")
    assert answer.code == 0
    assert "first known state" in answer.out
    assert "lifecycle_stage: active -> deleted" in answer.out
    first, second = world.cli("history", "experiment", world.folded, "-o", "json").json()
    assert first["valid_to"] == second["valid_from"]
    assert second["valid_to"] is None
    assert (first["lifecycle"], second["lifecycle"]) == ("active", "deleted")
    assert first["digest"] != second["digest"]


def test_status_says_what_is_wrong_and_what_to_do(world: World) -> None:
    answer = world.cli("status")
    assert answer.code == 0
    assert "research: complete" in answer.out
    assert "dead: unobservable since" in answer.out
    assert "could not be connected to" in answer.out
    assert "next step" in answer.out
    dead, research = world.cli("status", "-o", "json").json()
    assert (dead["state"], dead["age"], dead["configured"]) == ("unobservable", None, True)
    assert research["age"] < research["staleness_bound"] == pytest.approx(24 * 3600 * 1.1)
    assert research["last_sweep"]["state"] == "complete"
    assert research["assets"]["run"] == FOLDED + 7
    kinds = {one["kind"] for one in research["coverage"]}
    assert {"experiment", "run", "registered_model", "model_version"} <= kinds


def test_withheld_removals_are_shown_and_accepted(world: World) -> None:
    engine = make_engine(world.database)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO withheld (asset_id, workspace_id, kind, partition, since, scan_id, confirmations)"
                " SELECT asset_id, workspace_id, kind, partition, now(), 1, 1 FROM asset"
                " WHERE kind = 'run' AND partition = :folded"
            ),
            {"folded": world.folded},
        )
    engine.dispose()
    told = world.cli("status", "-w", "research").out
    assert f"stocktake scope accept research run {world.folded}" in told
    assert f"{FOLDED} removals of runs" in told
    wrong = world.cli("scope", "accept", "research", "run", "no-such-experiment")
    assert wrong.code == 7
    accepted = world.cli("scope", "accept", "research", "runs", world.folded, "--by", "ada")
    assert accepted.code == 0
    assert f"Accepted {FOLDED} removals" in accepted.out
    assert "accepted; the next scan publishes them" in world.cli("status", "-w", "research").out
    assert world.cli("scope", "accept", "research", "run").code == 7
    listed = {one["kind"]: one["withheld"] for one in world.cli("scope", "list", "-o", "json").json()}
    assert (listed["run"], listed["experiment"]) == (FOLDED, 0)


def test_what_was_mistyped_is_named_with_what_was_meant(world: World) -> None:
    assert world.cli("list", "runz").code == 2
    assert "Did you mean run?" in world.cli("list", "runz").err
    workspace = world.cli("list", "run", "-w", "reserch")
    assert workspace.code == 7
    assert "Did you mean research?" in workspace.err
    assert world.cli("scan", "reserch").code == 7
    time_ = world.cli("changes", "--since", "whenever")
    assert time_.code == 2
    assert "2 days ago" in time_.err
    assert world.cli("list", "run", "--at", "2999-01-01").code == 2
    assert "Did you mean" in world.cli("stauts").err


def test_a_reader_that_has_read_enough_ends_the_command_quietly(world: World) -> None:
    with world.cli.start("list", "run", "-o", "json", "-w", "research") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 0
    assert "Traceback" not in err
    assert "Exception" not in err


def test_doctor_says_what_is_well_and_what_to_do_about_the_rest(world: World) -> None:
    answer = world.cli.process("doctor", "-w", "research", "-o", "json")
    checks = {one["check"]: one for one in answer.json()}
    assert answer.code == 0, answer.out
    assert {one["level"] for one in answer.json()} == {"ok"}
    assert "PostgreSQL" in checks["database"]["message"]
    assert checks["migrations"]["level"] == checks["reach"]["level"] == checks["clock"]["level"] == "ok"
    assert "same first page" in checks["MLflow's client"]["message"]
    assert {"configuration", "disk", "database clock", "schedule", "identity"} <= set(checks)
    broken = world.cli.process("doctor", "-w", "dead")
    assert broken.code == 4
    assert "fail dead: reach" in broken.out
    assert "-> Check the URL" in broken.out


def test_a_scan_that_hangs_is_left_by_ctrl_c(tmp_path: Path, database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        where = f'{{name: silent, mlflow: {{uri: "http://127.0.0.1:{port}"}}}}'
        cli = configured(tmp_path, f'database: "{database_url}"\nworkspaces:\n  - {where}\n')
        process = cli.start("scan")
        silent.settimeout(60)
        asking, _ = silent.accept()  # and will never be answered
        with asking:
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - began < 20
    assert "Traceback" not in err
    assert "Interrupted" in err


def test_a_worker_answers_and_stops_cleanly_when_asked(world: World) -> None:
    config = world.cli.folder / "worker.yaml"
    config.write_text(world.cli.config.read_text() + "web: {port: 0}\n")
    process = Cli(world.cli.folder, config).start("worker")
    assert process.stderr is not None
    lines = []
    try:
        for line in process.stderr:
            lines.append(line)
            if '"endpoint_ready"' in line:
                break
        url = json.loads(lines[-1])["url"]
        assert httpx.get(f"{url}/readyz", trust_env=False, timeout=10.0).json()
        assert "stocktake_" in httpx.get(f"{url}/metrics", trust_env=False, timeout=10.0).text
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, "".join(lines) + err
    assert "Traceback" not in "".join(lines) + err


def test_the_database_commands(tmp_path: Path, empty_database_url: str) -> None:
    cli = configured(tmp_path, f'database: "{empty_database_url}"\n')
    assert cli("db", "current").out == ""
    assert cli("db", "check").code == 6
    asked = cli("status")
    assert (asked.code, asked.out) == (6, "")
    assert "stocktake db upgrade" in asked.err
    assert cli.process("db", "upgrade").code == 0
    assert cli("db", "check").code == 0
    assert cli("db", "current").out == cli("db", "upgrade").out
    assert cli("db", "url").out.startswith("postgresql://")
    for question in (["list", "run"], ["show", "run", "x"], ["changes"], ["diff", "--from", "yesterday"]):
        nothing = cli(*question, "-o", "json")
        assert (nothing.code, nothing.json()) == (5, {"not_observed": []})
        assert "nothing was scanned yet" in nothing.err


def test_a_database_that_is_not_there_is_told_from_a_wrong_configuration(tmp_path: Path) -> None:
    cli = configured(tmp_path, f'database: "postgresql://nobody@127.0.0.1:{free_port()}/x"\n')
    asked = cli("changes")
    assert (asked.code, asked.out) == (6, "")
    assert "cannot be reached" in asked.err
    assert cli.process("doctor").code == 4


def test_the_configuration_commands(tmp_path: Path) -> None:
    cli = configured(tmp_path, "workspaces:\n  - {name: a, mlflow: {uri: 'http://127.0.0.1:1'}}\nschedul: {}\n")
    wrong = cli("config", "check")
    assert wrong.code == 2
    assert "line 3" in wrong.err
    assert "schedule" in wrong.err
    assert cli("status").code == 2
    cli = configured(tmp_path, "workspaces:\n  - {name: a, mlflow: {uri: 'http://127.0.0.1:1', token_env: NO_TOKEN}}\n")
    unset = cli("config", "check")
    assert unset.code == 2
    assert "NO_TOKEN" in unset.err
    shown = cli("config", "show", "-o", "json").json()
    assert shown["workspaces"][0]["mlflow"]["token_env"] == "NO_TOKEN"
    assert shown["schedule"]["hot"] == "10m"
    assert "workspaces" in cli("config", "schema").json()["properties"]
    assert cli("--config", str(tmp_path / "nowhere.yaml"), "config", "check").code == 2


def test_nothing_to_scan_is_said_plainly(tmp_path: Path) -> None:
    asked = configured(tmp_path, "database: embedded\n").process("scan")
    assert asked.code == 2
    assert "MLFLOW_TRACKING_URI" in asked.err


def test_help_is_there_at_once_and_loads_nothing_heavy(tmp_path: Path) -> None:
    words = (
        "import sys; from stocktake.cli import run; code = run(['--help']);"
        "heavy = {'sqlalchemy', 'mlflow', 'fastapi', 'opentelemetry', 'apscheduler', 'pydantic', 'httpx', 'alembic'};"
        "sys.exit(code or sorted(heavy & set(sys.modules)) or 0)"
    )
    cli = configured(tmp_path, "")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", words], env=cli.environment(), capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "Exit codes" in done.stdout
    # Seconds of work, not of waiting: a busy machine is no fault of ours.
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 1.0
    assert cli.process("version").out.startswith("stocktake ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [("stocktake sc", ["scan", "scope"]), ("stocktake list model", ["model_version"]), ("stocktake db c", ["current"])],
)
def test_the_shell_completes_commands_and_kinds(tmp_path: Path, line: str, expected: list[str]) -> None:
    cli = configured(tmp_path, "")
    asked = {"_STOCKTAKE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run(
        [sys.executable, "-m", "stocktake"],
        env=cli.environment() | asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert set(expected) <= set(done.stdout.split())
    assert "up" not in done.stdout.split()
