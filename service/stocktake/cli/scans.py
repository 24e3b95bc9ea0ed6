"""Taking stock and how it stands: scan, status, scope."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows, words
from stocktake.cli.addresses import accept_address
from stocktake.cli.exits import ExitCode, Stop, of_scans
from stocktake.cli.observed import View, became, opening
from stocktake.cli.operate import until_signalled
from stocktake.cli.render import Output, clean, write_json, write_table, write_tsv
from stocktake.cli.session import (
    AskedOption,
    OutputOption,
    Session,
    WorkspaceOption,
    kind,
    kinds,
    known,
    now,
    operator,
    session,
    wide,
)
from stocktake.cli.times import ago, exact, span
from stocktake.core.assets import Kind, Mode, ScanState
from stocktake.core.errors import ConfigError, Fenced

if TYPE_CHECKING:
    from stocktake.pipeline import Progress, ScanReport
    from stocktake.settings import Settings
    from stocktake.store.deletion import Deletion
    from stocktake.wiring import App

log = logging.getLogger(__name__)

_GRACE = 3.0  # seconds that scans have to stop after Ctrl-C
_TELL_EVERY = 10.0  # seconds between two lines about a scan under way, where there is no terminal

WorkspacesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[WORKSPACE]...", help="Which workspaces. [default: all configured]")
]


def scan(
    context: typer.Context,
    workspace: WorkspacesArgument = None,
    hot: Annotated[
        bool, typer.Option("--hot", help="Look at small kinds completely, and at runs that are new or moving.")
    ] = False,
    sweep: Annotated[bool, typer.Option("--sweep", help="Look at everything; so does a scan without a mode.")] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """Take stock once, now. Reads only: nothing in a watched server is ever changed.

    Exits with 0 when every workspace was seen completely, 3 when something was missing, 4 when nothing was seen.
    """
    from stocktake.wiring import open_app

    if hot and sweep:
        raise Stop(ExitCode.USAGE, "--hot and --sweep exclude each other: a sweep looks at what a hot pass does, too.")
    current = session(context)
    settings = current.settings()
    if not settings.workspaces and not settings.discovery:
        raise ConfigError(
            "No workspace is configured. Name one in a configuration file (--config or STOCKTAKE_CONFIG), or set"
            " MLFLOW_TRACKING_URI. `stocktake up --demo` shows what stocktake does without any."
        )
    mode = Mode.HOT if hot else Mode.SWEEP
    current.logging(settings, level="INFO" if not sys.stderr.isatty() and not current.quiet else None)
    names = [one.name for one in settings.workspaces]
    if not settings.discovery:  # a name that is not there is told before the database is opened
        names = known(workspace, names) or names
    with open_app(settings) as app, _progress(current) as tell:
        if settings.discovery:
            app.discover_at_first()
            names = [one.name for one in app.workspaces]
            names = known(workspace, names) or names
        if not names:
            raise Stop(ExitCode.FAILED, "Discovery has found no workspace. `stocktake discover` says where it looked.")
        done, failure = _all(app, names, mode, tell)
    reports = [rows.scan(one) if not isinstance(one, Mapping) else dict(one) for one in done]
    if failure is not None and not reports:
        raise failure
    if output == Output.JSON:
        write_json(reports)
    elif output == Output.TSV:
        write_tsv(rows.SCAN_TSV, reports)
    else:
        _reports(reports)
    if failure is not None:  # the database went away, or a bug: what the others saw is told all the same
        raise failure
    return of_scans(ScanState(one["state"]) for one in reports)


def _all(
    app: App, names: Sequence[str], mode: Mode, tell: Callable[[Progress], None]
) -> tuple[list[Any], BaseException | None]:
    """Scan every workspace beside each other; Ctrl-C stops them at their next page, or leaves those that hang."""
    pool = ThreadPoolExecutor(min(len(names), app.settings.concurrency.workspaces), thread_name_prefix="scan")
    with until_signalled() as stop:
        try:
            waiting = [pool.submit(_scan, app, name, mode, tell, stop) for name in sorted(names, key=app.cost)]
            while wait(waiting, timeout=0.2).not_done and not stop.is_set():
                pass
            if stop.is_set():
                app.abort()
                wait(waiting, timeout=_GRACE)
                raise KeyboardInterrupt
            failures = [failure for one in waiting if (failure := one.exception()) is not None]
            done = [one.result() for one in waiting if one.exception() is None]
            return done, failures[0] if failures else None
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _scan(
    app: App, name: str, mode: Mode, tell: Callable[[Progress], None], stop: threading.Event
) -> ScanReport | Mapping[str, Any]:
    """Scan one workspace; that another process is at it is an honest report too, and the others go on."""
    from stocktake.store.claims import Busy

    began = now()
    try:
        return app.scan(name, mode, progress=tell, stop=stop.is_set)
    except (Busy, Fenced) as exc:
        error = str(exc)
    report = dict.fromkeys(rows.SCAN) | dict.fromkeys((*rows.COUNTS, "requests"), 0)
    return report | {
        "workspace": name,
        "mode": mode,
        "state": ScanState.FAILED,
        "began_at": began,
        "finished_at": now(),
        "error": error,
        "next_step": "Wait until the other process has finished.",
        "scopes": [],
    }


@contextmanager
def _progress(current: Session) -> Iterator[Callable[[Progress], None]]:
    """A bar for each workspace on a terminal; a line now and then elsewhere."""
    if current.quiet or not sys.stderr.isatty():
        yield _Lines(quiet=current.quiet)
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}
        lock = threading.Lock()

        def tell(one: Progress) -> None:
            with lock:
                if one.workspace not in tasks:
                    tasks[one.workspace] = bars.add_task("", total=None, name=clean(one.workspace), text="")
            total = max(one.expected, one.seen) if one.expected else None
            bars.update(
                tasks[one.workspace],
                completed=one.seen,
                total=total,
                text=f"{one.seen:,} seen, {words.kind(one.kind, 2)}",
            )

        yield tell


class _Lines:
    """Logs where a scan is, at most every ten seconds for each workspace."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._told: dict[str, float] = {}

    def __call__(self, one: Progress) -> None:
        at = time.monotonic()
        if self._quiet or at - self._told.setdefault(one.workspace, at) < _TELL_EVERY:
            return
        self._told[one.workspace] = at
        log.info(
            "scan under way",
            extra={
                "action": "scan_progress",
                "workspace": one.workspace,
                "mode": str(one.mode),
                "kind": str(one.kind),
                "seen": one.seen,
                "expected": one.expected,
            },
        )


