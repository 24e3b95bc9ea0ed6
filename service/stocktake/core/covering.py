"""Which findings somebody had in mind: rule, workspace, kind and asset, each with * and ?. Pure.

Nothing else is a pattern: brackets in a key are brackets. An asset is known by its key or by its name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a finding is about, as far as a pattern can see it."""

    rule: str
    workspace: str
    kind: str
    key: str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Covering:
    """Patterns, any of which must fit, in each of four places."""

    rules: Sequence[str] = ("*",)
    workspaces: Sequence[str] = ("*",)
    kinds: Sequence[str] = ("*",)
    assets: Sequence[str] = ("*",)
    exact: bool = False  # the assets are keys as they stand: a key may hold a * of its own
    _compiled: tuple[re.Pattern[str] | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (self.rules, self.workspaces, self.kinds, () if self.exact else self.assets)
        object.__setattr__(self, "_compiled", tuple(_compile(part) for part in parts))

    def covers(self, one: About) -> bool:
        """Whether they fit a finding."""
        rules, workspaces, kinds, assets = self._compiled
        if not (_fits(rules, one.rule) and _fits(workspaces, one.workspace) and _fits(kinds, one.kind)):
            return False
        if self.exact:
            return one.key in self.assets
        return _fits(assets, one.key) or (one.name is not None and _fits(assets, one.name))

    @property
    def everything(self) -> bool:
        """Whether they fit whatever is found."""
        return not self.exact and all(one is None for one in self._compiled)


def _compile(patterns: Sequence[str]) -> re.Pattern[str] | None:
    """One expression for all of them; None fits everything."""
    if any(set(one) == {"*"} for one in patterns):
        return None
    joined = "|".join(re.escape(one).replace(r"\*", ".*").replace(r"\?", ".") for one in patterns)
    return re.compile(f"(?:{joined})\\Z" if patterns else r"(?!)", re.DOTALL)


def _fits(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is None or pattern.match(text) is not None
