"""A list of items that are made by index when they are asked for, and what was changed, added and removed since."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from stocktake.demo.azure.seeded import Body, merged

_NUMBERED = re.compile(r"(\d+)$")


class Shelf:
    """Items of one kind in one place. Positions never move: what is removed leaves a gap, what is added comes last."""

    __slots__ = ("_added", "_edits", "_gone", "_make", "_name", "count")

    def __init__(self, count: int, name: Callable[[int], str], make: Callable[[int], Body]) -> None:
        self.count = count
        self._name = name
        self._make = make
        self._added: list[tuple[str, Body]] = []
        self._edits: dict[str, Body] = {}
        self._gone: set[str] = set()

    @property
    def total(self) -> int:
        """How many positions there are, gaps included."""
        return self.count + len(self._added)

    def name_at(self, position: int) -> str:
        """The name at a position, whether or not it was removed."""
        return self._name(position) if position < self.count else self._added[position - self.count][0]

    def at(self, position: int) -> Body | None:
        """The item at a position as it is now; None where it was removed."""
        name = self.name_at(position)
        if name in self._gone:
            return None
        body = self._make(position) if position < self.count else self._added[position - self.count][1]
        edit = self._edits.get(name)
        return body if edit is None else merged(body, edit)

    def find(self, name: str) -> Body | None:
        """The item of a name as it is now."""
        position = self._position(name)
        return None if position is None else self.at(position)

    def names(self) -> list[str]:
        """The names of all items that are there: for shelves that are known to be short."""
        return [name for position in range(self.total) if (name := self.name_at(position)) not in self._gone]

    def page(self, start: int, size: int, wanted: Callable[[Body], bool]) -> tuple[list[Body], int | None]:
        """Up to `size` wanted items from a position on, and the position that the next page begins at."""
        found: list[Body] = []
        for position in range(start, self.total):
            body = self.at(position)
            if body is None or not wanted(body):
                continue
            if len(found) == size:
                return found, position
            found.append(body)
        return found, None

    def edit(self, name: str, patch: Mapping[str, Any]) -> None:
        """Lay a patch over an item."""
        if self.find(name) is None:
            raise KeyError(name)
        self._edits[name] = merged(self._edits.get(name, {}), patch)

    def add(self, name: str, body: Body) -> None:
        """Put an item at the end."""
        if self._position(name) is not None:
            raise ValueError(f"{name} is there already")
        self._added.append((name, body))

    def remove(self, name: str) -> None:
        """Take an item away."""
        if self.find(name) is None:
            raise KeyError(name)
        self._gone.add(name)

    def bring_back(self, name: str) -> None:
        """Put an item that was taken away where it was, as it was."""
        self._gone.remove(name)

    def _position(self, name: str) -> int | None:
        for position, (added, _) in enumerate(self._added):
            if added == name:
                return self.count + position
        if self.count <= 16:
            return next((position for position in range(self.count) if self._name(position) == name), None)
        numbered = _NUMBERED.search(name)
        position = int(numbered[1]) if numbered and len(numbered[1]) < 10 else self.count
        for near in (position, position - 1):  # names count from 0, versions from 1
            if 0 <= near < self.count and self._name(near) == name:
                return near
        return None


def fixed(items: Mapping[str, Body]) -> Shelf:
    """A shelf of a few items that are known by name."""
    names = list(items)
    return Shelf(len(names), lambda position: names[position], lambda position: items[names[position]])
