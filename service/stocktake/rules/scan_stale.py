"""A kind of assets was not completely looked at for longer than the schedule promises."""

from __future__ import annotations

from datetime import timedelta

from stocktake.core.rules import Asks, Group, Severity, StateRule, Words

_ASKS = Asks(
    template="""
    WITH listed AS (
        SELECT workspace, kind, bool_or(seen IS NULL) AS never, min(seen) AS seen
        FROM (
            SELECT workspace, kind,
                CASE WHEN state = 'permission-filtered' THEN last_listed_at ELSE last_complete_at END AS seen
            FROM inventory.scope
            WHERE state IN ('complete', 'partial', 'unobservable', 'permission-filtered') AND kind <> 'child_job'
        ) looks GROUP BY workspace, kind
    ), watched AS (
        SELECT workspace, min(began_at) AS since FROM inventory.scan GROUP BY workspace
    ), late AS (
        SELECT l.workspace, l.kind, CASE WHEN l.never THEN NULL ELSE l.seen END AS seen
        FROM listed l JOIN watched w USING (workspace)
        WHERE CASE WHEN l.never THEN w.since ELSE l.seen END < CAST(:now AS timestamptz)
            - CASE WHEN l.kind IN ('workspace', 'experiment', 'registered_model', 'model_version', 'webhook')
                THEN greatest(6 * CAST(:hot_every AS interval), interval '1 hour')
                ELSE 2 * CAST(:sweep_every AS interval) END
    )
    SELECT workspace, 'workspace' AS kind, workspace AS key,
        jsonb_build_object('last_complete', jsonb_object_agg(kind, seen)) AS evidence
    FROM late GROUP BY workspace
""",
    parameters={"hot_every": timedelta(minutes=11), "sweep_every": timedelta(hours=26, minutes=24)},
)

RULE = StateRule(
    id="scan-stale",
    severity=Severity.WARNING,
    group=Group.SERVICE,
    statement=_ASKS.statement(),
    asks=_ASKS,
    words=Words(
        title="Something was not completely looked at for long",
        why="What stocktake says of these kinds is older than its schedule promises. Changes and deletions among them"
        " go unseen, and findings about them neither open nor resolve.",
        cli="stocktake status -w KEY; stocktake scope list -w KEY",
        rest="SELECT * FROM inventory.scope WHERE workspace = 'KEY' AND state <> 'complete' (reason)",
        portal="None: this is about stocktake's own looks.",
        fix="`stocktake scope list -w KEY` says what kept the lists from being complete. If scans are too slow for"
        " their schedule, give the workspace a longer one (`schedule`), or read its backend database in place of the"
        " server.",
        rollback="Nothing to go back to: no state is claimed that was not seen.",
        signal="It opens when two sweeps in a row brought no complete list (of what hot passes list: six of them, and"
        " at least an hour), and resolves with the next complete list. Where lists are cut by permission, being listed"
        " counts. While nothing scans at all, nothing judges: that is for the alert rules about the service itself.",
    ),
)
