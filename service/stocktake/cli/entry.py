"""The command `stocktake`: global options, the list of commands, and exit codes for everything that may go wrong."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stocktake import __version__
from stocktake.cli import (
    alerts,
    chain,
    discover,
    download,
    evidence,
    fetches,
    finding,
    lineage,
    moving,
    ondemand,
    operate,
    production,
    questions,
    reconcile,
    removal,
    rules,
    scans,
    trying,
    whatif,
)
from stocktake.cli.exits import MEANING, ExitCode, Stop
from stocktake.cli.render import clean, say
from stocktake.cli.session import Session
from stocktake.core.errors import ConfigError, SourceError

_EPILOG = "Exit codes: " + "; ".join(
    f"{int(code)} {text.split(':')[0].split(';')[0]}" for code, text in MEANING.items()
)


class LogFormat(StrEnum):
    """How to log."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


app = typer.Typer(
    name="stocktake",
    help="Take stock of MLflow servers and Azure ML workspaces: what is there, what changed, how completely seen.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"stocktake {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            envvar="STOCKTAKE_CONFIG",
            help="The configuration file.",
            show_envvar=True,
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything; show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the answer and errors.")] = False,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            "--log-format",
            metavar="|".join(LogFormat),
            help="How to log on stderr. [default: text on a terminal, else json]",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - acted on by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Take stock of MLflow servers and Azure ML workspaces: what is there, what changed, how completely seen.

    Answers go to stdout, everything else to stderr. Times without an offset are local time.
    """
    context.obj = Session(config=config, debug=debug, quiet=quiet, log_format=str(log_format) if log_format else None)


app.command("up")(operate.up)
app.command("try")(trying.try_)
app.command("worker")(operate.worker)
app.command("scan")(scans.scan)
app.command("status")(scans.status)
app.command("discover")(discover.discover)
app.command("list")(questions.list_)
app.command("show")(questions.show)
app.command("history")(questions.history)
app.command("changes")(questions.changes)
app.command("diff")(questions.diff)
app.command("production")(production.production)
app.command("lineage")(lineage.lineage)
app.command("reconcile")(reconcile.reconcile)
ondemand.job.command("download")(download.download)
app.add_typer(ondemand.job)
app.add_typer(ondemand.workspace)
app.command("fetches")(fetches.fetches)
app.add_typer(scans.scope)
app.add_typer(finding.finding)
rules.rules.command("check")(whatif.check)
rules.rules.command("test")(whatif.ask)
rules.rules.command("try")(whatif.try_)
app.add_typer(rules.rules)
app.add_typer(alerts.alerts)
evidence.evidence.command("head")(chain.head)
evidence.evidence.command("verify")(chain.verify)
app.add_typer(evidence.evidence)
app.command("redact", context_settings={"allow_extra_args": True})(removal.redact)
app.command("doctor")(operate.doctor)
app.add_typer(operate.config)
operate.db.command("dump")(moving.dump)
operate.db.command("restore")(moving.restore)
app.add_typer(operate.db)
app.command("version")(operate.version)


def main() -> None:
    """Run the command line of this process and end with its exit code."""
    code = run(sys.argv[1:])
    if any(one.is_alive() and not one.daemon for one in threading.enumerate() if one is not threading.main_thread()):
        # A scan that hangs on its server was given up; Python would wait for its thread. What is published stands.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command; whatever happens becomes one clear message and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our answer has read enough (| head). Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.COMPLETE
    return code


def _run(arguments: list[str]) -> int:
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name="stocktake", standalone_mode=False)
        if code == ExitCode.INTERRUPTED:
            say("Interrupted.")
        return int(code or 0)
    except BrokenPipeError:
        raise
    except SystemExit as exc:  # typer's way to end when the pipe is closed
        if isinstance(exc.__context__, BrokenPipeError):
            raise exc.__context__ from None
        raise
    except KeyboardInterrupt:
        say("Interrupted.")
        return ExitCode.INTERRUPTED
    except typer.Abort:  # Ctrl-C or Ctrl-D at a question: whoever pressed it knows
        sys.stderr.write("\n" if sys.stderr.isatty() else "")
        return ExitCode.INTERRUPTED
    except Stop as exc:
        say(str(exc))
        return exc.code
    except ConfigError as exc:
        say(str(exc))
        return ExitCode.DATABASE if _is_database(exc) else ExitCode.USAGE
    except SourceError as exc:
        say(str(exc))
        return ExitCode.FAILED
    except Exception as exc:  # noqa: BLE001 - the outermost: it becomes a message and an exit code
        show = getattr(exc, "show", None)
        if isinstance(exc, _UsageError) and show is not None:
            show()
            return ExitCode.USAGE
        return _unexpected(exc, debug="--debug" in arguments)


#: typer brings its own copy of click in some versions: this is the one it raises.
_UsageError: type[Exception] = next(one for one in typer.BadParameter.__mro__ if one.__name__ == "ClickException")


def _is_database(exc: BaseException) -> bool:
    """Whether the database is the trouble; asked without importing what an error cannot have come from."""
    wiring = sys.modules.get("stocktake.wiring")
    return wiring is not None and isinstance(exc, wiring.DatabaseUnavailable)


def _database_trouble(exc: BaseException) -> str | None:
    """What went wrong with a database that could be reached, if that is what an error is about."""
    engine = sys.modules.get("stocktake.store.engine")
    return engine.trouble(exc) if engine is not None else None


def _unexpected(exc: Exception, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(exc)
    if (trouble := _database_trouble(exc)) is not None:
        say(clean(trouble))
        return ExitCode.DATABASE
    words = (str(exc).strip().splitlines() or [""])[0]
    say(f"Unexpected error: {type(exc).__name__}: {clean(words)[:300]}")
    if not debug:
        say("This is a bug. `stocktake --debug ...` shows where it happened; please report it with that.")
    return ExitCode.ERROR
