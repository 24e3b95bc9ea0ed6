"""Which experiments share a request: big ones are alone, small ones are packed. Pure.

`runs` has no index but its key, so every request scans the watched server's table: ten thousand experiments must
not be ten thousand requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

#: An experiment known to hold more than this is listed alone.
ALONE = 500
#: A packed group holds at most so many experiments, and about so many known items.
GROUP_EXPERIMENTS = 200
GROUP_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What shares a request."""

    alone: int = ALONE
    experiments: int = GROUP_EXPERIMENTS
    items: int = GROUP_ITEMS


@dataclass(frozen=True, slots=True)
class Group:
    """Experiments that one search covers, with a label for the ledger."""

    label: str
    ids: tuple[str, ...]


def groups(listed: Sequence[str], sizes: Mapping[str, int], limits: Limits = Limits()) -> list[Group]:
    """Pack listed experiments, then those that only the inventory knows, apart: a server may refuse to name them."""
    unlisted = sorted(sizes.keys() - set(listed) - {""})
    return [*_pack(listed, sizes, limits), *_pack(unlisted, sizes, limits)]


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of a length."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _pack(ids: Sequence[str], sizes: Mapping[str, int], limits: Limits) -> Iterator[Group]:
    pack: list[str] = []
    expected = 0
    for experiment in ids:
        size = sizes.get(experiment, 0)
        if size > limits.alone:
            yield _group([experiment])
            continue
        if pack and (len(pack) == limits.experiments or expected + size > limits.items):
            yield _group(pack)
            pack, expected = [], 0
        pack.append(experiment)
        expected += size
    if pack:
        yield _group(pack)


def _group(ids: Sequence[str]) -> Group:
    return Group(label=ids[0] if len(ids) == 1 else f"{ids[0]} +{len(ids) - 1}", ids=tuple(ids))
