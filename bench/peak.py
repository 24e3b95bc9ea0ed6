"""The most memory that this process has held; `ru_maxrss` would count the parent's at the moment of the fork."""

from __future__ import annotations

from pathlib import Path


def peak() -> int:
    """Bytes (VmHWM of Linux)."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
