"""What people agreed on beforehand: waivers, change windows, and how things should be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stocktake.core.baseline import Baseline
from stocktake.core.waivers import Waiver
from stocktake.core.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """What the configuration and its files say. `whole`: all of the files could be read."""

    waivers: Sequence[Waiver] = ()
    windows: Sequence[Window] = ()
    baselines: Sequence[Baseline] = ()
    whole: bool = True


#: Where nobody agreed on anything.
NOTHING_AGREED = Governance()