def _reports(reports: Sequence[Mapping[str, Any]]) -> None:
    write_table(
        ["WORKSPACE", "SCAN", "SEEN", "WHAT CAME OF IT", "TOOK"],
        (
            [
                one["workspace"],
                f"{one['mode']}\n{one['state']}",
                f"{one['seen']:,}",
                _outcome(one),
                span((one["finished_at"] - one["began_at"]).total_seconds()),
            ]
            for one in reports
        ),
    )
    for one in reports:
        lines = [one["error"], one["next_step"]] if one["error"] else []
        lines += [
            f"{words.kind(scope['kind'], 2)}{' ' + scope['partition'] if scope['partition'] else ''}: {scope['state']}."
            f" {scope['reason'] or ''}"
            for scope in one["scopes"]
            if scope["state"] not in ("complete", "incremental", "unsupported") or scope["reason"]
        ]
        shown = [clean(line).rstrip() for line in lines if line]
        for line in shown[:8]:
            sys.stdout.write(f"{clean(one['workspace'])}: {line}\n")
        if len(shown) > 8:
            sys.stdout.write(f"{clean(one['workspace'])}: and {len(shown) - 8} more; `--output json` shows all.\n")


def _outcome(one: Mapping[str, Any]) -> str:
    """Write the counts that say something."""
    names = {"baseline": "first seen", "carried": "carried forward", "redacted": "secrets replaced"}
    told = [f"{one[name]:,} {names.get(name, name)}" for name in rows.COUNTS if name != "seen" and one[name]]
    return "\n".join(told) or ("nothing changed" if one["state"] in ("complete", "partial") else "")


