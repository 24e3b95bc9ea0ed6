"""Jobs that were sent to a compute wait for it, and have for an hour or more."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# A pass asks for every job that has not ended, by name or by list; the ledger says when one last did so to the end. A
# job that is carried because nobody could look waits no longer than it was seen to.
RULE = StateRule(
    id="queue-time-high",
    severity=Severity.WARNING,
    group=Group.CAPACITY,
    kinds=(Kind.COMPUTE,),
    statement="""
        SELECT w.workspace, 'compute' AS kind, c.key,
            jsonb_build_object('waiting', count(*), 'longest_since', min(w.created_at),
                'jobs', (array_agg(w.key ORDER BY w.created_at))[1:5],
                'nodes', min(c.properties #>> '{properties,currentNodeCount}'),
                'max_nodes', min(c.properties #>> '{properties,scaleSettings,maxNodeCount}')) AS evidence
        FROM (
            SELECT workspace, 'job' AS kind, key, created_at,
                substring(properties ->> 'computeId' FROM '[^/]+$') AS compute
            FROM inventory.job WHERE state IN ('NotStarted', 'Queued')
            UNION ALL
            SELECT workspace, 'child_job', key, created_at,
                coalesce(document #>> '{compute,target}', document ->> 'target')
            FROM inventory.child_job WHERE state IN ('NotStarted', 'Queued')
        ) w JOIN LATERAL (
            SELECT s.last_began_at AS at FROM inventory.scan s JOIN inventory.scope_scan o ON o.scan = s.scan
            WHERE s.workspace = w.workspace AND s.state <> 'running' AND o.kind = w.kind
                AND o.state IN ('complete', 'incremental')
            ORDER BY s.scan DESC LIMIT 1
        ) l ON l.at >= w.created_at + interval '1 hour'
        JOIN inventory.compute c ON c.workspace = w.workspace AND lower(c.key) = lower(w.compute)
        WHERE w.created_at < CAST(:now AS timestamptz) - interval '1 hour'
        GROUP BY w.workspace, c.key
    """,
    words=Words(
        title="Jobs wait long for a compute",
        why="Jobs that were sent there an hour or more ago have not begun. People wait, schedules slip, and what was"
        " meant to run one after the other runs into the next. Either it has fewer nodes than it is sent work, or it"
        " cannot get them.",
        cli="stocktake list job --where state=Queued; stocktake show compute KEY; az ml compute show -n KEY -g GROUP"
        " -w WORKSPACE; az ml job list -g GROUP -w WORKSPACE --query \"[?status=='Queued'].name\"",
        rest="SELECT job, created_at, queue_seconds FROM inventory.job_run_of(ARRAY['WORKSPACE']) ORDER BY created_at"
        " DESC; GET .../workspaces/WORKSPACE/computes/KEY?api-version=2023-08-01-preview (nodeStateCounts,"
        ' scaleSettings). In Log Analytics: `AmlComputeJobEvent | where ClusterName == "KEY" | summarize'
        " min(TimeGenerated) by JobName, EventType`",
        portal="Azure ML studio: Jobs, filter Status: Queued; the job, Overview, says for what it waits. Compute, the"
        " cluster, Nodes.",
        fix="Where all nodes are busy: az ml compute update -n KEY -g GROUP -w WORKSPACE --max-instances N, if the"
        " quota has room (quota-near). Where nodes do not come: see compute-stuck. Cancel what nobody needs:"
        " az ml job cancel -n JOB.",
        rollback="az ml compute update -n KEY -g GROUP -w WORKSPACE --max-instances N with `max_nodes`.",
        signal="It opens when a look at the jobs saw one of them not started or queued an hour or more after it was"
        " made, and resolves when no such job is left. What waited and began between two looks, and what runs on"
        " serverless compute, is not in it: inventory.job_run has queue_seconds of every job.",
    ),
)
