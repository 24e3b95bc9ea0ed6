"""The rules, one file each, listed by hand. Pure: what they say of an asset is decided from values or by the database.

The words of a rule stand in its file and nowhere else: docs/runbook/ is made of them (stocktake.cli.runbook).
"""

from stocktake.core.rules import Rule
from stocktake.rules import (
    access_lost,
    duplicate_experiment_name,
    duplicate_runs,
    experiment_deleted,
    experiment_renamed,
    local_artifact_uri,
    mass_removal_withheld,
    missing_owner,
    missing_required_tags,
    mixed_experiment,
    model_alias_moved,
    model_version_lost_its_run,
    not_reproducible,
    parameter_mismatch,
    production_model_changed,
    production_run_deleted,
    registry_references_deleted,
    run_deleted,
    run_edited_after_finish,
    runs_in_default_experiment,
    scan_stale,
    sensitive_parameter,
    stale_running,
    version_source_missing,
)

RULES: tuple[Rule, ...] = (
    run_edited_after_finish.RULE,
    run_deleted.RULE,
    experiment_deleted.RULE,
    experiment_renamed.RULE,
    model_alias_moved.RULE,
    production_model_changed.RULE,
    model_version_lost_its_run.RULE,
    mass_removal_withheld.RULE,
    access_lost.RULE,
    scan_stale.RULE,
    version_source_missing.RULE,
    production_run_deleted.RULE,
    registry_references_deleted.RULE,
    missing_owner.RULE,
    missing_required_tags.RULE,
    runs_in_default_experiment.RULE,
    mixed_experiment.RULE,
    duplicate_runs.RULE,
    parameter_mismatch.RULE,
    not_reproducible.RULE,
    sensitive_parameter.RULE,
    local_artifact_uri.RULE,
    duplicate_experiment_name.RULE,
    stale_running.RULE,
)