def status(context: typer.Context, workspace: WorkspaceOption = None, output: OutputOption = Output.TABLE) -> int:
    """Say how every workspace stands: how completely and how lately it was seen, and what to do about it."""
    from stocktake.store import acts, discovered, finding_list
    from stocktake.store.standing import WorkspaceStatus
    from stocktake.store.standing import status as ask

    current = session(context)
    settings = current.settings()
    with current.database(settings) as connection:
        found = {one.name: one for one in ask(connection)}
        settings = wide(settings, connection)
        by_discovery = {one.name: one for one in discovered.found(connection)}
        unread = acts.unread(connection)
        failing = finding_list.failing(connection)
    configured = {one.name: one for one in settings.workspaces}
    for name in configured:
        if name not in found:
            found[name] = WorkspaceStatus(
                name=name,
                source="",
                uri=None,
                state="never scanned",
                state_since=None,
                error=None,
                next_step="Run `stocktake scan` or `stocktake up`.",
                last_hot=None,
                last_sweep=None,
                age=None,
                assets={},
                coverage=(),
                withheld=(),
                scanning=None,
            )
    names = known(workspace, list(found)) or sorted(found, key=lambda name: (name not in configured, name))
    answer = [
        rows.status(
            found[name],
            configured=name in configured,
            bound=_bound(settings, name),
            found=by_discovery.get(name),
            failing=[one for one in failing if one.workspace == name],
        )
        for name in names
    ]
    if output == Output.JSON:
        write_json(answer)
    elif output == Output.TSV:
        write_tsv(rows.STATUS_TSV, answer)
    else:
        for number, one in enumerate(answer):
            azureml = each.azureml if (each := configured.get(one["name"])) is not None else None
            log = unread.get(one["name"]) if azureml is not None and azureml.activity_log else None
            page = _page(one, found[one["name"]].deletion, log)
            sys.stdout.write(("\n" if number else "") + "\n".join(page) + "\n")
    if not answer:
        current.tell("No workspace is configured, and none was ever scanned.")
    return ExitCode.COMPLETE


def _bound(settings: Settings, name: str) -> float | None:
    """How old the oldest look may be by the schedule: one sweep's period with its splay."""
    from stocktake.settings.timing import period

    one = next((each for each in settings.workspaces if each.name == name), None)
    if one is None:
        return None
    schedule = one.schedule or settings.schedule
    return float(period(schedule.sweep).total_seconds() * (1 + schedule.splay))


def _page(one: Mapping[str, Any], gone: Deletion | None, log: str | None) -> list[str]:
    at = now()
    since = f" since {exact(one['state_since'])} ({ago(one['state_since'], now=at)})" if one["state_since"] else ""
    scanning = f"; a {one['scanning']} is under way" if one["scanning"] else ""
    retired = "" if one["configured"] else "not configured, so no longer scanned; last "
    lines = [f"{clean(one['name'])}: {retired}{one['state']}{since}{scanning}"]
    if one["found_by"]:
        lines.append(f"  {'found by':14} {clean(one['found_by'])}: {one['standing']}{_why(one)}")
    if gone is not None:
        lines.append(f"  {'workspace':14} {became(gone)}")
    for label, text in (("problem", one["error"]), ("next step", one["next_step"])):
        if text:
            lines.append(f"  {label:14} {clean(text)}")
    if one["uri"]:
        lines.append(f"  {'server':14} {clean(one['uri'])} ({one['source']})")
    for label, name in (("last hot pass", "last_hot"), ("last sweep", "last_sweep")):
        done = one[name]
        if done is not None:
            ended = done["last_finished_at"] or done["finished_at"] or done["began_at"]
            passes = f", {done['passes']:,} equal passes" if done["passes"] > 1 else ""
            lines.append(f"  {label:14} {done['state']}, {exact(ended)} ({ago(ended, now=at)}{passes})")
        elif one["last_hot"] or one["last_sweep"]:
            lines.append(f"  {label:14} none yet")
    lines.append(f"  {'freshness':14} {_freshness(one)}")
    if one["assets"]:
        lines.append(f"  {'assets':14} {words.counted(one['assets'])}")
    for scope in one["coverage"]:
        if scope["state"] not in ("complete", "unsupported") or scope["reason"]:
            whole = f"{scope['complete']:,} of {scope['partitions']:,} complete" if scope["partitions"] > 1 else ""
            told = "; ".join(text for text in (whole, clean(scope["reason"] or "")) if text)
            lines.append(f"  {'coverage':14} {words.kind(scope['kind'], 2)}: {scope['state']}. {told}".rstrip())
    if log is not None:
        lines.append(f"  {'activity log':14} not read, so who did it is not known: {clean(log)}.")
    for rule in one["failing_rules"]:
        told = f"{clean(rule['rule'])} could not be asked since {exact(rule['since'])}: {clean(rule['error'])}"
        lines.append(f"  {'rule':14} {told}")
    for held in one["withheld"]:
        lines += _withheld(one["name"], held, at)
    return lines


def _why(one: Mapping[str, Any]) -> str:
    return f" ({clean(one['standing_why'])})" if one["standing_why"] else ""


