"""Migrations: where they lie, whether they are current, and running them under a lock, one process at a time."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from alembic import command
from stocktake.core.errors import ConfigError

#: pg_advisory_lock key of "migrations are running" (any constant no other part of stocktake uses).
_LOCK = 0x73746B01
OLDEST_SERVER = 15
NEWEST_SERVER = 18


def scripts() -> Path:
    """Return the folder of the migrations: packed beside the package in a wheel, or alembic/ of a checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "_alembic", here.parents[3] / "alembic"):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigError("The migrations are missing from this installation. Install the stocktake wheel again.")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def newest() -> str:
    """Return the revision that this code needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ConfigError(f"No migrations in {scripts()}. Install the stocktake wheel again.")
    return head


def current(connection: Connection) -> str | None:
    """Return the revision that the database is at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def server_version(connection: Connection) -> int:
    """Return the major version of the server."""
    return int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10000


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest revision; safe when several processes start at once."""
    with engine.connect() as connection:
        version = server_version(connection)
        if version < OLDEST_SERVER:
            raise ConfigError(
                f"The database server is PostgreSQL {version}; stocktake needs {OLDEST_SERVER} to {NEWEST_SERVER}."
                " Upgrade the server or name another one under `database:`."
            )
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        try:
            known = current(connection)
            connection.rollback()
            if known == newest():
                return
            if known is not None and known not in {
                r.revision for r in ScriptDirectory.from_config(_config()).walk_revisions()
            }:
                raise ConfigError(
                    f"The database is at revision {known}, which this version of stocktake does not know:"
                    " a newer version has been here. Run that version or a later one."
                )
            connection.execute(text("SET lock_timeout = '10s'"))
            connection.commit()
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SET lock_timeout = DEFAULT"))
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()
