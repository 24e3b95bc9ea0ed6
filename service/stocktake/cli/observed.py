""" "Not observed" is not "nothing": what may be said about a time, given when each kind was first seen completely."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stocktake.cli import words
from stocktake.cli.exits import ExitCode
from stocktake.cli.render import Output, clean, dumps, say
from stocktake.cli.times import exact
from stocktake.core.assets import Kind

if TYPE_CHECKING:
    from sqlalchemy import Connection

_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """Since when a kind of a workspace is observed; None: not yet."""

    workspace: str
    kind: str
    first: datetime | None

    def hides(self, at: datetime) -> bool:
        """Whether nothing can be said about that time."""
        return self.first is None or self.first > at


def horizons(connection: Connection, kind: Kind | None, workspaces: Sequence[str] | None) -> list[Horizon]:
    """Since when each kind in question is observed. At the beginning of time everything was unobserved."""
    from stocktake.store.history import unobserved

    found = unobserved(connection, kind, workspaces=workspaces, at=_BEGINNING)
    return [Horizon(workspace=one.workspace, kind=one.kind, first=one.first_observed) for one in found]


def hidden(found: Sequence[Horizon], at: datetime) -> tuple[list[Horizon], bool]:
    """What was not observed at a time, and whether that is all that was asked about.

    A workspace of which some kinds were seen can be answered for; only what is wholly unseen is hidden.
    """
    seen = {one.workspace for one in found if not one.hides(at)}
    missing = [one for one in found if one.hides(at)]
    return missing, bool(missing) and not seen


def refuse(missing: Sequence[Horizon], at: datetime, output: Output) -> ExitCode:
    """Answer "not observed": on stdout as JSON for programs, in words on stderr."""
    if output == Output.JSON:
        answer: list[dict[str, Any]] = [
            {"workspace": one.workspace, "kind": one.kind, "first_observed": one.first} for one in missing
        ]
        sys.stdout.write(dumps({"not_observed": answer}, indent=2) + "\n")
    say(f"Not observed: nothing can be said about {exact(at)}.")
    note(missing)
    return ExitCode.NOT_OBSERVED


def note(missing: Sequence[Horizon]) -> None:
    """Say on stderr for which workspaces and kinds there is no answer, and from when on there is one."""
    by_workspace: dict[str, list[Horizon]] = {}
    for one in missing:
        by_workspace.setdefault(one.workspace, []).append(one)
    for workspace, those in by_workspace.items():
        since: dict[str, list[str]] = {}
        for one in those:
            told = f"observed since {exact(one.first)}" if one.first is not None else "no complete scan yet"
            since.setdefault(told, []).append(words.kind(one.kind, 2))
        if len(since) == 1 and (len(those) > 1 or those[0].kind == Kind.WORKSPACE):
            say(f"  {clean(workspace)}: {next(iter(since))}.")  # all kinds alike
        else:
            parts = [f"{', '.join(kinds)}: {told}" for told, kinds in since.items()]
            say(f"  {clean(workspace)}: {'; '.join(parts)}.")
