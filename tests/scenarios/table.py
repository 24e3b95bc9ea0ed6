"""Counts what came of scenarios, rule by rule, and writes the table of docs/rules.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.scenarios.frame import COMPANY, Book, Scenario

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"


@dataclass(slots=True)
class Tally:
    """Of many worlds."""

    played: Counter[tuple[str, bool]] = field(default_factory=Counter)  # scenarios by rule, faults or near misses
    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    unseen: int = 0  # put right before the looks that its rule takes, or the world ended: neither found nor missed
    scans: int = 0
    worlds: int = 0
    said: list[str] = field(default_factory=list)  # what was wrong

    def add(self, scenarios: Iterable[Scenario], book: Book, troubles: Sequence[str], scans: int) -> None:
        """Count one world."""
        self.worlds += 1
        self.scans += scans
        self.said += troubles
        self.played.update((one.rule, one.fault) for one in scenarios if one.rule != COMPANY)
        for subject, claim in book.claims.items():
            if not claim.found and not claim.missed:
                self.unseen += 1
                continue
            self.planted[subject.rule] += 1
            self.found[subject.rule] += claim.found and not claim.missed
            self.false[subject.rule] += claim.lingered
        for subject, why in book.false.items():
            self.false[subject.rule] += 1
            self.said.append(f"false: {subject}, {why}")

    def rules(self) -> list[str]:
        """Every rule of which anything can be told."""
        return sorted({rule for rule, _ in self.played} | set(self.planted) | set(self.false))

    def recall(self, rule: str) -> float:
        """The share of what was planted that was found."""
        return self.found[rule] / self.planted[rule] if self.planted[rule] else 1.0

    def precision(self, rule: str) -> float:
        """The share of what was found that was planted."""
        every = self.found[rule] + self.false[rule]
        return self.found[rule] / every if every else 1.0

    def markdown(self, seed: int) -> str:
        """The table."""
        number = self.played.total()
        lines = [
            f"Seed {seed}: {number} scenarios in {self.worlds} worlds, {self.scans} scans,"
            f" {self.planted.total()} faults planted"
            + (f", {self.unseen} more were put right before they could be found." * bool(self.unseen) or "."),
            "",
            "| rule | scenarios | near misses | faults planted | recall | precision |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {rule} | {self.played[rule, True]} | {self.played[rule, False]} | {self.planted[rule]}"
            f" | {self.recall(rule):.2f} | {self.precision(rule):.2f} |"
            for rule in self.rules()
        ]
        return "\n".join(lines)


def written(page: str, table: str, section: str) -> str:
    """The page with another table between the markers of a section."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    assert (found, closed) == (begin, end), f"docs/rules.md lacks the markers of {section}"
    return f"{head}{begin}\n{table}\n{end}{tail}"


def named(page: str) -> set[str]:
    """The rules that the tables of the page tell of."""
    return {found[1] for found in re.finditer(r"^\| ([a-z]+(?:-[a-z]+)+) \|", page, re.MULTILINE)}