def _freshness(one: Mapping[str, Any]) -> str:
    if one["state"] == "deleted":
        return "nothing can be looked at any more; that it is deleted was seen by the last pass"
    if one["age"] is None:
        return "not everything was seen completely yet"
    told = f"everything was seen completely within the last {span(one['age'])}"
    if one["staleness_bound"] is None:
        return told
    bound = f"the schedule promises {span(one['staleness_bound'])}"
    return f"{told} ({bound})" if one["age"] <= one["staleness_bound"] else f"STALE: {told}, but {bound}"


def _withheld(name: str, held: Mapping[str, Any], at: datetime) -> list[str]:
    where = f" {held['partition']}" if held["partition"] else ""
    told = f"{held['count']:,} removals of {words.kind(held['kind'], 2)}{clean(where)}"
    if held["accepted"]:
        return [f"  {'withheld':14} {told}: accepted; the next scan publishes them"]
    return [
        f"  {'withheld':14} {told} since {ago(held['since'], now=at)}: too many at once to believe",
        f"  {'':14} the next sweep judges them again; or accept them now:",
        f"  {'':14} stocktake scope accept {clean(name)} {held['kind']}{clean(where)}",
    ]


scope = typer.Typer(
    name="scope", help="What is listed completely, and what is withheld.", no_args_is_help=True, rich_markup_mode=None
)


@scope.command("list")
def scope_list(context: typer.Context, workspace: AskedOption = None, output: OutputOption = Output.TABLE) -> int:
    """List how completely each kind of each workspace is seen, and how many removals are withheld."""
    from stocktake.store.observation import unseen
    from stocktake.store.standing import status as ask

    settings = session(context).settings()
    with session(context).database(settings) as connection:
        found = {one.name: one for one in ask(connection)}
        settings = wide(settings, connection)
        names = [name for name in known(workspace, list(found), settings) or found if name in found]
        opening(View(at=now(), observations=(), unseen=unseen(connection, workspaces=names)))
    answer = []
    for name in names:
        for covered in found[name].coverage:
            held = sum(one.count for one in found[name].withheld if one.kind == covered.kind)
            answer.append({"workspace": name, **rows.record(covered, rows.COVERAGE), "withheld": held})
    if output == Output.JSON:
        write_json(answer)
    elif output == Output.TSV:
        write_tsv(rows.COVERED, answer)
    else:
        at = now()
        write_table(
            ["WORKSPACE", "KIND", "STATE", "COMPLETE", "OLDEST LOOK", "WITHHELD", "REASON"],
            (
                [
                    one["workspace"],
                    one["kind"],
                    one["state"],
                    f"{one['complete']}/{one['partitions']}",
                    ago(one["oldest_complete"], now=at) if one["oldest_complete"] else "",
                    str(one["withheld"] or ""),
                    one["reason"] or "",
                ]
                for one in answer
            ),
        )
    return ExitCode.COMPLETE


@scope.command("accept")
def scope_accept(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE")],
    what: Annotated[
        str,
        typer.Argument(metavar="KIND", help="`workspace` accepts a new address of the server.", autocompletion=kinds),
    ],
    partition: Annotated[
        str | None,
        typer.Argument(metavar="[PARTITION]", help="One experiment's id. [default: all]", show_default=False),
    ] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who accepts. [default: you@host]")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Accept a new address though nothing that is known was found there.")
    ] = False,
) -> int:
    """Accept withheld removals: the next scan that confirms them by id publishes them.

    Or accept the new address of a server that moved (KIND `workspace`): write it into the configuration first. It is
    asked for up to 50 of the known runs by id; where none is there, or it cannot be asked, that is refused with 8.
    """
    from stocktake.store import history, ledger

    current = session(context)
    which = kind(what)
    if which == Kind.WORKSPACE:
        sys.stdout.write(accept_address(current, workspace, force=force) + "\n")
        return ExitCode.COMPLETE
    if force:
        raise typer.BadParameter("It belongs to KIND `workspace`.", param_hint="--force")
    with current.engine() as engine, engine.begin() as connection:
        known([workspace], history.workspace_names(connection))
        count = ledger.accept_removals(connection, workspace, which, partition, actor=by or operator())
    where = f" {partition}" if partition else ""
    if not count:
        raise Stop(
            ExitCode.NOT_FOUND,
            f"Nothing of {workspace} {which}{clean(where)} waits to be accepted. `stocktake status` shows what does.",
        )
    sys.stdout.write(
        f"Accepted {count:,} removals of {words.kind(which, 2)}; the next scan that confirms them publishes them.\n"
    )
    return ExitCode.COMPLETE
