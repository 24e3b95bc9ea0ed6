"""A compute that has been on its way to somewhere for too long, or cannot be used: whoever sent a job there waits."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# `valid_from` is when it began to look as it does, in every look since: a cluster that is resized and gets its nodes
# one by one looks otherwise each time.
RULE = StateRule(
    id="compute-stuck",
    severity=Severity.WARNING,
    group=Group.CAPACITY,
    kinds=(Kind.COMPUTE,),
    opens_after=2,
    statement="""
        SELECT workspace, 'compute' AS kind, key,
            jsonb_build_object('why', why, 'since', valid_from, 'state', state, 'provisioning', provisioning,
                'nodes', own -> 'currentNodeCount', 'wanted_nodes', own -> 'targetNodeCount',
                'unusable_nodes', own #> '{nodeStateCounts,unusableNodeCount}',
                'errors', coalesce(own -> 'errors', p -> 'provisioningErrors')) AS evidence
        FROM (
            SELECT s.*, CASE
                WHEN provisioning IN ('Failed', 'Canceled') THEN 'provisioning failed'
                WHEN provisioning IN ('Creating', 'Updating', 'Deleting') THEN 'being provisioned'
                WHEN own ->> 'state' IN ('CreateFailed', 'SetupFailed', 'UserSetupFailed', 'Unusable', 'Unknown')
                    THEN 'cannot be used'
                WHEN own ->> 'state' IN ('Creating', 'SettingUp', 'UserSettingUp', 'Starting', 'Restarting', 'Stopping',
                    'Resizing', 'Deleting') THEN 'between two states'
                WHEN own ->> 'allocationState' = 'Resizing' THEN 'being resized'
                WHEN own #>> '{nodeStateCounts,unusableNodeCount}' <> '0' THEN 'nodes cannot be used'
                WHEN jsonb_typeof(own -> 'currentNodeCount') = 'number'
                    AND jsonb_typeof(own -> 'targetNodeCount') = 'number'
                    AND own -> 'currentNodeCount' <> own -> 'targetNodeCount' THEN 'does not get the nodes it wants'
                END AS why
            FROM (
                SELECT c.workspace, c.key, c.valid_from, c.state, l.oldest_complete AS looked, x.p,
                    x.p -> 'properties' AS own, x.p ->> 'provisioningState' AS provisioning
                FROM inventory.compute c JOIN inventory.coverage l ON l.workspace = c.workspace AND l.kind = 'compute'
                CROSS JOIN LATERAL (SELECT c.properties AS p OFFSET 0) AS x
            ) s
        ) found WHERE why IS NOT NULL AND looked >= valid_from + interval '1 hour'
    """,
    words=Words(
        title="A compute is stuck",
        why="It has been starting, stopping, resizing or being made for an hour without anything moving, or it failed,"
        " or has nodes that cannot be used. Jobs that are sent to it wait, and machines that hang are paid for all the"
        " same. Often the region has no capacity, the quota is used up, or the subnet has no address left.",
        cli="stocktake show compute KEY; stocktake history compute KEY; az ml compute show -n KEY -g GROUP -w"
        " WORKSPACE; az ml compute list-nodes -n KEY -g GROUP -w WORKSPACE",
        rest="GET .../workspaces/WORKSPACE/computes/KEY?api-version=2023-08-01-preview (properties.provisioningState,"
        " provisioningErrors; properties.properties: state, allocationState, nodeStateCounts, errors). In Log"
        ' Analytics: `AmlComputeClusterEvent | where ClusterName == "KEY" | order by TimeGenerated desc | take 50`;'
        ' who set it going: `AzureActivity | where _ResourceId endswith "/computes/KEY" | project TimeGenerated,'
        " Caller, OperationNameValue, ActivityStatusValue`",
        portal="Azure ML studio: Compute, the compute, Details and Nodes. Azure portal: Quotas, Machine learning.",
        fix="Read `errors`. Quota: see quota-near. A compute instance that hangs: az ml compute stop -n KEY, then"
        " start. A cluster: set --max-instances to what there is, or --min-instances 0 so that broken nodes are given"
        " back. If nothing moves, delete it and make it anew.",
        rollback="Start, stop and resize are undone by their opposite; a compute that was deleted is made anew from its"
        " file (az ml compute create -f FILE). What was on the disk of an instance is lost with it.",
        signal="It opens when two complete looks in a row saw it so, with nothing changed for an hour, and resolves"
        " with the next complete look that sees it move, ready or gone.",
    ),
)
