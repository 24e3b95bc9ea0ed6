"""The command line: questions and answers for people and programs. What it prints and when it ends is documented."""

from __future__ import annotations

from stocktake.cli.entry import app, main, run

__all__ = ["app", "main", "run"]
