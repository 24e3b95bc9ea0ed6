"""Which right a request to the resource manager needs, and whether a role has it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Reading the content of blobs, and listing them: one right for both, told apart by a condition alone.
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"


def action_of(path: str) -> str:
    """The right that a GET of this path needs: the types of its ids without their names, and `read`.

    /subscriptions/S/resourceGroups/G/providers/NS/type/NAME/below -> NS/type/below/read
    """
    parts = path.strip("/").split("/")
    last = max((place for place, part in enumerate(parts) if part.casefold() == "providers"), default=None)
    if last is None:
        types = [part for part in parts[0::2] if part]
        return "/".join(("Microsoft.Resources", *types, "read"))
    return "/".join((parts[last + 1], *parts[last + 2 :: 2], "read"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one role assignment lets do at a scope."""

    actions: Sequence[str] = ()
    not_actions: Sequence[str] = ()
    data_actions: Sequence[str] = ()
    not_data_actions: Sequence[str] = ()
    condition: str | None = None

    def allows(self, action: str) -> bool:
        """Say whether it has a right of the resource manager."""
        return _any(self.actions, action) and not _any(self.not_actions, action)

    def allows_data(self, action: str) -> bool:
        """Say whether it has a right over data, perhaps under a condition."""
        return _any(self.data_actions, action) and not _any(self.not_data_actions, action)


def grants(body: Any) -> list[Grant]:
    """Read what the resource manager says that we may do at a scope (Microsoft.Authorization/permissions)."""
    listed = body.get("value") if isinstance(body, Mapping) else None
    return [_grant(one) for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []


def _grant(one: Mapping[str, Any]) -> Grant:
    def texts(name: str) -> Sequence[str]:
        value = one.get(name)
        return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []

    condition = one.get("condition")
    return Grant(
        actions=texts("actions"),
        not_actions=texts("notActions"),
        data_actions=texts("dataActions"),
        not_data_actions=texts("notDataActions"),
        condition=condition if isinstance(condition, str) and condition else None,
    )


def _any(patterns: Iterable[str], action: str) -> bool:
    """Azure's own matching: case does not matter, and a star stands for anything, slashes too."""
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), action, re.IGNORECASE) for pattern in patterns
    )
