"""Checks of our own side: the configuration, the environment, the disk, the database, the schedule."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, text

from stocktake import ruling
from stocktake.core.assets import Mode
from stocktake.core.errors import ConfigError
from stocktake.doctor import alerts
from stocktake.doctor.checks import Check, apart, fail, ok, warn
from stocktake.making import address
from stocktake.settings import Settings, WorkspaceSettings, check, present_key
from stocktake.settings.timing import format_timing, period
from stocktake.store import finding_list, installation, migrate, standing
from stocktake.store.claims import elsewhere
from stocktake.wiring import open_database

_GIB = 2**30
_DISK_FAIL, _DISK_WARN = _GIB // 2, 5 * _GIB
_CLOCK = 5.0  # seconds that our clock and the database's may differ


def configuration(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """The file was read already; what it names (variables, files) must be there too, and fit together."""
    where = str(settings.file) if settings.file is not None else "no configuration file"
    count = len(settings.workspaces)
    if count or settings.discovery:
        places = f", {len(settings.discovery)} to look for others" if settings.discovery else ""
        yield ok("configuration", f"{where}: {count} workspace{'' if count == 1 else 's'}{places}")
    else:
        yield warn(
            "configuration",
            f"{where}: no workspace is configured",
            "Name one in a file (--config), or set MLFLOW_TRACKING_URI; until then `up` is the demonstration.",
        )
    for problem in check(settings, environ):
        level = fail if problem.fatal else warn
        yield level("configuration", f"{problem.path} {problem.what}", f"{problem.next_step}.", problem.workspace)


def rules(settings: Settings) -> Iterator[Check]:
    """The rules that the configuration names are there, and the operator's own can be read."""
    loaded = ruling.load(settings)
    try:
        ruling.refuse_unknown(settings, loaded)
    except ConfigError as exc:
        yield fail("rules", exc.what, "Correct the name: no scan begins before.")
    if loaded.unread is not None:
        yield warn("rules", loaded.unread, "Until then your own rules say nothing.")
    for problem in loaded.problems:
        yield warn("rules", str(problem), "Repair it; `stocktake rules check` looks deeper.")
    own = sum(rule.origin is not None for rule in loaded.rules)
    if own and not loaded.problems:
        yield ok("rules", f"{own} of your own in {settings.rules.folder}")


def disk(folder: Path) -> Iterator[Check]:
    """The data folder, or the nearest folder above it that is there: may we write, and is there room?"""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not os.access(there, os.W_OK):
        step = "Give this user the folder, or name another one in STOCKTAKE_DATA_DIR."
        yield fail("disk", f"{folder} cannot be written to", step)
        return
    free = shutil.disk_usage(there).free
    message = f"{free / _GIB:,.1f} GiB free for {folder}"
    if free >= _DISK_WARN:
        yield ok("disk", message)
        return
    step = "Make room, or name a folder on a larger disk in STOCKTAKE_DATA_DIR: a full disk stops the database."
    yield fail("disk", message, step) if free < _DISK_FAIL else warn("disk", message, step)


def database(
    settings: Settings, environ: Mapping[str, str], known: dict[str, standing.WorkspaceStatus]
) -> Iterator[Check]:
    """Reach the database (starting the embedded one), and leave in `known` what it knows of the workspaces."""
    try:
        with open_database(settings, environ) as engine:
            yield from _server("embedded" if settings.database == "embedded" else "configured", engine, known)
            yield from _key(engine, settings, environ)
            yield from alerts.delivered(engine, settings)
    except ConfigError as exc:
        yield fail("database", str(exc), "Put this right first: nothing can be kept without a database.")


