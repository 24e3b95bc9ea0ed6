"""Who may publish: one claim per workspace and mode, alive while its connection lives, fenced by a token."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from stocktake.core import canonical
from stocktake.core.assets import Mode, ScanState
from stocktake.core.chain import salt_key
from stocktake.core.errors import ConfigError, Fenced, Stopped
from stocktake.store import chain
from stocktake.store.engine import driver, trouble

#: First half of the two-part advisory lock keys of claims; the second is workspace and mode.
LOCK = 0x73746B02
_GOES_ON = "Nothing: what was published stands, and the next scan goes on from there."


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A right to publish, until someone else takes the workspace over."""

    workspace_id: int
    workspace: str
    mode: Mode
    scan_id: int
    token: uuid.UUID
    epoch: int
    began_at: datetime
    salts: bytes = field(repr=False)  # the key of the salts of what it publishes


class Busy(Exception):
    """Another process is taking stock of this workspace in this mode right now."""


def _workspace_id(connection: Connection, name: str, source: str, uri: str) -> int:
    """Return the id of a workspace, made at first sight."""
    given = {"name": name, "source": source, "uri": uri}
    connection.execute(
        text("INSERT INTO workspace (name, source, uri) VALUES (:name, :source, :uri) ON CONFLICT (name) DO NOTHING"),
        given,
    )
    return int(connection.execute(text("SELECT workspace_id FROM workspace WHERE name = :name"), given).scalar_one())


def settle(connection: Connection, claim: Claim, source: str, uri: str) -> None:
    """Note what a workspace is read from. Raises ConfigError when it has a history and points somewhere else now."""
    given = {"uri": uri, "source": source, "id": claim.workspace_id}
    with connection.begin():
        known: str | None = connection.execute(
            text("SELECT uri FROM workspace WHERE workspace_id = :id FOR UPDATE"), given
        ).scalar_one()
        if known == uri:
            return
        seen = connection.execute(text("SELECT 1 FROM asset WHERE workspace_id = :id LIMIT 1"), given).first()
        if known is not None and seen:
            raise elsewhere(claim.workspace, known, uri)
        connection.execute(text("UPDATE workspace SET uri = :uri, source = :source WHERE workspace_id = :id"), given)


def elsewhere(name: str, known: str, uri: str) -> ConfigError:
    """The refusal of an address that is not the one whose history is kept under this name."""
    return ConfigError(
        f"Workspace {name!r} was read from {known} until now and points to {uri}.",
        next_step="If the address is a mistake, correct it. If it is another server, give it a name of its own:"
        " its history must not be mixed with this one's. If the same server moved:"
        f" stocktake scope accept {name} workspace",
    )


@contextmanager
def claimed(
    engine: Engine, *, name: str, source: str, uri: str, mode: Mode, epoch: int, key: bytes
) -> Iterator[tuple[Connection, Claim]]:
    """Claim a workspace for one scan and open its row in the ledger. Raises Busy when somebody else is at it.

    The session's advisory lock says that the holder lives: it goes with the connection, so a killed worker blocks
    nobody. The token says who may publish: a holder that was stopped and continued finds its token replaced.
    """
    with engine.connect() as connection:
        lock = {"space": LOCK, "key": 0}
        with connection.begin():
            wid = _workspace_id(connection, name, source, uri)
            lock["key"] = wid * 2 + (1 if mode == Mode.SWEEP else 0)
        with connection.begin():
            if not connection.execute(text("SELECT pg_try_advisory_lock(:space, :key)"), lock).scalar_one():
                raise Busy(f"another process is taking stock of {name} ({mode}) right now")
        sound = False  # whether the session can still be talked to
        try:
            with connection.begin():
                claim = _open(connection, wid, name, source, mode, epoch, salt_key(key))
            try:
                yield connection, claim
                sound = True
            except Exception as exc:
                sound = trouble(exc) is None
                if sound:
                    connection.rollback()
                else:
                    connection.invalidate()
                _give_up(engine, claim, exc)
                raise
        finally:
            if sound:
                _release(connection, lock)
            # The lock and the temporary tables of the scan go with the session: never hand it back to the pool.
            connection.invalidate()


