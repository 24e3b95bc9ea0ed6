"""Alembic's entry: runs the migrations on the connection that stocktake.store.migrate hands in."""

from __future__ import annotations

from sqlalchemy import create_engine

from alembic import context
from stocktake.store import chain_tables  # noqa: F401 - every table is known
from stocktake.store.tables import METADATA


def _included(name: str | None, kind: str, _parents: object) -> bool:
    """Compare our own tables only: the views of the schema `inventory` are written out in the migrations."""
    return kind != "schema" or name in (None, "public")


def _run() -> None:
    handed = context.config.attributes.get("connection")
    if handed is not None:
        context.configure(connection=handed, target_metadata=METADATA, include_name=_included)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "")
    with engine.begin() as connection:
        context.configure(connection=connection, target_metadata=METADATA, include_name=_included)
        with context.begin_transaction():
            context.run_migrations()


_run()
