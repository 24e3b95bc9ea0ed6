"""From the configuration and the files that it names to what was agreed on, read anew whenever somebody asks.

A file that cannot be understood is said and left out; then nothing is concluded from what it may have held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stocktake.core.baseline import Baseline
from stocktake.core.errors import ConfigError
from stocktake.core.governance import Governance
from stocktake.settings.baseline import BaselineFile
from stocktake.settings.loading import Path_, read_yaml, validated
from stocktake.settings.models import Settings

_MISSING = "Check `governance.files` in the configuration."


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A file as it was understood."""

    file: Path
    content: BaselineFile
    lines: Mapping[Path_, int]

    def source(self, *path: str | int) -> str:
        """Where a part of it stands."""
        return f"{self.file.name}:{self.lines.get(path, 1)}" if path else self.file.name


def read_file(file: Path, missing: str = _MISSING) -> Read:
    """Read one file. Raises ConfigError that names what is wrong, where, and in which line."""
    data, lines = read_yaml(file, missing=missing)
    return Read(file=file, content=validated(BaselineFile, data, str(file), lines), lines=lines)


def files(settings: Settings) -> list[Path]:
    """The files that the configuration names; one that a name without * should be, and is not, is among them."""
    folder = settings.file.expanduser().absolute().parent if settings.file is not None else Path.cwd()
    found: dict[Path, None] = {}
    for one in settings.governance.files:
        path = folder / one.expanduser()
        several = path.root and any(mark in str(path) for mark in "*?[")
        root = Path(path.anchor)
        found |= dict.fromkeys(sorted(root.glob(str(path.relative_to(root)))) if several else [path])
    return list(found)


def read_all(settings: Settings) -> tuple[list[Read], list[ConfigError]]:
    """All files, and what is wrong with those that could not be read."""
    read, wrong = [], []
    for file in files(settings):
        try:
            read.append(read_file(file))
        except ConfigError as exc:
            wrong.append(exc)
    return read, wrong


def governance(settings: Settings) -> tuple[Governance, Sequence[ConfigError]]:
    """What was agreed on, and what is wrong with files that could not be read."""
    read, wrong = read_all(settings)
    said = settings.governance
    name = settings.file.name if settings.file is not None else "the configuration"
    waivers = [one.waiver(name) for one in said.waivers]
    windows = [one.window() for one in said.windows]
    for one in read:
        waivers += [waiver.waiver(one.source("waivers", number)) for number, waiver in enumerate(one.content.waivers)]
        windows += [window.window() for window in one.content.windows]
    return Governance(waivers=waivers, windows=windows, baselines=list(_baselines(read)), whole=not wrong), wrong


def _baselines(read: Sequence[Read]) -> Iterator[Baseline]:
    for one in read:
        if (found := one.content.baseline(one.source)) is not None:
            yield found
