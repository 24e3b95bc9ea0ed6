"""A cluster keeps nodes that run nothing, look after look: they are paid for."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# What is seen: nodes, and that none of them runs or is being prepared. `valid_from` is when the cluster began to look
# as it does, in every look since. A job that is known to run on it speaks against it, whatever the counts say.
# Idle time before scale-down is ISO 8601; a text that is none is not taken for a time.
RULE = StateRule(
    id="compute-idle",
    severity=Severity.WARNING,
    group=Group.CAPACITY,
    kinds=(Kind.COMPUTE,),
    opens_after=3,
    statement="""
        WITH cluster AS (
            SELECT c.workspace, c.key, c.valid_from, p.j #> '{properties}' AS own, l.oldest_complete AS looked,
                CASE WHEN p.j #>> '{properties,scaleSettings,nodeIdleTimeBeforeScaleDown}'
                        ~ '^P(?=[0-9T])([0-9]+D)?(T(?=[0-9])([0-9]+H)?([0-9]+M)?([0-9]+(\\.[0-9]+)?S)?)?$'
                    THEN CAST(p.j #>> '{properties,scaleSettings,nodeIdleTimeBeforeScaleDown}' AS interval) END AS wait
            FROM inventory.compute c JOIN inventory.coverage l ON l.workspace = c.workspace AND l.kind = 'compute'
            CROSS JOIN LATERAL (SELECT c.properties AS j OFFSET 0) AS p
            WHERE p.j ->> 'computeType' = 'AmlCompute'
        ), counted AS (
            SELECT workspace, key, valid_from, looked, wait, own,
                CASE WHEN jsonb_typeof(own -> 'currentNodeCount') = 'number'
                    THEN CAST(own ->> 'currentNodeCount' AS numeric) END AS nodes,
                CASE WHEN jsonb_typeof(own #> '{nodeStateCounts,idleNodeCount}') = 'number'
                    THEN CAST(own #>> '{nodeStateCounts,idleNodeCount}' AS numeric) END AS idle,
                CASE WHEN jsonb_typeof(own #> '{scaleSettings,minNodeCount}') = 'number'
                    THEN CAST(own #>> '{scaleSettings,minNodeCount}' AS numeric) ELSE 0 END AS least
            FROM cluster
        )
        SELECT c.workspace, 'compute' AS kind, c.key,
            jsonb_build_object('nodes', c.nodes, 'idle', c.idle, 'min_nodes', c.least, 'since', c.valid_from,
                'vm_size', c.own -> 'vmSize', 'priority', c.own -> 'vmPriority',
                'why', CASE WHEN c.least > 0 THEN 'kept by the least number of nodes' ELSE 'not scaled down' END)
                AS evidence
        FROM counted c
        WHERE c.nodes > 0 AND c.idle > 0
            AND c.own #>> '{nodeStateCounts,runningNodeCount}' = '0'
            AND c.own #>> '{nodeStateCounts,preparingNodeCount}' = '0'
            AND c.looked >= c.valid_from + greatest(interval '1 hour', 2 * coalesce(c.wait, interval '0'))
            AND NOT EXISTS (
                SELECT 1 FROM inventory.job j WHERE j.workspace = c.workspace
                    AND j.state IN ('Provisioning', 'Preparing', 'Starting', 'Running', 'Finalizing')
                    AND lower(substring(j.properties ->> 'computeId' FROM '[^/]+$')) = lower(c.key))
            AND NOT EXISTS (
                SELECT 1 FROM inventory.child_job j WHERE j.workspace = c.workspace
                    AND j.state IN ('Provisioning', 'Preparing', 'Starting', 'Running', 'Finalizing')
                    AND lower(j.document #>> '{compute,target}') = lower(c.key))
    """,
    words=Words(
        title="A cluster keeps nodes that do nothing",
        why="Nodes are paid for by the minute, whether or not a job runs on them. Either the cluster keeps a least"
        " number of nodes (`min_nodes`), or they are not given back though nothing runs. What is claimed is what was"
        " seen: at every look, nodes, and none that ran or was being prepared. What ran between two looks is not seen,"
        " and of compute instances, Kubernetes and attached computes Azure lists no use at all: of these this rule says"
        " nothing.",
        cli="stocktake show compute KEY; stocktake history compute KEY; az ml compute show -n KEY -g GROUP -w"
        " WORKSPACE; az ml compute list-nodes -n KEY -g GROUP -w WORKSPACE",
        rest="GET .../workspaces/WORKSPACE/computes/KEY?api-version=2023-08-01-preview (properties.properties:"
        " nodeStateCounts, scaleSettings). Between the looks, where diagnostic settings send it, in Log Analytics:"
        ' `AmlComputeClusterEvent | where ClusterName == "KEY" | summarize max(RunningNodeCount), max(IdleNodeCount)'
        " by bin(TimeGenerated, 1h)`",
        portal="Azure ML studio: Compute, Compute clusters, the cluster, Nodes. Azure portal: the workspace, Metrics,"
        " Idle Nodes and Active Nodes, split by cluster.",
        fix="Where it is the least number of nodes: az ml compute update -n KEY -g GROUP -w WORKSPACE --min-instances"
        " 0. Where nodes are not given back: set --idle-time-before-scale-down 120, and delete the cluster if that does"
        " not help; jobs name it, so make it anew under the same name.",
        rollback="az ml compute update -n KEY -g GROUP -w WORKSPACE --min-instances N with `min_nodes`. A job then"
        " waits for a node as long as it did before.",
        signal="It opens when three complete looks in a row saw idle nodes and nothing running, unchanged for an hour"
        " and for twice the time after which the cluster says that it gives nodes back. It resolves with the next"
        " complete look that sees otherwise.",
    ),
)
