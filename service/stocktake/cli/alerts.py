"""`stocktake alerts`: who was told what, what did not arrive, what is kept quiet, and whether a receiver works."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import Output, clean, shorten, write_json, write_table, write_tsv
from stocktake.cli.session import OutputOption, Session, moment, now, operator, session
from stocktake.cli.times import ago, exact
from stocktake.core.errors import ConfigError, SendError

if TYPE_CHECKING:
    from stocktake.settings import Settings
    from stocktake.settings.alerting import AlertSettings
    from stocktake.store.alert_list import AlertRow, DeliveryRow, SilenceRow

_ROWS = 50

alerts = typer.Typer(name="alerts", help="Who was told of findings.", no_args_is_help=True, rich_markup_mode=None)


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    QUEUED = "queued"
    FAILED = "failed"
    SENT = "sent"
    DEAD = "dead"


ReceiversOption = Annotated[
    list[str] | None, typer.Option("--receiver", metavar="NAME", help="Only to this receiver; may be repeated.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, metavar="N", help=f"At most N. [default: {_ROWS} in a table]")
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, or which ticket; it is kept.")]


@alerts.command("list")
def list_(
    context: typer.Context,
    receiver: ReceiversOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: LimitOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """List alerts: those that fire, wait to be told, or did not arrive.

    An alert is what a receiver knows under one key: the findings that its route groups together.
    """
    from stocktake.store import alert_list

    this = session(context)
    with this.database() as connection:
        found = alert_list.alerts(
            connection, receivers=receiver, everything=everything, limit=limit or _most(output, None)
        )
    _alerts(found, output)
    if output == Output.TABLE and not found:
        this.tell("Nothing fires, and nothing waits.")
    if this.settings().alerts is None:
        this.tell("Nobody is told of findings: the configuration has no `alerts`. docs/how-to/alerts.md shows how.")
    failing = {one.receiver: one for one in found if one.receiver_failing_since is not None}
    for name, one in failing.items():
        assert one.receiver_failing_since is not None
        this.tell(f"{name} takes nothing since {exact(one.receiver_failing_since)}: {clean(one.receiver_error or '')}")
    if any(one.dead for one in found):
        this.tell("Dead letters: `stocktake alerts deliveries --state dead` says why, `alerts retry` sends them again.")
    return ExitCode.COMPLETE


@alerts.command("deliveries")
def deliveries(
    context: typer.Context,
    receiver: ReceiversOption = None,
    state: Annotated[
        list[DeliveryState] | None,
        typer.Option("--state", metavar="|".join(DeliveryState), help="Only in this state; may be repeated."),
    ] = None,
    alert: Annotated[int | None, typer.Option("--alert", metavar="ID", min=1, help="Only of this alert.")] = None,
    limit: LimitOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """List deliveries, the latest first: what waits, what failed and is tried again, what was sent, what was given up.

    One that is `dead` was refused as it is, or failed for longer than `give_up_after`.
    """
    from stocktake.store import alert_list

    this = session(context)
    with this.database() as connection:
        found = alert_list.deliveries(
            connection,
            receivers=receiver,
            states=[str(one) for one in state] if state else None,
            alert=alert,
            limit=_most(output, limit),
        )
        lines = []
        if output == Output.JSON:
            write_json(rows.record(one, rows.DELIVERY) for one in found)
        elif output == Output.TSV:
            write_tsv(rows.DELIVERY, (rows.record(one, rows.DELIVERY) for one in found))
        else:
            lines = [_delivery(one) for one in found]
    if lines:
        write_table(["ID", "PLANNED", "RECEIVER", "STATE", "WHAT", "WHY NOT"], lines, whole="WHAT")
    elif output == Output.TABLE:
        this.tell("There are none.")
    return ExitCode.COMPLETE


@alerts.command("test")
def try_out(
    context: typer.Context,
    receiver: Annotated[str, typer.Argument(metavar="RECEIVER", help="A receiver of the configuration.")],
    output: OutputOption = Output.TABLE,
) -> int:
    """Send a sample to a receiver now: an alert, and that it is over. No database is needed.

    Exits with 4 when it is not taken.
    """
    from stocktake.alerting import make_receiver, wording
    from stocktake.core.sample import sample
    from stocktake.rules import RULES

    this = session(context)
    settings = this.settings()
    configured = _configured(settings)
    given = next((one for one in configured.receivers if one.name == receiver), None)
    if given is None:
        names = [one.name for one in configured.receivers]
        close = difflib.get_close_matches(receiver, names, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise Stop(
            ExitCode.NOT_FOUND, f"There is no receiver {clean(receiver)!r}.{hint} There are: {', '.join(names)}."
        )
    this.logging(settings, level="ERROR")
    target = make_receiver(given, settings, os.environ)
    done: list[dict[str, Any]] = []
    try:
        for made in sample(receiver, wording(configured, RULES), operator(), now()):
            row = dict.fromkeys(rows.TESTED) | {"receiver": receiver, "what": str(made.what), "taken": True}
            try:
                row["status"] = target.send(made)
            except SendError as exc:
                row |= {"taken": False, "status": exc.status, "error": exc.what, "next_step": exc.next_step}
            done.append(row)
            if not row["taken"]:
                break
    finally:
        target.close()
    if output == Output.JSON:
        write_json(done)
    elif output == Output.TSV:
        write_tsv(rows.TESTED, done)
    else:
        write_table(
            ["RECEIVER", "WHAT", "TAKEN", "WHY NOT"],
            (
                [
                    clean(row["receiver"]),
                    row["what"],
                    "yes" if row["taken"] else "no",
                    "\n".join(clean(row[name]) for name in ("error", "next_step") if row[name]),
                ]
                for row in done
            ),
        )
    return ExitCode.COMPLETE if all(row["taken"] for row in done) else ExitCode.FAILED


@alerts.command("ack")
def ack(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The alert's number.")],
    reason: ReasonOption,
    output: OutputOption = Output.TABLE,
) -> int:
    """Take an alert on: all of its findings that are open. It is not repeated; who and why is kept with each."""
    from stocktake.store import alert_list, finding_list

    this = session(context)
    settings = this.settings()
    with this.engine(settings) as engine:
        with engine.connect() as connection:
            found = alert_list.alerts(connection, number=number)
            findings = alert_list.firing(connection, number)
        if not found:
            raise Stop(
                ExitCode.NOT_FOUND, f"There is no alert {number}. `stocktake alerts list` names those there are."
            )
        words = _reason(this, settings, engine, reason)
        taken = [finding_list.acknowledged(engine, one, actor=operator(), reason=words) for one in findings]
        if not any(one is not None and finding_list.can_be_acknowledged(one.state) for one in taken):
            raise Stop(ExitCode.REFUSED, f"Nothing of alert {number} is open: there is nothing to take on.")
        with engine.connect() as connection:
            found = alert_list.alerts(connection, number=number)
    _alerts(found, output)
    return ExitCode.COMPLETE


@alerts.command("silence")
def silence(
    context: typer.Context,
    matcher: Annotated[
        list[str],
        typer.Argument(
            metavar="LABEL=VALUE...",
            help="What fits: workspace, rule, severity, kind, key, owner, finding (a fingerprint) or label.NAME; with *"
            " and ? for any text and any character. All must fit; of one label any.",
        ),
    ],
    reason: ReasonOption,
    last: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="For so long, e.g. 2h or 3d. Or --until.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until this time.")] = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Keep quiet about findings for a time. What was told before is still told to be over.

    What is still open when the silence ends is told then.
    """
    from stocktake.store import alert_list

    match = _match(matcher)
    ends = _ends(last, until)
    this = session(context)
    settings = this.settings()
    with this.engine(settings) as engine:
        words = _reason(this, settings, engine, reason)
        made = alert_list.silence(engine, match, until=ends, actor=operator(), reason=words)
    _silences([made], output)
    return ExitCode.COMPLETE


