"""`stocktake production`: which model versions were production on a day, from what, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from stocktake.cli import rows
from stocktake.cli.absent import Absent, absent
from stocktake.cli.exits import ExitCode
from stocktake.cli.observed import View, note, opening, refuse, view
from stocktake.cli.render import Output, clean, say, write_json, write_table, write_tsv
from stocktake.cli.session import AskedOption, OutputOption, known, now, session, wide
from stocktake.cli.times import TimeError, exact, parse_day, short
from stocktake.core.assets import Kind
from stocktake.core.lineage import Node
from stocktake.core.production import ENDPOINTS, Certainty, Meaning, Spell, State, spells
from stocktake.core.references import environment_of, logged_model_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stocktake.settings import Settings
    from stocktake.store.production import Origin

Record = Mapping[str, Any]
_NOT_OBSERVED = "not observed"
_ORIGINS = (Kind.RUN, Kind.JOB, Kind.CHILD_JOB)


def production(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only the versions of this registered model.")
    ] = None,
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="DATE", help='The day, as "2026-05-01" or "yesterday"; with a time it is that moment.'
        ),
    ] = "today",
    tz: Annotated[
        str | None,
        typer.Option("--tz", metavar="ZONE", help='Whose day it is, as "Europe/Berlin". [default: the machine\'s]'),
    ] = None,
    workspace: AskedOption = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Tell which model versions were production at any time of a day: from which run, code, data and environment.

    `production:` in the configuration says what production means. When a version became it and ceased to be it is
    known between two looks, and told so; "possible" is what changed between two looks of which one is not of that day.
    """
    from stocktake.store.history import workspace_names
    from stocktake.store.observation import lives
    from stocktake.store.production import looks, production_states

    zone = _zone(tz)
    try:
        start, end = parse_day(at, now=now(), zone=zone)
    except TimeError as exc:
        raise typer.BadParameter(str(exc), param_hint="--at") from exc
    settings = session(context).settings()
    meaning = _meaning(settings)
    with session(context).database(settings) as connection:
        names = workspace_names(connection)
        workspaces = known(workspace, names, wide(settings, connection))
        seen = view(connection, Kind.MODEL_VERSION, workspaces, min(end, now()))
        if seen.blind:
            return refuse(seen, output)
        opening(seen)
        answered = seen.answerable(Kind.MODEL_VERSION, workspaces or names)
        seen = _missing(connection, seen, workspaces, start)
        states = production_states(connection, meaning, workspaces=answered)
        looked = looks(connection, Kind.MODEL_VERSION, answered, start, end)
        found = [
            (spell, certainty)
            for spell in spells(states, meaning)
            if model is None or _model_of(spell.key) == model
            if (certainty := spell.span.certainty(start, end, looked.get(spell.workspace, ())))
        ]
        made = list(_records(connection, found, start, end))
        why = _why(connection, made)
        records = [
            one
            | {
                "workspace_deletion": rows.deletion(seen.deletions.get(one["workspace"])),
                "run_why": none.why if (none := why.get((one["workspace"], one["run"]))) is not None else None,
                "run_listed_at": none.listed_at if none is not None else None,
            }
            for one in made
        ]
        unheard = model is not None and not lives(connection, Kind.REGISTERED_MODEL, model, workspaces=answered)
        old = _not_since(connection, [one for one in answered if one not in seen.deletions], end)
    if output == Output.JSON:
        write_json(records)
    elif output == Output.TSV:
        write_tsv(rows.PRODUCTION_TSV, records)
    elif records:
        _table(records, zone, start, why)
    if not records:
        whose = f" of {clean(model)}" if model is not None else ""
        session(context).tell(f"No version{whose} was production{_when(start, end, zone)}. {_defined(meaning)}")
    if unheard and not records:
        say(f"Nobody ever saw a model {clean(str(model))}. `stocktake list registered_model` shows what there is.")
    code = note(seen)
    if unheard and not records and code is ExitCode.COMPLETE:
        code = ExitCode.NOT_FOUND
    for name, last in old:
        say(f"Answered in part. {clean(name)}: model versions were last looked at completely at {exact(last)}.")
        code = ExitCode.PARTIAL
    return code


def _meaning(settings: Settings) -> Meaning:
    said = settings.production
    return Meaning(
        aliases=said.aliases,
        stages=said.stages,
        tags=said.pairs,
        traffic=said.traffic,
        batch_default=said.batch_default,
    )


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(
            f"There is no time zone {clean(name)!r}. Write it like Europe/Berlin or UTC.", param_hint="--tz"
        ) from None


