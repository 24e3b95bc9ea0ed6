"""Migrations: where they lie, whether they are current, and running them under a lock, one process at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text

from stocktake.core.errors import ConfigError

if TYPE_CHECKING:
    from alembic.config import Config

#: pg_advisory_lock key of "migrations are running" (any constant no other part of stocktake uses).
_LOCK = 0x73746B01
_REVISION = re.compile(r'^(revision|down_revision)(?::[^=]*)? = "([^"]+)"', re.MULTILINE)
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
    from alembic.config import Config  # a second of imports, for those who migrate alone

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def revisions() -> dict[str, str | None]:
    """Return every revision and the one before it, read from the scripts without running them."""
    found: dict[str, str | None] = {}
    for script in (scripts() / "versions").glob("*.py"):
        given = dict(_REVISION.findall(script.read_text()))
        if "revision" in given:
            found[given["revision"]] = given.get("down_revision")
    return found


def newest() -> str:
    """Return the revision that this code needs."""
    known = revisions()
    heads = known.keys() - set(known.values())
    if len(heads) != 1:
        raise ConfigError(f"{len(heads)} newest migrations in {scripts()}. Install the stocktake wheel again.")
    return heads.pop()


def current(connection: Connection) -> str | None:
    """Return the revision that the database is at; None for an empty one."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def server_version(connection: Connection) -> int:
    """Return the major version of the server."""
    return int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10000


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest revision; safe when several processes start at once."""
    from alembic import command

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
            if known is not None and known not in revisions():
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