@alerts.command("silences")
def silences(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """List silences."""
    from stocktake.store import alert_list

    this = session(context)
    with this.database() as connection:
        found = alert_list.silences(connection, everything=everything)
    _silences(found, output)
    if output == Output.TABLE and not found:
        this.tell("Nothing is kept quiet.")
    return ExitCode.COMPLETE


@alerts.command("expire")
def expire(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The silence's number.")],
    output: OutputOption = Output.TABLE,
) -> int:
    """End a silence now."""
    from stocktake.store import alert_list

    with session(context).engine() as engine:
        found, ended = alert_list.expire(engine, number, actor=operator())
    if found is None:
        raise Stop(ExitCode.NOT_FOUND, f"There is no silence {number}. `stocktake alerts silences` lists them.")
    if not ended:
        raise Stop(ExitCode.REFUSED, f"Silence {number} was over already. Nothing was changed.")
    _silences([found], output)
    return ExitCode.COMPLETE


@alerts.command("retry")
def retry(
    context: typer.Context,
    number: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", min=1, help="Dead letters. [default: all]")
    ] = None,
) -> int:
    """Send dead letters once more, when the worker next looks."""
    from stocktake.store import alert_list

    with session(context).engine() as engine:
        revived = alert_list.revive(engine, number or None)
    if number and not revived:
        raise Stop(ExitCode.NOT_FOUND, "None of these is a dead letter. `stocktake alerts deliveries --state dead`.")
    session(context).tell(f"{revived:,} queued again." if revived else "There is no dead letter.")
    return ExitCode.COMPLETE


