"""What all tables of the store are gathered in, whichever file describes them."""

from __future__ import annotations

from sqlalchemy import MetaData

METADATA = MetaData()
