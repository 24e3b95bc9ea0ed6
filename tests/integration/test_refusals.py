"""What stocktake refuses to do is as visible as what fails: in the ledger, in `status`, in the figures, to `doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest

from stocktake.core.assets import Mode, ScanState
from stocktake.settings import load_settings
from stocktake.wiring import open_app
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