def _server(which: str, engine: Engine, known: dict[str, standing.WorkspaceStatus]) -> Iterator[Check]:
    failing: list[finding_list.NotJudged] = []
    with engine.connect() as connection:
        before = datetime.now(UTC)
        theirs: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        middle = before + (datetime.now(UTC) - before) / 2
        version = migrate.server_version(connection)
        revision, wanted = migrate.current(connection), migrate.newest()
        if revision == wanted:
            known.update({one.name: one for one in standing.status(connection)})
            failing = finding_list.failing(connection)
    good = f"{migrate.OLDEST_SERVER} to {migrate.NEWEST_SERVER}"
    if version < migrate.OLDEST_SERVER:
        yield fail("database", f"{which}, PostgreSQL {version}; stocktake needs {good}", "Use a newer server.")
    elif version > migrate.NEWEST_SERVER:
        step = "Watch for errors, or use a server of those versions."
        yield warn("database", f"{which}, PostgreSQL {version}; stocktake is tried on {good}", step)
    else:
        yield ok("database", f"{which}, PostgreSQL {version}")
    if revision == wanted:
        yield ok("migrations", f"current ({wanted})")
    else:
        yield warn(
            "migrations",
            f"the database {'is empty' if revision is None else f'is at {revision}'}; this version needs {wanted}",
            "Run `stocktake db upgrade`; `up`, `worker` and `scan` do it themselves.",
        )
    for one in failing:
        step = "What it had found stands as it was. Repair it (`stocktake rules check`), or switch it off."
        yield warn("rules", f"{one.rule} fails: {one.error}", step, one.workspace)
    difference = (middle - theirs).total_seconds()
    if abs(difference) <= _CLOCK:
        yield ok("database clock", f"agrees with this machine's within {_CLOCK:.0f} s")
    else:
        yield warn(
            "database clock",
            "this machine's clock is " + apart(difference, "the database's") + ", which orders everything",
            'Let both follow a time server (NTP): until then "10 minutes ago" is another time there.',
        )


def _key(engine: Engine, settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """The key that the database was filled with must be here; before the first scan there is none."""
    with engine.connect() as connection:
        if migrate.current(connection) != migrate.newest():
            return
        known = installation.known_check(connection)
    try:
        key = present_key(settings.data_dir, environ)
        why = installation.refusal(known, key, settings.data_dir)
    except ConfigError as exc:
        why = exc
    if why is not None:
        yield fail("installation key", why.what, why.next_step or "Put it right: no scan is possible before.")
    elif known is not None:
        yield ok("installation key", "is the one that the database was filled with")


def place(workspace: WorkspaceSettings, known: standing.WorkspaceStatus | None) -> Iterator[Check]:
    """A scan of a workspace that points elsewhere than its history is refused."""
    now = address(workspace)
    if known is not None and known.uri not in (None, now) and known.assets:
        refusal = elsewhere(workspace.name, str(known.uri), now)
        yield fail("address", refusal.what, str(refusal.next_step), workspace.name)


def schedule(
    settings: Settings, workspace: WorkspaceSettings, known: standing.WorkspaceStatus | None
) -> Iterator[Check]:
    """Judge by the last passes whether the next ones fit between their ticks: the staleness bound stands on that."""
    chosen = workspace.schedule or settings.schedule
    for mode, timing in ((Mode.HOT, chosen.hot), (Mode.SWEEP, chosen.sweep)):
        every = period(timing).total_seconds()
        last = None if known is None else known.last_hot if mode == Mode.HOT else known.last_sweep
        message = f"{mode} every {format_timing(timing)}"
        if last is None or last.finished_at is None:
            yield ok("schedule", f"{message}; to be judged after the first one", workspace.name)
            continue
        took = (last.finished_at - last.began_at).total_seconds()
        message += f"; the last one took {took:,.1f} s"
        if took <= every / 2:
            yield ok("schedule", message, workspace.name)
            continue
        step = f"Set schedule.{mode} to {max(1, math.ceil(took / 30))}m or more, or watch less at once."
        if took > every:
            late = f"{message}: longer than its period, so the staleness bound cannot be kept"
            yield fail("schedule", late, step, workspace.name)
        else:
            yield warn("schedule", f"{message}: more than half of its period", step, workspace.name)
