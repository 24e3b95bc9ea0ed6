"""One scan, from claim to ledger. Start reading at `story.py`; `intake.py` makes a raw item ready, `absence.py` judges
what a complete listing did not show, `judging.py` lets the rules speak, `report.py` says how it went."""

from stocktake.core.errors import Stopped
from stocktake.pipeline.judging import RuleSet
from stocktake.pipeline.report import Progress, ScanReport, ScopeLine
from stocktake.pipeline.story import scan

__all__ = ["Progress", "RuleSet", "ScanReport", "ScopeLine", "Stopped", "scan"]
