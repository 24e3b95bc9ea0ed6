"""The rules, one file each, listed by hand. Pure: what they say of an asset is decided from values or by the database.

The words of a rule stand in its file and nowhere else: docs/runbook/ is made of them (stocktake.cli.runbook).
"""

from stocktake.core.rules import Rule
from stocktake.rules import (
    access_lost,
    compute_idle,
    compute_stuck,
    diagnostic_settings_removed,
    endpoint_config_changed,
    endpoint_idle,
    experiment_deleted,
    job_without_run,
    mass_removal_withheld,
    missing_owner,
    model_alias_moved,
    model_version_lost_its_run,
    queue_time_high,
    quota_near,
    role_assignment_added,
    run_deleted,
    run_edited_after_finish,
    run_job_disagree,
    stale_running,
    traffic_shifted,
    workspace_deleted,
    workspace_identity_changed,
    workspace_network_opened,
)

RULES: tuple[Rule, ...] = (
    run_edited_after_finish.RULE,
    run_deleted.RULE,
    experiment_deleted.RULE,
    model_alias_moved.RULE,
    model_version_lost_its_run.RULE,
    access_lost.RULE,
    mass_removal_withheld.RULE,
    missing_owner.RULE,
    stale_running.RULE,
    # of Azure Machine Learning
    endpoint_config_changed.RULE,
    traffic_shifted.RULE,
    workspace_network_opened.RULE,
    workspace_identity_changed.RULE,
    role_assignment_added.RULE,
    diagnostic_settings_removed.RULE,
    workspace_deleted.RULE,
    job_without_run.RULE,
    run_job_disagree.RULE,
    compute_idle.RULE,
    endpoint_idle.RULE,
    compute_stuck.RULE,
    quota_near.RULE,
    queue_time_high.RULE,
)
