"""One database belongs to one installation key: with another, equal secrets would no longer be recognised."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from sqlalchemy import Connection, Engine, text

from stocktake.core.errors import ConfigError


def check_value(key: bytes) -> bytes:
    """What a key is recognised by; nothing can be made from it but this comparison."""
    return hmac.new(key, b"stocktake installation", hashlib.sha256).digest()


def known_check(connection: Connection) -> bytes | None:
    """The check value of the key that this database was filled with; None before its first."""
    found = connection.execute(text("SELECT key_check FROM installation")).scalar()
    return None if found is None else bytes(found)


def refusal(known: bytes | None, key: bytes | None, data_dir: Path | None = None) -> ConfigError | None:
    """Why a key (None: there is none here) is not the one that a database was filled with; None when it is."""
    if known is None or (key is not None and hmac.compare_digest(known, check_value(key))):
        return None
    what = "This database was filled with another installation key"
    if key is None:
        what = "This database was filled with an installation key that is not here, and another one would not do"
    place = data_dir / "installation.key" if data_dir else "the data folder"
    return ConfigError(
        f"{what}.",
        next_step=f"Copy the right installation.key to {place}, or set STOCKTAKE_REDACTION_KEY to it; every worker of"
        " one database needs the same key.",
    )


def check_key(engine: Engine, key: bytes) -> None:
    """Remember the key's check value at first use; refuse another key afterwards. The key itself is never stored."""
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO installation (key_check) VALUES (:value) ON CONFLICT DO NOTHING"),
            {"value": check_value(key)},
        )
        why = refusal(known_check(connection), key)
    if why is not None:
        raise why
