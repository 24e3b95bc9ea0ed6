"""Of a limit of the region nearly everything is used: the next job, or the next deployment, gets no machine."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

RULE = StateRule(
    id="quota-near",
    severity=Severity.WARNING,
    group=Group.CAPACITY,
    kinds=(Kind.QUOTA,),
    statement="""
        SELECT workspace, 'quota' AS kind, key,
            jsonb_build_object('limit', most, 'used', used, 'share', round(used / most, 2), 'unit', unit) AS evidence
        FROM (
            SELECT workspace, key, document ->> 'unit' AS unit,
                CASE WHEN jsonb_typeof(document -> 'currentValue') = 'number'
                    THEN CAST(document ->> 'currentValue' AS numeric) END AS used,
                CASE WHEN jsonb_typeof(document -> 'limit') = 'number'
                    THEN CAST(document ->> 'limit' AS numeric) END AS most
            FROM inventory.quota
        ) q WHERE most > 0 AND used >= 0.9 * most
    """,
    words=Words(
        title="A quota is nearly used up",
        why="Nine tenths or more of what the region grants are in use. Clusters then stay smaller than they want, jobs"
        " wait, deployments and their rollbacks fail. The limit is one of the subscription in the region: every"
        " workspace there shares it, and shows this same finding.",
        cli="stocktake show quota KEY; stocktake history quota KEY; az ml compute list-usage --location REGION;"
        " az ml compute list -g GROUP -w WORKSPACE",
        rest="GET /subscriptions/ID/providers/Microsoft.MachineLearningServices/locations/REGION/usages"
        "?api-version=2024-04-01 (currentValue, limit)",
        portal="Azure portal: Quotas, Machine learning, the region; Azure ML studio: Quota.",
        fix="See which computes hold the nodes, and whether they are idle (compute-idle, endpoint-idle). If all of it"
        " is needed, ask for more: Azure portal, Quotas, Request increase; or use another size or region.",
        rollback="Nothing to go back to: a limit that was raised costs nothing.",
        signal="It opens when a sweep sees nine tenths of a limit or more in use, and resolves when one sees less."
        " Quotas are read by sweeps alone. A limit of 0, and one of which no use is told, open nothing.",
    ),
)
