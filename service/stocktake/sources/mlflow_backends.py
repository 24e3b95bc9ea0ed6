"""MLflow's backend database as this room sees it: one small interface, and what both kinds of database share.

Every question is asked between `begin` and `end`, in a transaction that cannot write (mlflow_postgres.py,
mlflow_sqlite.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from stocktake.core.errors import SourceError, Trouble

Row = tuple[Any, ...]

OVER_HTTP = "Report this; until then name the server's address under `uri`."


class Gone(SourceError):
    """The connection went away: the same question may be asked again over a new one."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(
            Trouble.UNREACHABLE,
            f"{place} ended the connection: {reason}",
            next_step="The next scan tries again. If it stays so, ask whoever runs that database server.",
        )


class Backend(Protocol):
    """One database. `rows` takes SQL with :names; a `:names` that stands for a list is put by `among`."""

    name: str  # "postgresql" or "sqlite"
    place: str  # what is read, without a secret
    holds: bool  # whether a transaction may stay open between two pages

    def begin(self) -> None: ...

    def rows(self, sql: str, params: Mapping[str, Any]) -> list[Row]: ...

    def end(self) -> None: ...

    def user(self) -> str: ...

    def may_write(self) -> bool:
        """Whether this user has more rights than reading takes; none of them can be used here."""
        ...

    def among(self, column: str, name: str) -> str:
        """SQL that says that a column is one of a list."""
        ...

    def close(self) -> None:
        """Release the connection, from any thread; a question under way fails soon."""
        ...
