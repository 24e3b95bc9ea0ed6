"""The command line over backend databases: a good one, some that cannot be read, and the way there from a server."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.test_cli import Cli, configured
from tests.servers.mlflow_server import mlflow_server
from tests.servers.shared import filled_server, richly_filled_server


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    """One workspace that can be read, and two that cannot."""
    future = tmp_path / "future.db"
    shutil.copyfile(filled_server().database.removeprefix("sqlite:///"), future)
    with closing(sqlite3.connect(future)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    return configured(
        tmp_path,
        f'database: "{database_url}"\n'
        "workspaces:\n"
        f'  - {{name: good, mlflow: {{database: "{filled_server().database}"}}}}\n'
        f'  - {{name: future, mlflow: {{database: "sqlite:///{future}"}}}}\n'
        f'  - {{name: missing, mlflow: {{database: "sqlite:///{tmp_path}/no.db"}}}}\n',
    )


def test_a_database_that_cannot_be_read_is_a_row_in_the_ledger_like_a_server_out_of_reach(cli: Cli) -> None:
    answer = cli.process("scan", "--output", "json")
    assert answer.code == 3, answer.err
    good, future, missing = answer.json()
    assert (good["state"], good["error"], {scope["state"] for scope in good["scopes"]}) == (
        "complete",
        None,
        {"complete"},
    )
    assert good["baseline"] == good["seen"] > 10
    assert (future["state"], future["trouble"], missing["state"], missing["trouble"]) == (
        "failed", "unsupported", "failed", "not-found",
    )  # fmt: skip
    assert "ffffffffffff" in future["error"]
    assert "upgrade stocktake" in future["next_step"]
    assert cli.process("scan", "missing").code == 4
    again = cli.process("scan", "good", "--output", "json").json()[0]
    assert (again["seen"], again["created"], again["updated"]) == (good["seen"], 0, 0)
    status = cli("status").out
    assert "ffffffffffff" in status
    assert "no.db is not there" in " ".join(status.split())


def test_doctor_and_config_check_know_databases(cli: Cli) -> None:
    good = {one["check"]: one for one in cli.process("doctor", "-w", "good", "-o", "json").json()}
    assert good["reach"]["level"] == good["identity"]["level"] == "ok"
    assert "schema revision" in good["reach"]["message"]
    assert "clock" not in good
    broken = cli.process("doctor", "-w", "missing")
    assert broken.code == 4
    assert "fail missing: reach" in broken.out
    assert "four slashes" in broken.out
    checked = cli.process("config", "check")
    assert "workspaces[2].mlflow.database names a file that is not on this machine" in checked.out + checked.err


def test_from_the_address_of_a_server_to_its_database_no_change_is_made_up(tmp_path: Path, database_url: str) -> None:
    """What was deleted long ago is met for the first time, but was not created since the last look."""
    store = tmp_path / "mlflow.db"
    shutil.copyfile(richly_filled_server().database.removeprefix("sqlite:///"), store)
    with closing(sqlite3.connect(store)) as file, file:
        file.execute("UPDATE logged_models SET creation_timestamp_ms = 1 WHERE lifecycle_stage = 'deleted'")
        file.execute("UPDATE model_versions SET creation_time = 1 WHERE current_stage = 'Deleted_Internal'")

    def watching(place: str) -> Cli:
        words = f'database: "{database_url}"\nworkspaces:\n  - {{name: research, mlflow: {{{place}}}}}\n'
        return configured(tmp_path, words)

    with mlflow_server(tmp_path / "server", backend=f"sqlite:///{store}") as running:
        (before,) = watching(f'uri: "{running.uri}"').process("scan", "--output", "json").json()
    cli = watching(f'database: "sqlite:///{store}"')
    refused = cli.process("scan")
    assert refused.code == 4
    assert "scope accept research workspace" in refused.out
    assert cli.process("scope", "accept", "research", "workspace").code == 0
    (after,) = cli.process("scan", "--output", "json").json()
    assert (before["state"], after["state"]) == ("complete", "complete")
    assert after["baseline"] == 2  # the deleted logged model, the tombstone
    (change,) = cli("changes", "--since", "1 day ago", "-o", "json").json()
    assert (change["kind"], change["type"]) == ("workspace", "updated")  # the server tells of itself otherwise
