""" "Not observed" is not "nothing": what an answer about a time may claim, and how it says what it leaves out.

One rule for every question: what was wholly seen is answered (0); of what was seen in part, or in some workspaces
alone, the answer is given and the rest is named (3); where nothing was seen, or nothing is kept, there is none (5).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stocktake.cli import words
from stocktake.cli.exits import ExitCode
from stocktake.cli.render import Output, clean, dumps, say
from stocktake.cli.session import now
from stocktake.cli.times import exact
from stocktake.core.assets import Kind

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stocktake.store.deletion import Deletion
    from stocktake.store.observation import Life, Observation, Unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What can be said about a time."""

    at: datetime
    observations: Sequence[Observation]
    unseen: Sequence[Unseen] = ()  # spoken of, though gone or out of reach when the time asked about ended
    empty: bool = False  # nothing was ever scanned

    @property
    def blind(self) -> bool:
        """Whether nothing can be said at all. Without observations there was nothing to see: no server offers it."""
        return self.empty or (bool(self.observations) and all(one.hidden for one in self.observations))

    @property
    def missing(self) -> list[Observation]:
        """What an answer leaves out, or may leave out."""
        return [one for one in self.observations if not one.whole]

    @property
    def deletions(self) -> dict[str, Deletion]:
        """Workspaces that were deleted by then: what an answer tells of them is how they were before."""
        return {one.workspace: one.deletion for one in self.unseen if one.deletion is not None}

    @property
    def hidden(self) -> set[tuple[str, str]]:
        """Workspaces and kinds that have no place in an answer."""
        return {(one.workspace, one.kind) for one in self.observations if one.hidden}

    def answerable(self, kind: Kind, workspaces: Sequence[str]) -> list[str]:
        """The workspaces that an answer about one kind speaks of."""
        return [one for one in workspaces if (one, kind) not in self.hidden]


def view(
    connection: Connection,
    kind: Kind | None,
    workspaces: Sequence[str] | None,
    at: datetime | None,
    *,
    partition: str | None = None,
) -> View:
    """Look up what was seen at a time; without one, now by the database's clock."""
    from stocktake.store.history import workspace_names
    from stocktake.store.observation import Unseen, observed, unseen

    found = observed(connection, kind, workspaces=workspaces, at=at, partition=partition)
    names = workspace_names(connection)
    spoken = {one.workspace for one in found if not one.hidden}
    silent = {one.workspace for one in found} - spoken  # that nothing is said of them is said anyway
    told = unseen(connection, workspaces=workspaces, at=at, kind=kind, partition=partition)
    blind = [one for one in told if one.workspace not in silent]
    never = [Unseen(workspace=name, since=None) for name in workspaces or () if name not in names]
    return View(
        at=min(at or now(), now()),
        observations=found,
        unseen=[*never, *blind],
        empty=not found and len(never) == len(names if workspaces is None else workspaces),
    )


def view_of(connection: Connection, kind: Kind, found: Sequence[Life], at: datetime) -> View:
    """What of these assets cannot be known at a time: states no longer kept, experiments not yet listed then."""
    from stocktake.store.observation import observed, unseen

    hidden: dict[tuple[str, str | None, datetime | None], Observation] = {}
    for life in found:
        if life.first_seen <= at and life.kept_since is not None and life.kept_since <= at:
            continue
        for one in observed(connection, kind, workspaces=[life.workspace], at=at, partition=life.partition):
            if life.first_seen <= at:
                kept = life.kept_since or one.dropped_before or at
                hidden[life.workspace, one.partition, kept] = replace(one, dropped_before=kept, hidden=True)
            elif one.hidden and one.dropped_before is None:
                hidden[life.workspace, one.partition, None] = one
    workspaces = sorted({life.workspace for life in found})
    told = unseen(connection, workspaces=workspaces, at=at, kind=kind)
    return View(at=at, observations=list(hidden.values()), unseen=told)


