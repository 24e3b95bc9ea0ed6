"""Pages that overlap: MLflow's pages are SQL OFFSETs under a token, so a row that is removed while pages are read moves
every later row forward, and one is skipped without a sign.

A skipped run that we know is found missing and asked for by id; one that we do not know would be reported as created
much later than it was. So each page is asked for from one row earlier: where it begins with a row that was seen,
nothing between was skipped (the order is by fields that never change); where not, it is asked for from further back.
A token that is no offset is left as it is. Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Sequence

from stocktake.sources.protocol import Item

_PAGES = 10  # whose rows are remembered: rows that were inserted before ours push ours back
_WIDER = 12  # times that one page is asked for from further back
_PATIENCE = 200  # times in one listing


class Overlap:
    """Where the next page is asked for, and whether it joins what was seen."""

    def __init__(self) -> None:
        self._recent: deque[frozenset[str]] = deque(maxlen=_PAGES)
        self._back = 1
        self._tries = 0
        self._patience = _PATIENCE

    def token(self, token: str) -> str:
        """The token to ask with instead of the one that the server gave; empty: from the beginning."""
        return step_back(token, self._back)

    def joins(self, items: Sequence[Item]) -> bool:
        """Say whether a page begins with a row that was seen."""
        return bool(items) and self._seen(items[0])

    def wider(self, size: int) -> bool:
        """Reach further back the next time; say whether that is worth another try."""
        self._back = max(size, self._back * 2)
        self._tries += 1
        self._patience -= 1
        return self._tries <= _WIDER and self._patience > 0

    def take(self, items: Sequence[Item]) -> Sequence[Item]:
        """Remember a page; return what is new on it."""
        first = next((index for index, item in enumerate(items) if not self._seen(item)), len(items))
        self._recent.append(frozenset(item.key for item in items))
        self._back, self._tries = 1, 0
        return items[first:]

    def _seen(self, item: Item) -> bool:
        return any(item.key in page for page in self._recent)


def step_back(token: str, rows: int) -> str:
    """The token of so many rows earlier; empty where that is the beginning, the same where it is no offset."""
    try:
        held = json.loads(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError):
        return token
    offset = held.get("offset") if isinstance(held, dict) else None
    if type(offset) is not int or offset < 1:
        return token
    if offset <= rows:
        return ""
    return base64.b64encode(json.dumps(held | {"offset": offset - rows}).encode()).decode("ascii")