def _missing(connection: Connection, last: View, workspaces: Sequence[str] | None, start: datetime) -> View:
    """What an answer about a period that ended observed leaves out: workspaces that are not observed at its end, and
    what was not observed yet when it began."""
    dark = {one.workspace for one in last.observations if one.hidden}
    observations, unseen = [one for one in last.observations if one.hidden], list(last.unseen)
    for kind in (Kind.MODEL_VERSION, *ENDPOINTS, *ENDPOINTS.values()):  # where a workspace has such a thing at all
        observations += [
            one
            for one in view(connection, kind, workspaces, start).observations
            if one.workspace not in dark and one.first_observed is not None
        ]
        if kind != Kind.MODEL_VERSION:  # denied since: nobody knows where the traffic goes now
            unseen += [one for one in view(connection, kind, workspaces, last.at).unseen if one.kind is not None]
    return View(at=start, observations=observations, unseen=unseen)


def _not_since(connection: Connection, workspaces: Sequence[str], end: datetime) -> Iterator[tuple[str, datetime]]:
    """Workspaces of which nobody looked at the end of the period, though it is over."""
    from stocktake.store.production import last_looks

    if end <= now():
        found = last_looks(connection, Kind.MODEL_VERSION, workspaces)
        return ((name, at) for name, at in sorted(found.items()) if at is not None and at < end)
    return iter(())


def _model_of(key: str) -> str:
    return key.rpartition("/")[0] or key


def _records(
    connection: Connection, found: Sequence[tuple[Spell, Certainty]], start: datetime, end: datetime
) -> Iterator[dict[str, Any]]:
    from stocktake.store.production import origins, states_of

    at = min(end, now())
    by_workspace: dict[str, list[tuple[Spell, Certainty]]] = {}
    for spell, certainty in found:
        by_workspace.setdefault(spell.workspace, []).append((spell, certainty))
    for workspace, those in by_workspace.items():
        versions: dict[str, State] = {}
        keys = {spell.key for spell, _ in those}
        for state in states_of(connection, workspace, [Kind.MODEL_VERSION], keys):
            before = versions.get(state.key)  # a tombstone has lost its run
            if before is None or before.run is None or (state.valid_from <= at and state.run is not None):
                versions[state.key] = state
        models = {id_ for one in versions.values() if (id_ := logged_model_of(one.document, one.artifact_uri))}
        made: dict[tuple[str, str], Origin] = origins(connection, workspace, {Kind.LOGGED_MODEL: models}, at)
        runs = {one.run for one in versions.values() if one.run} | {one.run for one in made.values() if one.run}
        made |= origins(connection, workspace, dict.fromkeys(_ORIGINS, runs), at)
        for spell, certainty in those:
            told = _record(spell, certainty, versions.get(spell.key), made)
            yield {**told, "because": spell.because_in(start, end)}


def _record(
    spell: Spell, certainty: Certainty, version: State | None, made: Mapping[tuple[str, str], Origin]
) -> Record:
    named = logged_model_of(version.document, version.artifact_uri) if version is not None else None
    logged = made.get((Kind.LOGGED_MODEL, named)) if named is not None else None
    key = (version.run if version else None) or (logged.run if logged else None)
    of_run = [one for kind in _ORIGINS if key and (one := made.get((kind, key))) is not None]
    behind = [*of_run, *([logged] if logged is not None else [])]
    model, _, number = spell.key.rpartition("/")
    span = spell.span
    # Of two things that make it production, one may have been looked at later than the other.
    until = span.until if span.ended is not None else max(span.until, span.begun)
    turns = [turn for one in spell.states for turn in (one.began, one.ended) if turn is not None]
    return {
        "workspace": spell.workspace,
        "model": model or spell.key,
        "version": number,
        "because": spell.because,
        "certainty": str(certainty),
        "became_not_before": span.after,
        "became_not_after": span.begun,
        "ceased_not_before": until,
        "ceased_not_after": span.ended,
        "run": key,
        "run_state": _run_state(key, of_run, spell.key if version is None else None),
        "code_version": next((one.code_version for one in behind if one.code_version), None),
        "data_version": next((one.data_version for one in behind if one.data_version), None),
        "environment": next((told for one in behind if (told := environment_of(one.document, one.home))), None),
        "evidence": {
            "states": [
                {"kind": one.kind, "key": one.key, "valid_from": one.valid_from, "valid_to": one.valid_to,
                 "digest": one.digest, "scan": one.scan} for one in spell.states
            ],
            "changes": sorted({turn.change for turn in turns if turn.change is not None}),
            "scans": sorted({turn.scan for turn in turns if turn.scan is not None}),
            "behind": [
                {"kind": one.kind, "key": one.key, "valid_from": one.valid_from, "digest": one.digest,
                 "scan": one.scan} for one in behind
            ],
        },
    }  # fmt: skip


