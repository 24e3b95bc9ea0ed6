"""Running it and looking after it: up, worker, doctor, config, db, version."""

from __future__ import annotations

import json
import os
import platform
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from stocktake import __version__
from stocktake.cli import rows
from stocktake.cli.exits import ExitCode
from stocktake.cli.offers import accepted
from stocktake.cli.render import Output, clean, dumps, say, write_json, write_table, write_tsv
from stocktake.cli.session import OutputOption, Session, WorkspaceOption, known, session
from stocktake.core.errors import ConfigError

if TYPE_CHECKING:
    from stocktake.settings import Settings
    from stocktake.wiring import App


def up(
    context: typer.Context,
    demo: Annotated[bool, typer.Option("--demo", help="Show a server of our own, whatever is configured.")] = False,
) -> int:
    """Watch, in the foreground, with health and metrics over HTTP. Ctrl-C stops it.

    With a configuration file or MLFLOW_TRACKING_URI it watches those; with neither it offers ./mlflow.db and ./mlruns
    where they are (without a terminal it says how to, and exits with 2), or else runs the demonstration: a real MLflow
    server on loopback, filled by training small models, scanned, changed and scanned again.
    """
    current = session(context)
    settings = current.settings()
    if not demo and not settings.workspaces and not settings.discovery:
        settings = accepted(settings) or settings
    if not demo and (settings.workspaces or settings.discovery):
        return _watch(current, settings)
    from stocktake.cli.finding import show_findings
    from stocktake.cli.questions import show_changes
    from stocktake.demo.story import Show, run_demo
    from stocktake.worker import run_worker

    current.logging(settings)
    if not demo:
        say("No workspace is configured. To watch yours: --config FILE, or MLFLOW_TRACKING_URI.")
    show = Show(tell=_tell, table=write_table, changes=show_changes, findings=show_findings)
    with until_signalled() as stop:

        def watch(app: App, ready: Callable[[str], object]) -> None:
            run_worker(app, stop=stop, ready=ready)

        done = run_demo(settings, show=show, watch=watch, stop=stop.is_set)
    return ExitCode.COMPLETE if done or stop.is_set() else ExitCode.ERROR


