"""The removal guard: a share of a scope that vanishes at once is more often a fault of ours than the truth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Above `share` of a scope (or all of it), and more than `assets`, removals are withheld even when confirmed."""

    share: float = 0.2
    assets: int = 10

    def withholds(self, removals: int, known: int) -> bool:
        """Say whether that many removals of so many known assets must wait for another sweep or an operator."""
        return removals > self.assets and (removals > self.share * known or removals >= known)
