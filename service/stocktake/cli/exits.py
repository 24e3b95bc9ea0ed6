"""What the process says when it ends: the documented exit codes, and the exception that carries one."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from stocktake.core.assets import ScanState


class ExitCode(IntEnum):
    """The exit codes; docs/reference/cli.md lists every one of them."""

    COMPLETE = 0
    ERROR = 1
    USAGE = 2
    PARTIAL = 3
    FAILED = 4
    NOT_OBSERVED = 5
    DATABASE = 6
    NOT_FOUND = 7
    REFUSED = 8
    ALTERED = 10
    INTERRUPTED = 130


MEANING: dict[ExitCode, str] = {
    ExitCode.COMPLETE: "complete: everything that was asked for was seen, answered or done",
    ExitCode.ERROR: "an error nobody expected: a bug; `--debug` shows the traceback",
    ExitCode.USAGE: "the command line or the configuration is wrong; nothing was done",
    ExitCode.PARTIAL: "a scan saw, or an answer covers, only a part; the rest is named and never taken for deleted",
    ExitCode.FAILED: "a scan could see nothing, `doctor` found something broken, a rule of your own is wrong, or what"
    " was asked of Azure did not come, or a receiver of alerts did not take a message",
    ExitCode.NOT_OBSERVED: "not observed, not nothing: the question is about a time before the first complete scan, or"
    " one whose history was dropped by retention",
    ExitCode.DATABASE: "the database cannot be reached, its disk is full, or its migrations are missing",
    ExitCode.NOT_FOUND: "no such workspace, scope, asset, job, finding, rule, alert, receiver or silence, or the value"
    " to `redact` stands nowhere and never did",
    ExitCode.REFUSED: "refused, and nothing was changed: a value that cannot be removed everywhere, a dump that is"
    " not whole or does not fit this database, a file that cannot be read or written, an address at which nothing that"
    " is known was found, a finding that there is nothing to take on of",
    ExitCode.ALTERED: "altered: what stands in the database, or in a bundle, is not what was published (`evidence"
    " verify`)",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
}


class Stop(Exception):
    """The command ends here, with this code and these words for a person."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def of_scans(states: Iterable[ScanState]) -> ExitCode:
    """The exit code of several scans: complete only when all are, failed only when none saw anything."""
    ended = list(states)
    if all(state == ScanState.COMPLETE for state in ended):
        return ExitCode.COMPLETE
    if all(state in (ScanState.FAILED, ScanState.ABANDONED) for state in ended):
        return ExitCode.FAILED
    return ExitCode.PARTIAL
