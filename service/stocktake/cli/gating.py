"""`stocktake check`: whether a model version, or a run, is fit for release, as a pipeline asks it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stocktake.cli import rows
from stocktake.cli.exits import ExitCode
from stocktake.cli.observed import note, refuse, view
from stocktake.cli.render import Output, clean, dumps, say, write_json, write_table, write_tsv
from stocktake.cli.rules import loaded
from stocktake.cli.session import AskedOption, OutputOption, Session, known, now, session, wide
from stocktake.core.assets import Kind
from stocktake.core.errors import ConfigError, SourceError
from stocktake.core.fetches import End, What
from stocktake.core.gate import Check, Facts, Files, Result, gate, verdict
from stocktake.core.rules import Severity

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stocktake.settings import Settings, WorkspaceSettings
    from stocktake.store.gate import Asked

check = typer.Typer(name="check", help="The gate before a release.", no_args_is_help=True, rich_markup_mode=None)

LiveOption = Annotated[
    bool,
    typer.Option(
        "--live",
        help="Ask Azure now whether the files of the job are there, and when they were written; reads only, and is"
        " noted (`stocktake fetches`). It needs the extra `azure`.",
    ),
]
EvidenceOption = Annotated[
    Path | None,
    typer.Option(
        "--evidence",
        metavar="FILE",
        help="Also write a bundle of evidence about it, with what was checked in it (`stocktake evidence`).",
    ),
]
_CODES = {
    Result.PASS: ExitCode.COMPLETE,
    Result.WAIVED: ExitCode.COMPLETE,
    Result.UNKNOWN: ExitCode.PARTIAL,
    Result.FAIL: ExitCode.DIFFERS,
}


@check.command("model")
def model(
    context: typer.Context,
    which: Annotated[str, typer.Argument(metavar="NAME@ALIAS|NAME/VERSION", help="The model version.")],
    workspace: AskedOption = None,
    live: LiveOption = False,
    bundle: EvidenceOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Check a model version before it is released: from its lineage to its owner, by what was seen.

    Exits with 0 when all checks pass or are waived, 9 when one fails, 3 when one is unknown: not looked at, or not
    completely. `stocktake waiver add --rule check-NAME` makes an exception of a check.
    """
    return _check(session(context), which, (Kind.MODEL_VERSION,), workspace, live, bundle, output)


