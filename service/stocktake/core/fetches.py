"""The words of what is fetched on demand: what was asked for, and how it ended."""

from __future__ import annotations

from enum import StrEnum


class What(StrEnum):
    """What was asked for."""

    SHOW = "show"  # the description alone
    DOWNLOAD = "download"  # the content


class End(StrEnum):
    """How it ended."""

    COMPLETE = "complete"
    PARTIAL = "partial"  # some blobs are not here
    FAILED = "failed"
    INTERRUPTED = "interrupted"
