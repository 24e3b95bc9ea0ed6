"""A figure as a report tells it: what is counted, how often, how many bytes, and a few examples. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MOST_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a report. `figure` is its stable name; `bytes` is None where none were measured."""

    figure: str
    meaning: str
    count: int
    bytes: int | None = None
    examples: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """Counts one figure as it is met."""

    figure: str
    meaning: str
    count: int = 0
    bytes: int | None = None
    examples: list[str] = field(default_factory=list)

    def add(self, example: str | None = None, size: int | None = None) -> None:
        """Count one more."""
        self.count += 1
        if size is not None:
            self.bytes = (self.bytes or 0) + size
        if example is not None and len(self.examples) < MOST_EXAMPLES:
            self.examples.append(example)

    def figure_of(self, text: Callable[[str], str]) -> Figure:
        """As it is told; `text` takes the secrets out of the examples."""
        examples = tuple(text(one) for one in self.examples)
        return Figure(figure=self.figure, meaning=self.meaning, count=self.count, bytes=self.bytes, examples=examples)


class Tallies:
    """Figures by name, in the order in which they are declared: those that count nothing are told too if `always`."""

    def __init__(self, declared: Mapping[str, str], always: frozenset[str] = frozenset()) -> None:
        self._tallies = {name: Tally(name, meaning) for name, meaning in declared.items()}
        self._always = always

    def __getitem__(self, name: str) -> Tally:
        return self._tallies[name]

    def odd(self, what: str) -> Tally:
        """The figure of an oddity, declared when it is first met."""
        name = "odd." + re.sub(r"[^a-z0-9]+", "_", what.lower()).strip("_")
        return self._tallies.setdefault(name, Tally(name, what))

    def figures(self, text: Callable[[str], str]) -> list[Figure]:
        """What was counted."""
        return [one.figure_of(text) for one in self._tallies.values() if one.count or one.figure in self._always]
