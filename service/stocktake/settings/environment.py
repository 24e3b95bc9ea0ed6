"""Secrets out of the environment: without the line's end of the file they were mounted from, and fit to be sent."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: What a header cannot hold. A lone surrogate is how Python shows a byte of the environment that is no UTF-8.
_NOT_IN_A_TOKEN = re.compile(r"[^\x21-\x7e]")
_NOT_IN_A_PASSWORD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # the rest is sent as UTF-8, in base64


def secret(environ: Mapping[str, str], name: str | None) -> str:
    """Return the value of a variable without what surrounds it; "" when it is not set, or holds nothing."""
    return environ.get(name or "", "").strip()


def unfit(environ: Mapping[str, str], name: str, *, token: bool) -> str | None:
    """Say what is wrong with the secret in a variable, never repeating any of it; None when it can be sent."""
    value = secret(environ, name)
    if not value:
        return f"names the environment variable {name}, which is not set"
    if not (_NOT_IN_A_TOKEN if token else _NOT_IN_A_PASSWORD).search(value):
        return None
    what = "white space or a character that is not ASCII" if token else "a control character, or is not UTF-8"
    return f"names the environment variable {name}, which holds {what}: it cannot be sent"
