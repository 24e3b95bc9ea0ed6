"""The planner's statistics, kept as young as the tables: a first scan fills them faster than autovacuum comes by.

Without them Postgres takes every workspace and kind for rare, and reads a whole index for one experiment's heads.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

#: Fewer new assets than this are nothing that a wrong plan could suffer from.
_WORTH = 1_000


def renew(connection: Connection, inserted: int) -> bool:
    """Analyse what a scan fills, if it grew by half since that was last done. `inserted` counts new assets since then.

    In a transaction of its own, kept short: ANALYZE holds off other maintenance until it ends.
    """
    if inserted < _WORTH:
        return False
    known = connection.execute(text("SELECT reltuples FROM pg_class WHERE oid = 'public.asset'::regclass")).scalar_one()
    if inserted * 2 < known:
        return False
    for table in ("asset", "version", "scope", "change"):
        connection.execute(text(f"ANALYZE public.{table}"))
    return True
