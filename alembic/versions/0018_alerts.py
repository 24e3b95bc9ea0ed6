"""Alerts: what was told to whom, the outbox of deliveries, silences. The events of findings are their queue."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Who writes an event need not know of alerts: what is not planned yet is found by an index of that alone.
    op.execute("ALTER TABLE finding_event ADD COLUMN planned BOOLEAN NOT NULL DEFAULT false")
    op.execute("CREATE INDEX finding_event_unplanned ON finding_event (event_id) WHERE NOT planned")
    op.execute(
        """
        CREATE TABLE alert (
            alert_id BIGINT GENERATED ALWAYS AS IDENTITY,
            key TEXT NOT NULL,
            receiver TEXT NOT NULL,
            labels TEXT NOT NULL,
            digest BOOLEAN NOT NULL,
            pace TEXT NOT NULL,
            told TEXT,
            since TIMESTAMP WITH TIME ZONE,
            told_at TIMESTAMP WITH TIME ZONE,
            acknowledged BOOLEAN NOT NULL DEFAULT false,
            due_at TIMESTAMP WITH TIME ZONE,
            news_at TIMESTAMP WITH TIME ZONE,
            PRIMARY KEY (alert_id),
            CONSTRAINT alert_key_key UNIQUE (key)
        )
        """
    )
    op.execute("CREATE INDEX alert_due ON alert (due_at) WHERE due_at IS NOT NULL")
    op.execute(
        """
        CREATE TABLE alert_finding (
            alert_id BIGINT NOT NULL,
            finding_id BIGINT NOT NULL,
            told TEXT,
            told_at TIMESTAMP WITH TIME ZONE,
            opened BOOLEAN NOT NULL,
            moves TIMESTAMP WITH TIME ZONE[] NOT NULL,
            labels TEXT,
            PRIMARY KEY (alert_id, finding_id),
            CONSTRAINT alert_finding_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES alert (alert_id)
                ON DELETE CASCADE,
            CONSTRAINT alert_finding_finding_id_fkey FOREIGN KEY (finding_id) REFERENCES finding (finding_id)
                ON DELETE CASCADE
        )
        """
    )
    op.execute("CREATE INDEX alert_finding_by_finding ON alert_finding (finding_id)")
    op.execute(
        """
        CREATE TABLE delivery (
            delivery_id BIGINT GENERATED ALWAYS AS IDENTITY,
            alert_id BIGINT NOT NULL,
            receiver TEXT NOT NULL,
            key TEXT NOT NULL,
            what TEXT NOT NULL,
            state TEXT NOT NULL,
            message TEXT NOT NULL,
            findings INTEGER NOT NULL,
            created_at TIMESTAMP WITH TIME ZONE NOT NULL,
            next_at TIMESTAMP WITH TIME ZONE NOT NULL,
            tries INTEGER NOT NULL DEFAULT 0,
            ended_at TIMESTAMP WITH TIME ZONE,
            status INTEGER,
            error TEXT,
            PRIMARY KEY (delivery_id),
            CONSTRAINT delivery_alert_id_fkey FOREIGN KEY (alert_id) REFERENCES alert (alert_id) ON DELETE CASCADE
        )
        """
    )
    op.execute("CREATE INDEX delivery_waiting ON delivery (receiver, next_at) WHERE state IN ('queued', 'failed')")
    # Of one alert what was planned first goes out first.
    op.execute("CREATE INDEX delivery_order ON delivery (alert_id, delivery_id) WHERE state IN ('queued', 'failed')")
    op.execute("CREATE INDEX delivery_dead ON delivery (delivery_id) WHERE state = 'dead'")
    op.execute("CREATE INDEX delivery_ended ON delivery (ended_at) WHERE ended_at IS NOT NULL")
    op.execute("CREATE INDEX delivery_by_alert ON delivery (alert_id)")
    op.execute(
        """
        CREATE TABLE receiver (
            name TEXT NOT NULL,
            failing_since TIMESTAMP WITH TIME ZONE,
            tries INTEGER NOT NULL DEFAULT 0,
            next_at TIMESTAMP WITH TIME ZONE,
            error TEXT,
            PRIMARY KEY (name)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE silence (
            silence_id BIGINT GENERATED ALWAYS AS IDENTITY,
            matchers TEXT NOT NULL,
            starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
            ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
            actor TEXT NOT NULL,
            reason TEXT NOT NULL,
            ended_by TEXT,
            PRIMARY KEY (silence_id)
        )
        """
    )
    op.execute("CREATE INDEX silence_by_end ON silence (ends_at)")
    op.execute(
        "CREATE VIEW inventory.alert AS SELECT a.alert_id AS id, a.key, a.receiver, a.labels::jsonb AS labels,"
        " a.digest, a.told, a.since, a.told_at, a.acknowledged, a.due_at FROM public.alert a"
    )
    op.execute(
        "CREATE VIEW inventory.alert_finding AS SELECT m.alert_id AS alert, m.finding_id AS finding, m.told, m.told_at"
        " FROM public.alert_finding m"
    )
    op.execute(
        "CREATE VIEW inventory.delivery AS SELECT d.delivery_id AS id, d.alert_id AS alert, d.receiver, d.key, d.what,"
        " d.state, d.findings, d.created_at, d.next_at, d.tries, d.ended_at, d.status, d.error FROM public.delivery d"
    )


def downgrade() -> None:
    for view in ("delivery", "alert_finding", "alert"):
        op.execute(f"DROP VIEW inventory.{view}")
    for table in ("silence", "receiver", "delivery", "alert_finding", "alert"):
        op.drop_table(table)
    op.execute("DROP INDEX finding_event_unplanned")
    op.execute("ALTER TABLE finding_event DROP COLUMN planned")