def refuse(seen: View, output: Output) -> ExitCode:
    """Answer "not observed": on stdout as JSON for programs, in words on stderr."""
    if output == Output.JSON:
        answer: list[dict[str, Any]] = [
            {
                "workspace": one.workspace,
                "kind": one.kind,
                "partition": one.partition,
                "first_observed": one.first_observed,
                "dropped_before": one.dropped_before,
            }
            for one in seen.missing
        ]
        sys.stdout.write(dumps({"not_observed": answer}, indent=2) + "\n")
    if seen.empty:
        say("Not observed: nothing was scanned yet. Run `stocktake scan`, or `stocktake up`.")
    elif not seen.observations:
        say("Not observed: no workspace that was asked about has such things.")
    elif all(one.dropped_before for one in seen.missing):
        say(f"Dropped by retention: nothing can be said about {exact(seen.at)} any more.")
    else:
        say(f"Not observed: nothing can be said about {exact(seen.at)}.")
    _tell(seen)
    return ExitCode.NOT_OBSERVED


def opening(seen: View) -> None:
    """Say on stderr, before an answer, whose content is no more; `note` gives the exit code after it."""
    for one in seen.deletions.values():
        last = f" at {exact(one.last_seen)}" if one.last_seen is not None else ""
        say(f"Workspace {clean(one.workspace)} was {became(one)}; what is told of it is as it was last seen{last}.")


def became(one: Deletion) -> str:
    """Say how and when a workspace was deleted, and whether it can be brought back."""
    between = f"between {exact(one.not_before)} and" if one.not_before is not None else "by"
    told = f"deleted ({clean(one.state)}) {between} {exact(one.not_after)}"
    if one.recoverable_for is not None and one.recoverable_until is not None and now() < one.recoverable_until:
        told += f", recoverable for {one.recoverable_for.days} days"
    return told


def note(seen: View) -> ExitCode:
    """Say on stderr what an answer leaves out and since when there is one; the exit code tells programs."""
    if not seen.missing and not seen.unseen:
        return ExitCode.COMPLETE
    if seen.missing:
        say(f"Answered in part. Missing at {exact(seen.at)}:")
        _tell(seen)
    unknown = [one for one in seen.unseen if one.deletion is None]
    if unknown:
        say("Answered in part. What became of it since the last look is not known:")
    for one in unknown:
        if one.since is None:
            say(f"  {clean(one.workspace)}: never scanned.")
            continue
        reason = f" ({one.reason})" if one.reason else ""
        last = f"; last complete look {exact(one.last_complete)}" if one.last_complete else ""
        where = f" in {one.partitions:,} experiments" if one.partitions > 1 else ""
        what = f"{words.kind(one.kind, 2)}{where}: " if one.kind is not None else ""
        told = "; `stocktake status` says why" if one.kind is not None else ""
        say(f"  {clean(one.workspace)}: {what}not observable since {exact(one.since)}{reason}{last}{told}.")
    return ExitCode.PARTIAL


def _tell(seen: View) -> None:
    asked = Counter(one.workspace for one in seen.observations)
    by_workspace: dict[str, list[Observation]] = {}
    for one in seen.missing:
        by_workspace.setdefault(one.workspace, []).append(one)
    for workspace, those in by_workspace.items():
        since: dict[str, list[str]] = {}
        for one in those:
            where = f" of experiment {clean(one.partition)}" if one.partition else ""
            since.setdefault(_told(one), []).append(words.kind(one.kind, 2) + where)
        alike = len(since) == 1 and len(those) == asked[workspace] and all(one.hidden for one in those)
        if alike and (len(those) > 1 or those[0].kind == Kind.WORKSPACE):
            say(f"  {clean(workspace)}: {next(iter(since))}.")  # everything that was asked about
        else:
            parts = [f"{', '.join(kinds)}: {told}" for told, kinds in since.items()]
            say(f"  {clean(workspace)}: {'; '.join(parts)}.")


def _told(one: Observation) -> str:
    if one.dropped_before is not None:
        return f"dropped by retention before {exact(one.dropped_before)}"
    if one.hidden:
        return f"observed since {exact(one.first_observed)}" if one.first_observed else "no complete scan yet"
    told = []
    if one.met:
        told.append("what is known of them is told; never was all of it listed")
    if one.unseen:
        more = ", ..." if one.unseen > len(one.examples) else ""
        told.append(
            f"not observed in {one.unseen:,} of {one.partitions:,} experiments"
            f" ({', '.join(clean(name) for name in one.examples)}{more})"
        )
    if not one.listed:
        told.append("the list of experiments was not complete")
    return ", and ".join(told)
