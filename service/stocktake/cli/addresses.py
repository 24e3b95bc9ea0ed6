"""Accepting that a workspace is read from another address: not before what is known of it was found there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stocktake.cli import words
from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import clean
from stocktake.cli.session import Session, now
from stocktake.core.assets import Kind
from stocktake.core.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from stocktake.settings import Settings, WorkspaceSettings

_SAMPLE = 50


def accept_address(current: Session, name: str, *, force: bool) -> str:
    """Let the history of a workspace go on at the address in the configuration, and say what was found there."""
    from stocktake.cli.session import known, wide
    from stocktake.making import address, source_name
    from stocktake.store import history, ledger
    from stocktake.store.known import sample

    settings = current.settings()
    with current.engine(settings) as engine:
        with engine.connect() as connection:
            known([name], history.workspace_names(connection))
            kind, wanted = sample(connection, name, _SAMPLE)
            settings = wide(settings, connection)
        one = next((each for each in settings.workspaces if each.name == name), None)
        if one is None:
            raise Stop(
                ExitCode.NOT_FOUND,
                f"Workspace {name!r} is not in this configuration, which names its new address. See --config.",
            )
        found = _look(settings, one, kind, wanted, force=force)
        with engine.begin() as connection:
            if not ledger.accept_address(connection, name, source_name(one), address(one)):
                raise Stop(ExitCode.NOT_FOUND, f"Workspace {name!r} is read from {clean(address(one))} already.")
    return f"Accepted: the next scan of {name} reads {clean(address(one))}.{found}"


def _look(settings: Settings, one: WorkspaceSettings, kind: Kind, wanted: Mapping[str, str], *, force: bool) -> str:
    """Ask the configured place for what is known, by id. Raises Stop when it is not there."""
    from stocktake.making import address

    if not wanted:
        return " Nothing is known yet that could be looked for there."
    many = f"{len(wanted)} known {words.kind(kind, len(wanted))}"
    try:
        there, asked = _there(settings, one, kind, wanted)
    except (SourceError, ConfigError) as exc:
        if force:
            return f" It could not be looked at: {clean(exc.what)}."
        raise _refused(f"{clean(address(one))} cannot be looked at: {clean(str(exc))}") from exc
    if there or force:
        return f" {there} of {many} {'is' if there == 1 else 'are'} there."
    if not asked:
        raise _refused(f"{clean(address(one))} answers, but could not be asked for any of {many}.")
    raise _refused(f"None of {many} is at {clean(address(one))}: it is another server, or an empty one.")


def _there(settings: Settings, one: WorkspaceSettings, kind: Kind, wanted: Mapping[str, str]) -> tuple[int, int]:
    """How many are there, of how many that could be asked for."""
    from stocktake.making import make_source

    source = make_source(one, settings, dict(os.environ), now)
    try:
        source.identify()
        answers = source.confirm(kind, list(wanted))
        found = {key: source.parse(kind, item.raw) for key, item in answers.items() if item is not None}
    finally:
        source.close()
    # Ids of experiments are counted from 1 on every server: they are the same ones when their names are, too.
    same = [key for key, asset in found.items() if kind == Kind.RUN or asset.name == wanted[key]]
    return len(same), len(answers)


def _refused(why: str) -> Stop:
    return Stop(
        ExitCode.REFUSED,
        f"{why} Refused, nothing changed. Correct the address in the configuration; --force accepts it as it is.",
    )