@check.command("run")
def run(
    context: typer.Context,
    which: Annotated[str, typer.Argument(metavar="ID", help="The run, or the job of Azure Machine Learning.")],
    workspace: AskedOption = None,
    live: LiveOption = False,
    bundle: EvidenceOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Check a run as `check model` does: finished and unedited since, reproducible, tagged, owned, comparable.

    Exits with 0 when all checks pass or are waived, 9 when one fails, 3 when one is unknown.
    """
    return _check(session(context), which, (Kind.RUN, Kind.JOB, Kind.CHILD_JOB), workspace, live, bundle, output)


def _check(
    this: Session,
    which: str,
    kinds: Sequence[Kind],
    workspace: list[str] | None,
    live: bool,
    bundle: Path | None,
    output: Output,
) -> int:
    from stocktake.pipeline.governing import agreed_now
    from stocktake.settings.governing import governance
    from stocktake.store.history import workspace_names

    settings = this.settings()
    agreed, wrong = governance(settings)
    if wrong:
        raise wrong[0]
    with this.database(settings) as connection:
        names = workspace_names(connection)
        settings = wide(settings, connection)
        workspaces = known(workspace, names, settings) or names
        found = [
            one
            for name in workspaces
            if name in names and (one := _facts(connection, settings, name, which, kinds)) is not None
        ]
        waivers = agreed_now(connection, agreed)
        if not found:
            seen = view(connection, kinds[0], workspaces, None)
            if seen.blind:
                return refuse(seen, output)
            form = " Name it as NAME@ALIAS or NAME/VERSION;" if kinds[0] == "model_version" else " Name it by its key;"
            say(
                f"No {kinds[0].replace('_', ' ')} {clean(which)} was ever seen.{form}"
                f" `stocktake list {kinds[0]}` lists them."
            )
            return ExitCode.NOT_FOUND if note(seen) is ExitCode.COMPLETE else ExitCode.PARTIAL
    if bundle is not None and len(found) > 1:
        places = ", ".join(clean(one.workspace) for one in found)
        raise typer.BadParameter(f"It is in {places}. Name one with --workspace.", param_hint="--evidence")
    if live:
        found = [_live(this, settings, one) for one in found]
    at = now()
    checked = [(one, gate(one, waivers, at)) for one in found]
    made = [_record(one, those, which, at) for one, those in checked]
    if output == Output.JSON:
        write_json(made)
    elif output == Output.TSV:
        write_tsv(rows.GATE_TSV, ({**one, **each} for one in made for each in one["checks"]))
    else:
        for number, (one, those) in enumerate(checked):
            sys.stdout.write("\n" if number else "")
            _page(one, those)
    if bundle is not None:
        from stocktake.cli.evidence import beside_check

        (one,) = found
        beside_check(this, settings, one.workspace, Kind(one.subject.kind), one.subject.key, bundle, dumps(made[0]))
    results = [verdict(those) for _, those in checked]
    return next(_CODES[one] for one in (Result.FAIL, Result.UNKNOWN, Result.WAIVED, Result.PASS) if one in results)


def _facts(
    connection: Connection, settings: Settings, workspace: str, which: str, kinds: Sequence[Kind]
) -> Facts | None:
    from stocktake.store.gate import facts, version_of_alias

    asked = _asked(settings, workspace)
    for kind in kinds:
        if (found := facts(connection, workspace, kind, which, asked)) is not None:
            return found
    name, at, alias = which.rpartition("@")
    if kinds[0] == Kind.MODEL_VERSION and at:
        key = version_of_alias(connection, workspace, name, alias)
        return facts(connection, workspace, Kind.MODEL_VERSION, key, asked) if key is not None else None
    return None


def _asked(settings: Settings, workspace: str) -> Asked:
    from stocktake.settings.timing import period
    from stocktake.store.gate import Asked

    said, hygiene = settings.gate, settings.hygiene
    one = next((each for each in settings.workspaces if each.name == workspace), None)
    schedule = (one.schedule if one is not None else None) or settings.schedule
    severities = [Severity.CRITICAL, Severity.WARNING, Severity.INFO]
    return Asked(
        bound=said.max_age or period(schedule.sweep) * (1 + schedule.splay),
        tags=said.tags,
        run_tags=[(each.pattern, each.run_tags) for each in hygiene.required_tags],
        counts=frozenset(severities[: severities.index(Severity(said.counts)) + 1]),
        comparison_parameters=hygiene.comparison_parameters,
        rules=loaded(settings).rules,
    )


def _live(this: Session, settings: Settings, one: Facts) -> Facts:
    """Ask storage for the files of the job behind it."""
    watched = next((each for each in settings.workspaces if each.name == one.workspace), None)
    if one.job is None or watched is None or watched.azureml is None:
        this.tell(f"{clean(one.workspace)}: only what jobs of Azure Machine Learning left can be asked for.")
        return one
    return replace(one, files=_files(watched, settings, this, one.job.key))


def _files(watched: WorkspaceSettings, settings: Settings, this: Session, job: str) -> Files:
    from stocktake.cli.asking import Here, noted
    from stocktake.making import ondemand_config
    from stocktake.sources.azure_blobs import Blobs
    from stocktake.sources.azure_mlclient import INSTALL, installed
    from stocktake.sources.azure_ondemand import Unplaced
    from stocktake.wiring import remembering_redactor

    if not installed():  # before anything is opened, asked or noted
        raise ConfigError(INSTALL)
    assert watched.azureml is not None
    config = ondemand_config(watched, watched.azureml, settings, os.environ)
    count, size, newest, places = 0, 0, None, list[str]()
    with this.engine(settings) as engine:
        here = Here(
            workspace=watched, config=config, engine=engine,
            redactor=remembering_redactor(engine, settings, os.environ),
        )  # fmt: skip
        try:
            with noted(here, "job", job, What.SHOW) as line:
                for content in here.ask(line).content(job, every=True):
                    if isinstance(content, Unplaced):
                        raise content.why
                    places.append(f"{content.container}/{content.prefix}")
                    blobs = Blobs(content.container, content.prefix, config.storage, ca_file=config.ca_file)
                    try:
                        for blob in blobs.list():
                            count, size = count + 1, size + blob.size
                            newest = blob.modified if newest is None else max(newest, blob.modified)
                    finally:
                        blobs.close()
                line.place, line.state = ", ".join(places), End.COMPLETE
        except SourceError as exc:
            return Files(blobs=0, bytes=0, newest=None, place="", error=here.redactor.text(str(exc)))
    return Files(blobs=count, bytes=size, newest=newest, place=", ".join(places))


def _record(one: Facts, checks: Sequence[Check], which: str, at: Any) -> dict[str, Any]:
    return {
        "workspace": one.workspace,
        "kind": one.subject.kind,
        "key": one.subject.key,
        "asked": which,
        "at": at,
        "verdict": str(verdict(checks)),
        "checks": [
            {"check": each.id, "result": str(each.result), "words": each.words, "details": list(each.details)}
            for each in checks
        ],
    }


def _page(one: Facts, checks: Sequence[Check]) -> None:
    named = f"{one.subject.kind} {one.subject.key} in {one.workspace}"
    sys.stdout.write(f"{clean(named)}: {verdict(checks)}\n")
    write_table(
        ["CHECK", "RESULT", "WHAT"],
        ([each.id, each.result.upper() if each.result == Result.FAIL else each.result,
          "\n".join([each.words, *each.details])] for each in checks),
    )  # fmt: skip
