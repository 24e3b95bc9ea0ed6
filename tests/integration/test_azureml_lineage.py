"""Lineage, production and reconciliation as the source of Azure ML fills them, over the loopback Azure."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import text

from stocktake.core.assets import Mode
from tests.integration.auditing import age
from tests.integration.azureml_told import Told
from tests.integration.test_azureml_story import told
from tests.integration.test_cli import configured
from tests.integration.test_lineage import asked, distinct, of_core, standing
from tests.integration.test_reconcile import HOURS

__all__ = ["told"]


def test_what_serves_now_and_what_served_before_is_followed_to_its_run(
    told: Told, database_url: str, tmp_path: Path
) -> None:
    cli = configured(tmp_path, f'database: "{database_url}"\n')
    told.workspace.submit_job("train-new")
    told.workspace.move_job("train-new", "Completed")
    version = told.workspace.register_model("model-001", job="train-new")
    told.scan(Mode.SWEEP)
    with told.engine.connect() as connection:
        before: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    told.workspace.deploy_model("online-000", "green", "model-001", version)
    told.workspace.shift_traffic("online-000", {"green": 100})
    told.scan()
    assert distinct(told.engine) == of_core(told.engine)
    now = standing(asked(cli, "online_endpoint", "online-000"))
    assert now[f"model_version model-001/{version}"] == now["run train-new"] == now["job train-new"] == "active"
    then = standing(asked(cli, "online_endpoint", "online-000", "--at", before.isoformat()))
    assert "run train-new" not in then
    assert any(end.startswith("data_version") for end in then)
    told_of = cli("production", "model-001", "-o", "json", "--at", "today").json()
    (served,) = [one for one in told_of if one["version"] == version]
    assert (served["because"], served["run"]) == (["traffic of online-000/green"], "train-new")
    assert datetime.fromisoformat(served["became_not_before"]) < before
    assert {one["certainty"] for one in told_of} == {"observed"}
    ended = [one for one in told_of if one["ceased_not_after"] is not None]
    assert ended, "what the traffic left was production earlier that day"


def test_a_job_that_completed_while_its_run_goes_on_is_a_disagreement_after_the_grace_period(
    told: Told, database_url: str, tmp_path: Path
) -> None:
    cli = configured(tmp_path, f'database: "{database_url}"\n')
    told.workspace.submit_job("stuck")
    told.workspace.move_job("stuck", "Completed", run_status="RUNNING")
    told.scan(Mode.SWEEP)
    assert cli("reconcile", "-o", "json").json() == []
    age(told.engine, HOURS)
    told.scan(Mode.SWEEP)
    (one,) = cli("reconcile", "-o", "json").json()
    assert (one["key"], one["verdict"]) == ("stuck", "disagree")
    assert (one["job_state"], one["run_state"], one["expected_run_state"]) == ("Completed", "RUNNING", "FINISHED")
    told.workspace.move_job("stuck", "Completed", run_status="FINISHED")
    told.scan(Mode.SWEEP)
    assert cli("reconcile", "-o", "json").json() == []