def _run_state(key: str | None, of_run: Sequence[Origin], unknown: str | None) -> str | None:
    """How the run behind a version stands: a run that is gone is still known by its last state."""
    if unknown is not None:
        return "the model version was not observed"
    if key is None:
        return None
    if not of_run:
        return _NOT_OBSERVED
    if any(one.gone for one in of_run):
        return "purged"
    return "deleted" if any(one.lifecycle == "deleted" for one in of_run) else "active"


def _why(connection: Connection, made: Sequence[Record]) -> dict[tuple[str, str], Absent]:
    """Why runs that versions name were never observed, by workspace and run."""
    named: dict[str, set[Node]] = {}
    for one in made:
        if one["run_state"] == _NOT_OBSERVED:
            named.setdefault(one["workspace"], set()).add(Node(Kind.RUN, one["run"]))
    seen = view(connection, Kind.RUN, list(named), None) if named else None
    return {
        (workspace, node.key): none
        for workspace, those in named.items()
        if seen is not None
        for node, none in absent(connection, workspace, those, seen, None).items()
    }


def _table(
    held: Sequence[Record], zone: ZoneInfo | None, start: datetime, why: Mapping[tuple[str, str], Absent]
) -> None:
    several = len({row["workspace"] for row in held}) > 1

    def line(row: Record) -> list[str]:
        key = f"{row['model']}/{row['version']}" if row["version"] else str(row["model"])
        run = [str(row["run"] or "no run is recorded")]
        if row["run_state"] not in (None, "active"):
            none = why.get((row["workspace"], row["run"]))
            run.append(f"({row['run_state']}{f': {none}' if none is not None else ''})")
        made_of = [f"{word} {row[name]}" for word, name in (("code", "code_version"), ("data", "data_version"),
                                                           ("environment", "environment")) if row[name]]  # fmt: skip
        return [
            *([str(row["workspace"])] if several else []),
            key,
            "\n".join(row["because"]),
            _between(row["became_not_before"], row["became_not_after"], zone, start),
            _until(row, zone, start),
            str(row["certainty"]),
            "\n".join([*run, *made_of]),
        ]

    columns = [*(["WORKSPACE"] if several else []), "VERSION", "BECAUSE", "BECAME", "CEASED", "CERTAINTY", "MADE FROM"]
    write_table(columns, (line(row) for row in held), whole="VERSION")


def _between(first: datetime | None, last: datetime, zone: ZoneInfo | None, day: datetime) -> str:
    until = short(last, now=day, zone=zone)
    return f"{short(first, now=day, zone=zone)} – {until}" if first is not None else f"before {until}"


def _until(row: Record, zone: ZoneInfo | None, day: datetime) -> str:
    if row["ceased_not_after"] is None:
        return f"still, at {short(row['ceased_not_before'], now=day, zone=zone)}"
    return _between(row["ceased_not_before"], row["ceased_not_after"], zone, day)


def _when(start: datetime, end: datetime, zone: ZoneInfo | None) -> str:
    if (end - start).total_seconds() < 1:
        return f" at {exact(start, zone=zone)}"
    return f" between {exact(start, zone=zone)} and {exact(end, zone=zone)}"


def _defined(meaning: Meaning) -> str:
    tags = [f"{name}={value}" for name, value in dict(meaning.tags).items()]
    parts = [f"{word} {', '.join(those)}" for word, those in
             (("alias", meaning.aliases), ("stage", meaning.stages), ("tag", tags)) if those]  # fmt: skip
    parts += ["traffic of an online endpoint"] if meaning.traffic else []
    parts += ["default of a batch endpoint"] if meaning.batch_default else []
    return f"Production means: {'; '.join(parts) or 'nothing'} (`production:` in the configuration)."
