"""Removing a value from the inventory: redact. The value comes from standard input, a prompt or a file, nothing else.

It is never an argument (`ps` and the shell's history would show it), and never part of an answer, a log or an error.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stocktake.cli import words
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import clean, say, write_table
from stocktake.cli.session import Session, operator, session
from stocktake.cli.times import exact

if TYPE_CHECKING:
    from stocktake.core.remembered import Sought
    from stocktake.store.redactions import Survey

_LONGEST = 65_536


def redact(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Read the value from this file.", show_default=False)
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept for the record. Never the value itself.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who asks. [default: you@host]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for a confirmation.")] = False,
) -> int:
    """Remove a value from everything that is stored: every state, change and error, now and in the past.

    For a secret or personal data that was found too late. The value is read from standard input, or asked for on a
    terminal without showing it, or read from a file: never from the command line. A mark with its keyed fingerprint
    takes its place, and it is not let in again. It must be removed from the watched server as well: there it still is.

    Exits with 7 when the value stands nowhere and was never removed, and with 8 when it cannot be removed everywhere.
    """
    from stocktake.core.redact import Redactor
    from stocktake.core.remembered import Sought
    from stocktake.store import redactions
    from stocktake.wiring import key_of

    _check(context, file, reason, dry_run=dry_run, yes=yes)
    current = session(context)
    settings = current.settings()
    value = _value(file)
    if value in f"{reason} {by}":
        raise Stop(ExitCode.REFUSED, "--reason or --by holds the value itself; both are kept. Say it without.")
    with current.engine(settings) as engine:
        key = key_of(engine, settings, os.environ)
        with engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as reading:
            redactor = Redactor(key).remembering(redactions.remembered(reading))
            sought = Sought(value, redactor.fingerprint(value), redactor.remembered)
            current.tell("Looking for the value in everything that is stored.")
            found = redactions.survey(reading, sought)
            begun = redactions.unfinished(reading, sought.fingerprint)
            removed = redactions.removed(reading, sought.fingerprint)
        _judge(found, sought, nothing=not found.rows and begun is None and removed is None)
        if not found.rows and begun is None and removed is not None:
            sys.stdout.write(
                f"The value (fingerprint {sought.fingerprint}) was already removed, at {exact(removed)}: it stands"
                " nowhere, and is still kept out. Nothing was changed.\n"
            )
            return ExitCode.COMPLETE
        _tell(found, sought)
        if dry_run:
            current.tell("Nothing was changed: this was a dry run.")
            return ExitCode.COMPLETE
        if not yes and not typer.confirm("Replace it? This cannot be undone.", err=True):
            raise Stop(ExitCode.REFUSED, "Nothing was changed.")
        try:
            with _progress(current, found.rows) as done:
                redactions.redact(
                    engine, sought, redactor.remembered, found.words.values(),
                    actor=by or operator(), reason=reason or "", tell=done,
                )  # fmt: skip
        except KeyboardInterrupt:
            say("Cut short: part of it is removed. Run the same command again; until then no scan lets it in.")
            raise
    sys.stdout.write(f"Replaced by [redacted:manual:{sought.fingerprint}].\n")
    current.tell(
        "It is still in the server that is watched, in old rows on the database's disk until VACUUM FULL, and in"
        " backups: docs/how-to/redact.md says what to do."
    )
    return ExitCode.COMPLETE


def _check(context: typer.Context, file: Path | None, reason: str | None, *, dry_run: bool, yes: bool) -> None:
    if context.args:
        raise Stop(
            ExitCode.USAGE,
            "The value is never an argument: this one is in your shell's history now, and `ps` showed it. Remove it"
            " there. Then: stocktake redact --reason TEXT, and type it when asked, or pipe it in, or --file FILE.",
        )
    if not dry_run and not (reason or "").strip():
        raise typer.BadParameter("Say why, for the record (never the value itself).", param_hint="--reason")
    if not (dry_run or yes or sys.stdin.isatty()):
        raise Stop(
            ExitCode.USAGE,
            "There is no terminal to confirm this on. See with --dry-run what would change, then add --yes."
            + ("" if file else " Or name the value with --file and run it on a terminal."),
        )


def _value(file: Path | None) -> str:
    """Read the value; what surrounds it (a line's end, spaces) is no part of it."""
    from stocktake.core.remembered import refusal

    try:
        if file is not None:
            with file.open("rb") as opened:
                raw = opened.read(_LONGEST + 1)
        elif sys.stdin.isatty():
            raw = getpass.getpass("The value to remove (it is not shown): ").encode("utf-8", "surrogateescape")
        else:
            raw = sys.stdin.buffer.read(_LONGEST + 1)
    except OSError as exc:
        raise Stop(ExitCode.REFUSED, f"{clean(str(file or 'Standard input'))} cannot be read: {exc.strerror}.") from exc
    if len(raw) > _LONGEST:
        raise Stop(ExitCode.REFUSED, f"The value has more than {_LONGEST:,} bytes. Name the part that must go.")
    try:
        value = raw.decode().strip()
    except UnicodeDecodeError:
        raise Stop(ExitCode.REFUSED, "The value is not UTF-8 text. Nothing that is stored could hold it.") from None
    if why := refusal(value):
        raise Stop(
            ExitCode.REFUSED,
            f"{why} To keep such values out from now on, write a pattern into `redaction` in the configuration.",
        )
    return value


def _judge(found: Survey, sought: Sought, *, nothing: bool) -> None:
    """Refuse what cannot be removed everywhere."""
    from stocktake.store.redactions import MOST_WORDS

    if found.fixed["workspace"]:
        raise Stop(
            ExitCode.REFUSED,
            "A workspace's name or address holds the value. Change it in the configuration first, and accept the new"
            " address with `stocktake scope accept NAME workspace`; then run this again. Nothing was changed.",
        )
    if found.fixed["asset"]:
        raise Stop(
            ExitCode.REFUSED,
            f"{found.fixed['asset']:,} assets that are still there are known by it: it is their id or name in the"
            " watched server (of a registered model, for example). Rename or delete them there and scan; then run this"
            " again. Nothing was changed.",
        )
    if len(found.words) > MOST_WORDS:
        raise Stop(
            ExitCode.REFUSED,
            f"The value is a part of more than {MOST_WORDS:,} different longer words; so many are not remembered one by"
            " one. Name a longer part, or write a pattern into `redaction.values` in the"
            " configuration. Nothing was changed.",
        )
    if nothing:
        raise Stop(
            ExitCode.NOT_FOUND,
            f"The value (fingerprint {sought.fingerprint}) stands nowhere. Nothing was changed, and it is not"
            " remembered.",
        )


def _tell(found: Survey, sought: Sought) -> None:
    """Say where it stands, in counts and keys."""
    sys.stdout.write(
        f"Fingerprint {sought.fingerprint}: {found.versions:,} states and {found.changes:,} changes of"
        f" {len(found.assets):,} assets, {found.others:,} other rows.\n"
    )
    rows = sorted(found.by_kind.items())
    if rows:
        write_table(
            ["WORKSPACE", "KIND", "ASSETS"],
            ([workspace, words.kind(kind, count), f"{count:,}"] for (workspace, kind), count in rows),
        )
    for workspace, kind, key in found.examples:
        sys.stdout.write(f"  {clean(workspace)}: {words.kind(kind)} {clean(key)}\n")
    if len(found.assets) > len(found.examples) and found.examples:
        sys.stdout.write(f"  and {len(found.assets) - len(found.examples):,} more\n")
    sys.stdout.flush()


@contextmanager
def _progress(current: Session, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    if current.quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rewriting", total=total)
        yield lambda rows: bar.advance(task, rows)
