"""One database belongs to one installation key: with another, equal secrets would no longer be recognised."""

from __future__ import annotations

import hashlib
import hmac

from sqlalchemy import Engine, text

from stocktake.core.errors import ConfigError


def check_value(key: bytes) -> bytes:
    """What a key is recognised by; nothing can be made from it but this comparison."""
    return hmac.new(key, b"stocktake installation", hashlib.sha256).digest()


def check_key(engine: Engine, key: bytes) -> None:
    """Remember the key's check value at first use; refuse another key afterwards. The key itself is never stored."""
    value = check_value(key)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO installation (key_check) VALUES (:value) ON CONFLICT DO NOTHING"), {"value": value}
        )
        known = connection.execute(text("SELECT key_check FROM installation")).scalar_one()
    if not hmac.compare_digest(bytes(known), value):
        raise ConfigError(
            "This database was filled with another installation key. Put the right installation.key into the data"
            " folder, or set STOCKTAKE_REDACTION_KEY to it; every worker of one database needs the same key."
        )
