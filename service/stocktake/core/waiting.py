"""How long to wait before something is tried again. Pure: time and chance are arguments."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header (seconds or an HTTP date); None when there is none or it is nonsense."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip()):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def backoff(tries: int, *, first: float, most: float, chance: float) -> float:
    """Seconds after so many tries that failed: doubled each time, and of that a random half (`chance` is 0 to 1)."""
    return float(min(most, first * 2 ** min(tries, 60))) * (0.5 + chance / 2)
