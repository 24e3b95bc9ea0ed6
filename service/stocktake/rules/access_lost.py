"""A workspace, or a part of it, cannot be looked at: nothing is known of it, and nothing is claimed."""

from __future__ import annotations

from stocktake.core.rules import Group, Severity, StateRule, Words

# A workspace that is deleted or moved cannot be seen either, and is no matter of rights.
RULE = StateRule(
    id="access-lost",
    severity=Severity.CRITICAL,
    group=Group.SERVICE,
    opens_after=2,  # a server that restarts is no loss
    statement="""
        WITH last AS (
            SELECT DISTINCT ON (workspace) workspace, state, trouble FROM inventory.scan
            WHERE state NOT IN ('running', 'abandoned') ORDER BY workspace, scan DESC
        ), blind AS (
            SELECT workspace, jsonb_agg(DISTINCT kind ORDER BY kind) AS kinds FROM inventory.scope
            WHERE state = 'unobservable' GROUP BY workspace
        )
        SELECT l.workspace, 'workspace' AS kind, l.workspace AS key,
            jsonb_build_object('trouble', l.trouble, 'whole', l.state = 'failed', 'kinds', b.kinds) AS evidence
        FROM last l LEFT JOIN blind b USING (workspace)
        WHERE (l.state = 'failed' OR b.kinds IS NOT NULL)
            AND NOT EXISTS (SELECT 1 FROM inventory.workspace w
                WHERE w.workspace = l.workspace AND w.lifecycle = 'deleted')
            AND NOT EXISTS (SELECT 1 FROM inventory.discovered d
                WHERE d.workspace = l.workspace AND d.standing IN ('deleted', 'soft-deleted', 'moved'))
    """,
    words=Words(
        title="A workspace cannot be looked at",
        why="While stocktake cannot look, changes and deletions go unseen, and no finding of the workspace can resolve."
        " Nothing is taken for deleted meanwhile.",
        cli="stocktake status -w KEY; stocktake doctor",
        rest="The request that failed, and why, stand in the view inventory.scan (error, next_step).",
        portal="Azure portal: the workspace, Access control (IAM), Check access, for the identity of stocktake.",
        fix="Follow `next_step` of `stocktake status`: give the identity back its right, renew the secret, open the"
        " network, or start the server.",
        rollback="If a right was taken away on purpose, take the workspace out of the configuration: what is known"
        " stays.",
        signal="It opens after two scans in a row that could not look, and resolves with the first that can. A"
        " workspace that is known to be deleted, or to be at another address, lost no access: see workspace-deleted.",
    ),
)
