"""What a question about the past must know: how far back history is kept, and since when gone scopes were observed.

`horizon`: retention dropped states of a kind that had ended before this time, so what is left of an earlier time is
a remnant. `former_scope`: the scopes of experiments that are gone; the answer about a time when they were there still
depends on whether they had been listed completely by then.
"""

from __future__ import annotations

from sqlalchemy import text

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE horizon (
    workspace_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    dropped_before TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT horizon_pkey PRIMARY KEY (workspace_id, kind),
    FOREIGN KEY(workspace_id) REFERENCES workspace (workspace_id)
);
CREATE TABLE former_scope (
    workspace_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    partition TEXT NOT NULL,
    first_observed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT former_scope_pkey PRIMARY KEY (workspace_id, kind, partition),
    FOREIGN KEY(workspace_id) REFERENCES workspace (workspace_id)
);
"""

# What was forgotten before this revision is read from the ledger, which forgets nothing.
_REMEMBER = """
INSERT INTO former_scope (workspace_id, kind, partition, first_observed_at)
SELECT s.workspace_id, c.kind, covered.partition, min(c.finished_at)
FROM scope_scan c JOIN scan s USING (scan_id) CROSS JOIN LATERAL unnest(c.covers) AS covered (partition)
WHERE c.state IN ('complete', 'permission-filtered') AND covered.partition <> ''
  AND NOT EXISTS (SELECT 1 FROM scope o WHERE o.workspace_id = s.workspace_id AND o.kind = c.kind
                  AND o.partition = covered.partition)
GROUP BY 1, 2, 3
"""

# What retention dropped before this revision shows on the assets: they are older than their oldest state.
_RECKON = """
INSERT INTO horizon (workspace_id, kind, dropped_before)
SELECT workspace_id, kind, max(until) FROM (
    SELECT a.workspace_id, a.kind, a.first_seen, coalesce(min(v.valid_from), a.gone_at) AS until
    FROM asset a LEFT JOIN version v USING (asset_id) GROUP BY a.asset_id) each
WHERE until > first_seen GROUP BY workspace_id, kind
"""

_COVERAGE = """
CREATE OR REPLACE VIEW inventory.coverage AS
SELECT w.name AS workspace, s.kind, count(*) AS scopes,
    count(*) FILTER (WHERE s.state = 'complete') AS complete,
    min(s.last_complete_at) AS oldest_complete, min(s.first_complete_at) AS first_complete,
    (SELECT h.dropped_before FROM public.horizon h
     WHERE h.workspace_id = w.workspace_id AND h.kind = s.kind) AS dropped_before
FROM public.scope s JOIN public.workspace w USING (workspace_id)
GROUP BY w.workspace_id, w.name, s.kind
"""

_COVERAGE_BEFORE = """
CREATE VIEW inventory.coverage AS
SELECT w.name AS workspace, s.kind, count(*) AS scopes,
    count(*) FILTER (WHERE s.state = 'complete') AS complete,
    min(s.last_complete_at) AS oldest_complete, min(s.first_complete_at) AS first_complete
FROM public.scope s JOIN public.workspace w USING (workspace_id)
GROUP BY w.name, s.kind
"""

# The functions that answer for a time are written by 0002 (and by later revisions that add a kind); each ends in its
# conditions, so another one can be added without repeating every column here.
_NOT_DROPPED = """
 AND NOT EXISTS (SELECT 1 FROM public.horizon h
    WHERE h.workspace_id = v.workspace_id AND h.kind = v.kind AND h.dropped_before > moment)"""


def upgrade() -> None:
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)
    op.execute(_REMEMBER)
    op.execute(_RECKON)
    op.execute(_COVERAGE)
    for kind, body in _functions():
        if _NOT_DROPPED not in body:
            _replace(kind, body.rstrip() + _NOT_DROPPED)


def downgrade() -> None:
    for kind, body in _functions():
        _replace(kind, body.replace(_NOT_DROPPED, ""))
    op.execute("DROP VIEW inventory.coverage")
    op.execute(_COVERAGE_BEFORE)
    op.drop_table("former_scope")
    op.drop_table("horizon")


def _functions() -> list[tuple[str, str]]:
    found = op.get_bind().execute(
        text(
            "SELECT p.proname, p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE n.nspname = 'inventory' AND p.proname LIKE '%\\_at' ORDER BY p.proname"
        )
    )
    return [(name.removesuffix("_at"), body) for name, body in found]


def _replace(kind: str, body: str) -> None:
    op.get_bind().exec_driver_sql(
        f"CREATE OR REPLACE FUNCTION inventory.{kind}_at(moment timestamptz) RETURNS SETOF inventory.{kind}"
        f" LANGUAGE sql STABLE AS $$ {body.strip()} $$"
    )
