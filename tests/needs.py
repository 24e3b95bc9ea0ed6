"""What a test needs from the machine. Missing, the test is left out with a plain reason (in CI, conftest fails it)."""

from __future__ import annotations

import shutil

import pytest


def need(there: object, what: str) -> None:
    """Leave the test out unless `there`; `what` says what is missing and how to get it."""
    if not there:
        pytest.skip(f"left out: {what}")


def need_command(command: str, package: str) -> str:
    """Return the path of a command that a Debian package brings."""
    found = shutil.which(command)
    need(found, f"`{command}` is missing; as root: apt-get install {package}")
    assert found is not None
    return found
