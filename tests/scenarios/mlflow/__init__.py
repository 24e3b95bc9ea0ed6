"""The scenarios of a real MLflow server, one file a rule, listed by hand."""

from tests.scenarios.frame import Scenario
from tests.scenarios.mlflow import (
    access_lost,
    company,
    experiment_deleted,
    missing_owner,
    model_alias_moved,
    model_version_lost_its_run,
    run_deleted,
    run_edited_after_finish,
    stale_running,
)

SCENARIOS: tuple[Scenario, ...] = (
    *run_edited_after_finish.SCENARIOS,
    *run_deleted.SCENARIOS,
    *experiment_deleted.SCENARIOS,
    *model_alias_moved.SCENARIOS,
    *model_version_lost_its_run.SCENARIOS,
    *access_lost.SCENARIOS,
    *missing_owner.SCENARIOS,
    *stale_running.SCENARIOS,
)
COMPANY = company.SCENARIOS
