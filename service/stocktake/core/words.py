"""Word lists that read as text."""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """Split a text at white space: a long list of names is easier to read and to change as one."""
    return tuple(text.split())
