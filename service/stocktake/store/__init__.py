"""Postgres: tables, heads, staging and publishing, history queries, the ledger, retention, migrations."""
