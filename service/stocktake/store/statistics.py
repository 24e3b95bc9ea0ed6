"""The planner's statistics, kept as young as the tables: a first scan fills them faster than autovacuum comes by.

Without them Postgres takes every workspace and kind for rare, and reads a whole index for one experiment's heads.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

#: Fewer new assets than this are nothing that a wrong plan could suffer from.
_WORTH = 1_000
#: Documents are never searched for, and reading them is most of what a sample of `version` would cost.
_VERSION = "version (asset_id, valid_from, valid_to, workspace_id, kind, partition)"


def renew(connection: Connection, inserted: int) -> bool:
    """Analyse what a scan fills, if it doubled since that was last done. `inserted` counts new assets since then.

    In a transaction of its own, kept short: ANALYZE holds off other maintenance until it ends.
    """
    if inserted < _WORTH:
        return False
    known = connection.execute(text("SELECT reltuples FROM pg_class WHERE oid = 'public.asset'::regclass")).scalar_one()
    if inserted < known:
        return False
    for table in ("asset", _VERSION, "scope", "change"):
        connection.execute(text(f"ANALYZE public.{table}"))
    return True
