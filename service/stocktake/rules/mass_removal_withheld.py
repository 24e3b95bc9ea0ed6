"""More removals at once than the guard believes: they are withheld until they are confirmed twice, or accepted."""

from __future__ import annotations

from stocktake.core.rules import Group, Severity, StateRule, Words

RULE = StateRule(
    id="mass-removal-withheld",
    severity=Severity.CRITICAL,
    group=Group.SERVICE,
    statement="""
        SELECT workspace, 'workspace' AS kind, workspace AS key,
            jsonb_build_object('scopes', jsonb_agg(jsonb_build_object('kind', kind, 'partition', partition,
                'assets', assets, 'since', since) ORDER BY kind, partition)) AS evidence
        FROM (
            SELECT workspace, kind, partition, count(*) AS assets, min(since) AS since
            FROM inventory.withheld WHERE accepted_at IS NULL GROUP BY workspace, kind, partition
        ) scopes GROUP BY workspace
    """,
    words=Words(
        title="Many assets vanished at once",
        why="Either somebody removed a large part of a workspace, or its server shows less than it has. stocktake keeps"
        " the assets as present until a second sweep confirms each by id.",
        cli="stocktake scope list -w KEY; stocktake status -w KEY",
        rest="SELECT * FROM inventory.withheld WHERE workspace = 'KEY'",
        portal="MLflow: look for one of the assets that inventory.withheld names, by its id.",
        fix="Find out who removed them, and whether it was meant. If it was: `stocktake scope accept KEY KIND`.",
        rollback="Restore from the server's backup (MLflow: the backend database), if it was not meant.",
        signal="It resolves when the removals are published or accepted, or the assets are seen again.",
    ),
)
