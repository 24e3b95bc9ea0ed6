"""A workspace is not there any more: what is known of it stands as it was last seen."""

from __future__ import annotations

from stocktake.core.rules import Severity, StateRule, Words

# A scan that saw it tells, or discovery, which may notice first; one that is at another address now is not deleted.
RULE = StateRule(
    id="workspace-deleted",
    severity=Severity.CRITICAL,
    statement="""
        WITH gone AS (
            SELECT w.workspace, w.state AS how, w.asset_id, w.valid_from AS seen_at
            FROM inventory.workspace w WHERE w.lifecycle = 'deleted'
            UNION ALL
            SELECT d.workspace, CASE d.standing WHEN 'soft-deleted' THEN 'SoftDeleted' ELSE 'Deleted' END, NULL, d.since
            FROM inventory.discovered d
            WHERE d.standing IN ('deleted', 'soft-deleted') AND NOT EXISTS (
                SELECT 1 FROM inventory.workspace w JOIN inventory.scope s ON s.workspace = w.workspace
                    AND s.kind = 'workspace'
                WHERE w.workspace = d.workspace AND (w.lifecycle = 'deleted' OR s.last_complete_at > d.since))
        )
        SELECT g.workspace, 'workspace' AS kind, 'workspace' AS key,
            jsonb_strip_nulls(jsonb_build_object('how', g.how, 'change', c.id, 'not_before', c.not_before,
                'not_after', coalesce(c.not_after, g.seen_at), 'recoverable_until', CASE WHEN g.how = 'SoftDeleted'
                THEN coalesce(c.not_after, g.seen_at) + interval '14 days' END)) AS evidence
        FROM gone g LEFT JOIN LATERAL (
            SELECT n.id, n.not_before, n.not_after FROM inventory.change n
            WHERE n.asset_id = g.asset_id AND n.type = 'deleted' ORDER BY n.id DESC LIMIT 1
        ) c ON true
        WHERE NOT EXISTS (SELECT 1 FROM inventory.discovered d WHERE d.workspace = g.workspace
            AND d.standing = 'moved')
    """,
    words=Words(
        title="A workspace was deleted",
        why="Everything in it is gone from people's view: jobs, models, endpoints, and the way to their artifacts. The"
        " storage account, key vault and registry are not deleted with it. stocktake keeps what it knew as it was last"
        " seen, and says so in every answer.",
        cli="stocktake status; stocktake history workspace workspace; az ml workspace list -g GROUP",
        rest="GET"
        " /subscriptions/ID/providers/Microsoft.MachineLearningServices/deletedWorkspaces?api-version=2024-04-01"
        " lists those that can be brought back, where Azure offers it. Who deleted it, in Log Analytics:"
        ' `AzureActivity | where _ResourceId endswith "/workspaces/WORKSPACE" and OperationNameValue endswith'
        ' "WORKSPACES/DELETE" | project TimeGenerated, Caller, ActivityStatusValue`',
        portal="Azure portal: Azure Machine Learning, Manage deleted workspaces, Recently deleted.",
        fix="If it was not meant, recover it before `recoverable_until`. If it was, take it out of the configuration:"
        " what is known stays. A workspace that was moved to another group or subscription looks deleted at its old"
        " address where it is named in the configuration: name the new address under another name.",
        rollback="Azure portal: Manage deleted workspaces, the workspace, Recover; for 14 days after it was"
        " soft-deleted (`how`). One that is Deleted never comes back; its artifacts lie in the storage account still.",
        signal="It opens when a scan, or discovery, is told that the workspace is not there, by somebody who may see"
        " it; that access is refused says nothing of the kind. It resolves when it is seen again, or found at another"
        " address.",
    ),
)
