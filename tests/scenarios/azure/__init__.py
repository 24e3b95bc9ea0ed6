"""The scenarios of rules about Azure Machine Learning, one file for each rule, as its words have it."""

from tests.scenarios.azure import (
    access_lost,
    company,
    compute_idle,
    compute_stuck,
    diagnostic_settings_removed,
    endpoint_config_changed,
    endpoint_idle,
    job_without_run,
    queue_time_high,
    quota_near,
    role_assignment_added,
    run_job_disagree,
    traffic_shifted,
    workspace_deleted,
    workspace_identity_changed,
    workspace_network_opened,
)
from tests.scenarios.frame import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *access_lost.SCENARIOS,
    *compute_idle.SCENARIOS,
    *compute_stuck.SCENARIOS,
    *diagnostic_settings_removed.SCENARIOS,
    *endpoint_config_changed.SCENARIOS,
    *endpoint_idle.SCENARIOS,
    *job_without_run.SCENARIOS,
    *queue_time_high.SCENARIOS,
    *quota_near.SCENARIOS,
    *role_assignment_added.SCENARIOS,
    *run_job_disagree.SCENARIOS,
    *traffic_shifted.SCENARIOS,
    *workspace_deleted.SCENARIOS,
    *workspace_identity_changed.SCENARIOS,
    *workspace_network_opened.SCENARIOS,
)
COMPANY = company.COMPANY
