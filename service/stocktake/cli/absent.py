"""Why what is named was not observed: it was not on a complete list, nobody looked, or no version is named."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from stocktake.cli import words
from stocktake.cli.times import exact
from stocktake.core.assets import Kind
from stocktake.core.references import names_no_version

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from stocktake.cli.observed import View
    from stocktake.core.lineage import Node


class Why(StrEnum):
    """Why a thing that something else names was not observed by a time."""

    NOT_LISTED = "not in the complete list"  # of its kind, which was listed completely: it was not there
    NOBODY_LOOKED = "nobody looked completely"  # never by then, or not everywhere: it may well have been there
    NO_VERSION = "names no version"  # a name alone, or a label: no version has such a key
    DROPPED = "dropped by retention"  # what is kept of its kind does not reach back so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Why one thing was not observed, and when the list began that does not show it."""

    kind: str
    why: Why
    listed_at: datetime | None = None

    def __str__(self) -> str:
        if self.listed_at is None:
            return str(self.why)
        # A step of a job may be named as a job is, and no list has all steps.
        whose = "root jobs" if self.kind == Kind.JOB else words.kind(self.kind, 2)
        return f"{self.why} of {whose} of {exact(self.listed_at)}"


def absent(
    connection: Connection, workspace: str, nodes: Collection[Node], seen: View, at: datetime | None
) -> dict[Node, Absent]:
    """Say why these were not observed; `seen` is what can be said about all kinds of the workspace at that time."""
    from stocktake.store.listed import listed

    kinds = {node.kind for node in nodes}
    if not kinds:
        return {}
    seen_of = {one.kind: one for one in seen.observations if one.workspace == workspace}
    lists = listed(connection, workspace, kinds, at)

    def why(node: Node) -> Absent:
        if names_no_version(node.kind, node.key):
            return Absent(kind=node.kind, why=Why.NO_VERSION)
        one = seen_of.get(node.kind)
        if one is not None and one.dropped_before is not None:
            return Absent(kind=node.kind, why=Why.DROPPED)
        if one is None or not one.whole or node.kind not in lists:
            return Absent(kind=node.kind, why=Why.NOBODY_LOOKED)
        return Absent(kind=node.kind, why=Why.NOT_LISTED, listed_at=lists[node.kind])

    return {node: why(node) for node in nodes}
