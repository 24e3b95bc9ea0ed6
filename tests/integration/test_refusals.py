"""What stocktake refuses to do is as visible as what fails: in the ledger, in `status`, in the figures, to `doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Mode, ScanState
from stocktake.core.errors import ConfigError
from stocktake.settings import load_settings
from stocktake.store.engine import make_engine
from stocktake.wiring import open_app
from tests.integration.scripted import Scripted, World, scan, twelve_runs
from tests.integration.test_cli import Cli, configured
from tests.servers import folder as make


def watching(tmp_path: Path, database_url: str, *workspaces: str) -> Cli:
    """The command line with these workspaces in its configuration."""
    lines = "".join(f"- {words}\n" for words in workspaces)
    return configured(tmp_path / "cli", f"database: {database_url}\nworkspaces:\n{lines}")


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    make.small_store(tmp_path / "mlruns")
    return tmp_path / "mlruns"


def test_a_refused_scan_is_a_failed_one_wherever_it_is_looked_for(
    tmp_path: Path, mlruns: Path, database_url: str
) -> None:
    assert watching(tmp_path, database_url, f"{{name: a, mlflow: {{folder: {mlruns}}}}}").process("scan").code == 0
    make.small_store(tmp_path / "typo")
    cli = watching(
        tmp_path, database_url,
        f"{{name: a, mlflow: {{folder: {tmp_path / 'typo'}}}}}",
        "{name: b, mlflow: {uri: 'http://127.0.0.1:1', token_env: NOT_SET}}",
        f"{{name: c, mlflow: {{folder: {mlruns}}}}}",
    )  # fmt: skip
    scanned = cli.process("scan", "-o", "json")
    assert scanned.code == 3, scanned.err
    assert [(one["workspace"], one["state"], one["trouble"]) for one in scanned.json()] == [
        ("a", "failed", "config"), ("b", "failed", "config"), ("c", "complete", None),
    ]  # fmt: skip
    a, b, _ = cli("status", "-o", "json").json()
    assert (a["state"], a["assets"]["run"], a["last_sweep"]["state"]) == ("unobservable", 3, "failed")
    assert a["next_step"].startswith("If the address is a mistake, correct it.")
    assert (b["state"], "NOT_SET, which is not set" in b["error"]) == ("unobservable", True)
    told = " ".join(cli("status", "-w", "a").out.split())
    assert "problem Workspace 'a' was read from" in told
    assert "next step If the address is a mistake" in told
    doctor = {one["workspace"]: one for one in cli.process("doctor", "-o", "json").json() if one["level"] == "fail"}
    assert (doctor["a"]["check"], "scope accept a workspace" in doctor["a"]["next_step"]) == ("address", True)
    assert "NOT_SET" in doctor["b"]["message"]


def test_a_refused_scan_is_counted(tmp_path: Path, database_url: str) -> None:
    cli = watching(tmp_path, database_url, "{name: a, mlflow: {uri: 'http://127.0.0.1:1', token_env: NOT_SET}}")
    environ = {"STOCKTAKE_DATA_DIR": str(tmp_path / "data")}
    with open_app(load_settings(cli.config, environ), environ=environ) as app:
        assert app.scan("a", Mode.HOT).state == ScanState.FAILED
        page = app.telemetry.prometheus().decode().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in page if line.startswith("stocktake_scans_total{") and "failed" in line
            and 'mode="hot"' in line] == ["1.0"]  # fmt: skip
    assert [line.rsplit(" ", 1)[1] for line in page if line.startswith("stocktake_workspace_observable{")] == ["0.0"]


def asked(cli: Cli, *options: str) -> tuple[int, str]:
    answer = cli.process("scope", "accept", "a", "workspace", *options)
    return answer.code, " ".join((answer.out + answer.err).split())


def test_an_address_is_accepted_when_what_is_known_is_there(tmp_path: Path, mlruns: Path, database_url: str) -> None:
    def cli(place: Path) -> Cli:
        return watching(tmp_path, database_url, f"{{name: a, mlflow: {{folder: {place}}}}}")

    assert cli(mlruns).process("scan").code == 0
    assert asked(cli(mlruns)) == (7, f"Workspace 'a' is read from {mlruns.as_uri()} already.")

    make.run(make.experiment(tmp_path / "other", "1"), 99)
    code, told = asked(cli(tmp_path / "other"))
    assert (code, f"None of 3 known runs is at {(tmp_path / 'other').as_uri()}" in told) == (8, True), told
    assert "Refused, nothing changed" in told
    code, told = asked(cli(tmp_path / "nowhere"))
    assert (code, "nowhere cannot be looked at: " in told, "Refused, nothing changed" in told) == (8, True, True), told
    assert cli(tmp_path / "other").process("scan").code == 4  # still refused

    shutil.copytree(mlruns, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "1" / make.run_id(2))
    code, told = asked(cli(tmp_path / "moved"))
    assert (code, told.endswith("2 of 3 known runs are there.")) == (0, True), told
    assert cli(mlruns).process("scan").code == 4  # that address was accepted, and no other
    assert cli(tmp_path / "moved").process("scan").code == 0

    code, told = asked(cli(tmp_path / "other"), "--force")
    assert (code, "0 of 2 known runs are there" in told) == (0, True), told
    code, told = asked(cli(tmp_path / "nowhere"), "--force")
    assert (code, "It could not be looked at: " in told) == (0, True), told
    assert cli(mlruns)("scope", "accept", "a", "run", "--force").code == 2


def test_experiments_of_the_same_ids_are_not_the_same_by_that(tmp_path: Path, mlruns: Path, database_url: str) -> None:
    def cli(place: Path) -> Cli:
        return watching(tmp_path, database_url, f"{{name: a, mlflow: {{folder: {place}}}}}")

    for number in range(1, 4):
        shutil.rmtree(mlruns / "1" / make.run_id(number))
    assert cli(mlruns).process("scan").code == 0
    make.experiment(tmp_path / "other", "1", name="something else")
    code, told = asked(cli(tmp_path / "other"))
    assert (code, "None of 1 known experiment is at" in told) == (8, True), told
    make.experiment(tmp_path / "moved", "1")
    assert asked(cli(tmp_path / "moved"))[1].endswith("1 of 1 known experiment is there.")


def test_no_key_is_made_for_a_database_that_was_filled_with_one(
    tmp_path: Path, mlruns: Path, database_url: str
) -> None:
    cli = watching(tmp_path, database_url, f"{{name: a, mlflow: {{folder: {mlruns}}}}}")
    assert cli.process("scan").code == 0
    key = cli.folder / "data" / "installation.key"
    right = key.rename(tmp_path / "kept.key").read_text()
    for command in (("scan",), ("redact", "--file", str(tmp_path / "kept.key"), "--dry-run")):
        answer = cli.process(*command)
        assert (answer.code, f"installation.key to {key}, or set STOCKTAKE_REDACTION_KEY" in answer.err) == (2, True)
        assert not key.exists()

    def doctor() -> tuple[int, dict[str, str]]:
        answer = cli.process("doctor", "-o", "json")
        (check,) = [one for one in answer.json() if one["check"] == "installation key"]
        return answer.code, check

    code, check = doctor()
    assert (code, check["level"], str(key) in check["next_step"]) == (4, "fail", True)
    key.write_text("ab" * 32)
    code, check = doctor()
    assert (code, check["level"], "another installation key" in check["message"]) == (4, "fail", True)
    assert cli.process("scan").code == 2
    key.write_text("damaged")
    assert doctor()[1]["level"] == "fail"
    key.write_text(right)
    code, check = doctor()
    assert (code, check["level"]) == (0, "ok")
    assert cli.process("scan").code == 0


def test_an_error_nobody_expected_in_one_workspace_leaves_the_reports_of_the_others(
    tmp_path: Path, mlruns: Path, database_url: str
) -> None:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " IF NEW.name = 'a' THEN RAISE 'no a here'; END IF; RETURN NEW; END $$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER refuse BEFORE INSERT ON workspace FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
    engine.dispose()
    make.small_store(tmp_path / "other")
    cli = watching(
        tmp_path, database_url,
        f"{{name: a, mlflow: {{folder: {tmp_path / 'other'}}}}}", f"{{name: b, mlflow: {{folder: {mlruns}}}}}",
    )  # fmt: skip
    answer = cli.process("scan", "-o", "json")
    assert [(one["workspace"], one["state"]) for one in answer.json()] == [("b", "complete")]
    assert (answer.code, "no a here" in answer.err) == (1, True), answer.err


def test_a_secret_that_is_missing_leaves_no_scan_that_seems_to_run(engine: Engine) -> None:
    def unset(world: World, now: Callable[[], datetime]) -> Scripted:
        raise ConfigError("secret not set")

    for _ in range(3):
        assert scan(engine, twelve_runs(), Mode.HOT, source=unset).error == "secret not set"
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT state, error FROM scan")).all()
    assert {row.state for row in rows} == {"failed"}
    assert not [row for row in rows if "went away" in row.error]
