"""The tables of the inventory, its history and its ledger."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE heartbeat (
    holder TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (holder)
);
CREATE TABLE installation (
    one BOOLEAN DEFAULT true NOT NULL,
    key_check BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (one),
    CONSTRAINT installation_is_one_row CHECK (one)
);
CREATE TABLE workspace (
    workspace_id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    uri TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    unobservable_since TIMESTAMP WITH TIME ZONE,
    trouble TEXT,
    error TEXT,
    next_step TEXT,
    PRIMARY KEY (workspace_id),
    CONSTRAINT workspace_name_key UNIQUE (name)
);
CREATE TABLE asset (
    asset_id BIGINT GENERATED ALWAYS AS IDENTITY,
    workspace_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    partition TEXT NOT NULL,
    digest BYTEA NOT NULL,
    raw_digest BYTEA NOT NULL,
    epoch INTEGER NOT NULL,
    observed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    first_seen TIMESTAMP WITH TIME ZONE NOT NULL,
    lifecycle TEXT NOT NULL,
    baseline BOOLEAN NOT NULL,
    gone_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (asset_id),
    FOREIGN KEY(workspace_id) REFERENCES workspace (workspace_id)
)
 WITH (fillfactor = 90);
CREATE UNIQUE INDEX asset_key ON asset (workspace_id, kind, key);
CREATE INDEX asset_live ON asset (workspace_id, kind, partition) WHERE gone_at IS NULL;
CREATE TABLE claim (
    workspace_id INTEGER NOT NULL,
    mode TEXT NOT NULL,
    token UUID NOT NULL,
    scan_id BIGINT NOT NULL,
    taken_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT claim_pkey PRIMARY KEY (workspace_id, mode),
    FOREIGN KEY(workspace_id) REFERENCES workspace (workspace_id)
);
CREATE TABLE scan (
    scan_id BIGINT GENERATED ALWAYS AS IDENTITY,
    workspace_id INTEGER NOT NULL,
    mode TEXT NOT NULL,
    state TEXT NOT NULL,
    source TEXT NOT NULL,
    identity TEXT,
    filtered BOOLEAN DEFAULT false NOT NULL,
    epoch INTEGER NOT NULL,
    began_at TIMESTAMP WITH TIME ZONE NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    passes INTEGER DEFAULT 1 NOT NULL,
    last_began_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_finished_at TIMESTAMP WITH TIME ZONE,
    seen BIGINT DEFAULT 0 NOT NULL,
    created BIGINT DEFAULT 0 NOT NULL,
    updated BIGINT DEFAULT 0 NOT NULL,
    deleted BIGINT DEFAULT 0 NOT NULL,
    restored BIGINT DEFAULT 0 NOT NULL,
    purged BIGINT DEFAULT 0 NOT NULL,
    baseline BIGINT DEFAULT 0 NOT NULL,
    carried BIGINT DEFAULT 0 NOT NULL,
    withheld BIGINT DEFAULT 0 NOT NULL,
    redacted BIGINT DEFAULT 0 NOT NULL,
    requests BIGINT DEFAULT 0 NOT NULL,
    bytes_read BIGINT DEFAULT 0 NOT NULL,
    throttled BIGINT DEFAULT 0 NOT NULL,
    trouble TEXT,
    error TEXT,
    next_step TEXT,
    PRIMARY KEY (scan_id),
    FOREIGN KEY(workspace_id) REFERENCES workspace (workspace_id)
);
CREATE INDEX scan_by_workspace ON scan (workspace_id, scan_id DESC);
CREATE TABLE scope (
    workspace_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    partition TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    first_listed_at TIMESTAMP WITH TIME ZONE,
    last_listed_at TIMESTAMP WITH TIME ZONE,
    first_complete_at TIMESTAMP WITH TIME ZONE,
    last_complete_at TIMESTAMP WITH TIME ZONE,
    last_scan BIGINT NOT NULL,
    CONSTRAINT scope_pkey PRIMARY KEY (workspace_id, kind, partition),
    FOREIGN KEY(workspace_id) REFERENCES workspace (workspace_id)
);
CREATE TABLE change (
    change_id BIGINT GENERATED ALWAYS AS IDENTITY,
    workspace_id INTEGER NOT NULL,
    asset_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    scan_id BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    not_before TIMESTAMP WITH TIME ZONE,
    not_after TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    type TEXT NOT NULL,
    category TEXT NOT NULL,
    name TEXT,
    actor TEXT,
    actor_source TEXT,
    fields TEXT NOT NULL,
    story_kind TEXT,
    story_key TEXT,
    story_type TEXT,
    part_of BIGINT,
    PRIMARY KEY (change_id),
    FOREIGN KEY(asset_id) REFERENCES asset (asset_id)
);
CREATE INDEX change_by_asset ON change (asset_id, at);
CREATE INDEX change_by_scan ON change (scan_id);
CREATE INDEX change_by_time ON change (workspace_id, at);
CREATE INDEX change_parts ON change (part_of) WHERE part_of IS NOT NULL;
CREATE TABLE scope_scan (
    scan_id BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    kind TEXT NOT NULL,
    partition TEXT NOT NULL,
    covers TEXT[] NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    ended BOOLEAN NOT NULL,
    began_at TIMESTAMP WITH TIME ZONE NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE NOT NULL,
    listed BIGINT DEFAULT 0 NOT NULL,
    missing BIGINT DEFAULT 0 NOT NULL,
    purged BIGINT DEFAULT 0 NOT NULL,
    carried BIGINT DEFAULT 0 NOT NULL,
    withheld BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT scope_scan_pkey PRIMARY KEY (scan_id, ordinal),
    FOREIGN KEY(scan_id) REFERENCES scan (scan_id) ON DELETE CASCADE
);
CREATE TABLE version (
    asset_id BIGINT NOT NULL,
    valid_from TIMESTAMP WITH TIME ZONE NOT NULL,
    valid_to TIMESTAMP WITH TIME ZONE,
    workspace_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    scan_id BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    lifecycle TEXT NOT NULL,
    partition TEXT NOT NULL,
    name TEXT,
    state TEXT,
    owner TEXT,
    parent TEXT,
    run TEXT,
    created_at TIMESTAMP WITH TIME ZONE,
    started_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    artifact_uri TEXT,
    code_version TEXT,
    data_version TEXT,
    params_digest TEXT,
    document TEXT NOT NULL,
    aside TEXT,
    CONSTRAINT version_pkey PRIMARY KEY (asset_id, valid_from),
    FOREIGN KEY(asset_id) REFERENCES asset (asset_id)
);
CREATE INDEX version_closed ON version (valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX version_registry ON version (workspace_id, run) WHERE kind = 'model_version';
CREATE UNIQUE INDEX version_open ON version (workspace_id, kind, asset_id) WHERE valid_to IS NULL;
CREATE TABLE withheld (
    asset_id BIGINT NOT NULL,
    workspace_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    partition TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    not_before TIMESTAMP WITH TIME ZONE,
    scan_id BIGINT NOT NULL,
    confirmations INTEGER NOT NULL,
    accepted_at TIMESTAMP WITH TIME ZONE,
    accepted_by TEXT,
    PRIMARY KEY (asset_id),
    FOREIGN KEY(asset_id) REFERENCES asset (asset_id)
);
CREATE INDEX withheld_by_scope ON withheld (workspace_id, kind, partition);
"""


def upgrade() -> None:
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    for table in ("heartbeat", "withheld", "change", "version", "asset", "scope", "scope_scan", "scan", "claim"):
        op.drop_table(table)
    op.drop_table("workspace")
    op.drop_table("installation")
