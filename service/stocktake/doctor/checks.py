"""One line of the doctor's answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, what was found, and when that is not well, what to do."""

    level: Level
    check: str
    message: str
    workspace: str | None = None
    next_step: str | None = None


def ok(check: str, message: str, workspace: str | None = None) -> Check:
    """All is well."""
    return Check(level=Level.OK, check=check, message=message, workspace=workspace)


def warn(check: str, message: str, next_step: str, workspace: str | None = None) -> Check:
    """It works, but something should be put right."""
    return Check(level=Level.WARN, check=check, message=message, workspace=workspace, next_step=next_step)


def fail(check: str, message: str, next_step: str, workspace: str | None = None) -> Check:
    """It does not work."""
    return Check(level=Level.FAIL, check=check, message=message, workspace=workspace, next_step=next_step)


def apart(seconds: float, other: str = "this machine's") -> str:
    """Say how a clock stands to another one."""
    return f"{abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} {other}"
