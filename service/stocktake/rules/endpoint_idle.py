"""A deployment that is up on machines of its own, and to which its endpoint sends nothing."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

# `since`: when the later of the two began to look as it does, in every look since. A share that is no number says
# nothing. Azure tells names of deployments apart without regard to case.
RULE = StateRule(
    id="endpoint-idle",
    severity=Severity.WARNING,
    group=Group.CAPACITY,
    kinds=(Kind.ONLINE_DEPLOYMENT,),
    needs=(Kind.ONLINE_ENDPOINT,),
    opens_after=2,
    statement="""
        SELECT d.workspace, 'online_deployment' AS kind, d.key,
            jsonb_build_object('endpoint', d.endpoint, 'since', greatest(d.valid_from, e.valid_from),
                'instance_type', d.properties -> 'instanceType', 'instances', d.document #> '{sku,capacity}',
                'traffic', t.shares) AS evidence
        FROM inventory.online_deployment d
        JOIN inventory.online_endpoint e ON e.workspace = d.workspace AND e.key = d.endpoint
        JOIN inventory.coverage c ON c.workspace = d.workspace AND c.kind = 'online_deployment'
        JOIN inventory.coverage o ON o.workspace = d.workspace AND o.kind = 'online_endpoint'
        CROSS JOIN LATERAL (
            SELECT CASE coalesce(jsonb_typeof(e.properties -> 'traffic'), 'none')
                    WHEN 'object' THEN e.properties -> 'traffic' WHEN 'none' THEN '{}' END AS shares,
                CASE coalesce(jsonb_typeof(e.properties -> 'mirrorTraffic'), 'none')
                    WHEN 'object' THEN e.properties -> 'mirrorTraffic' WHEN 'none' THEN '{}' END AS mirrored OFFSET 0
        ) AS t
        WHERE d.state = 'Succeeded' AND e.state = 'Succeeded'
            AND coalesce(d.document #>> '{sku,capacity}', '1') <> '0'
            AND t.shares IS NOT NULL AND t.mirrored IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM jsonb_each_text(t.mirrored) AS s (deployment, share)
                WHERE s.share <> '0' AND lower(s.deployment) = lower(d.name))
            AND NOT EXISTS (SELECT 1 FROM jsonb_each_text(t.shares) AS s (deployment, share)
                WHERE s.share <> '0' AND lower(s.deployment) = lower(d.name))
            AND least(c.oldest_complete, o.oldest_complete)
                >= greatest(d.valid_from, e.valid_from) + interval '24 hours'
    """,
    words=Words(
        title="A deployment is up and gets no traffic",
        why="An online deployment keeps its machines day and night: it cannot scale to none. This one has no share of"
        " its endpoint's traffic, and none of what is mirrored. Often it is the version before the last release that"
        " nobody took down. How many requests it answers is in no list that stocktake reads: somebody may call it by"
        " name (the header azureml-model-deployment), and a deployment that has a share may still be called by nobody.",
        cli="stocktake show online_deployment KEY; az ml online-endpoint show -n ENDPOINT -g GROUP -w WORKSPACE --query"
        ' traffic; az monitor metrics list --resource ENDPOINT_ID --metric RequestsPerMinute --filter "deployment eq'
        " 'NAME'\" --interval 1h --offset 7d",
        rest="GET .../onlineEndpoints/ENDPOINT?api-version=2022-02-01-preview (properties.traffic, mirrorTraffic)."
        " Where diagnostic settings send it, in Log Analytics: `AmlOnlineEndpointTrafficLog | where EndpointName =="
        ' "ENDPOINT" | summarize requests = count(), latest = max(TimeGenerated) by DeploymentName`',
        portal="Azure ML studio: Endpoints, the endpoint, Deployment traffic allocation. Azure portal: the endpoint,"
        " Metrics, Requests per minute, split by deployment.",
        fix="Look whether anybody calls it by name. If nobody does, delete it: az ml online-deployment delete -n NAME"
        " -e ENDPOINT -g GROUP -w WORKSPACE. If it waits for a rollback, waive the finding until that day.",
        rollback="az ml online-deployment create from its file; its documents are in `stocktake history"
        " online_deployment KEY`.",
        signal="It opens when two complete looks in a row saw it without a share, unchanged for 24 hours, and resolves"
        " when one sees a share, or the deployment no longer.",
    ),
)
