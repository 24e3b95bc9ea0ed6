"""Migrations, the public views, the key, and what kill -9 leaves behind."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from alembic import command
from stocktake.core.assets import Mode, ScanState
from stocktake.core.errors import ConfigError
from stocktake.store import history, installation, migrate
from stocktake.store.engine import make_engine
from tests.integration.scripted import World, scan

ROOT = Path(__file__).parents[2]


def test_migrations_make_what_the_tables_say(engine: Engine) -> None:
    config = migrate._config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_the_newest_revision_is_alembics_own(engine: Engine) -> None:
    script = ScriptDirectory.from_config(migrate._config())
    assert migrate.newest() == script.get_current_head()
    assert migrate.revisions().keys() == {one.revision for one in script.walk_revisions()}
    with engine.connect() as connection:
        assert migrate.current(connection) == MigrationContext.configure(connection).get_current_revision()


def test_migrations_go_down_and_up_again(engine: Engine) -> None:
    config = migrate._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with engine.connect() as connection:
        left = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one()
    assert left == 1  # alembic's own
    migrate.upgrade(engine)
    assert scan(engine, World()).state == ScanState.COMPLETE


def test_a_database_from_the_future_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="9999"):
        migrate.upgrade(engine)


def test_several_processes_may_migrate_at_once(empty_database_url: str) -> None:
    code = (
        "import sys; from stocktake.store import migrate; from stocktake.store.engine import make_engine;"
        "migrate.upgrade(make_engine(sys.argv[1]))"
    )
    starters = [subprocess.Popen([sys.executable, "-c", code, empty_database_url]) for _ in range(3)]
    assert [starter.wait(60) for starter in starters] == [0, 0, 0]
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        assert migrate.current(connection) == migrate.newest()
    engine.dispose()


def test_another_installation_key_is_refused(engine: Engine) -> None:
    installation.check_key(engine, b"a" * 32)
    installation.check_key(engine, b"a" * 32)
    with pytest.raises(ConfigError, match="STOCKTAKE_REDACTION_KEY"):
        installation.check_key(engine, b"b" * 32)


def test_the_reference_of_the_views_lists_every_column(engine: Engine) -> None:
    page = (ROOT / "docs" / "reference" / "views.md").read_text()
    common = set(re.findall(r"`(\w+)`", page.split("Columns of all of them:")[1].split("Besides:")[0]))
    listed = {
        cells[1].strip(" `"): set(re.findall(r"`(\w+)`", cells[-2]))
        for line in page.splitlines()
        if line.startswith("| `") and (cells := line.split("|"))
    }
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'inventory'")
        ).all()
    assert rows
    views: dict[str, set[str]] = {}
    for view, column in rows:
        views.setdefault(view, set()).add(column)
    for view, columns in views.items():
        documented = listed.get(view, set()) | (common if "aside" in columns else set())
        if "aside" in columns:  # of a kind
            assert f"inventory.{view}_at" in _functions(engine), view
        assert columns == documented, view


def _functions(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return {
            f"inventory.{name}"
            for (name,) in connection.execute(
                text("SELECT routine_name FROM information_schema.routines WHERE routine_schema = 'inventory'")
            )
        }


def _world(size: int = 40) -> World:
    world = World()
    for number in range(size):
        world.add_run(f"run{number:03d}", experiment=str(number % 4))
    return world


KILLED = """
import random, sys, os, threading, time
from stocktake.core.assets import Mode
from stocktake.store.engine import make_engine
from tests.integration.test_store import _mutate, _world
from tests.integration.scripted import scan
world = _world()
_mutate(world)
world.during = lambda page: time.sleep(0.002)
print("ready", flush=True)
scan(make_engine(sys.argv[1]), world, Mode(sys.argv[2]))
"""


def _mutate(world: World) -> None:
    for number in range(0, 40, 3):
        world.runs[f"run{number:03d}"]["tags"]["edit"] = "1"
    for number in (5, 17):
        del world.runs[f"run{number:03d}"]
    world.add_run("late", experiment="2")
    world.experiments["9"] = {"name": "nine", "lifecycle_stage": "active"}


def _told(engine: Engine) -> list[tuple[str, str, str]]:
    with engine.connect() as connection:
        return sorted((c.kind, c.key, c.type) for c in history.changes(connection, expand=True))


def test_killed_anywhere_a_scan_leaves_no_false_change(engine: Engine, database_url: str) -> None:
    scan(engine, _world())
    after = _world()
    _mutate(after)
    choose = random.Random(20261124)
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, database_url, choose.choice([Mode.SWEEP, Mode.HOT])],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(choose.uniform(0.0, 0.25))
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        child.stdout.close()
        told = set(_told(engine))
        assert told <= EXPECTED
        _wait_until_released(engine)
    assert scan(engine, after).state == ScanState.COMPLETE
    assert set(_told(engine)) == EXPECTED
    assert len(_told(engine)) == len(EXPECTED)


EXPECTED = {
    *(("run", f"run{number:03d}", "updated") for number in range(0, 40, 3)),
    ("run", "run005", "purged"),
    ("run", "run017", "purged"),
    ("run", "late", "created"),
    ("experiment", "9", "created"),
}


def _wait_until_released(engine: Engine) -> None:
    """The server notices a killed client at once on a socket; give its backend a moment to go."""
    deadline = time.monotonic() + 10
    with engine.connect() as connection:
        while time.monotonic() < deadline:
            held = connection.execute(
                text(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
                    " (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
            ).scalar_one()
            connection.rollback()
            if held == 0:
                return
            time.sleep(0.05)
    raise AssertionError("the killed scan still holds its lock")
