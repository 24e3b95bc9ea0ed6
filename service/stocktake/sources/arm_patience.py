"""When a refusal of Azure's is asked about again: a 403 that may mean load, a token that ran out on the way.

One instance for each client and scan: what was learnt of one answer holds for the next.
"""

from __future__ import annotations

import threading

from stocktake.sources.arm_errors import DENIALS, STALE_TOKENS, AzureError, codes, explain
from stocktake.sources.http import Answer

#: Waits before a 403 is believed that may mean load: Azure is seen to answer so where it means throttling.
SLOW = (10.0, 20.0, 40.0)


class Patience:
    """Give `heard` to HttpConfig."""

    def __init__(self) -> None:
        self.throttled = 0  # answers that refused for load
        self._lock = threading.Lock()
        self._doubtful = True  # whether a 403 that names no right may still mean load

    def heard(self, answer: Answer, attempt: int) -> float | None:
        """Seconds after which an answer should be asked for again, though its status alone would not say so."""
        match answer.status:
            case 429:
                with self._lock:
                    self.throttled += 1
                    self._doubtful = True
            case 401 if attempt == 0 and STALE_TOKENS.intersection(codes(answer)):
                return 0.0  # the credential is asked for a token before each attempt
            case 403:
                return self._denied(answer, attempt)
        return None

    def _denied(self, answer: Answer, attempt: int) -> float | None:
        """Doubt a 403 where we were throttled, or where it names no missing right.

        One that outlasts the waits ends the doubt, until the next throttling: a denied workspace must not cost
        minutes for each kind.
        """
        with self._lock:
            error = explain(answer)
            named = isinstance(error, AzureError) and bool(error.action or DENIALS.intersection(error.codes))
            if not self._doubtful or (named and not self.throttled):
                return None
            if attempt < len(SLOW):
                return SLOW[attempt]
            self._doubtful = False
            return None