def _tell(line: str) -> None:
    """The story and its tables are one text: they belong on the same stream, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def worker(context: typer.Context) -> int:
    """Watch what is configured, in the foreground, as a service does. SIGTERM or Ctrl-C stops it."""
    current = session(context)
    settings = current.settings()
    if not settings.workspaces and not settings.discovery:
        raise ConfigError(
            "No workspace is configured. Name one in a configuration file (--config or STOCKTAKE_CONFIG), or set"
            " MLFLOW_TRACKING_URI. `stocktake up --demo` shows what stocktake does without any."
        )
    return _watch(current, settings)


def _watch(current: Session, settings: Settings) -> int:
    from stocktake.wiring import open_app
    from stocktake.worker import run_worker

    current.logging(settings, level=settings.log.level)
    found = [f"what discovery {entry.name} finds" for entry in settings.discovery]
    names = ", ".join([*(one.name for one in settings.workspaces), *found])

    def ready(url: str) -> None:  # the port is ours by now: no address is told that another program answers at
        current.tell(
            f"Watching {clean(names)}. Ctrl-C stops it.\n"
            f"  health   {url}/healthz and /readyz\n  metrics  {url}/metrics\n"
            "  in another terminal: stocktake status, stocktake changes, stocktake list run"
        )

    with until_signalled() as stop, open_app(settings) as app:
        run_worker(app, stop=stop, ready=ready)
    return ExitCode.COMPLETE


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """An event that SIGTERM and the first Ctrl-C set; the second Ctrl-C ends the process at once.

    A handler runs wherever the main thread happens to be, in the middle of waiting for this very event too: it must
    take no lock. So it only puts a word into a queue that may be put into from anywhere, and a thread sets the event.
    """
    stop = threading.Event()
    asked = queue.SimpleQueue[bool]()
    signals: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        signals.append(number)
        asked.put(True)
        if len(signals) > 1 and number == signal.SIGINT:
            raise KeyboardInterrupt

    def listen() -> None:
        if asked.get():
            stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    threading.Thread(target=listen, name="signals", daemon=True).start()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        asked.put(False)


def doctor(context: typer.Context, workspace: WorkspaceOption = None, output: OutputOption = Output.TABLE) -> int:
    """Check what an operator checks before running anything; each line says what is wrong and what to do.

    Exits with 4 when something is broken; warnings alone end with 0.
    """
    from stocktake.doctor import Level, examine

    current = session(context)
    settings = current.widest()
    names = known(workspace, [one.name for one in settings.workspaces])
    current.logging(settings, level="ERROR")
    failed, told = False, []
    for check in examine(settings, names):
        failed |= check.level == Level.FAIL
        if output != Output.TABLE:
            told.append(rows.record(check, rows.CHECK))
            continue
        where = f"{check.workspace}: " if check.workspace else ""
        sys.stdout.write(f"{check.level:5}{clean(where)}{check.check}: {clean(check.message)}\n")
        if check.next_step:
            sys.stdout.write(f"     -> {clean(check.next_step)}\n")
        sys.stdout.flush()  # some checks wait for a server: each line is shown as it is known
    if output == Output.JSON:
        write_json(told)
    elif output == Output.TSV:
        write_tsv(rows.CHECK, told)
    return ExitCode.FAILED if failed else ExitCode.COMPLETE


def version(context: typer.Context, output: OutputOption = Output.TABLE) -> int:
    """Print the version of stocktake, of Python, and of what it stands on."""
    del context
    import importlib.metadata

    found = {"stocktake": __version__, "python": platform.python_version()}
    for package in ("mlflow-skinny", "sqlalchemy", "psycopg", "pydantic"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    if output == Output.JSON:
        sys.stdout.write(dumps(found) + "\n")
    elif output == Output.TSV:
        write_tsv(list(found), [found])
    else:
        sys.stdout.write("".join(f"{name} {number}\n" for name, number in found.items()))
    return ExitCode.COMPLETE


config = typer.Typer(name="config", help="The configuration file.", no_args_is_help=True, rich_markup_mode=None)


@config.command("schema")
def config_schema() -> int:
    """Print the JSON schema of the configuration file: editors complete and check it with that."""
    from stocktake.settings import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
    return ExitCode.COMPLETE


@config.command("check")
def config_check(context: typer.Context) -> int:
    """Check the configuration without running anything.

    Exits with 2 when it is wrong, or when something that it names (a variable, a file) is missing here.
    """
    from stocktake import ruling
    from stocktake.settings import check

    settings = session(context).settings()
    rules = ruling.load(settings)
    ruling.refuse_unknown(settings, rules)
    for problem_of_rule in rules.problems:
        say(f"warning: {clean(str(problem_of_rule))}")
    if rules.unread is not None:
        say(f"error: {clean(rules.unread)}")
        return ExitCode.USAGE
    problems = check(settings, os.environ)
    for problem in problems:
        say(f"{'error' if problem.fatal else 'warning'}: {clean(str(problem))}")
    if any(problem.fatal for problem in problems):
        return ExitCode.USAGE
    found = [f"what discovery {entry.name} finds" for entry in settings.discovery]
    names = (
        ", ".join([*(one.name for one in settings.workspaces), *found]) or "none: `stocktake up` runs the demonstration"
    )
    sys.stdout.write(f"The configuration is valid. Workspaces: {clean(names)}.\n")
    return ExitCode.COMPLETE


@config.command("show")
def config_show(
    context: typer.Context,
    output: Annotated[
        Output, typer.Option("--output", "-o", metavar="table|json", help="table prints YAML.")
    ] = Output.TABLE,
) -> int:
    """Print the configuration in effect, with every default. It holds no secret, only the names of variables."""
    if output == Output.TSV:
        raise typer.BadParameter(
            "The configuration is a tree: ask for json, or for table (YAML).", param_hint="--output"
        )
    settings = session(context).settings().model_dump(mode="json", by_alias=True)
    if output == Output.JSON:
        sys.stdout.write(dumps(settings, indent=2) + "\n")
    else:
        import yaml

        sys.stdout.write(yaml.safe_dump(settings, sort_keys=False, allow_unicode=False))
    return ExitCode.COMPLETE


db = typer.Typer(name="db", help="The database.", no_args_is_help=True, rich_markup_mode=None)


@db.command("upgrade")
def db_upgrade(context: typer.Context) -> int:
    """Bring the database to the revision that this version needs."""
    from stocktake.store import migrate
    from stocktake.wiring import open_database

    current = session(context)
    with open_database(current.settings()) as engine:
        with engine.connect() as connection:
            before = migrate.current(connection)
        migrate.upgrade(engine)
        with engine.connect() as connection:
            after = migrate.current(connection)
    sys.stdout.write(f"{after}\n")
    current.tell(f"Upgraded from {before or 'an empty database'}." if before != after else "It was current already.")
    return ExitCode.COMPLETE


@db.command("current")
def db_current(context: typer.Context) -> int:
    """Print the database's revision; nothing for an empty one."""
    from stocktake.store import migrate
    from stocktake.wiring import open_database

    with open_database(session(context).settings()) as engine, engine.connect() as connection:
        found = migrate.current(connection)
    sys.stdout.write(f"{found}\n" if found else "")
    return ExitCode.COMPLETE


@db.command("check")
def db_check(context: typer.Context) -> int:
    """Check that the database can be reached and is current. Exits with 6 when not."""
    from stocktake.store import migrate

    with session(context).engine() as engine, engine.connect() as connection:
        version = migrate.server_version(connection)
    sys.stdout.write(f"PostgreSQL {version}, revision {migrate.newest()}: current.\n")
    return ExitCode.COMPLETE


@db.command("url")
def db_url(context: typer.Context) -> int:
    """Print the database's address without its password, for psql and other tools while stocktake runs."""
    from stocktake.wiring import open_database

    with open_database(session(context).settings()) as engine:
        address = engine.url.set(drivername="postgresql")
        sys.stdout.write(address.render_as_string(hide_password=True).replace(":***@", "@") + "\n")
    return ExitCode.COMPLETE