def _release(connection: Connection, lock: Mapping[str, int]) -> None:
    """Give the lock back by word: the server notices a closed connection a moment later, and whoever comes at once
    would be told that somebody is at it."""
    with contextlib.suppress(SQLAlchemyError, psycopg.Error), connection.begin():
        connection.execute(text("SELECT pg_advisory_unlock(:space, :key)"), lock)


def _open(
    connection: Connection, wid: int, name: str, source: str, mode: Mode, epoch: int, salts: bytes
) -> Claim:  # fmt: skip
    _lock(connection, wid, mode)
    chain.begin(driver(connection), wid, salts)
    abandoned = connection.execute(
        text(
            "UPDATE scan SET state = :abandoned, finished_at = clock_timestamp(), error = coalesce(error,"
            " 'the worker went away before the scan was done'), next_step = :next_step"
            " WHERE workspace_id = :wid AND (mode = 'sweep') = (:mode = 'sweep') AND state = 'running'"
        ),  # whoever else needs the lock that we hold is gone
        {"abandoned": ScanState.ABANDONED, "wid": wid, "mode": mode, "next_step": _GOES_ON},
    ).rowcount
    if abandoned:
        chain.settle(driver(connection), wid, salts, scan=0, closing=False)
    token = uuid.uuid4()
    scan_id, began_at = connection.execute(
        text(
            "INSERT INTO scan (workspace_id, mode, state, source, epoch, began_at, last_began_at)"
            " SELECT :wid, :mode, 'running', :source, :epoch, now, now FROM clock_timestamp() AS now"
            " RETURNING scan_id, began_at"
        ),
        {"wid": wid, "mode": mode, "source": source, "epoch": epoch},
    ).one()
    connection.execute(
        text(
            "INSERT INTO claim (workspace_id, mode, token, scan_id) VALUES (:wid, :mode, :token, :scan)"
            " ON CONFLICT (workspace_id, mode) DO UPDATE"
            " SET token = excluded.token, scan_id = excluded.scan_id, taken_at = now()"
        ),
        {"wid": wid, "mode": mode, "token": token, "scan": scan_id},
    )
    return Claim(
        workspace_id=wid,
        workspace=name,
        mode=mode,
        scan_id=scan_id,
        token=token,
        epoch=epoch,
        began_at=began_at,
        salts=salts,
    )


def _give_up(engine: Engine, claim: Claim, why: Exception) -> None:
    """Say in the ledger why a scan was left, if the database still answers and nobody took the scan over."""
    ours = isinstance(why, Stopped)  # the words of others may hold anything
    reason = canonical.escape((str(why) if ours else trouble(why)) or type(why).__name__)[:2000]
    with contextlib.suppress(SQLAlchemyError, psycopg.Error), engine.begin() as connection:
        _lock(connection, claim.workspace_id, claim.mode)
        left = connection.execute(
            text(
                "UPDATE scan SET state = :state, finished_at = clock_timestamp(), error = :error,"
                " next_step = :next_step WHERE scan_id = :scan AND state = 'running'"
                " AND EXISTS (SELECT 1 FROM claim WHERE token = :token)"
            ),
            {
                "state": ScanState.ABANDONED,
                "error": reason,
                "next_step": _GOES_ON if ours else None,
                "scan": claim.scan_id,
                "token": claim.token,
            },
        ).rowcount
        if left:
            chain.settle(driver(connection), claim.workspace_id, claim.salts, scan=claim.scan_id, closing=False)


def fence(connection: Connection, claim: Claim) -> None:
    """Lock the claim and the workspace for this transaction; raise Fenced when the token is no longer ours."""
    if _lock(connection, claim.workspace_id, claim.mode) != claim.token:
        raise Fenced(f"scan {claim.scan_id} of {claim.workspace} was taken over by another worker")


def _lock(connection: Connection, wid: int, mode: Mode) -> uuid.UUID | None:
    """Lock the claim and then the workspace for this transaction; return whose token the claim has."""
    token: uuid.UUID | None = connection.execute(
        text("SELECT token FROM claim WHERE workspace_id = :wid AND mode = :mode FOR UPDATE"),
        {"wid": wid, "mode": mode},
    ).scalar()
    # A hot pass and a sweep of one workspace publish one after the other, never interleaved.
    connection.execute(text("SELECT 1 FROM workspace WHERE workspace_id = :wid FOR NO KEY UPDATE"), {"wid": wid})
    return token
