"""What an operator checks before running anything. Every check looks at the real thing and says what to do.

It reads, like everything else here: a watched server is asked for its first page of experiments and no more, and what
`discovery:` names is looked at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from stocktake.doctor import discovery, machine, servers
from stocktake.doctor.checks import Check, Level
from stocktake.settings import Settings
from stocktake.store.standing import WorkspaceStatus

__all__ = ["Check", "Level", "examine"]


def examine(
    settings: Settings, names: Sequence[str] | None = None, *, environ: Mapping[str, str] | None = None
) -> Iterator[Check]:
    """Run every check, for some workspaces or all of them, and tell each as soon as it is known."""
    environ = dict(os.environ if environ is None else environ)
    watched = [one for one in settings.workspaces if names is None or one.name in names]
    written = machine.configuration(settings, environ)
    yield from (check for check in written if names is None or check.workspace in (None, *names))
    yield from machine.rules(settings)
    yield from machine.disk(settings.data_dir)
    known: dict[str, WorkspaceStatus] = {}
    yield from machine.database(settings, environ, known)
    for workspace in watched:
        yield from machine.place(workspace, known.get(workspace.name))
        yield from machine.schedule(settings, workspace, known.get(workspace.name))
        yield from servers.workspace(settings, workspace, environ)
    for one in settings.discovery if names is None else ():
        yield from discovery.entry(settings, one, environ)
