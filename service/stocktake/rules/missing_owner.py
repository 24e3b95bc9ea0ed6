"""An experiment or a registered model that names no owner: nobody to ask, nobody to tell."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

RULE = StateRule(
    id="missing-owner",
    severity=Severity.INFO,
    group=Group.HYGIENE,
    for_teams=True,
    kinds=(Kind.EXPERIMENT, Kind.REGISTERED_MODEL),
    statement="""
        SELECT workspace, 'experiment' AS kind, key, jsonb_build_object('since', first_seen) AS evidence
        FROM inventory.experiment WHERE lifecycle = 'active' AND coalesce(owner, '') = ''
            AND coalesce(name, '') <> 'Default'
        UNION ALL
        SELECT workspace, 'registered_model', key, jsonb_build_object('since', first_seen)
        FROM inventory.registered_model WHERE lifecycle = 'active' AND coalesce(owner, '') = ''
    """,
    words=Words(
        title="Nobody owns it",
        why="When it drifts, breaks or costs money, there is nobody to ask, and findings about it reach nobody.",
        cli="stocktake show KIND KEY",
        rest="GET /api/2.0/mlflow/experiments/get?experiment_id=KEY or registered-models/get?name=KEY (tags).",
        portal="MLflow: the page of the experiment or the model, tags.",
        fix="Set one of the tags that the configuration takes for an owner (`owner_tags`), or name an owner for the"
        " whole workspace there.",
        rollback="Nothing to go back to: a tag that was set wrongly is set again.",
        signal="It resolves with the next complete scan that sees an owner.",
    ),
)