def _configured(settings: Settings) -> AlertSettings:
    if settings.alerts is None:
        raise ConfigError("The configuration tells nobody of findings.", next_step="docs/how-to/alerts.md shows how.")
    return settings.alerts


def _reason(this: Session, settings: Settings, engine: Any, reason: str) -> str:
    from stocktake.wiring import remembering_redactor

    del this
    if not reason.strip():
        raise typer.BadParameter("Say why in a few words.", param_hint="--reason")
    return remembering_redactor(engine, settings, os.environ).text(reason.strip())


def _match(given: Sequence[str]) -> dict[str, list[str]]:
    from stocktake.core.routing import LABEL, LABELS

    found: dict[str, list[str]] = {}
    for words in given:
        name, mark, value = words.partition("=")
        if not mark or not (name in LABELS or (name.startswith(LABEL) and name != LABEL)):
            raise typer.BadParameter(
                f"{clean(words)!r} is not LABEL=VALUE with LABEL one of: {', '.join(LABELS)}, label.NAME.",
                param_hint="LABEL=VALUE",
            )
        found.setdefault(name, []).append(value)
    return found


def _ends(last: str | None, until: str | None) -> datetime:
    from stocktake.settings.timing import parse_duration

    if (last is None) == (until is None):
        raise typer.BadParameter("Say how long: either --for 2h, or --until TIME.", param_hint="--for")
    if last is not None:
        try:
            return now() + parse_duration(last)
        except ValueError as exc:
            raise typer.BadParameter(f"{clean(last)!r} {exc}.", param_hint="--for") from exc
    found = moment(until, "--until")
    assert found is not None
    if found <= now():
        raise typer.BadParameter("That is over already.", param_hint="--until")
    return found


def _most(output: Output, limit: int | None) -> int | None:
    return limit or (_ROWS if output == Output.TABLE else None)


def _alerts(found: Sequence[AlertRow], output: Output) -> None:
    if output == Output.JSON:
        write_json(rows.record(one, rows.ALERT) for one in found)
    elif output == Output.TSV:
        write_tsv(rows.ALERT, (rows.record(one, rows.ALERT) for one in found))
    elif found:
        write_table(["ID", "STATE", "SINCE", "RECEIVER", "WHAT", "FINDINGS"], map(_alert, found), whole="WHAT")


def _alert(row: AlertRow) -> list[str]:
    state = [row.state + (", taken on" if row.acknowledged else "")]
    if row.waiting:
        state.append(f"{row.waiting:,} on the way")
    if row.dead:
        state.append(f"{row.dead:,} given up")
    since = row.since or row.told_at
    when = f"{exact(since)}\n{ago(since, now=now())}" if since is not None else ""
    if since is None and row.due_at is not None:
        when = f"due {ago(row.due_at, now=now())}"
    what = _pairs({name: [value] for name, value in row.labels.items()}) or ("digest" if row.digest else "everything")
    return [str(row.id), "\n".join(state), when, clean(row.receiver), what, f"{row.findings:,}"]


def _delivery(row: DeliveryRow) -> list[str]:
    state = f"{row.state}" + (f"\n{row.tries} tries" if row.tries > 1 else "")
    if row.next_at is not None and row.tries:
        state += f"\nagain {ago(row.next_at, now=now())}"
    why = shorten(row.error, 200) if row.error else ""
    return [
        str(row.id), f"{exact(row.created_at)}\n{ago(row.created_at, now=now())}", clean(row.receiver), state,
        f"{row.what}, alert {row.alert}\n{shorten(row.title, 100)}", why,
    ]  # fmt: skip


def _silences(found: Sequence[SilenceRow], output: Output) -> None:
    if output == Output.JSON:
        write_json(rows.record(one, rows.SILENCE) for one in found)
    elif output == Output.TSV:
        write_tsv(rows.SILENCE, (rows.record(one, rows.SILENCE) for one in found))
    elif found:
        write_table(
            ["ID", "WHAT", "ENDS", "BY", "WHY"],
            (
                [
                    str(one.id),
                    _pairs(one.matchers),
                    f"{exact(one.ends_at)}\n{ago(one.ends_at, now=now())}",
                    clean(one.actor) + (f"\nended by {clean(one.ended_by)}" if one.ended_by else ""),
                    clean(one.reason),
                ]
                for one in found
            ),
            whole="WHAT",
        )


def _pairs(labels: Mapping[str, Sequence[str]]) -> str:
    return "\n".join(clean(f"{name}={value}") for name, values in labels.items() for value in values)
