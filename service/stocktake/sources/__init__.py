"""The sources by name. Adding one is one file here and one line below; tests/contract runs over every entry."""

from __future__ import annotations
