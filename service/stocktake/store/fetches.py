"""The part of the ledger about what was fetched on demand. It keeps what and how much, never any content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from stocktake.core.fetches import End, What


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One line of the ledger."""

    id: int
    began_at: datetime
    finished_at: datetime | None  # None: it is running, or was killed
    workspace: str
    kind: str
    key: str
    what: What
    state: End | None
    place: str | None  # the container and the folder in it
    blobs: int
    bytes: int
    identity: str | None  # whom our token stood for
    operator: str
    error: str | None


def begin(connection: Connection, *, workspace: str, kind: str, key: str, what: What, operator: str) -> int:
    """Note that it begins, before anything is asked."""
    row = connection.execute(
        text(
            "INSERT INTO fetched (workspace, kind, key, what, operator)"
            " VALUES (:workspace, :kind, :key, :what, :operator) RETURNING fetch_id"
        ),
        {"workspace": workspace, "kind": kind, "key": key, "what": str(what), "operator": operator},
    )
    return int(row.scalar_one())


def finish(
    connection: Connection,
    fetch: int,
    state: End,
    *,
    identity: str | None,
    place: str | None = None,
    blobs: int = 0,
    bytes_: int = 0,
    error: str | None = None,
) -> None:
    """Note how it ended, and how much came."""
    connection.execute(
        text(
            "UPDATE fetched SET finished_at = clock_timestamp(), state = :state, identity = :identity, place = :place,"
            " blobs = :blobs, bytes = :bytes, error = :error WHERE fetch_id = :fetch"
        ),
        {
            "state": str(state), "identity": identity, "place": place, "blobs": blobs, "bytes": bytes_, "error": error,
            "fetch": fetch,
        },
    )  # fmt: skip


def fetches(
    connection: Connection,
    *,
    workspaces: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
) -> Iterator[Fetch]:
    """What was fetched, the latest first."""
    found = connection.execute(
        text(
            "SELECT fetch_id, began_at, finished_at, workspace, kind, key, what, state, place, blobs, bytes, identity,"
            " operator, error FROM fetched WHERE (CAST(:workspaces AS text[]) IS NULL OR workspace = ANY(:workspaces))"
            " AND (CAST(:since AS timestamptz) IS NULL OR began_at >= :since)"
            " AND (CAST(:until AS timestamptz) IS NULL OR began_at <= :until)"
            " ORDER BY began_at DESC, fetch_id DESC LIMIT :limit"  # by fetched_by_time
        ),
        {"workspaces": list(workspaces) if workspaces else None, "since": since, "until": until, "limit": limit},
    )
    for row in found:
        told = row._asdict()
        told["id"] = told.pop("fetch_id")
        told["what"], told["state"] = What(row.what), End(row.state) if row.state is not None else None
        yield Fetch(**told)


def fetched_workspaces(connection: Connection) -> list[str]:
    """The names of the workspaces of which something was fetched."""
    return list(connection.execute(text("SELECT DISTINCT workspace FROM fetched ORDER BY workspace")).scalars())
