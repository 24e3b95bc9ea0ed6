"""The rules, one file each, listed by hand. Pure: what they say of an asset is decided from values or by the database.

The words of a rule stand in its file and nowhere else: docs/runbook/ is made of them (stocktake.cli.runbook).
"""

from stocktake.core.rules import Rule
from stocktake.rules import (
    access_lost,
    experiment_deleted,
    mass_removal_withheld,
    missing_owner,
    model_alias_moved,
    model_version_lost_its_run,
    off_baseline,
    run_deleted,
    run_edited_after_finish,
    stale_running,
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
    off_baseline.RULE,
)
